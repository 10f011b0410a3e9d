"""What the processes of a simulated schedule do, through the public calls of the real client."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkps.client.futures import Future
from sparkps.client.session import Session
from sparkps.client.tables import DenseTable, SparseTable, pull_together, write_together
from sparkps.errors import DeadlineExceeded, UnknownTable
from sparkps.specs import TableSpec
from sparkps.testing.simulation.clockwork import Process
from sparkps.testing.simulation.control import SimulatedControl
from sparkps.testing.simulation.tier import ADDRESS
from sparkps.testing.simulation.wires import ClientNetwork
from sparkps.wire.messages.control import CreateTable, DropTable
from sparkps.wire.messages.data import OpCode
from tests.harness.scenario import COUNTED, DENSE, MARKS, OUTSIDE, SUMMED, SUMS, gradient

if TYPE_CHECKING:
    from tests.harness.world import World

#: First byte of what is stored with a tick: a rank's own state, or that its function has returned.
_STATE, _RESULT = b"S", b"R"


class Program:
    """A client process: a session, and the scenario's tables through it.

    Parameters
    ----------
    world : World
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger = world.ledger
        self.universe = world.ledger.universe
        #: Marks of this process that it was told are applied.
        self.own = np.zeros(len(self.universe.keys), bool)

    def __call__(self, process: Process) -> None:
        self.process = process
        self.control = SimulatedControl(self.world.tier, process)
        self.session = self._session()
        tables = self.world.tier.tables
        self.marks = SparseTable(ADDRESS, tables[MARKS.name]).bind(self.session)
        self.sums = SparseTable(ADDRESS, tables[SUMMED.name]).bind(self.session)
        self.dense, self.counted = [
            DenseTable(ADDRESS, tables[name]).bind(self.session) if name in tables else None
            for name in (DENSE, COUNTED.name)
        ]
        try:
            self.run()
        finally:
            self.session.close()

    def _session(self) -> Session:
        """A session, as soon as the coordinator answers."""
        while True:
            with contextlib.suppress(DeadlineExceeded):
                return Session(ADDRESS, self.control, ClientNetwork(self.world.wires, self.process))

    def run(self) -> None:
        """The program."""
        raise NotImplementedError

    def nap(self, writing: bool = False) -> None:
        """Compute for a while, as the world says, without looking at the network; `writing`: with writes under way."""
        seconds = self.world.nap(writing)
        if seconds:
            self.world.wires.note(f"{self.process.name} computes for {seconds:.4f}")
            self.process.pause(seconds)

    def ones_at(self, marks: slice) -> np.ndarray:
        """The dense table's values of a push, but for the sums."""
        values = np.zeros(self.universe.dense_size)
        values[marks] = 1.0
        return values


class Rank(Program):
    """One attempt at one rank of a group."""

    def __init__(self, world: World, group: int, rank: int, incarnation: int) -> None:
        super().__init__(world)
        self.group = group
        self.plan = world.scenario.groups[group]
        self.rank = rank
        self.incarnation = incarnation
        #: Whether the rank has finished, as far as this attempt knows.
        self.finished = False
        #: The marks that were written since the last tick.
        self._written: list[slice] = []
        #: A pull of this clock that was not waited for.
        self._late: Future[Any] | None = None

    def run(self) -> None:
        spec = self.world.groups[self.group]
        least = self.ledger.next_clock(self.group, self.rank)
        clock, stored = self.session.takeover(spec.group, self.rank, self.incarnation)
        if stored is not None and stored[:1] == _RESULT:
            self.finished = True
            return
        self.ledger.check_takeover(self.group, self.rank, clock, least)
        assert stored == (None if clock == 0 else self._state(clock - 1)), (stored, clock)
        if self.plan.keysets:
            self.all_marks = self.marks.register(self.universe.keys)
            self.shared = self.sums.register(self.universe.sum_keys(self.group))
        last = self.plan.clocks[self.rank]
        for at in range(clock, last):
            self._clock(at)
            if at + 1 < last or (self.plan.ticks_last and self.rank % 2 == 0):
                self._tick(at)
        self._finish()

    def _clock(self, clock: int) -> None:
        self.nap()
        sparse, dense = (np.zeros(SUMS),) * 2 if self.plan.blind else self._pull(clock)
        pushed = [self._push(clock, push, sparse, dense) for push in range(self.plan.pushes)]
        if self.plan.peeks and not self.plan.blind:
            self._pull(clock)
        if self.plan.calls:
            self._call(clock)
        self.nap(writing=self.plan.hasty)
        self._written = pushed
        self._late = self.marks.pull_async(self.universe.keys) if self.plan.late_pulls else None

    def _state(self, clock: int) -> bytes:
        return _STATE + b"group %d rank %d clock %d" % (self.group, self.rank, clock)

    def _pull(self, clock: int) -> tuple[Any, Any]:
        """Read everything, check it, and return the group's sums: of the sparse table, and of the dense one."""
        marks = self.all_marks if self.plan.keysets else self.universe.keys
        shared = self.shared if self.plan.keysets else self.universe.sum_keys(self.group)
        if self.plan.together:
            named = [marks, shared] if self.plan.keysets else [(self.marks, marks), (self.sums, shared)]
            rows, sparse, *rest = pull_together(self.session, [*named, *([self.dense] if self.dense else [])])
        else:
            later = self.marks.pull_async(marks)
            sparse = self.sums.pull(shared)
            rest = [self.dense.pull()] if self.dense else []
            rows = later.result()
        where, sparse = f"{self.process.name} at clock {clock}", sparse.ravel()
        for read in (rows.ravel(), *(dense[: len(self.own)] for dense in rest)):
            self.ledger.check_pull(self.group, self.rank, clock, self.own, read, where)
        summed = rest[0][self.universe.sum_elements(self.group)] if rest else np.zeros(SUMS)
        self.ledger.check_sums(self.group, clock, sparse, summed if rest else None, where)
        return sparse, summed

    def _push(self, clock: int, push: int, sparse: Any, dense: Any) -> slice:
        marks = self.ledger.attempt(self.group, self.rank, clock, push)
        keys, ones = self.universe.keys[marks], np.ones((marks.stop - marks.start, 1))
        elements = self.ones_at(marks)
        elements[self.universe.sum_elements(self.group)] = gradient(self.rank, clock, push, dense)
        shared = self.shared if self.plan.keysets else self.universe.sum_keys(self.group)
        if self.plan.together and self.dense:
            written = [write_together(self.session, OpCode.ADD, [(self.marks, keys, ones), (self.dense, elements)])]
        else:
            written = [self.marks.add_async(keys, ones)]
            if self.dense:
                written.append(self.dense.add_async(elements))
        written.append(self.sums.push_async(shared, gradient(self.rank, clock, push, sparse)[:, None]))
        if not self.plan.hasty:
            for future in written:
                future.result()
            self._acknowledged(marks)
        return marks

    def _acknowledged(self, marks: slice) -> None:
        self.own[marks] = True
        self.ledger.acknowledge(marks)

    def _call(self, clock: int) -> None:
        self.ledger.begun.add((self.group, self.rank, clock))
        self.counted.call("scale", alpha=2.0)

    def _tick(self, clock: int) -> None:
        self.ledger.sends_tick(self.group, self.rank, clock)
        own = self.own.copy()
        self.session.tick(self._state(clock))
        if self._late is not None:
            where = f"{self.process.name}, late, at clock {clock}"
            self.ledger.check_pull(self.group, self.rank, clock, own, self._late.result().ravel(), where)
        self.ledger.has_ticked(self.group, self.rank, clock - 1)
        for marks in self._written:
            self._acknowledged(marks)
        self._written = []

    def _finish(self) -> None:
        self.ledger.sends_tick(self.group, self.rank, self.plan.clocks[self.rank])
        self.session.finish(_RESULT)
        self.finished = True
        for marks in self._written:
            self._acknowledged(marks)


class Writer(Program):
    """A session outside any group that writes, and reads what it has written."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world)
        self.number = number

    def run(self) -> None:
        before = np.zeros(len(self.own))
        for turn in range(self.world.scenario.rounds):
            self.nap()
            burst = [self._write(turn, push) for push in range(self.world.scenario.burst)]
            self.nap(writing=True)
            for marks, sparse in burst:
                sparse.result()
                self.own[marks] = True
                self.ledger.acknowledge(marks)
            rows = self.marks.pull(self.universe.keys).ravel()
            self.ledger.check_read(self.own, before, rows, f"{self.process.name} in round {turn}")
            before = rows


    def _write(self, turn: int, push: int) -> tuple[slice, Future[Any]]:
        marks = self.ledger.attempt(OUTSIDE, self.number, turn, push)
        keys, ones = self.universe.keys[marks], np.ones((marks.stop - marks.start, 1))
        sparse = self.marks.add_async(keys, ones)
        if self.dense:
            self.dense.add(self.ones_at(marks))
        return marks, sparse


class Reader(Program):
    """A session outside any group that reads, again and again."""

    TIMES = 5

    def run(self) -> None:
        size = len(self.own)
        sparse, dense = np.zeros(size), np.zeros(size)
        keys = self.marks.register(self.universe.keys)
        for _ in range(self.TIMES):
            later = keys.pull_async()
            if self.dense:
                elements = self.dense.pull()[:size]
                self.ledger.check_read(self.own, dense, elements, self.process.name)
                dense = elements
            rows = later.result().ravel()
            self.ledger.check_read(self.own, sparse, rows, self.process.name)
            sparse = rows
            self.process.pause(0.3)
            self.nap()


class Churn(Program):
    """A session that creates, fills and drops tables, of their own or beside the marks, while others use them as well."""

    TIMES = 3

    def run(self) -> None:
        for turn in range(self.TIMES):
            spec = TableSpec(f"passing{turn}", "sparse", 2, "float64", group="shared" if turn % 2 == 0 else "")
            table = SparseTable(ADDRESS, self.control.request(CreateTable(0, spec), 100.0).spec).bind(self.session)
            self.world.passing = table
            keys = self.universe.passing
            ones = np.ones((len(keys), 2))
            table.add(keys, ones)
            self.nap()
            rows = table.pull(keys)
            assert ((rows == 1) | (rows == 3)).all(), rows
            later = table.add_async(keys, ones)
            self.control.request(DropTable(0, spec.name, table.spec.table), 100.0)
            self._expect_gone(later, table)
        self.world.passing = None

    def _expect_gone(self, written: Any, table: SparseTable) -> None:
        """The last write was done or refused; a read is refused."""
        with contextlib.suppress(UnknownTable):
            written.result()
        try:
            table.pull(self.universe.passing)
        except UnknownTable:
            return
        raise AssertionError(f"{table} was read after it was dropped")


class Bystander(Program):
    """A session that writes to tables that another one drops."""

    def run(self) -> None:
        done: set[int] = set()
        while not self.world.churned():
            passing = self.world.passing
            if passing is not None and passing.spec.table not in done:
                done.add(passing.spec.table)
                table = SparseTable(ADDRESS, passing.spec).bind(self.session)
                with contextlib.suppress(UnknownTable):
                    table.add(self.universe.passing, np.full((len(self.universe.passing), 2), 2.0))
                    table.pull(self.universe.passing)
            self.process.pause(0.1)
