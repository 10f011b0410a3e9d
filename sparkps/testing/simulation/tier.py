"""A simulated tier: real nodes whose threads and time are the simulation's, and a coordinator that does as it is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from itertools import cycle
from typing import Any

from sparkps.config import ClientSettings, NodeSettings
from sparkps.driver_bridge.coordinator import plan
from sparkps.ps_nodes.groups import NodeGroup
from sparkps.ps_nodes.handlers import commands
from sparkps.ps_nodes.service import Service
from sparkps.specs import NUM_BUCKETS, GroupSpec, TableSpec
from sparkps.testing.simulation.clockwork import Clockwork
from sparkps.testing.simulation.control import ANSWERS
from sparkps.testing.simulation.hosts import Host
from sparkps.testing.simulation.seams import SimulatedPool
from sparkps.testing.simulation.wires import SimulatedChannel, Wires
from sparkps.wire.messages import control as c
from sparkps.wire.placement import Placement

#: How often a node looks after its timers (simulated seconds).
LOOK_EVERY = 0.5

#: After so long the coordinator takes a node that was killed for dead (simulated seconds).
DETECTED_AFTER = 1.0

#: Longest wait of a node's thread (simulated seconds).
LONGEST_WAIT = 0.3

ADDRESS = c.TierAddress("simulated", "nowhere")


class SimulatedTier:
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
    replication : int
        Copies of each bucket.
    used : collection of int
        Buckets that hold anything; see `seams.determined`.

    Attributes
    ----------
    nodes : list of Service
        By number, and so are `hosts` and `pools`. Dead ones stay in their places.
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
        replication: int = 1,
        used: Collection[int] = range(NUM_BUCKETS),
    ) -> None:
        self.clockwork = clockwork
        self.wires = wires
        self._look_every = look_every
        self._clients = cycle(clients)
        #: Between these times the coordinator is silent (simulated seconds); then it answers what it was asked.
        self.silent_from = self.silent_until = float("inf")
        self.used = used
        self.placement = placed(nodes, replication)
        self.epoch = 1
        #: When each node hears of the latest placement: it hears of them in their order.
        self._placed_at = [0.0] * nodes
        self.tables: dict[str, TableSpec] = {}
        self._made = 0
        self._groups = 0
        self.hosts: list[Host] = []
        #: Nodes that the coordinator takes for dead.
        self.dead: set[int] = set()
        self.pools: list[SimulatedPool] = []
        #: The groups of each node, by its number, also those that are closed.
        self.opened: list[list[NodeGroup]] = [[] for _ in range(nodes)]
        self._count = nodes
        self._replication = replication
        self._node_settings = node
        self._rng = rng
        self.nodes = [self._node(number, node, rng) for number in range(nodes)]
        self.start()

    def start(self) -> None:
        """Let the nodes know that they are members."""
        for number, service in enumerate(self.nodes):
            welcome = c.Welcome(1, number, ADDRESS.tier_id, 1, self.placement, [], [], [], self._node_settings, self._infos())
            commands.welcome(service.state, welcome)

    def _node(self, number: int, settings: NodeSettings, rng: random.Random | None) -> Service:
        host = Host(self.clockwork, f"node {number}")
        pool = SimulatedPool(self.clockwork, rng, LONGEST_WAIT, host)

        def wake() -> None:
            self.clockwork.after(pool.wait(), host.do, service.io.run_posted)

        channels: dict[int, SimulatedChannel] = {}

        def ship(node: int, endpoint: str, frames: list[Any]) -> None:
            if node not in channels:
                channels[node] = self.wires.connect(host, endpoint)
            channels[node].send(frames)

        def hear() -> None:
            for node, channel in list(channels.items()):
                while (frames := channel.receive()) is not None:
                    service.hear_node(node, frames)

        host.on_wake = hear
        service = Service(self.wires.answer, pool, lambda: self.clockwork.now, wake, ship)
        self.hosts.append(host)
        self.pools.append(pool)
        self.made(service)
        self.wires.listen(host, self.receiver(service))
        self.clockwork.after(self._look_every, self._look, host, service)
        return service

    def made(self, service: Service) -> None:
        """Told of each node before anything happens to it."""

    def receiver(self, service: Service) -> Callable[[bytes, list[bytes]], Any]:
        """What takes the messages of a node."""
        return service.receive

    def _look(self, host: Host, service: Service) -> None:
        if not host.dead:
            host.do(service.look_around)
            self.clockwork.after(self._look_every, self._look, host, service)

    def hears_at(self, time: float) -> float:
        """When the coordinator hears what would reach it at `time`."""
        return self.silent_until if self.silent_from <= time < self.silent_until else time

    @property
    def busy(self) -> bool:
        """Whether nodes have work on their threads, or something to tell."""
        return any(pool.busy for pool in self.pools) or any(node.io.posted for node in self.living)

    @property
    def living(self) -> list[Service]:
        """The nodes that were not killed."""
        return [node for node, host in zip(self.nodes, self.hosts, strict=True) if not host.dead]

    def kill(self, number: int) -> None:
        """Kill a node: what it sends from now on, and what is sent to it, reaches nobody; its threads end where they stand."""
        if not self.hosts[number].dead:
            self.wires.note(f"{self.hosts[number].name} is killed")
            self.hosts[number].kill()
            self.clockwork.at(self.hears_at(self.clockwork.now + DETECTED_AFTER), self.declare_dead, number)

    def declare_dead(self, number: int) -> None:
        """The coordinator takes a node for dead: replicas of its buckets lead now, where there are any."""
        self.dead.add(number)
        self.wires.note(f"the coordinator takes {self.hosts[number].name} for dead")
        promoted = plan.promote(self.placement, self.dead).placement
        if promoted != self.placement:
            self.placement = promoted
            self.next_epoch([0.0] * len(self.nodes))

    def stop(self, number: int) -> None:
        """Let a node stand still: what is sent to it waits."""
        self.wires.note(f"{self.hosts[number].name} stands still")
        self.hosts[number].stop()

    def go_on(self, number: int) -> None:
        """Let a node go on that stands still."""
        self.wires.note(f"{self.hosts[number].name} goes on")
        self.hosts[number].go_on()

    def take_question(self, sender: str, message: Any, answered: Callable[[Any], None]) -> None:
        """The coordinator is asked something by a process."""
        ANSWERS[type(message)](self, message, answered)

    def holder(self, bucket: int) -> int:
        """The node that has a bucket."""
        return self.placement[bucket][0]

    # ---- what the coordinator does -------------------------------------------------------------------------------------

    def command(self, message: Any, done: Callable[[], None] = lambda: None) -> None:
        """Let all nodes that live carry a command out; `done` is called when they have."""
        nodes = self.living
        missing = [len(nodes)]

        def one(cause: Any) -> None:
            _accept(cause)
            missing[0] -= 1
            if not missing[0]:
                done()

        for service in nodes:
            commands.command(service.state, message, one)

    def open_group(self, name: str, ranks: int, staleness: int) -> GroupSpec:
        """Admit a worker group."""
        self._groups += 1
        spec = GroupSpec(self._groups, name, ranks, ranks, staleness)
        self.command(c.OpenGroup(0, spec))
        for service in self.living:
            self.opened[service.state.node].append(service.state.groups[spec.group])
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
        """The placement gets a new number, which each node hears of when it has waited."""
        self.epoch += 1
        message = c.SetPlacement(0, self.epoch, self.placement, self._infos())
        for number, (service, seconds) in enumerate(zip(self.nodes, waits, strict=True)):
            heard = self._placed_at[number] = max(self._placed_at[number], self.clockwork.now + seconds)
            self.clockwork.at(heard, self.hosts[number].do, commands.command, service.state, message, _accept)

    def _infos(self) -> list[c.NodeInfo]:
        return [self._info(number) for number in range(self._count)]

    def _info(self, number: int) -> c.NodeInfo:
        endpoint, pid = str(number), number + 1
        if number in self.dead:
            return c.NodeInfo(number, endpoint, "here", pid, "dead", "it was killed")
        return c.NodeInfo(number, endpoint, "here", pid)

    def attached(self) -> c.Attached:
        """What a client is told of the tier."""
        return c.Attached(0, ADDRESS.tier_id, self.epoch, self.placement, self._infos(), next(self._clients))


def _accept(cause: Any) -> None:
    assert cause is None, f"a command of the coordinator failed: {cause}"


@cache
def placed(nodes: int, replication: int = 1) -> Placement:
    """The placement of a tier of so many nodes."""
    return plan.initial(dict.fromkeys(range(nodes), "host"), replication)


__all__ = ["ADDRESS", "LOOK_EVERY", "SimulatedTier", "placed"]
