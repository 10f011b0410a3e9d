"""The operations of a step, checked against the tables of a node before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sparkps.errors import InvalidInput, ProtocolError
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.dense_target import DenseTarget
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.keysets import NodeKeySet
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.ps_nodes.tables.sparse_target import SparseTarget
from sparkps.ps_nodes.tables.targets import Array, TableShards, Target
from sparkps.wire.encodings import Encoding
from sparkps.wire.messages.data import Op, OpCode

#: Most operations of one step: each pull has a frame of the answer.
MOST_OPS = 4095

#: Numbers that an encoding may have.
_ENCODINGS = frozenset(each.value for each in Encoding)

#: What an operation on each kind of table becomes.
_TARGETS: dict[type[Any], Any] = {SparseShards: SparseTarget, DenseShards: DenseTarget}


def targets_of(
    tables: Tables,
    ops: Sequence[Op],
    arrays: Sequence[Array],
    keysets: Mapping[int, NodeKeySet],
    among: int,
    *,
    keep_keys: bool = False,
) -> list[Target]:
    """Check a step's operations with their arrays; nothing is changed. The caller has the tables in use.

    Parameters
    ----------
    tables : Tables
    ops, arrays : sequence
        The operations, and what they have brought.
    keysets : mapping
        The session's key sets.
    among : int
        The buckets that they may touch, as bits; the node holds them. A dense table's range covers those of them that are in it.
    keep_keys : bool
        Whether keys are kept when their slots are known, for `Target.shipped`.

    Raises
    ------
    UnknownTable, InvalidInput, ProtocolError, KeySetMissing
    """
    if not 0 < len(ops) <= MOST_OPS:
        raise ProtocolError(f"A step must have between 1 and {MOST_OPS} operations. Got {len(ops)} instead.")
    left = iter(arrays)
    try:
        targets = [_target(tables, op, left, keysets, among, keep_keys) for op in ops]
    except StopIteration:
        raise ProtocolError(
            f"A step of {len(ops)} operations must bring the arrays of all. Got {len(arrays)} arrays."
        ) from None
    if next(left, None) is not None:
        raise ProtocolError(f"A step of {len(ops)} operations must bring their arrays only. Got {len(arrays)} arrays.")
    return targets


def _target(
    tables: Tables, op: Op, arrays: Iterator[Array], keysets: Mapping[int, NodeKeySet], among: int, keep_keys: bool
) -> Target:
    try:
        code = OpCode(op.code)
    except ValueError:
        raise ProtocolError(
            f"An operation must be one of {[c.value for c in OpCode]}. Got {op.code} instead."
        ) from None
    table = tables.table(op.table)
    check_encoding(op.encoding, code, table)
    target: Target = _TARGETS[type(table)].of(code, op, table, arrays, keysets, among, keep_keys)
    return target


def check_encoding(encoding: int, code: OpCode, table: TableShards) -> None:
    """Refuse values that are not written as the operation and the table allow it.

    Raises
    ------
    ProtocolError
        There is no such encoding.
    InvalidInput
        It is none for this operation, or this table.
    """
    if encoding == Encoding.PLAIN:
        return
    if encoding not in _ENCODINGS:
        raise ProtocolError(f"The encoding of an operation must be one of {sorted(_ENCODINGS)}. Got {encoding} instead.")
    spec = table.spec
    if code not in (OpCode.PULL, OpCode.PUSH) or spec.kind != "sparse" or spec.dtype != "float32":
        raise InvalidInput(
            f"Values in fewer bytes must be rows or gradients of a sparse table of float32. Got {Encoding(encoding).name} for a"
            f" {code.name} of table {spec.name!r}, a {spec.kind} one of {spec.dtype}.",
            table=spec.name,
        )


def answer_bytes(
    tables: Tables, ops: Sequence[Op], arrays: Sequence[Array], keysets: Mapping[int, NodeKeySet], among: int
) -> int:
    """Bytes that the pulls among a step's operations will answer with, about; for what is wrong with them nothing."""
    total = 0
    for op in ops[:MOST_OPS]:
        table = tables.by_id.get(op.table) if op.code == OpCode.PULL else None
        if table is not None:
            total += _TARGETS[type(table)].rows_asked(op, table, arrays, keysets, among) * table.row_bytes
    return total
