"""The oracle: what programs have tried, what was acknowledged, and what every table must therefore hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.specs import UNBOUNDED
from tests.harness.scenario import OUTSIDE, SUMS, Scenario, reference, universe

Marks = NDArray[np.bool_]
Values = NDArray[np.float64]


class Ledger:
    """What has happened to the marks of one schedule.

    Parameters
    ----------
    scenario : Scenario
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.universe = universe(scenario)
        size = len(self.universe.keys)
        #: Writes that were sent at least once, and those that some attempt was told are done.
        self.attempted = np.zeros(size, bool)
        self.acknowledged = np.zeros(size, bool)
        #: By (group, rank): the highest clock whose tick was acknowledged, and the highest one that was sent.
        self.ticked: dict[tuple[int, int], int] = {}
        self.sent: dict[tuple[int, int], int] = {}
        #: Calls of the server function that some attempt has begun: (group, rank, clock).
        self.begun: set[tuple[int, int, int]] = set()

    # ---- what programs tell --------------------------------------------------------------------------------------------

    def attempt(self, group: int, rank: int, clock: int, push: int) -> slice:
        """A push is about to be sent; where its marks are."""
        first, last = self.universe.spans[group, rank, clock, push]
        self.attempted[first:last] = True
        return slice(first, last)

    def acknowledge(self, marks: slice) -> None:
        """The push was acknowledged."""
        self.acknowledged[marks] = True

    def sends_tick(self, group: int, rank: int, clock: int) -> None:
        """A tick is about to be sent."""
        self.sent[group, rank] = max(clock, self.sent.get((group, rank), -1))

    def has_ticked(self, group: int, rank: int, clock: int) -> None:
        """A tick was acknowledged."""
        self.ticked[group, rank] = max(clock, self.ticked.get((group, rank), -1))

    # ---- what must hold ------------------------------------------------------------------------------------------------

    def next_clock(self, group: int, rank: int) -> int:
        """The clock at which whoever takes the rank over from now on must begin, at the least."""
        return self.ticked.get((group, rank), -1) + 1

    def check_takeover(self, group: int, rank: int, clock: int, least: int) -> None:
        """An attempt goes on after the last clock that anybody ticked, as far as anybody could know.

        `least` is `next_clock` as it was when the attempt began: one that lingers hears late what it was told in its own time.
        """
        most = self.sent.get((group, rank), -1) + 1
        assert least <= clock <= most, f"rank {rank} of group {group} goes on at clock {clock}, not in [{least}, {most}]"

    def check_pull(self, group: int, rank: int, clock: int, own: Marks, rows: Values, where: str) -> None:
        """The marks as a rank reads them at a clock. `own`: those that this attempt itself was told are applied."""
        u, plan = self.universe, self.scenario.groups[group]
        self.check_counts(rows, where)
        mine = u.group == group
        due = mine & (u.clock < clock) & (u.rank == rank)
        if plan.staleness != UNBOUNDED:
            due |= mine & (u.clock < clock - plan.staleness)
        if not plan.bsp:
            due |= own
        self._check_due(due, rows, where)
        if plan.bsp:
            early = mine & (u.clock >= clock) & (rows != 0)
            assert not early.any(), f"{where} sees what is not of its clock yet: {self.named(early)}"

    def check_read(self, own: Marks, before: Values, rows: Values, where: str) -> None:
        """The marks as an outside session reads them: its own writes, and nothing that it has seen goes again."""
        self.check_counts(rows, where)
        self._check_due(own | (before == 1), rows, where)

    def check_counts(self, rows: Values, where: str) -> None:
        """No write is there twice, and none that nobody has tried."""
        wrong = (rows != 0) & ((rows != 1) | ~self.attempted)
        assert not wrong.any(), f"{where} sees {rows[wrong].tolist()} of {self.named(wrong)}: applied twice, or never sent"

    def check_sums(self, group: int, clock: int, sparse: Values | None, dense: Values | None, where: str) -> None:
        """BSP: the sums at the beginning of a clock are the bits of a run in which nothing goes wrong."""
        plan = self.scenario.groups[group]
        if not plan.bsp:
            return
        for kind, rows, table in zip(("sparse", "dense"), (sparse, dense), reference(plan.clocks, plan.pushes, plan.blind), strict=True):
            wanted = table[min(clock, len(table) - 1)]
            assert rows is None or rows.tobytes() == wanted.tobytes(), (
                f"{where} sees the {kind} sums {rows.tolist()}, not {wanted.tolist()} as at the beginning of clock {clock}"
            )

    def check_finished(self, group: int, tables: dict[str, Any], where: str) -> None:
        """Every rank of the group was told that its finish is done: all that it pushed is there, once, at once."""
        plan = self.scenario.groups[group]
        mine = self.universe.group == group
        dense = tables["dense"]
        for rows in self._marks(tables):
            self.check_counts(rows, where)
            self._check_due(mine, rows, where)
        summed = None if dense is None else dense[self.universe.sum_elements(group)]
        self.check_sums(group, max(plan.clocks), tables["sums"][group * SUMS : (group + 1) * SUMS], summed, where)

    def check_end(self, tables: dict[str, Any], where: str) -> None:
        """The schedule is over: what was acknowledged is there, once; also what outside sessions wrote."""
        outside = self.universe.group == OUTSIDE
        for rows in self._marks(tables):
            self.check_counts(rows, where)
            self._check_due(self.acknowledged & outside, rows, where)

    def check_called(self, values: Values, where: str, exactly: bool) -> None:
        """Each call of a rank has doubled the table once; not `exactly`: at most once."""
        wanted = 2.0 ** len(self.begun)
        right = values == wanted if exactly else (values >= 1) & (values <= wanted)
        assert right.all(), f"{where} sees {values.tolist()}, not {wanted} after {len(self.begun)} calls"

    def _marks(self, tables: dict[str, Any]) -> list[Values]:
        """The marks in each of the tables that hold them."""
        size = len(self.universe.keys)
        return [tables["marks"]] if tables["dense"] is None else [tables["marks"], tables["dense"][:size]]

    def _check_due(self, due: Marks, rows: Values, where: str) -> None:
        missing = due & (rows != 1)
        assert not missing.any(), f"{where} misses {self.named(missing)}"

    def named(self, marks: Marks) -> str:
        """Marks in words."""
        u = self.universe
        names = [
            f"(group {u.group[i]}, rank {u.rank[i]}, clock {u.clock[i]}, push {u.push[i]}, key {u.keys[i]})"
            for i in np.flatnonzero(marks).tolist()
        ]
        return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
