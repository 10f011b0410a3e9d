"""How the tier comes to the placement that `plan` wants, step by step. Pure: events in, effects out; time is an argument (seconds).

A plan is carried out in rounds: primaries make some of the missing copies, a few at a time; then one change of the placement

- adds the copies that are ready,
- gives the lead of buckets that have all their copies to the wanted primaries,
- drops what is superfluous of buckets that are led as wanted,

each for other buckets, so that three things that follow one another for one bucket take no more changes than one. While copies are
made the placement stays as it is, for a node lets go of copies that a new one does not name. A death ends the round: promotion goes
first (`interrupt`), then everything is planned anew. What fails is given up, and planned again after a pause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sparkps.driver_bridge.coordinator.plan import RowChange, plan
from sparkps.wire.placement import Placement

#: Copies are made in so many rounds, or in fewer where there are fewer than `SMALLEST_ROUND` a round: bounds the number of epochs.
ROUNDS, SMALLEST_ROUND = 6, 8
#: Buckets that one command copies; commands that a primary and a target have under way.
BUCKETS_PER_COPY, COPIES_PER_SOURCE, COPIES_PER_TARGET = 8, 1, 2
#: Pause after a failure (seconds): at first, then twice as long, at most.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 10.0


@dataclass(frozen=True, eq=False)
class BucketCopy:
    """Effect: let `source`, their primary, make copies of some buckets on `target`. The same once more is another one."""

    source: int
    target: int
    buckets: tuple[int, ...]


@dataclass(frozen=True)
class NewPlacement:
    """Effect: this placement holds from now on."""

    placement: Placement


Effect = BucketCopy | NewPlacement


@dataclass(frozen=True)
class View:
    """What the moves go by: the tier as it is."""

    placement: Placement
    #: Where the nodes run that shall hold buckets: those that are up and are not drained.
    hosts: Mapping[int, str]
    #: Nodes that are up.
    up: Collection[int]
    replication: int
    #: Every node has confirmed the placement.
    is_settled: bool
    #: What each bucket weighs; empty: all the same.
    weights: Sequence[int] = ()


class Moves:
    """The plan under way. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        #: Buckets whose replica set is not yet as planned, the most urgent first.
        self.changes: dict[int, RowChange] = {}
        #: Copies of this round that were not begun: (bucket, target).
        self.queued: list[tuple[int, int]] = []
        #: Commands under way; their buckets are neither queued nor ready.
        self.copying: set[BucketCopy] = set()
        #: Copies that have caught up, and are not in the placement: (bucket, target). Empty unless a round is under way.
        self.ready: list[tuple[int, int]] = []
        #: (primary, target) between which a copy has failed: no other one is tried in this plan.
        self._failed: set[tuple[int, int]] = set()
        #: Copies of one round.
        self._round = SMALLEST_ROUND
        #: The members have changed: what is planned is out of date.
        self.is_stale = False
        #: Nothing is planned until `wake`, which is due then; None: there is no pause.
        self.resume_at: float | None = None
        self._pause = SHORTEST_PAUSE
        #: Something of this plan has failed; what did last, in words.
        self._has_failed = False
        self.failure = ""
        #: Why there is a plan, in words; kept when it is done.
        self.reason = ""

    # ---- events --------------------------------------------------------------------------------------------------------

    def members_changed(self, reason: str) -> None:
        """Nodes have come, gone, or are to be drained, or buckets weigh otherwise: plan anew as soon as the round is over."""
        self.is_stale, self.reason, self.resume_at = True, reason, None
        self._pause, self._has_failed = SHORTEST_PAUSE, False

    def interrupt(self) -> list[tuple[int, int]]:
        """The placement is changed from outside, as by a death: the round is over. The copies that are ready, to be kept in it."""
        ready, self.ready = self.ready, []
        self.queued, self.copying, self.changes = [], set(), {}
        self.is_stale = True
        return ready

    def copied(self, copy: BucketCopy, failure: str = "") -> None:
        """A command has ended, well or with a failure; one that was interrupted is nobody's any more."""
        if copy not in self.copying:
            return
        self.copying.discard(copy)
        if not failure:
            self.ready += [(bucket, copy.target) for bucket in copy.buckets]
            return
        self._failed.add((copy.source, copy.target))
        self.fail(failure)

    def fail(self, failure: str) -> None:
        """Something of the plan did not work: it is planned again after a pause."""
        self._has_failed, self.failure = True, failure

    def rest(self, now: float) -> None:
        """Plan nothing for a while, longer each time."""
        self.resume_at = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._has_failed = False

    def wake(self) -> None:
        """The pause is over: plan anew."""
        self.resume_at, self.is_stale = None, True

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        if self.resume_at is not None:
            self.resume_at += seconds

    # ---- questions -----------------------------------------------------------------------------------------------------

    def is_due(self, now: float) -> bool:
        """Whether it is time to `wake`."""
        return self.resume_at is not None and now >= self.resume_at

    @property
    def is_done(self) -> bool:
        """Whether the tier is as it shall be, as far as is known."""
        is_working = self.changes or self.copying or self.queued or self.ready
        return not (is_working or self.is_stale or self._has_failed or self.resume_at is not None)

    def status(self) -> dict[str, object] | None:
        """The plan under way, for `PSContext.status()`; None: there is none."""
        if self.is_done:
            return None
        copies = len(self.queued) + sum(len(copy.buckets) for copy in self.copying)
        return {"buckets": len(self.changes), "copies": copies, "reason": self.reason, "failure": self.failure}

    # ---- what to do now ------------------------------------------------------------------------------------------------

    def go_on(self, view: View, now: float) -> list[Effect]:
        """The next steps, if any can be made now."""
        if not view.is_settled or self.resume_at is not None or not view.hosts:
            return []
        if self.queued or self.copying:
            copies = self._begin(view.placement)
            if self.queued or self.copying:
                return copies
        if not self.ready:
            if not self.is_stale:
                self._begin_round(view.placement)
            if self.is_stale or not self.changes:
                self._plan_anew(view, now)
                self._begin_round(view.placement)
            if self.queued:
                return self._begin(view.placement)
        placement = self._next(view.placement)
        if placement != view.placement:
            return [NewPlacement(placement)]
        if self._has_failed and not self.changes:
            self.rest(now)
        return []

    def _plan_anew(self, view: View, now: float) -> None:
        """Plan from what is there; where something has failed, after a pause."""
        self.changes, self._failed = {}, set()
        if self._has_failed:
            self.rest(now)
            return
        for change in plan(view.placement, view.hosts, view.replication, view.weights):
            if view.placement[change.bucket][0] in view.up:  # nobody has a copy of others: they wait for a restore
                self.changes[change.bucket] = change
        if not self.changes:
            self._pause, self.failure = SHORTEST_PAUSE, ""
        self.is_stale = False
        missing = sum(len(change.add) for change in self.changes.values())
        self._round = max(SMALLEST_ROUND, -(-missing // ROUNDS))

    def _begin_round(self, placement: Placement) -> None:
        missing = [(bucket, node) for bucket, change in self.changes.items() for node in _missing(change, placement[bucket])]
        for bucket, node in missing:
            if (placement[bucket][0], node) in self._failed:
                self.changes.pop(bucket, None)
        self.queued = [each for each in missing if each[0] in self.changes][: self._round]

    def _begin(self, placement: Placement) -> list[Effect]:
        """Begin as many copies of the round as may be under way at once."""
        begun: list[Effect] = []
        self.queued = [(bucket, to) for bucket, to in self.queued if (placement[bucket][0], to) not in self._failed]
        sources = Counter(copy.source for copy in self.copying)
        targets = Counter(copy.target for copy in self.copying)
        together: dict[tuple[int, int], list[int]] = {}
        for bucket, target in self.queued:
            together.setdefault((placement[bucket][0], target), []).append(bucket)
        for (source, target), buckets in together.items():
            if sources[source] < COPIES_PER_SOURCE and targets[target] < COPIES_PER_TARGET:
                copy = BucketCopy(source, target, tuple(buckets[:BUCKETS_PER_COPY]))
                sources[source] += 1
                targets[target] += 1
                self.copying.add(copy)
                begun.append(copy)
        taken = {(bucket, copy.target) for copy in self.copying for bucket in copy.buckets}
        self.queued = [each for each in self.queued if each not in taken]
        return begun

    def _next(self, placement: Placement) -> Placement:
        """The placement with the copies that are ready, and the next step for every bucket whose copies were in it before."""
        rows = [list(row) for row in placement]
        givers: set[int] = set()
        takers: set[int] = set()
        for bucket, change in list(self.changes.items()):
            row = placement[bucket]
            if _missing(change, row):
                continue
            if row[0] == change.row[0]:
                rows[bucket] = list(change.row)
                del self.changes[bucket]
            elif row[0] not in takers and change.row[0] not in givers:  # who waits for others must keep nobody waiting
                rows[bucket] = [change.row[0], row[0]]  # no other one is known to be where these two are
                givers.add(row[0])
                takers.add(change.row[0])
        for bucket, target in self.ready:
            rows[bucket].append(target)
        self.ready = []
        return rows

    def validate(self, placement: Placement) -> None:
        """Check the invariants that the fields' comments state."""
        made = [(bucket, copy.target) for copy in self.copying for bucket in copy.buckets]
        every = [*self.queued, *made, *self.ready]
        assert len(set(every)) == len(every), "a copy is queued, under way or ready, once"
        assert all(target not in placement[bucket] for bucket, target in every)


def _missing(change: RowChange, row: Sequence[int]) -> list[int]:
    """Copies of a bucket that are to be made next: the new primary's before it leads, the others' when it does.

    A primary that has just got the lead knows of no copy but that of the old one.
    """
    lead = change.row[0]
    if lead not in row:
        return [lead]
    return [node for node in change.row if node not in row] if row[0] == lead else []


__all__ = ["BucketCopy", "Effect", "Moves", "NewPlacement", "View"]
