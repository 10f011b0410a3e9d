"""A simulated tier: real nodes whose threads and time are the simulation's, and a coordinator that does as it is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import count, cycle
from typing import Any

from sparkps.config import ClientSettings, NodeSettings
from sparkps.errors import DeadlineExceeded, SparkPSError, UnknownTable
from sparkps.ps_nodes.groups import NodeGroup
from sparkps.ps_nodes.handlers import commands
from sparkps.ps_nodes.service import Service
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.messages import control as c
from sparkps.wire.placement import Placement
from tests.harness.audit import RememberedSessions, check_at_rest, check_forgotten, validate
from tests.harness.clockwork import Clockwork, Process
from tests.harness.placements import initial
from tests.harness.seams import SimulatedPool
from tests.harness.wires import Wires

#: How often a node looks after its timers, and how often where none can go off before the schedule ends (simulated seconds).
LOOK_EVERY, LOOK_RARELY = 0.5, 5.0

#: After so many messages a node's state machines are asked whether their invariants hold.
VALIDATE_EVERY = 16

ADDRESS = c.TierAddress("simulated", "nowhere")


class Tier:
    """Nodes and coordinator.

    Parameters
    ----------
    clockwork : Clockwork
    wires : Wires
    nodes : int
    clients : sequence of ClientSettings
        Of one session after the other, in turn.
    node : NodeSettings
    rng : random.Random or None
        Chooses when the nodes' threads run.
    look_every : float
        Seconds between two looks of a node after its timers.
    """

    def __init__(
        self,
        clockwork: Clockwork,
        wires: Wires,
        nodes: int,
        clients: Sequence[ClientSettings],
        node: NodeSettings,
        rng: random.Random | None = None,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self.clockwork = clockwork
        self._look_every = look_every
        self._clients = cycle(clients)
        #: Between these times the coordinator is silent (simulated seconds); then it answers what it was asked.
        self.silent_from = self.silent_until = float("inf")
        self.placement = placed(nodes)
        self.epoch = 1
        #: When each node hears of the latest placement: it hears of them in their order.
        self._placed_at = [0.0] * nodes
        self.tables: dict[str, TableSpec] = {}
        self._made = 0
        self._groups = 0
        self.pools: list[SimulatedPool] = []
        #: The groups of each node, by its number, also those that are closed.
        self._opened: list[list[NodeGroup]] = [[] for _ in range(nodes)]
        self.nodes = [self._node(wires, number, node, rng) for number in range(nodes)]

    def _node(self, wires: Wires, number: int, settings: NodeSettings, rng: random.Random | None) -> Service:
        def send(identity: bytes, frames: list[Any]) -> None:
            wires.answer(number, identity, frames)

        def wake() -> None:
            self.clockwork.after(pool.wait(), service.io.run_posted)

        pool = SimulatedPool(self.clockwork, rng, longest=0.3)
        self.pools.append(pool)
        service = Service(send, pool, lambda: self.clockwork.now, wake)
        service.state.sessions = RememberedSessions()
        commands.welcome(
            service.state, c.Welcome(1, number, ADDRESS.tier_id, 1, self.placement, [], [], groups=[], settings=settings)
        )
        messages = count(1)

        def receive(identity: bytes, frames: list[bytes]) -> None:
            service.receive(identity, frames)
            if next(messages) % VALIDATE_EVERY == 0:
                validate(service, service.state.groups.values())

        wires.add_node(receive)
        self.clockwork.after(self._look_every, self._look, service)
        return service

    def _look(self, service: Service) -> None:
        service.look_around()
        self.clockwork.after(self._look_every, self._look, service)

    def hears_at(self, time: float) -> float:
        """When the coordinator hears what would reach it at `time`."""
        return self.silent_until if self.silent_from <= time < self.silent_until else time

    def check_at_rest(self) -> None:
        """Asserts that nothing is left in the nodes of what was asked of them; ends the simulation's time."""
        for service, groups in zip(self.nodes, self._opened, strict=True):
            check_at_rest(service, groups)
        for _ in ("sessions", "marks"):  # marks are kept for as long again as their session was
            self.clockwork.now += self.nodes[0].state.sessions.ttl + 1.0
            for service in self.nodes:
                service.look_around()
        for service in self.nodes:
            check_forgotten(service)

    @property
    def busy(self) -> bool:
        """Whether nodes have work on their threads, or something to tell."""
        return any(pool.busy for pool in self.pools) or any(node.io.posted for node in self.nodes)

    def holder(self, bucket: int) -> int:
        """The node that has a bucket."""
        return self.placement[bucket][0]

    # ---- what the coordinator does -------------------------------------------------------------------------------------

    def command(self, message: Any, done: Callable[[], None] = lambda: None) -> None:
        """Let all nodes carry a command out; `done` is called when they have."""
        missing = [len(self.nodes)]

        def one(cause: Any) -> None:
            _accept(cause)
            missing[0] -= 1
            if not missing[0]:
                done()

        for service in self.nodes:
            commands.command(service.state, message, one)

    def open_group(self, name: str, ranks: int, staleness: int) -> GroupSpec:
        """Admit a worker group."""
        self._groups += 1
        spec = GroupSpec(self._groups, name, ranks, ranks, staleness)
        self.command(c.OpenGroup(0, spec))
        for service, opened in zip(self.nodes, self._opened, strict=True):
            opened.append(service.state.groups[spec.group])
        return spec

    def create(self, spec: TableSpec, done: Callable[[], None] = lambda: None) -> TableSpec:
        """Create a table."""
        self._made += 1
        shared = [other.index for other in self.tables.values() if spec.group and other.group == spec.group]
        index = 0 if spec.kind == "dense" else shared[0] if shared else self._made
        made = TableSpec(
            **{**{field: getattr(spec, field) for field in spec.__struct_fields__}, "table": self._made, "index": index}
        )
        self.tables[spec.name] = made
        self.command(c.CreateTable(0, made), done)
        return made

    def next_epoch(self, waits: Iterable[float]) -> None:
        """The placement gets a new number, which each node hears of when it has waited; buckets stay where they are."""
        self.epoch += 1
        message = c.SetPlacement(0, self.epoch, self.placement, self._infos())
        for number, (service, seconds) in enumerate(zip(self.nodes, waits, strict=True)):
            heard = self._placed_at[number] = max(self._placed_at[number], self.clockwork.now + seconds)
            self.clockwork.at(heard, commands.command, service.state, message, _accept)

    def _infos(self) -> list[c.NodeInfo]:
        return [c.NodeInfo(number, str(number), "here", 1) for number in range(len(self.nodes))]

    def attached(self) -> c.Attached:
        """What a client is told of the tier."""
        return c.Attached(0, ADDRESS.tier_id, self.epoch, self.placement, self._infos(), next(self._clients))


def _accept(cause: Any) -> None:
    assert cause is None, f"a command of the coordinator failed: {cause}"


@cache
def placed(nodes: int) -> Placement:
    """The placement of a tier of so many nodes."""
    return initial(range(nodes))


class Inquiry:
    """A question to the coordinator that nobody waits for."""

    def __init__(self) -> None:
        self._answer: Any = None

    def settle(self, answer: Any) -> None:
        """The coordinator has answered."""
        self._answer = answer

    def answer(self) -> Any:
        """The answer, or None."""
        return self._answer

    def close(self) -> None:
        """Not wanted any more."""


class SimulatedControl:
    """One process's way to the coordinator.

    Parameters
    ----------
    tier : Tier
    process : Process
    """

    #: Simulated seconds until the coordinator has answered.
    DELAY = 0.02

    def __init__(self, tier: Tier, process: Process) -> None:
        self._tier = tier
        self._process = process

    def request(self, message: Any, timeout: float | None = None) -> Any:
        """Ask and wait."""
        answers: list[Any] = []
        self._send(message, answers.append)
        until = self._tier.clockwork.now + (30.0 if timeout is None else timeout)
        while not answers:
            left = until - self._tier.clockwork.now
            if left <= 0:
                raise DeadlineExceeded(f"The coordinator must answer {type(message).__name__}. It is silent.")
            self._process.pause(left, light=True)
        if isinstance(answers[0], SparkPSError):
            raise answers[0]
        return answers[0]

    def ask(self, message: Any) -> Inquiry:
        """Ask, and look later."""
        inquiry = Inquiry()
        self._send(message, inquiry.settle)
        return inquiry

    def _send(self, message: Any, settle: Callable[[Any], None]) -> None:
        def answered(answer: Any) -> None:
            settle(answer)
            self._process.wake()

        heard = self._tier.hears_at(self._tier.clockwork.now + self.DELAY)
        self._tier.clockwork.at(heard, self._carry_out, message, answered)

    def _carry_out(self, message: Any, answered: Callable[[Any], None]) -> None:
        tier = self._tier
        if isinstance(message, c.Attach):
            answered(tier.attached())
        elif isinstance(message, c.CreateTable):
            made: list[TableSpec] = []
            made.append(tier.create(message.spec, lambda: answered(c.TableCreated(0, made[0] if made else tier.tables[message.spec.name]))))
        elif isinstance(message, c.DropTable):
            tier.tables.pop(message.name, None)
            tier.command(c.DropTable(0, message.name, message.table), lambda: answered(c.Accepted(0)))
        elif isinstance(message, c.FindTable):
            spec = tier.tables.get(message.name)
            answered(c.TableCreated(0, spec) if spec else UnknownTable(f"Table {message.name!r} must exist.", table=message.name))
        else:
            raise NotImplementedError(f"the simulated coordinator does not know {message}")
