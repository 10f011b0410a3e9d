"""Entries as the primary makes them: what was accepted, narrowed to the buckets that each node copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sparkps.ps_nodes.clock_buffers import CallPart, Part, Write
from sparkps.ps_nodes.functions import Prepared
from sparkps.ps_nodes.replication.copies import Copies, Places
from sparkps.ps_nodes.shard_copies import Outcome
from sparkps.wire.buckets import packed
from sparkps.wire.messages import log
from sparkps.wire.messages.base import DataMessage
from sparkps.wire.messages.data import Member

#: An entry and its arrays.
Made = tuple[DataMessage, list[Any]]


def ship_write(
    copies: Copies, places: Places, write: Write, new: dict[int, int], writer: int, stamp: int, member: Member | None
) -> None:
    """A write was taken in these buckets of each table."""
    copies.ship(places, lambda place: _made(write, new, place.buckets, writer, stamp, member))


def _made(
    write: Write, new: dict[int, int], buckets: int, writer: int, stamp: int, member: Member | None
) -> Made:
    parts = write.only({table: mask & buckets for table, mask in new.items()})
    first = parts[0] if parts else None
    if isinstance(first, CallPart):
        return log.ShipCall(calls_of(first.prepared), packed(first.mask), writer, stamp, member), []
    ops, masks, arrays = shipped(parts)
    return log.ShipWrite(ops, masks, writer, stamp, member), arrays


def shipped(parts: Sequence[Part]) -> tuple[list[Any], list[bytes], list[Any]]:
    """Operations, the buckets of each, and their arrays."""
    ops, masks, arrays = [], [], list[Any]()
    for part in parts:
        op, its = part.shipped()
        ops.append(op)
        masks.append(packed(part.mask))
        arrays += its
    return ops, masks, arrays


def calls_of(prepared: Prepared) -> list[Any]:
    """The calls as they came."""
    return [each.call for each in prepared.calls]


def ship_call(copies: Copies, places: Places, prepared: Prepared, new: int, writer: int, stamp: int, member: Member | None) -> None:
    """Built-in functions run in these buckets."""
    calls = calls_of(prepared)
    copies.ship(places, lambda place: (log.ShipCall(calls, packed(new & place.buckets), writer, stamp, member), []))


def ship_hold(copies: Copies, places: Places, hold: int, orders: list[int], buckets: int) -> None:
    """A user's function has its turn."""
    copies.ship(places, lambda place: (log.ShipHold(hold, orders, packed(buckets & place.buckets)), []))


def ship_rows(
    copies: Copies, places: Places, hold: int, outcome: Outcome | None, table: int, writer: int, stamp: int, buckets: int
) -> None:
    """A user's function has written; without an outcome it has failed, and wrote nothing."""

    def make(place: Any) -> Made:
        changes = [c for c in outcome.changes if place.buckets >> c.bucket & 1] if outcome is not None else []
        arrays = [array for change in changes for array in (change.slots, change.values)]
        answer = [] if outcome is None else _rows_of(outcome.arrays, place.buckets)
        where = packed(buckets & place.buckets) if outcome is not None else packed(0)
        message = log.ShipRows(hold, [(c.table.spec.table, c.bucket) for c in changes], writer, stamp, where, table)
        return message, [*arrays, *answer]

    copies.ship(places, make)


def _rows_of(arrays: Sequence[Any], buckets: int) -> list[Any]:
    """Those of an answer's partials that are of `buckets`; the first array names the bucket of each."""
    kept = [bool(buckets >> bucket & 1) for bucket in arrays[0].tolist()]
    return [array[kept] for array in arrays]


__all__ = ["calls_of", "ship_call", "ship_hold", "ship_rows", "ship_write", "shipped"]
