"""Worker groups on a node: the shell around `wire.clock.GroupClock` that buffers pushes, applies closes and parks pulls."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sparkps.errors import Fenced, SparkPSError
from sparkps.ps_nodes.store import Store, Target
from sparkps.specs import GroupSpec
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Apply, Buffer, Close, DropAbove, Effect, Release
from sparkps.wire.messages import Member, OpCode

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Parked:
    """A request that waits for the clock."""

    member: Member
    #: Runs the request again; called on the thread that released it.
    resume: Callable[[], None]
    #: Told the first cause if the group ends before.
    fail: Callable[[SparkPSError], None]
    #: When it was parked (seconds, monotonic).
    since: float


class NodeGroup:
    """One worker group on this node. Thread-safe.

    Parameters
    ----------
    spec : GroupSpec
    store : Store
        The tables that its pushes change.
    """

    def __init__(self, spec: GroupSpec, store: Store) -> None:
        self.spec = spec
        self._store = store
        self._lock = threading.Lock()
        #: Owner of this and all below: `_lock`.
        self._clock = GroupClock(spec, store.buckets.tolist())
        #: BSP: writes of open clocks: clock -> list of (rank, ordinal, arrival, target).
        self._buffers: dict[int, list[tuple[int, int, int, Target]]] = defaultdict(list)
        self._arrivals = 0
        self._parked: list[Parked] = []
        #: Closes that are due, in order, and whether a thread is applying them.
        self._closes: deque[Close] = deque()
        self._closing = False
        #: Why the group ended, if it did.
        self._cause: SparkPSError | None = None
        #: Seconds that pulls of each rank were parked.
        self.waited = [0.0] * spec.num_ranks

    # ---- requests of members -------------------------------------------------------------------------------------------

    def gate(self, member: Member, parked: Callable[[], Parked]) -> list[int]:
        """Whether a pull may be answered now.

        Returns
        -------
        list of int
            Empty: answer it. Otherwise the ranks waited for; what `parked` gives is kept, and resumed or failed later.
        """
        with self._lock:
            self._check()
            # Closes that are due but not applied yet belong before the pull: their ranks have all ticked.
            waiting = self._clock.ready(member) if not (self._closing or self._closes) else [member.rank]
            if waiting:
                self._parked.append(parked())
            return waiting

    def write(self, member: Member, targets: Sequence[Target]) -> None:
        """A member's pushes: buffered until the clock closes (BSP), or applied now."""
        if self.spec.staleness == 0:
            self._buffer(member, targets)
            return
        for target in targets:
            with self._lock:
                self._check()
                verdict = self._clock.push(member, target.buckets(), target.table.spec.table)
            if isinstance(verdict, Apply):
                for part in [target] if verdict.mask is None else target.only(verdict.mask):
                    part.write()

    def _buffer(self, member: Member, targets: Sequence[Target]) -> None:
        with self._lock:
            self._check()
            verdict = self._clock.push(member)
            assert isinstance(verdict, Buffer)
            for target in targets:
                self._arrivals += 1
                self._buffers[verdict.clock].append((member.rank, member.ordinal, self._arrivals, target))

    def tick(self, member: Member, state: bytes | None, finish: bool) -> Callable[[], None] | None:
        """A rank's clock is done; returns what must be run because of it, if anything."""
        with self._lock:
            self._check()
            return self._follow(self._clock.tick(member, state, finish))

    def takeover(self, member: Member) -> Any:
        """A new incarnation asks what its rank has done."""
        with self._lock:
            self._check()
            return self._clock.takeover(member)

    def settle(self, member: Member, state: bytes | None) -> Callable[[], None] | None:
        """After a takeover; see `GroupClock.settle`. Returns what must be run because of it."""
        with self._lock:
            self._check()
            return self._follow(self._clock.settle(member, state))

    def _check(self) -> None:
        if self._cause is not None:
            raise self._cause

    # ---- effects -------------------------------------------------------------------------------------------------------

    def _follow(self, effects: Sequence[Effect]) -> Callable[[], None] | None:
        released = False
        for effect in effects:
            if isinstance(effect, DropAbove):
                for clock in [c for c in self._buffers if c > effect.clock]:
                    self._buffers[clock] = [part for part in self._buffers[clock] if part[0] != effect.rank]
            elif isinstance(effect, Close):
                self._closes.append(effect)
            elif isinstance(effect, Release):
                released = True
        if self._closes and not self._closing:
            self._closing = True
            return self._apply_closes
        return self._release if released and not self._closing else None

    @property
    def heavy(self) -> bool:
        """Whether the closes that are due touch more than a few rows."""
        due = list(self._closes)
        return sum(part[3].size for close in due for part in self._buffers.get(close.clock, ())) > 1 << 14

    def _apply_closes(self) -> None:
        while True:
            with self._lock:
                if not self._closes or self._cause is not None:
                    self._closing = False
                    break
                close = self._closes.popleft()
                parts = self._buffers.pop(close.clock, [])
            try:
                self._apply(close.clock, parts)
            except Exception as error:
                log.exception("clock %d of group %r could not be closed", close.clock, self.spec.name)
                self.end(
                    error
                    if isinstance(error, SparkPSError)
                    else SparkPSError(f"clock {close.clock} could not be closed: {error}")
                )
        self._release()

    def _apply(self, clock: int, parts: list[tuple[int, int, int, Target]]) -> None:
        """Apply a clock's writes once: per table the assigns, then the sum of the adds, then of the gradients."""
        parts.sort(key=lambda part: part[:3])
        by_table: dict[tuple[int, OpCode], list[Target]] = defaultdict(list)
        for *_, target in parts:
            by_table[target.table.spec.table, target.code].append(target)
        order = {OpCode.ASSIGN: 0, OpCode.ADD: 1, OpCode.PUSH: 2}
        for table_id, code in sorted(by_table, key=lambda key: (key[0], order[key[1]])):
            if table_id in self._store.tables:  # else it was dropped meanwhile
                Target.apply_sum(by_table[table_id, code], clock)

    def _release(self) -> None:
        with self._lock:
            waiting, self._parked = self._parked, []
            now = time.monotonic()
            # The pieces of one call are parked side by side: a rank has waited as long as the first of them.
            for rank, since in _first(waiting).items():
                self.waited[rank] += now - since
        for parked in waiting:
            parked.resume()

    # ---- the end -------------------------------------------------------------------------------------------------------

    def end(self, cause: SparkPSError | None = None) -> None:
        """The group failed with `cause`, or is over; what is parked is told so, buffers go."""
        over = Fenced(f"Worker group {self.spec.name!r} has ended; its ranks must stop.", group=self.spec.group)
        with self._lock:
            if self._cause is None:
                self._cause = cause or over
            reason = self._cause
            waiting, self._parked = self._parked, []
            self._buffers.clear()
            self._closes.clear()
        for parked in waiting:
            parked.fail(reason)

    def forget_table(self, table: int) -> None:
        """The table was dropped."""
        with self._lock:
            self._clock.forget_table(table)

    def report(self) -> dict[str, dict[str, Any]]:
        """Clock, staleness and waiting time of each rank."""
        with self._lock:
            clock = self._clock
            each = zip(clock.clocks, clock.finished, clock.max_staleness, clock.histograms, self.waited, strict=True)
            return {
                str(rank): {
                    "clock": at,
                    "finished": finished,
                    "staleness": staleness,
                    "staleness_histogram": histogram,
                    "waited_seconds": round(waited, 6),
                }
                for rank, (at, finished, staleness, histogram, waited) in enumerate(each)
            }


def _first(waiting: Sequence[Parked]) -> dict[int, float]:
    """When each rank began to wait."""
    since: dict[int, float] = {}
    for parked in waiting:
        rank = parked.member.rank
        since[rank] = min(parked.since, since.get(rank, parked.since))
    return since
