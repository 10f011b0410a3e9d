"""The load of every bucket, from what nodes report of those that they lead. Pure: time is an argument (seconds, monotonic)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparkps.driver_bridge.coordinator.node_registry import NodeRecord
from sparkps.driver_bridge.coordinator.rebalance import BucketLoads
from sparkps.wire.placement import Placement


@dataclass(frozen=True)
class _Reading:
    """What a node has reported."""

    #: When.
    at: float
    #: Bytes of its buckets, and the requests that each had since the node began.
    bytes: Mapping[int, float]
    requests: Mapping[int, float]


class LoadMeter:
    """Bytes and requests per second of every bucket between two looks. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        #: Of the last look, by node; empty: there was none under this placement.
        self._last: dict[int, _Reading] = {}
        #: That placement.
        self.epoch = 0

    def reset(self) -> None:
        """The next look is the first one: what was reported before may be of another placement."""
        self._last = {}

    def read(self, epoch: int, placement: Placement, nodes: Mapping[int, NodeRecord], up: Sequence[int]) -> BucketLoads | None:
        """The load since the last look; None: it is not known, as not every node has reported since then.

        Parameters
        ----------
        epoch : int
        placement : Placement
            All nodes have confirmed it.
        nodes : mapping of int to NodeRecord
        up : sequence of int
        """
        now = {node: _reading(nodes[node]) for node in up}
        if epoch != self.epoch or self._last.keys() != now.keys():
            self.epoch, self._last = epoch, now
            return None
        last = self._last
        if any(now[node].at <= last[node].at for node in up):
            return None
        self._last = now
        seconds = {node: now[node].at - last[node].at for node in up}
        of_bytes, rates = [0.0] * len(placement), [0.0] * len(placement)
        for bucket, row in enumerate(placement):
            node = row[0]
            if node in now:
                of_bytes[bucket] = now[node].bytes.get(bucket, 0)
                more = now[node].requests.get(bucket, 0) - last[node].requests.get(bucket, 0)
                rates[bucket] = max(0.0, more) / seconds[node]
        return {"bytes": of_bytes, "requests": rates}


def _reading(record: NodeRecord) -> _Reading:
    load: dict[str, Any] = record.report.get("load", {})
    buckets = load.get("buckets", ())
    by_bucket = {measure: dict(zip(buckets, load[measure], strict=True)) if measure in load else {} for measure in ("bytes", "requests")}
    return _Reading(record.reported_at, **by_bucket)


__all__ = ["LoadMeter"]
