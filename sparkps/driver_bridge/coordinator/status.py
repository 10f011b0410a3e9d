"""The tier's status as plain values: what `PSContext.status()` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator.catalog import Catalog
from sparkps.driver_bridge.coordinator.leases import GroupRecord, Groups
from sparkps.driver_bridge.coordinator.node_registry import NodeRegistry
from sparkps.driver_bridge.coordinator.usage import Usage
from sparkps.namespaces import owner_of
from sparkps.specs import TableSpec

Report = Mapping[str, Any]


def told(settings: Settings) -> dict[str, Any]:
    """What of the tier's settings those must know who did not start it: ``replication``, ``lease_ttl`` and the like, in seconds."""
    return {
        "replication": settings.replication,
        "lease_ttl": settings.workers.lease_ttl,
        "heartbeat_deadline": settings.node.heartbeat_deadline,
        "table_ttl": settings.table_ttl,
    }


def tier_status(nodes: NodeRegistry, catalog: Catalog, groups: Groups, usage: Usage, now: float) -> dict[str, Any]:
    """Nodes, tables and groups, with the nodes' own figures added up.

    Returns
    -------
    dict
        ``epoch``; ``lost_nodes``: ids of nodes with which the last copies of buckets went, which makes the tier degraded;
        ``lost_buckets``: how many of its 256 buckets (in `Core.report` also those that were not restored to the end);
        ``under_replicated``: how many have fewer copies than there shall be;
        ``nodes``: id, endpoint, host, pid, state, reason, buckets (that it leads), copies (that it holds, those included), rows, bytes
        ``memory_bytes`` (in use), ``memory_limit`` (`spark.sparkps.nodeMemory`; 0: none is known), of clients' sessions ``sessions`` (their
        number), ``keyset_bytes``, ``answer_bytes`` (kept until they are acknowledged), ``parked_bytes`` (requests that wait for other
        ranks), ``waiting_bytes`` (for their turn), ``unsent_bytes`` (that nobody has read yet) and ``unsent_dropped`` (answers beyond the
        bound of these), ``refused_connections`` (of hosts that had too many, or began too many), ``cut_handshakes`` (that were larger than
        one is), ``refused_peers`` (who had not the tier's key), and what else a node reports (`Core.report` has, under ``coordinator``, the
        last five of the coordinator, too, with ``pid`` and ``restarts``);
        ``tables``: name, owner (where several share the tier, else ""), kind, dim, dtype, storage, shape, group, rows, bytes, idle_seconds
        (since it was used last), lost_buckets (of which its rows are gone, though a checkpoint without the table was restored since);
        ``groups``: id, name, application (that asked for it; "": the one whose the tier is), state, cause, staleness (its bound),
        num_workers, clock (the lowest of all ranks) and ``ranks``: rank, state, attempt, incarnation, clock, staleness (the
        largest measured), waited_seconds, counters; ``queued``: names of groups that wait for admission.
    """
    reports = [record.report for record in nodes.nodes.values()]
    # What a node has said last that has left lies on others by now.
    held = [record.report for record in nodes.nodes.values() if record.info.state == "up"]
    return {
        "epoch": nodes.epoch,
        "lost_nodes": [info.node for info in nodes.lost()],
        "lost_buckets": len(nodes.lost_buckets()),
        "under_replicated": nodes.under_replicated(),
        "nodes": _nodes(nodes),
        "tables": [
            _table(spec, held, catalog.missing.get(spec.table, 0)) | {"idle_seconds": round(usage.idle(spec.table, now), 1)}
            for spec in catalog.tables.values()
        ],
        "groups": [_group(group, reports, now) for group in groups.running.values()],
        "queued": [waiting.name for waiting in groups.queue],
    }


def _nodes(nodes: NodeRegistry) -> list[dict[str, Any]]:
    buckets, copies = nodes.buckets(), nodes.copies()
    listed = []
    for record in nodes.nodes.values():
        info = record.info
        own = {k: v for k, v in record.report.items() if k not in ("tables", "groups", "load")}
        known = {"id": info.node, "endpoint": info.endpoint, "host": info.host, "pid": info.pid, "state": info.state}
        if info.job >= 0:
            known |= {"job": info.job, "attempt": info.attempt}
        more = {"reason": info.reason, "buckets": buckets[info.node], "copies": copies[info.node]}
        listed.append({"rows": 0, "bytes": 0, **own, **known, **more})
    return listed


def _table(spec: TableSpec, reports: Iterable[Report], missing: int) -> dict[str, Any]:
    parts = [report.get("tables", {}).get(str(spec.table), {}) for report in reports]
    return {
        "id": spec.table,
        "name": spec.name,
        "owner": owner_of(spec.name),
        "kind": spec.kind,
        "dim": spec.dim,
        "dtype": spec.dtype,
        "storage": spec.stored,
        "shape": list(spec.shape),
        "group": spec.group,
        "optimizer": repr(spec.optimizer),
        "rows": sum(part.get("rows", 0) for part in parts),
        "bytes": sum(part.get("bytes", 0) for part in parts),
        "lost_buckets": missing.bit_count(),
    }


def _group(group: GroupRecord, reports: Iterable[Report], now: float) -> dict[str, Any]:
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
        "application": group.application,
        "state": group.state,
        "cause": None if group.cause is None else group.cause.message,
        "staleness": group.spec.staleness,
        "num_workers": group.spec.num_workers,
        "clock": min(rank["clock"] for rank in ranks),
        "ranks": ranks,
    }


__all__ = ["tier_status", "told"]
