"""A simulated tier with the real coordinator: its messages take their time, nodes die under it, and buckets move by its plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator.tier import Tier as CoordinatorTier
from sparkps.errors import from_wire
from sparkps.ps_nodes.handlers import commands
from sparkps.specs import GroupSpec, TableSpec
from sparkps.testing.simulation.control import COORDINATOR
from sparkps.testing.simulation.tier import ADDRESS, SimulatedTier
from sparkps.wire.messages import control as c

#: Seconds between two looks of the coordinator after its timers, and between two heartbeats.
TICK_EVERY, BEAT_EVERY = 0.25, 0.5

#: Seconds between two questions of the driver.
HEARD_EVERY = 20.0

#: Silence after which a node is dead (simulated seconds).
DEADLINE = 2.5


class CoordinatedTier(SimulatedTier):
    """A `SimulatedTier` whose coordinator is the real one; parameters are the same.

    Messages between it and the nodes keep their order. A cut between a node and the coordinator loses what crosses it, but for
    answers to commands, which wait.
    """

    def start(self) -> None:
        """Let the nodes join."""
        settings = Settings(num_nodes=self._count, replication=self._replication, node=self._node_settings)
        self.core = CoordinatorTier(ADDRESS.tier_id, settings)
        self._numbers = 0
        #: Whom to tell of answers, by (sender, seq).
        self._asked: dict[tuple[bytes, int], Callable[[Any], None]] = {}
        #: When the last message between the coordinator and each peer arrives.
        self._last: dict[tuple[bytes, bool], float] = {}
        #: Messages are delivered at once until the tier is ready.
        self._is_starting = True
        for number in range(self._count):
            self._tell(_name(number), c.NodeHello(1, str(number), "here", number + 1))
        self._is_starting = False
        self.clockwork.after(TICK_EVERY, self._tick)
        self.clockwork.after(HEARD_EVERY, self._speak)
        for number in range(self._count):
            self.clockwork.after(BEAT_EVERY, self._beat, number)

    # ---- the coordinator -----------------------------------------------------------------------------------------------

    def _tell(self, sender: bytes, message: Any) -> None:
        """The coordinator hears something."""
        self._carry(self.core.receive(sender, message, self.clockwork.now))
        self._notice()

    def _tick(self) -> None:
        self._carry(self.core.tick(self.clockwork.now))
        self._notice()
        self.clockwork.after(TICK_EVERY, self._tick)

    def _notice(self) -> None:
        """What others read of the tier is what the coordinator knows."""
        nodes = self.core.nodes
        if nodes.epoch != self.epoch:
            self.wires.note(f"placement {nodes.epoch}: {sorted({tuple(row) for row in nodes.placement})}")
            self.core.validate()
        self.epoch, self.placement = nodes.epoch, nodes.placement
        self.dead = {info.node for info in nodes.infos() if info.state != "up"}

    def _carry(self, outgoing: Iterable[tuple[bytes, Any]]) -> None:
        for receiver, message in outgoing:
            if receiver.startswith(b"node "):
                self._after_a_while(receiver, True, self._to_node, int(receiver[5:]), message)
            else:
                answered = self._asked.pop((receiver, getattr(message, "seq", 0)), None)
                if answered is not None:
                    answered(message)

    def _after_a_while(self, peer: bytes, down: bool, event: Callable[..., None], *args: Any) -> None:
        """Deliver a message between the coordinator and a node, after those before it."""
        if self._is_starting:
            event(*args)
            return
        delay = self._rng.random() * 0.05 if self._rng is not None else 0.01
        arrival = max(self._last.get((peer, down), 0.0), self.clockwork.now + delay)
        self._last[peer, down] = arrival
        self.clockwork.at(arrival, event, *args)

    def _to_node(self, number: int, message: Any) -> None:
        host = self.hosts[number]
        if self.wires.is_cut(host.name, COORDINATOR):
            self.clockwork.after(0.2, self._to_node, number, message)
        else:
            host.do(self._take, number, message)

    def _take(self, number: int, message: Any) -> None:
        """A node hears the coordinator, as its `CoordinatorLink` does."""
        service = self.nodes[number]
        if isinstance(message, c.Welcome):
            commands.welcome(service.state, message)
        elif isinstance(message, c.Alive):
            if not message.known:
                self.wires.note(f"{self.hosts[number].name} hears that it is dead, and exits")
                self.hosts[number].kill()
        elif isinstance(message, c.ReportNow):
            self._answer(number, message.seq, None)
        elif isinstance(message, c.StopNode):
            self._answer(number, message.seq, None)
            self.wires.note(f"{self.hosts[number].name} is told to stop, and exits")
            self.hosts[number].kill()
        elif isinstance(message, c.CopyBuckets):
            some = [bucket for bucket in message.buckets if bucket in self.used]
            copying = c.CopyBuckets(message.seq, some, message.target, message.nodes)
            commands.command(service.state, copying, lambda error: self._answer(number, message.seq, error))
        else:
            commands.command(service.state, message, lambda error: self._answer(number, message.seq, error))

    def _answer(self, number: int, seq: int, error: BaseException | None) -> None:
        done = c.CommandDone(seq, number, None if error is None else c.Cause.of(error))
        self._after_a_while(_name(number), False, self._from_node, number, done)

    def _from_node(self, number: int, message: Any) -> None:
        host = self.hosts[number]
        if self.wires.is_cut(host.name, COORDINATOR):
            if not isinstance(message, c.Heartbeat):
                self.clockwork.after(0.2, self._from_node, number, message)
        else:
            self._tell(_name(number), message)

    def _beat(self, number: int) -> None:
        host, service = self.hosts[number], self.nodes[number]
        if host.dead or service.state.must_end:
            if service.state.must_end:
                host.kill()
            return

        def beat() -> None:
            report = {"silent_replicas": service.state.copies.silent(DEADLINE)}
            message = c.Heartbeat(0, number, report)
            self._after_a_while(_name(number), False, self._from_node, number, message)

        if not host.stopped:
            beat()
        self.clockwork.after(BEAT_EVERY, self._beat, number)

    def _speak(self) -> None:
        """The driver asks how its groups are: groups of which nobody is heard would be ended."""
        for group in list(self.core.groups.running):
            self.ask("driver", c.GroupState(0, group), lambda _: None)
        self.clockwork.after(HEARD_EVERY, self._speak)

    # ---- what programs ask ---------------------------------------------------------------------------------------------

    def ask(self, sender: str, message: Any, answered: Callable[[Any], None]) -> None:
        """A request to the coordinator."""
        self._numbers += 1
        message = type(message)(*(self._numbers, *_rest(message)))
        self._asked[sender.encode(), self._numbers] = answered
        self._tell(sender.encode(), message)

    def take_question(self, sender: str, message: Any, answered: Callable[[Any], None]) -> None:
        """A process asks; of the tier it is told what its session is to go by."""
        if isinstance(message, c.Attach):
            answered(self.attached())
            return

        def told(answer: Any) -> None:
            if isinstance(answer, c.TableCreated):
                self.tables[answer.spec.name] = answer.spec
            elif isinstance(message, c.DropTable) and isinstance(answer, c.Accepted):
                self.tables.pop(message.name, None)
            answered(from_wire(answer.error, answer.message, answer.attributes) if isinstance(answer, c.Refused) else answer)

        self.ask(sender, message, told)

    def declare_dead(self, number: int) -> None:
        """The launcher has seen a node exit."""
        self.ask("launcher", c.NodeGone(0, str(number), "it was killed"), lambda _: None)

    def drain(self, number: int, seconds: float) -> None:
        """The driver wants a node to give up its buckets, and to go."""
        self.ask("driver that drains", c.DrainNode(0, number, seconds), lambda _: None)

    def command(self, message: Any, done: Callable[[], None] = lambda: None) -> None:
        """Let the coordinator close or fail a group."""
        asked: Any = message
        if isinstance(message, c.CloseGroup):
            asked = c.EndGroup(0, message.group)
        elif isinstance(message, c.FailGroup):
            asked = c.FailRank(0, message.group, -1, -1, message.cause)
        self.ask(f"driver {type(message).__name__} {self._numbers}", asked, lambda _: done())

    def open_group(self, name: str, ranks: int, staleness: int) -> GroupSpec:
        """Admit a worker group, at once."""
        admitted: list[Any] = []
        self._is_starting = True
        self.ask(name, c.AdmitGroup(0, name, ranks, ranks, staleness, 1000, name), admitted.append)
        self._is_starting = False
        spec: GroupSpec = admitted[0].spec
        for service in self.living:
            self.opened[service.state.node].append(service.state.groups[spec.group])
        return spec

    def create(self, spec: TableSpec, done: Callable[[], None] = lambda: None) -> TableSpec:
        """Create a table, at once."""
        made: list[Any] = []
        self._is_starting = True
        self.ask(f"maker of {spec.name}", c.CreateTable(0, spec), made.append)
        self._is_starting = False
        self.tables[spec.name] = made[0].spec
        done()
        return self.tables[spec.name]

    @property
    def is_whole(self) -> bool:
        """Whether the loss of any one node would lose nothing: all copies are there, and nobody is about to do without one."""
        alike = len(self.living) == len(self.core.nodes.up())
        return alike and self.is_restored and not any(node.state.copies.silent(DEADLINE / 2) for node in self.living)

    @property
    def is_restored(self) -> bool:
        """Whether every bucket has all its copies where they shall be, and all nodes know."""
        up = self.core.nodes.up()
        return self.core.moves.is_done and self.core.placing.is_settled(up)


def _name(number: int) -> bytes:
    return b"node %d" % number


def _rest(message: Any) -> list[Any]:
    """The fields of a request behind its number."""
    return [getattr(message, field) for field in message.__struct_fields__[1:]]


__all__ = ["BEAT_EVERY", "CoordinatedTier"]
