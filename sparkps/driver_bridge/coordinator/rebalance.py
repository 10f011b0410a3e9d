"""When buckets move because one node has much more to do than the others. Pure: time is an argument (seconds, monotonic).

There are two measures of a node's load: bytes of rows, and requests per second, both of the buckets that it leads. A look compares the
nodes. Where the same node has had more than `SKEWED` of the mean for `LOOKS` looks in a row, and enough of it to matter, buckets get
weights by their load, and the plan evens leads out by weight, to less than `MENDED` of the mean. Between the two nothing happens: a load
that was evened out stays where it is until it is skewed again. Decisions are apart by a pause that doubles, so that a load which
changes its place all the time is not run after.

What would not help is not done: one bucket that is hot wherever it is, or a move for one measure that would skew the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sparkps.driver_bridge.coordinator.weights import leads_by_weight, loads
from sparkps.wire.placement import Placement

#: What the load of a node is measured by, and how much of it the heaviest node must have for a skew to matter: less is not worth a move.
FLOORS = {"bytes": float(8 << 20), "requests": 500.0}
#: Load of the heaviest node, of the mean of all: above the first buckets move, until it is below the second.
SKEWED, MENDED = 1.5, 1.2
#: Looks in a row that see the same node overloaded, and the seconds between two.
LOOKS, LOOK_EVERY = 3, 3.0
#: Seconds between two decisions: at first, then twice as long, at most. A time without any that is longer than `CALM` begins anew.
SHORTEST_PAUSE, LONGEST_PAUSE, CALM = 30.0, 3600.0, 7200.0
#: Mean weight of a bucket by its load, and what each one weighs besides: buckets without load are spread, too.
UNIT, BASE = 1600, 100

#: Load by bucket, for each measure.
BucketLoads = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Skew:
    """How uneven nodes are by one measure."""

    #: The heaviest node, its load, and that as a multiple of the mean.
    node: int
    load: float
    ratio: float


@dataclass(frozen=True)
class Decision:
    """Buckets weigh as much from now on, and leads are to be balanced by that."""

    weights: list[int]
    #: Why, in words.
    reason: str


class Rebalance:
    """Looks at the load of nodes, and decides. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        #: By measure, how uneven the nodes were at the last look.
        self.skews: dict[str, Skew] = {}
        #: How often buckets were given new weights.
        self.decisions = 0
        #: Why a skew that lasts cannot be mended, in words; empty: there is none.
        self.stuck = ""
        #: When the next look is due, and before when nothing is decided.
        self.look_at = 0.0
        self.resume_at = 0.0
        self._pause = SHORTEST_PAUSE
        self._decided_at = 0.0
        #: By measure, the node that is overloaded, and for how many looks in a row it was; absent: none is.
        self._streaks: dict[str, tuple[int, int]] = {}
        #: Loads of the last looks.
        self._recent: deque[BucketLoads] = deque(maxlen=LOOKS)

    # ---- events --------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """What was seen counts no more, as when buckets move for other reasons."""
        self._streaks.clear()
        self._recent.clear()

    def decided(self, now: float) -> None:
        """Buckets were given new weights."""
        if self.decisions and now - self._decided_at > CALM:
            self._pause = SHORTEST_PAUSE
        self.decisions += 1
        self._decided_at, self.resume_at = now, now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.stuck = ""
        self.reset()

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        self.resume_at += seconds
        self.reset()

    def is_due(self, now: float) -> bool:
        """Whether it is time for a look; the next one is due a while after this one."""
        if now < self.look_at:
            return False
        self.look_at = now + LOOK_EVERY
        return True

    def look(self, placement: Placement, nodes: Sequence[int], load: BucketLoads, now: float) -> Decision | None:
        """See how uneven the nodes are; the weights that mend it, if it has lasted and can be mended. `decided` must follow then.

        Parameters
        ----------
        placement : Placement
        nodes : sequence of int
            Who may lead.
        load : mapping of str to sequence of float
            For each measure the load of each bucket since the last look.
        now : float
        """
        self._recent.append(load)
        self.skews = {measure: skew_of(placement, nodes, each) for measure, each in load.items()}
        lasting = [measure for measure, skew in self.skews.items() if self._lasts(measure, skew)]
        if all(skew.ratio < MENDED or skew.load < FLOORS[measure] for measure, skew in self.skews.items()):
            self.stuck = ""
        if not lasting or now < self.resume_at:
            return None
        mean = self._mean()
        for weights in _candidates(mean, lasting):
            if _mends(placement, nodes, mean, lasting, weights):
                return Decision(weights, "; ".join(self._words(measure) for measure in lasting))
        self.resume_at = now + SHORTEST_PAUSE  # to look for what helps takes time
        self.stuck = self.stuck or (
            f"{'; '.join(self._words(measure) for measure in lasting)}: no other distribution of the buckets over the nodes is"
            " much better, as where one bucket has most of the load"
        )
        return None

    def status(self, setting: str) -> dict[str, object]:
        """For `PSContext.status()`."""
        ratios = {measure: round(skew.ratio, 2) for measure, skew in self.skews.items()}
        return {"setting": setting, "skew": ratios, "decisions": self.decisions, "stuck": self.stuck}

    # ---- inside --------------------------------------------------------------------------------------------------------

    def _lasts(self, measure: str, skew: Skew) -> bool:
        """Whether the same node has been overloaded for long enough, this look included."""
        if skew.ratio <= SKEWED or skew.load < FLOORS[measure]:
            self._streaks.pop(measure, None)
            return False
        node, looks = self._streaks.get(measure, (skew.node, 0))
        looks = looks + 1 if node == skew.node else 1
        self._streaks[measure] = (skew.node, looks)
        return looks >= LOOKS

    def _mean(self) -> BucketLoads:
        """The load of the last looks, each."""
        return {
            measure: [sum(each) / len(self._recent) for each in zip(*[load[measure] for load in self._recent], strict=True)]
            for measure in self._recent[0]
        }

    def _words(self, measure: str) -> str:
        skew = self.skews[measure]
        return f"node {skew.node} has {skew.ratio:.1f} times the mean of {measure}"


def skew_of(placement: Placement, nodes: Sequence[int], load: Sequence[float]) -> Skew:
    """How uneven nodes are.

    Examples
    --------
    >>> skew_of([[0], [0], [1]], [0, 1], [1.0, 2.0, 1.0])
    Skew(node=0, load=3.0, ratio=1.5)
    """
    return _skew([row[0] for row in placement], nodes, load)


def weights_of(shares: Iterable[Sequence[float]]) -> list[int]:
    """Weights of buckets that have these loads, each of which counts as much as any other, whatever its unit.

    Examples
    --------
    >>> weights_of([[3.0, 1.0, 0.0, 0.0]])
    [4900, 1700, 100, 100]
    """
    parts = [[each / total for each in load] for load in shares if (total := sum(load)) > 0]
    return [BASE + round(UNIT * len(parts[0]) * sum(each) / len(parts)) for each in zip(*parts, strict=True)]


def _candidates(load: BucketLoads, lasting: Sequence[str]) -> list[list[int]]:
    """Weights that might mend a skew: by all measures that matter together first, then by each one that is skewed."""
    matter = [each for measure, each in load.items() if sum(each) >= FLOORS[measure]]
    return [weights_of(matter), *(weights_of([load[measure]]) for measure in lasting)]


def _mends(
    placement: Placement, nodes: Sequence[int], load: BucketLoads, lasting: Sequence[str], weights: Sequence[int]
) -> bool:
    """Whether leads by these weights are much more even by what is skewed, and not skewed by what is not."""
    leads = leads_by_weight(placement, nodes, weights)
    for measure, each in load.items():
        before, after = skew_of(placement, nodes, each), _skew(leads, nodes, each)
        if measure in lasting:
            if after.ratio >= MENDED and after.ratio - 1 > (before.ratio - 1) / 2:
                return False
        elif after.load >= FLOORS[measure] and after.ratio > max(SKEWED, before.ratio):
            return False
    return True


def _skew(leads: Sequence[int], nodes: Sequence[int], load: Sequence[float]) -> Skew:
    by_node = loads(leads, nodes, load)
    node = max(by_node, key=lambda node: (by_node[node], -node))
    total = sum(by_node.values())
    return Skew(node, by_node[node], by_node[node] * len(by_node) / total if total else 1.0)


__all__ = ["BucketLoads", "Decision", "Rebalance", "Skew", "skew_of", "weights_of"]
