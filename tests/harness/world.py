"""One schedule: a tier, its network, and the processes of a scenario, with what goes wrong; run once, checked all the way.

Everything that happens is a function of the scenario, the faults, the fates and the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sparkps.client.tables import SparseTable
from sparkps.config import ClientSettings, NodeSettings
from sparkps.errors import Fenced, GroupError, WorkerFailed
from sparkps.specs import GroupSpec
from sparkps.testing.simulation.clockwork import Clockwork, Process
from sparkps.testing.simulation.control import COORDINATOR
from sparkps.testing.simulation.fates import Drawn, Weather
from sparkps.testing.simulation.seams import AS_IT_IS, Sizes
from sparkps.testing.simulation.tier import LOOK_EVERY
from sparkps.testing.simulation.wires import Fates, ProcessLoss, Wires
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import control as c
from tests.harness.audit import no_error_logged
from tests.harness.ledger import Ledger
from tests.harness.programs import Bystander, Churn, Program, Rank, Reader, Writer
from tests.harness.scenario import BASE, COUNTED, DENSE, MARKS, SUMMED, Scenario, tables_of, universe
from tests.harness.tier import LOOK_RARELY, ReplicatedTier, Tier

#: Nothing may last longer (simulated seconds).
DEADLINE = 3000.0

#: Seconds in which replicas that were lost are there again.
PATIENCE = 600.0

#: Seconds after the end of everything in which the last messages arrive.
AFTERMATH = 20.0


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a schedule beside the fates of its messages; times in simulated seconds."""

    #: Connections that break, each at a random time in [0, until).
    breaks: int = 0
    #: Workers lost, each at a random time in [0, until) or at a random one of its messages; and the share that lingers.
    crashes: int = 0
    zombies: float = 0.5
    until: float = 10.0
    #: Outside writers lost in the same way.
    lost_writers: int = 0
    #: Seconds until a successor starts, at most.
    lease: float = 5.0
    #: Probability that a program computes before a step, and how long at most.
    naps: float = 0.0
    longest_nap: float = 3.0
    #: A session that was silent for so long is forgotten.
    session_ttl: float = 3600.0
    #: The coordinator is silent for so long, from a random time in [0, until).
    silence: float = 0.0
    #: The first group fails at this time.
    failure: float | None = None
    #: What counts as large in a node.
    sizes: Sizes = AS_IT_IS
    #: Bytes of a piece of a call of every other session; less than a setting may be, so that small calls are cut as well.
    chunk_bytes: int | None = None
    #: Bytes that a session may have under way.
    credit_bytes: int | None = None
    #: Bytes of open clocks above which a rank that is ahead is held back, and of requests that wait for their turn.
    buffer_bytes: int | None = None
    waiting_bytes: int | None = None
    #: New numbers of the placement, each at a random time in [0, until).
    epochs: int = 0
    #: Replicated: nodes killed, each when all copies are there again; nodes stopped for a while, and cut off from others, in the
    #: same way.
    kills: int = 0
    stops: int = 0
    cuts: int = 0
    #: Nodes drained, each at a random time in [0, until).
    drains: int = 0
    #: A group that has finished is closed within so long, while all else goes on; None: when everything is over.
    ends: float | None = None

    @property
    def forgetful(self) -> bool:
        """Whether nodes forget sessions before the schedule ends."""
        return self.session_ttl < DEADLINE or self.sizes.most_sessions is not None


NOTHING = Faults()


class World:
    """One schedule.

    Parameters
    ----------
    scenario : Scenario
    fates : Fates
    faults : Faults
    rng : random.Random, optional
        Chooses what the faults leave open; needed if there are any.
    traced : bool
        Keep a trace.
    """

    def __init__(
        self,
        scenario: Scenario,
        fates: Fates,
        faults: Faults = NOTHING,
        rng: random.Random | None = None,
        traced: bool = False,
    ) -> None:
        self.scenario = scenario
        self.faults = faults
        self.rng = rng
        self.ledger = Ledger(scenario)
        self.clockwork = Clockwork()
        self.wires = Wires(self.clockwork, fates, self._lost)
        self.wires.trace = [] if traced else None
        ttl, credit = faults.session_ttl, faults.credit_bytes
        clients = [_client_settings(ttl, chunk_bytes, credit) for chunk_bytes in (None, faults.chunk_bytes)]
        node = _node_settings(ttl, faults.buffer_bytes, faults.waiting_bytes)
        replicated = scenario.replication > 1 or scenario.moves
        look_every = LOOK_EVERY if faults.forgetful or replicated else LOOK_RARELY
        kind = ReplicatedTier if replicated else Tier
        self.tier = kind(
            self.clockwork, self.wires, scenario.nodes, clients, node, rng, look_every, scenario.replication, universe(scenario).buckets
        )
        for spec in tables_of(scenario):
            self.tier.create(spec)
        self.groups: list[GroupSpec] = [
            self.tier.open_group(f"group {number}", len(group.clocks), group.staleness)
            for number, group in enumerate(scenario.groups)
        ]
        #: Whether the groups are being closed, and whether they are closed.
        self._draining = self._over = False
        #: Groups that have failed, and those whose ranks have all finished.
        self.failed: set[int] = set()
        self.finished: set[int] = set()
        #: Groups that were closed before all else was over.
        self.closed: set[int] = set()
        #: The table that comes and goes, while there is one.
        self.passing: SparseTable | None = None
        self.processes: list[tuple[Process, Program]] = []
        #: A node stands still or is cut off.
        self._hurting = False
        #: The attempt that has each rank, by (group, rank).
        self._current: dict[tuple[int, int], tuple[Process, Rank]] = {}
        self._start()
        if rng is not None:
            self._plan(rng)

    # ---- the schedule --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let everything happen; an AssertionError names the promise that broke."""
        with no_error_logged():
            self.clockwork.run(DEADLINE)
            self.clockwork.run(DEADLINE, lambda: not self.tier.busy)
            stuck = [process.name for process, _ in self.processes if not process.ended]
            assert not stuck, f"{', '.join(stuck)} never came to an end"
            self._restore()
            self._after_drain("after all groups were closed a read of all nodes")
            self.clockwork.run(self.clockwork.now + AFTERMATH)
            self._restore()
            self._after_drain("when the last message had come a read of all nodes")
            assert not self.tier.busy, "nodes have work on their threads that never ends"
            self.tier.check_at_rest()

    def _restore(self) -> None:
        """Let the tier come to rest: every bucket has its copies again, and every log is empty."""
        tier = self.tier
        if isinstance(tier, ReplicatedTier):

            def at_rest() -> bool:
                logs = any(service.state.copies.nbytes() or service.state.placing for service in tier.living)
                return tier.is_restored and not tier.busy and not logs and not self._hurting

            self.clockwork.run(self.clockwork.now + PATIENCE, at_rest)
            if not at_rest() and isinstance(self.wires.fates, Drawn):
                # Where every fourth message is lost, copies may be given up as often as they are made: that they come to an end is
                # promised of a network that is sound at last (Dwork, Lynch and Stockmeyer, JACM 1988: partial synchrony).
                self.wires.fates.weather = Weather()
                self.clockwork.run(self.clockwork.now + PATIENCE, at_rest)
            awaited = tier.core.placing.awaited(tier.core.nodes.up())
            assert at_rest(), f"the tier does not come to rest: {tier.core.moves.status()}, nodes {awaited} are awaited"

    def _start(self) -> None:
        for number, group in enumerate(self.scenario.groups):
            for rank in range(len(group.clocks)):
                self._attempt(number, rank, 1)
        for number in range(self.scenario.writers):
            self._begin(f"writer {number}", Writer(self, number))
        for number in range(self.scenario.readers):
            self._begin(f"reader {number}", Reader(self))
        if self.scenario.churn:
            self._begin("churn", Churn(self))
            self._begin("bystander", Bystander(self))

    def _begin(self, name: str, program: Program) -> Process:
        process = Process(self.clockwork, name, program, lambda process: self._ended(process, program))
        self.processes.append((process, program))
        return process

    def _attempt(self, group: int, rank: int, incarnation: int) -> None:
        program = Rank(self, group, rank, incarnation)
        name = f"rank {rank}.{incarnation}" if len(self.scenario.groups) == 1 else f"rank {group}/{rank}.{incarnation}"
        self._current[group, rank] = self._begin(name, program), program

    # ---- what goes wrong -----------------------------------------------------------------------------------------------

    def _plan(self, rng: random.Random) -> None:
        """Set the times of what goes wrong."""
        faults, at = self.faults, self.clockwork.at
        for _ in range(faults.breaks):
            at(rng.uniform(0, faults.until), self._break)
        for _ in range(faults.crashes):
            at(rng.uniform(0, faults.until), self._crash)
        for _ in range(faults.lost_writers):
            at(rng.uniform(0, faults.until), self._lose_writer)
        for _ in range(faults.epochs):
            at(rng.uniform(0, faults.until), self._next_epoch)
        if faults.silence:
            self.tier.silent_from = rng.uniform(0, faults.until)
            self.tier.silent_until = self.tier.silent_from + faults.silence
        if faults.failure is not None:
            at(faults.failure, self._fail)
        for number in range(faults.kills + faults.stops + faults.cuts):
            how = self._kill_node if number < faults.kills else self._stop_node if number < faults.kills + faults.stops else self._cut_node
            at(rng.uniform(0, faults.until), self._hurt, how, 0)
        for _ in range(faults.drains):
            at(rng.uniform(0, faults.until), self._drain_node)

    def _hurt(self, how: Callable[[], None], tries: int) -> None:
        """Something happens to a node, when the last such thing is over."""
        assert self.rng is not None
        assert isinstance(self.tier, ReplicatedTier)
        enough = len(self.tier.living) > self.scenario.replication
        if self._draining or tries > 100 or not enough:
            return
        if self._hurting or not self.tier.is_whole:
            self.clockwork.after(self.rng.random() * 2.0, self._hurt, how, tries + 1)
            return
        how()

    def _some_node(self) -> int:
        assert self.rng is not None
        return int(self.rng.choice([service.state.node for service in self.tier.living]))

    def _kill_node(self) -> None:
        self.tier.kill(self._some_node())

    def _drain_node(self) -> None:
        """A node is to give up its buckets and to go; the coordinator refuses where too few would be left."""
        assert isinstance(self.tier, ReplicatedTier)
        if not self._draining:
            self.tier.drain(self._some_node(), PATIENCE)

    def _stop_node(self) -> None:
        """A node stands still: for a moment, or for so long that it is taken for dead."""
        assert self.rng is not None
        number = self._some_node()
        self.tier.stop(number)
        self._hurting = True
        self.clockwork.after(self.rng.choice([0.5, 2.0, 8.0]), self._healed, lambda: self.tier.go_on(number))

    def _cut_node(self) -> None:
        """A node is cut off from others, from all of them or from some, the coordinator among them or not."""
        assert self.rng is not None
        number = self._some_node()
        names = [process.name for process, _ in self.processes] + [host.name for host in self.tier.hosts] + [COORDINATOR]
        name = self.tier.hosts[number].name
        others = [each for each in names if each != name and self.rng.random() < self.rng.choice([0.0, 0.5])]
        cut = self.wires.partition([name, *others], holds=self.rng.random() < 0.5)
        self._hurting = True
        self.clockwork.after(self.rng.choice([0.5, 3.0, 8.0]), self._healed, lambda: self.wires.heal(cut))

    def _healed(self, heal: Callable[[], None]) -> None:
        heal()
        self._hurting = False

    def _next_epoch(self) -> None:
        assert self.rng is not None
        longest = self.rng.choice([0.0, 0.05, 3.0])
        self.tier.next_epoch([self.rng.random() * longest for _ in self.tier.nodes])

    def nap(self, writing: bool) -> float:
        """How long a program computes now.

        While it is `writing` it does not do so for longer than nodes remember its session: it would be told that nobody can
        know whether a write was applied.
        """
        if self.rng is None or self.rng.random() >= self.faults.naps:
            return 0.0
        longest = self.faults.longest_nap
        return self.rng.random() * (min(longest, self.faults.session_ttl / 4) if writing else longest)

    def _break(self) -> None:
        assert self.rng is not None
        open_ones = [one for one in self.wires.connections if not one.process.ended]
        if open_ones:
            self.wires.reconnect(self.rng.choice(open_ones), self.rng.choice([0.0, 0.2, 4.0]))

    def _crash(self) -> None:
        """A worker is lost now, or at one of its next messages."""
        assert self.rng is not None
        running = [process for process, _ in self._current.values() if not process.ended]
        if running:
            process = self.rng.choice(running)
            loss = ProcessLoss.LINGERS if self.rng.random() < self.faults.zombies else ProcessLoss.DIES
            if isinstance(self.wires.fates, Drawn) and self.rng.random() < 0.7:
                self.wires.fates.fuses[process.name] = self.rng.randrange(12), loss
            else:
                self._lost(process, loss)

    def _lose_writer(self) -> None:
        assert self.rng is not None
        running = [one for one, program in self.processes if isinstance(program, Writer) and not one.ended]
        if running:
            self.rng.choice(running).kill()

    def _lost(self, process: Process, loss: ProcessLoss) -> None:
        """A worker is lost, or is taken to be; its successor starts at once, or when its lease is over."""
        ranks = [place for place, (current, _) in self._current.items() if current is process]
        wait = self.rng.random() * self.faults.lease if self.rng is not None else 0.0
        start = self.tier.hears_at(self.clockwork.now + wait)
        for group, rank in ranks:  # none if it has a successor already
            self.clockwork.at(start, self._succeed, group, rank, process)
        self.wires.note(f"{process.name} {loss.value}{f'; its successor starts at {start:.4f}' if ranks else ''}")
        if loss is ProcessLoss.DIES:
            process.kill()

    def _succeed(self, group: int, rank: int, process: Process) -> None:
        current, program = self._current[group, rank]
        if current is process and not (program.finished and process.ended) and not (self._draining or group in self.closed):
            self._attempt(group, rank, program.incarnation + 1)

    def _fail(self) -> None:
        if 0 not in self.finished:
            self.failed.add(0)
            cause = c.Cause.of(WorkerFailed("somebody said no", rank=0))
            self.tier.command(c.FailGroup(0, self.groups[0].group, cause))

    # ---- ends ----------------------------------------------------------------------------------------------------------

    def _ended(self, process: Process, program: Program) -> None:
        if process.error is not None:
            self._check_error(process, program, process.error)
        if isinstance(program, Rank):
            self._rank_ended(program.group)
        if all(process.ended for process, _ in self.processes) and not self._successors_due() and not self._draining:
            self._drain()

    def _successors_due(self) -> bool:
        return any(
            not program.finished and group not in self.failed for (group, _), (_, program) in self._current.items()
        )

    def _check_error(self, process: Process, program: Program, error: Exception) -> None:
        """Raises what no fault of the schedule allows."""
        if isinstance(error, AssertionError):
            raise error
        if isinstance(program, Rank):
            replaced = self._current[program.group, program.rank][0] is not process
            if isinstance(error, Fenced) and (replaced or program.group in self.closed):
                return
            if program.group in self.failed and isinstance(error, GroupError):
                return
        raise AssertionError(f"{process.name} ended with {type(error).__name__}: {error}") from error

    def _rank_ended(self, group: int) -> None:
        """When the last rank has finished, everything is there."""
        ranks = [program for (number, _), (_, program) in self._current.items() if number == group]
        if group in self.finished or group in self.failed or not all(program.finished for program in ranks):
            return
        self.finished.add(group)
        if self.rng is not None and self.faults.ends is not None:
            self.clockwork.after(self.rng.random() * self.faults.ends, self._close, group)
        if isinstance(self.tier, ReplicatedTier) and not self.tier.is_restored:
            return  # nodes do not agree yet who leads what: the tables are looked at when they do
        self.ledger.check_finished(group, self.read(), f"when group {group} had finished a read of all nodes")

    def _close(self, group: int) -> None:
        """A group is closed, as the driver does it, while buckets may be on their way from node to node."""
        if not self._draining:
            self.closed.add(group)
            self.tier.command(c.CloseGroup(0, self.groups[group].group))

    def _drain(self) -> None:
        """The groups are closed, as the driver does it; then everything is over."""
        self._draining = True
        missing = [len(self.groups)]

        def one() -> None:
            missing[0] -= 1
            if not missing[0]:
                self._over = True
                self.clockwork.halt()

        for group in self.groups:
            self.tier.command(c.CloseGroup(0, group.group), one)

    def _after_drain(self, where: str) -> None:
        assert self._over, "the groups were never closed"
        tables = self.read()
        for group in self.finished:
            self.ledger.check_finished(group, tables, f"{where}, for group {group},")
        if COUNTED.name in self.tier.tables:
            self.ledger.check_called(self._read_dense(COUNTED.name), where, exactly=not self.failed)
        self.ledger.check_end(tables, where)

    def churned(self) -> bool:
        """Whether no table will come and go any more."""
        return all(other.ended for other, program in self.processes if isinstance(program, Churn))

    # ---- what the nodes hold -------------------------------------------------------------------------------------------

    def read(self) -> dict[str, Any]:
        """The tables as they lie in the nodes, past all clocks and messages."""
        universe = self.ledger.universe
        return {
            "marks": self._read_sparse(MARKS.name, universe.keys, 0.0),
            "sums": self._read_sparse(SUMMED.name, universe.sums, BASE),
            "dense": self._read_dense(DENSE) if self.scenario.dense else None,
        }

    def _read_sparse(self, name: str, keys: np.ndarray, initial: float) -> np.ndarray:
        spec, found = self.tier.tables[name], dict[int, float]()
        for bucket in sorted(set(buckets_of(keys).tolist())):
            table: Any = self.tier.nodes[self.tier.holder(bucket)].state.tables.table(spec.table)
            found.update(zip(table.keys_of(bucket).tolist(), table.rows_of(bucket)[:, 0].tolist(), strict=True))
        return np.array([found.get(key, initial) for key in keys.tolist()])

    def _read_dense(self, name: str) -> np.ndarray:
        spec, parts = self.tier.tables[name], []
        for bucket in range(256):
            state = self.tier.nodes[self.tier.holder(bucket)].state
            if state.bucket_bits >> bucket & 1:
                table: Any = state.tables.table(spec.table)
                parts.append(table.gather(1 << bucket))
        return np.concatenate(parts)


@cache
def _client_settings(session_ttl: float, chunk_bytes: int | None, credit_bytes: int | None) -> ClientSettings:
    settings = ClientSettings(
        request_timeout=150.0, wait_timeout=900.0, retry_initial=2.0, retry_max=4.0, session_ttl=session_ttl
    )
    return _shrunk(
        settings, chunk_bytes=chunk_bytes, push_credit_bytes=credit_bytes, pull_credit_bytes=credit_bytes
    )


@cache
def _node_settings(session_ttl: float, buffer_bytes: int | None, session_bytes: int | None) -> NodeSettings:
    return _shrunk(NodeSettings(session_ttl=session_ttl), buffer_bytes=buffer_bytes, session_bytes=session_bytes)


def _shrunk(settings: Any, **sizes: int | None) -> Any:
    """With smaller sizes than are of use outside a test, and than its check allows."""
    for name, value in sizes.items():
        if value is not None:
            object.__setattr__(settings, name, value)
    return settings
