"""What a node can tell of a request before it runs it."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.ps_nodes.tables.directory import Tables
from sparkps.ps_nodes.tables.keysets import KeyChunk, NodeKeySet
from sparkps.ps_nodes.tables.operations import answer_bytes
from sparkps.specs import NUM_BUCKETS, TableSpec
from sparkps.wire.messages.data import Op, OpCode
from tests.unit.ps_nodes.tables.given import grouped

SPARSE, DENSE = 1, 2
ALL = (1 << NUM_BUCKETS) - 1
KEYS = grouped(np.arange(100))


@pytest.fixture
def tables() -> Tables:
    made = Tables(range(NUM_BUCKETS))
    made.create(TableSpec("s", "sparse", 16, table=SPARSE, index=1))
    made.create(TableSpec("d", "dense", 1, dtype="float64", shape=(1000,), table=DENSE))
    return made


def test_size_of_an_answer_is_that_of_its_rows(tables: Tables) -> None:
    keyset = NodeKeySet(1, 100)
    keyset.add(0, KeyChunk(tables.index(1), KEYS, registered=True))
    assert answer_bytes(tables, [Op(OpCode.PULL, SPARSE)], [KEYS], {}, ALL) == 100 * 16 * 4
    assert answer_bytes(tables, [Op(OpCode.PULL, SPARSE, 7, 0)], [], {7: keyset}, ALL) == 100 * 16 * 4
    assert answer_bytes(tables, [Op(OpCode.PULL, DENSE, start=0, stop=NUM_BUCKETS)], [], {}, ALL) == 8000
    both = [Op(OpCode.PULL, SPARSE, 7, 0), Op(OpCode.PULL, DENSE, start=0, stop=NUM_BUCKETS)]
    assert answer_bytes(tables, both, [], {7: keyset}, ALL) == 6400 + 8000


@pytest.mark.parametrize(
    "op",
    [
        Op(OpCode.PUSH, SPARSE),
        Op(OpCode.PULL, 99),
        Op(OpCode.PULL, SPARSE, 8, 0),
        Op(OpCode.PULL, DENSE, start=-1, stop=3),
        Op(OpCode.PULL, DENSE, start=0, stop=1000),
        Op(77, SPARSE),
    ],
)
def test_what_will_be_refused_has_no_size(tables: Tables, op: Op) -> None:
    assert answer_bytes(tables, [op], [np.float32(1).reshape(())], {}, ALL) == 0
