"""Who leads which bucket where some weigh more than others. Pure.

A bucket's weight is its share of the tier's load, as an int (see `rebalance`). Leads move one by one from a node with much to the one
with the least, that bucket first which evens the two out best, so that few move; they stop moving where nodes are even enough. So
what was evened out once stays as it is, whatever is planned later by the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sparkps.wire.placement import Placement

#: Nodes are even where the heaviest has at most this share of the mean more than the lightest.
EVEN = 1 / 8
#: Where nodes are as even as the heaviest bucket allows, what moves must carry this share of the difference: many buckets that weigh
#: next to nothing would move for next to nothing.
WORTHWHILE = 1 / 8
#: How much better a lead goes to a node that has a copy already: no data moves then.
COPY_BONUS = 2


def leads_by_weight(placement: Placement, nodes: Sequence[int], weights: Sequence[int]) -> list[int]:
    """A primary among `nodes` for each bucket, near to that in `placement`.

    The heaviest node has at most `EVEN` of the mean more than the lightest, or at most the weight of the heaviest bucket.

    Parameters
    ----------
    placement : Placement
    nodes : sequence of int
        Who may lead; at least one.
    weights : sequence of int
        Of each bucket, at least 1.

    Examples
    --------
    >>> leads_by_weight([[0], [0], [0], [1]], [0, 1], [4, 4, 1, 1])
    [1, 0, 0, 1]
    """
    members = frozenset(nodes)
    copies = [[node for node in row if node in members] for row in placement]
    leads = [row[0] if row else -1 for row in copies]
    load = loads(leads, nodes, weights)
    homeless = [bucket for bucket, lead in enumerate(leads) if lead < 0]
    for bucket in sorted(homeless, key=lambda bucket: (-weights[bucket], bucket)):
        leads[bucket] = min(nodes, key=lambda node: (load[node], node))
        load[leads[bucket]] += weights[bucket]
    led: dict[int, list[int]] = {node: [] for node in nodes}
    for bucket, lead in enumerate(leads):
        led[lead].append(bucket)
    enough = EVEN * sum(load.values()) / len(nodes)
    while (move := _best_move(led, copies, load, weights, enough)) is not None:
        bucket, taker = move
        load[leads[bucket]] -= weights[bucket]
        led[leads[bucket]].remove(bucket)
        led[taker].append(bucket)
        load[taker] += weights[bucket]
        leads[bucket] = taker
    return leads


def loads(leads: Iterable[int], nodes: Iterable[int], weights: Sequence[float]) -> dict[int, float]:
    """What the buckets that each of `nodes` leads weigh together.

    Examples
    --------
    >>> loads([5, 5, 7], [5, 6], [1, 2, 4])
    {5: 3, 6: 0}
    """
    load: dict[int, float] = dict.fromkeys(nodes, 0)
    for lead, weight in zip(leads, weights, strict=True):
        if lead in load:
            load[lead] += weight
    return load


def _best_move(
    led: Mapping[int, Sequence[int]], copies: Sequence[Sequence[int]], load: dict[int, float], weights: Sequence[int], enough: float
) -> tuple[int, int] | None:
    """The next lead that moves, and where to: from the heaviest node that can give one which helps. None: it is even enough."""
    taker, heaviest = min(load, key=lambda node: (load[node], node)), max(weights)
    for giver in sorted(load, key=lambda node: (-load[node], node)):
        gap = load[giver] - load[taker]
        if gap <= enough:
            break
        least = 0.0 if gap > heaviest else gap * WORTHWHILE
        can = [bucket for bucket in led[giver] if least <= weights[bucket] < gap]
        if can:
            bonus = {bucket: COPY_BONUS if taker in copies[bucket] else 1 for bucket in can}
            return max(can, key=lambda b: (weights[b] * (gap - weights[b]) * bonus[b], -b)), taker
    return None


__all__ = ["COPY_BONUS", "EVEN", "WORTHWHILE", "leads_by_weight", "loads"]
