"""`Simulation`: a tier and its clients in simulated time, and what goes wrong with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from math import inf
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from sparkps.client.session import Session
from sparkps.client.tables import DenseTable, SparseTable, Table
from sparkps.config import ClientSettings, NodeSettings
from sparkps.consistency import BSP, Consistency
from sparkps.errors import DeadlineExceeded, InvalidInput, UnknownTable
from sparkps.specs import NUM_BUCKETS, GroupSpec, TableSpec
from sparkps.testing.simulation.clockwork import Clockwork, Killed, Process
from sparkps.testing.simulation.control import COORDINATOR, SimulatedControl
from sparkps.testing.simulation.fates import Drawn, Weather
from sparkps.testing.simulation.seams import AS_IT_IS, Sizes, determined
from sparkps.testing.simulation.tier import ADDRESS, SimulatedTier
from sparkps.testing.simulation.wires import ClientNetwork, NetworkCut, ProcessLoss, Wires

T = TypeVar("T")

#: Simulated seconds after which a program that has not ended is stuck.
PATIENCE = 3600.0


@dataclass(frozen=True)
class NetworkFaults:
    """How bad the network is: probabilities of each message, and times in simulated seconds.

    Examples
    --------
    >>> NetworkFaults(drop=0.1, duplicate=0.05, reorder=0.2)
    NetworkFaults(drop=0.1, delay=0.05, duplicate=0.05, reorder=0.2, straggle=0.0, partitions=0, longest_cut=5.0, until=30.0)
    """

    #: It never arrives.
    drop: float = 0.0
    #: Mean delay, exponentially distributed.
    delay: float = 0.05
    #: It arrives twice.
    duplicate: float = 0.0
    #: It overtakes others of its connection.
    reorder: float = 0.0
    #: It arrives so late that it has long been sent again.
    straggle: float = 0.0
    #: Cuts between two random halves of the nodes and clients, each at a random time before `until`, for up to `longest_cut`.
    partitions: int = 0
    longest_cut: float = 5.0
    until: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, is_share = getattr(self, field.name), field.name in ("drop", "duplicate", "reorder", "straggle")
            whole = field.name == "partitions"
            is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= (1 if is_share else inf):
                kind = "a probability, from 0 to 1" if is_share else "a whole number >= 0" if whole else "seconds >= 0"
                raise InvalidInput(f"`{field.name}` of `NetworkFaults` must be {kind}. Got {value!r} instead.")

    def weather(self) -> Weather:
        """What becomes of messages."""
        return Weather(self.drop, self.duplicate, self.reorder, self.straggle, self.delay)


class SimulatedClient:
    """What a program of a simulated client works with.

    Attributes
    ----------
    name : str
    process : Process
    session : Session
        A real one.
    """

    def __init__(self, simulation: Simulation, process: Process) -> None:
        self.name = process.name
        self.process = process
        #: The tier, past the network.
        self.tier = simulation.tier
        network = ClientNetwork(simulation.wires, process)
        self.session = Session(ADDRESS, SimulatedControl(self.tier, process), network)  # type: ignore[arg-type]

    def table(self, name: str) -> Any:
        """A table by its name: a `SparseTable` or a `DenseTable`, through this client's session."""
        spec = self.tier.tables.get(name)
        if spec is None:
            raise UnknownTable(f"Table {name!r} must exist. Tables are {sorted(self.tier.tables)}.", table=name)
        handle: Table = (SparseTable if spec.kind == "sparse" else DenseTable)(ADDRESS, spec)
        return handle.bind(self.session)

    def join(self, group: GroupSpec, rank: int, incarnation: int = 1) -> tuple[int, bytes | None]:
        """Take a rank of a worker group over; returns its clock, and what was stored with the last tick."""
        return self.session.takeover(group.group, rank, incarnation)

    def pause(self, seconds: float) -> None:
        """Compute for a while (simulated seconds), without looking at the network."""
        self.process.pause(seconds)


Program = Callable[[SimulatedClient], T]


class Running(Generic[T]):
    """A client whose program runs, or has ended."""

    def __init__(self, simulation: Simulation, name: str, program: Program[T]) -> None:
        self._program = program
        self._simulation = simulation
        self._returned: T | None = None
        self.process = Process(simulation.clockwork, name, self._body)

    def _body(self, process: Process) -> None:
        client = SimulatedClient(self._simulation, process)
        try:
            self._returned = self._program(client)
        finally:
            client.session.close()

    @property
    def ended(self) -> bool:
        """Whether the program has returned, raised, or was killed."""
        return self.process.ended

    def result(self) -> T:
        """What the program has returned; raises what it has raised.

        Raises
        ------
        InvalidInput
            It has not ended, or was killed.
        """
        if self.process.error is not None:
            raise self.process.error
        if not self.process.ended or self.process.dead:
            state = "was killed" if self.process.dead else "still runs"
            raise InvalidInput(f"A program must have ended before it has a result. {self.process.name!r} {state}.")
        return self._returned  # type: ignore[return-value]  # it has returned


class Simulation:
    """Real nodes and real clients on a network, on threads and in time that are simulated, in this thread.

    The same seed and the same calls give the same run, message by message. While a simulation is entered, real sessions and nodes
    of the process must not be used.

    Parameters
    ----------
    seed : int
    nodes : int
        Number of nodes.
    faults : NetworkFaults
        What goes wrong by itself; nothing if not given.
    replication : int
        Copies of each bucket.
    client, node : ClientSettings, NodeSettings
    sizes : Sizes
        What counts as large in a node.
    traced : bool
        Keep a line of each message in `trace`.

    Examples
    --------
    >>> import numpy as np
    >>> def train(client):
    ...     table = client.table("w")
    ...     table.add(np.array([1, 2]), np.ones((2, 1)))
    ...     return table.pull(np.array([1, 2, 3])).ravel().tolist()
    >>> with Simulation(seed=7, nodes=2, faults=NetworkFaults(drop=0.2)) as simulation:
    ...     spec = simulation.sparse_table("w", dim=1)
    ...     simulation.call(train)
    [1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        seed: int = 0,
        nodes: int = 2,
        faults: NetworkFaults | None = None,
        *,
        replication: int = 1,
        client: ClientSettings | None = None,
        node: NodeSettings | None = None,
        sizes: Sizes = AS_IT_IS,
        traced: bool = False,
    ) -> None:
        for name, number, least in (("seed", seed, None), ("nodes", nodes, 1), ("replication", replication, 1)):
            if not isinstance(number, int) or isinstance(number, bool) or (least is not None and number < least):
                raise InvalidInput(f"`{name}` must be an int{'' if least is None else f' >= {least}'}. Got {number!r} instead.")
        if faults is not None and not isinstance(faults, NetworkFaults):
            raise InvalidInput(f"`faults` must be `NetworkFaults`. Got {faults!r} instead.")
        self.seed = seed
        self.clockwork = Clockwork()
        weather = (faults or NetworkFaults(delay=0.0)).weather()
        self.wires = Wires(self.clockwork, Drawn(random.Random(f"fates {seed}"), weather), self._lost)
        self.wires.trace = [] if traced else None
        self._determined = determined(seed, sizes, range(NUM_BUCKETS))
        self._rng = random.Random(f"events {seed}")
        self._tier: SimulatedTier | None = None
        self._clients = 0
        self.running: dict[str, Running[Any]] = {}
        self._arguments = nodes, client or ClientSettings(), node or NodeSettings(), replication
        self._faults = faults

    def __enter__(self) -> Self:
        self._determined.__enter__()
        nodes, client, node, replication = self._arguments
        self._tier = SimulatedTier(
            self.clockwork, self.wires, nodes, [client], node, self._rng, replication=replication
        )
        if self._faults is not None:
            for _ in range(self._faults.partitions):
                start = self._rng.uniform(0.0, self._faults.until)
                self.clockwork.at(start, self._random_cut, self._rng.uniform(0.0, self._faults.longest_cut))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in list(self.running.values()):
            if not one.ended:
                one.process.kill()
        self._determined.__exit__(kind, error, trace)

    @property
    def tier(self) -> SimulatedTier:
        """Nodes and coordinator; there once the simulation is entered."""
        if self._tier is None:
            raise InvalidInput("A simulation must be entered before it is used: `with Simulation(seed) as simulation`.")
        return self._tier

    @property
    def now(self) -> float:
        """Simulated seconds."""
        return self.clockwork.now

    @property
    def trace(self) -> list[str]:
        """What happened, line by line, if the simulation is `traced`."""
        return self.wires.trace or []

    # ---- tables, groups, clients ---------------------------------------------------------------------------------------

    def sparse_table(self, name: str, dim: int = 1, dtype: Any = "float64", **more: Any) -> TableSpec:
        """Create a sparse table; `more` are fields of `TableSpec`."""
        return self.tier.create(TableSpec(name, "sparse", dim, dtype, **more))

    def dense_table(self, name: str, shape: tuple[int, ...], dtype: Any = "float64", **more: Any) -> TableSpec:
        """Create a dense table; `more` are fields of `TableSpec`."""
        return self.tier.create(TableSpec(name, "dense", 1, dtype, shape=shape, **more))

    def group(self, name: str, ranks: int, consistency: Consistency | None = None) -> GroupSpec:
        """Admit a worker group; its ranks `join` it."""
        return self.tier.open_group(name, ranks, (consistency or BSP()).bound)

    def start(self, program: Program[T], name: str = "") -> Running[T]:
        """Start a client; it runs in `run`, `advance` or `call`."""
        self._clients += 1
        name = name or f"client {self._clients}"
        if name in self.running and not self.running[name].ended:
            raise InvalidInput(f"Clients that run must have names of their own. {name!r} still runs.")
        self.running[name] = Running(self, name, program)
        return self.running[name]

    def call(self, program: Program[T], name: str = "", patience: float = PATIENCE) -> T:
        """Start a client and run until it has ended; its result, or what it has raised."""
        running = self.start(program, name)
        self._run_until(lambda: running.ended, patience, [running])
        return running.result()

    def run(self, patience: float = PATIENCE) -> None:
        """Run until all clients have ended.

        Raises
        ------
        DeadlineExceeded
            Not within `patience` simulated seconds; names those that have not.
        """
        started = list(self.running.values())
        self._run_until(lambda: all(one.ended for one in started), patience, started)

    def _run_until(self, done: Callable[[], bool], patience: float, waited_for: list[Running[Any]]) -> None:
        self.clockwork.run(self.clockwork.now + patience, done)
        if not done():
            names = ", ".join(repr(one.process.name) for one in waited_for if not one.ended)
            raise DeadlineExceeded(f"Programs must end within {patience:g} simulated seconds. {names} did not.")

    def advance(self, seconds: float) -> None:
        """Let so many simulated seconds pass."""
        if not isinstance(seconds, (int, float)) or not 0 <= seconds < inf:
            raise InvalidInput(f"Simulated time must go on: `seconds` must be a number >= 0. Got {seconds!r} instead.")
        until = self.clockwork.now + seconds
        self.clockwork.run(until)
        self.clockwork.now = until

    # ---- what goes wrong -----------------------------------------------------------------------------------------------

    def kill_client(self, name: str) -> None:
        """As SIGKILL."""
        self._client(name).process.kill()

    def kill_node(self, node: int) -> None:
        """As SIGKILL: what it sends from now on, and what is sent to it, reaches nobody. The coordinator hears of it a little later."""
        self._check(node)
        self.tier.kill(node)

    def stop_node(self, node: int) -> None:
        """As SIGSTOP, until `continue_node`."""
        self._check(node)
        self.tier.stop(node)

    def continue_node(self, node: int) -> None:
        """As SIGCONT."""
        self._check(node)
        self.tier.go_on(node)

    def partition(self, *groups: Collection[str], seconds: float | None = None, holds: bool = False) -> NetworkCut:
        """Cut the network between groups of processes: "node 0", the names of clients, "coordinator".

        Parameters
        ----------
        *groups : collection of str
            One group alone is cut from all others; processes that no group names are a group together.
        seconds : float, optional
            The cut heals by itself then; else by `heal`.
        holds : bool
            Messages across it wait for its end; else they are lost.
        """
        known = {host.name for host in self.tier.hosts} | self.running.keys() | {COORDINATOR}
        unknown = sorted({str(name) for group in groups for name in group} - known)
        if unknown:
            raise InvalidInput(f"A cut must be between processes that there are: {sorted(known)}. Got {unknown}.")
        cut = self.wires.partition(*groups, holds=holds)
        if seconds is not None:
            self.clockwork.after(seconds, self.wires.heal, cut)
        return cut

    def heal(self, cut: NetworkCut | None = None) -> None:
        """End a cut, or all."""
        self.wires.heal(cut)

    def lose_at_message(self, client: str, messages: int, how: ProcessLoss = ProcessLoss.DIES) -> None:
        """Kill a client just before it sends its next message but `messages`; see `ProcessLoss` for other ways."""
        fates = self.wires.fates
        assert isinstance(fates, Drawn)
        fates.fuses[client] = messages, how

    def _random_cut(self, seconds: float) -> None:
        names = [host.name for host in self.tier.hosts]
        names += [name for name, one in self.running.items() if not one.ended]
        half = {name for name in names if self._rng.random() < 0.5}
        self.partition(half, seconds=seconds, holds=self._rng.random() < 0.5)

    def _lost(self, process: Any, how: ProcessLoss) -> None:
        if how is ProcessLoss.DIES:
            process.kill()

    def _client(self, name: str) -> Running[Any]:
        if name not in self.running:
            raise InvalidInput(f"There must be a client {name!r}. There are {sorted(self.running)}.")
        return self.running[name]

    def _check(self, node: int) -> None:
        if not isinstance(node, int) or not 0 <= node < len(self.tier.nodes):
            raise InvalidInput(f"A node must be one of 0 ... {len(self.tier.nodes) - 1}. Got {node!r} instead.")

    # ---- what the nodes hold -------------------------------------------------------------------------------------------

    def rows(self, table: str, node: int | None = None) -> Mapping[int, list[float]]:
        """The rows of a sparse table by key, ascending, as they lie in its primaries (or in one node), past clocks and messages."""
        if table not in self.tier.tables:
            raise UnknownTable(f"Table {table!r} must exist. Tables are {sorted(self.tier.tables)}.", table=table)
        spec, found = self.tier.tables[table], dict[int, list[float]]()
        for bucket, row in enumerate(self.tier.placement):
            holder = row[0] if node is None else node
            if self.tier.hosts[holder].dead or holder not in row:
                continue
            held: Any = self.tier.nodes[holder].state.tables.table(spec.table)
            found.update(zip(held.keys_of(bucket).tolist(), held.rows_of(bucket).tolist(), strict=True))
        return dict(sorted(found.items()))


__all__ = ["Killed", "NetworkFaults", "Running", "SimulatedClient", "Simulation"]
