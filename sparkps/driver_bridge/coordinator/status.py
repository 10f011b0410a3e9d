"""The tier's status as plain values: what `PSContext.status()` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sparkps.driver_bridge.coordinator.leases import Groups, GroupState
from sparkps.driver_bridge.coordinator.membership import Membership
from sparkps.driver_bridge.coordinator.registry import Registry
from sparkps.specs import TableSpec

Report = Mapping[str, Any]


def tier_status(members: Membership, registry: Registry, groups: Groups, now: float) -> dict[str, Any]:
    """Nodes, tables and groups, with the nodes' own figures added up.

    Returns
    -------
    dict
        ``epoch``; ``nodes``: id, endpoint, host, pid, state, reason, buckets, rows, bytes and what else a node reports;
        ``tables``: name, kind, dim, dtype, shape, group, rows, bytes; ``groups``: id, name, state, cause, staleness (its bound),
        num_workers, clock (the lowest of all ranks) and ``ranks``: rank, state, attempt, incarnation, clock, staleness (the
        largest measured), waited_seconds, counters; ``queued``: names of groups that wait for admission.
    """
    reports = [state.report for state in members.nodes.values()]
    return {
        "epoch": members.epoch,
        "nodes": _nodes(members),
        "tables": [_table(spec, reports) for spec in registry.tables.values()],
        "groups": [_group(group, reports, now) for group in groups.running.values()],
        "queued": [waiting.name for waiting in groups.queue],
    }


def _nodes(members: Membership) -> list[dict[str, Any]]:
    buckets = members.buckets()
    listed = []
    for state in members.nodes.values():
        info = state.info
        own = {k: v for k, v in state.report.items() if k not in ("tables", "groups")}
        known = {"id": info.node, "endpoint": info.endpoint, "host": info.host, "pid": info.pid, "state": info.state}
        more = {"reason": info.reason, "buckets": buckets[info.node]}
        listed.append({"rows": 0, "bytes": 0, **own, **known, **more})
    return listed


def _table(spec: TableSpec, reports: Iterable[Report]) -> dict[str, Any]:
    parts = [report.get("tables", {}).get(str(spec.table), {}) for report in reports]
    return {
        "id": spec.table,
        "name": spec.name,
        "kind": spec.kind,
        "dim": spec.dim,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "group": spec.group,
        "optimizer": repr(spec.optimizer),
        "rows": sum(part.get("rows", 0) for part in parts),
        "bytes": sum(part.get("bytes", 0) for part in parts),
    }


def _group(group: GroupState, reports: Iterable[Report], now: float) -> dict[str, Any]:
    measured = [report.get("groups", {}).get(str(group.spec.group), {}) for report in reports]
    ranks: list[dict[str, Any]] = []
    for rank, state in enumerate(group.ranks):
        parts = [part[str(rank)] for part in measured if str(rank) in part]
        entry = state.report(rank, now)
        ranks.append(
            {
                "rank": rank,
                "state": entry.state,
                "attempt": entry.attempt,
                "incarnation": entry.incarnation,
                # A tick that one shard has is as good as ticked everywhere (see `wire.clock`).
                "clock": max((part.get("clock", -1) for part in parts), default=-1),
                "staleness": max(
                    (part["staleness"] for part in parts if part.get("staleness") is not None), default=None
                ),
                "waited_seconds": max((part.get("waited_seconds", 0.0) for part in parts), default=0.0),
                "counters": entry.counters,
            }
        )
    return {
        "id": group.spec.group,
        "name": group.spec.name,
        "state": group.state,
        "cause": None if group.cause is None else group.cause.message,
        "staleness": group.spec.staleness,
        "num_workers": group.spec.num_workers,
        "clock": min(rank["clock"] for rank in ranks),
        "ranks": ranks,
    }


__all__ = ["tier_status"]
