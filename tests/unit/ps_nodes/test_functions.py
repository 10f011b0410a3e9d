"""Server functions on nodes and their results at the client, whatever the placement."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.errors import FunctionFailed, InvalidInput, UnknownTable
from sparkps.initializers import Normal
from sparkps.optim import FTRL
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.dense import DenseTable
from sparkps.ps_nodes.index import KeyIndex
from sparkps.ps_nodes.sparse import SparseTable
from sparkps.specs import TableSpec
from sparkps.wire.functions import BUILT_IN, build_call, combine
from sparkps.wire.messages import FunctionCall
from tests.unit.ps_nodes.tables import grouped

KEYS = grouped(np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 3000))
IDS = {"a": 1, "b": 2, "c": 3}


class Tier:
    """Tables a, b (float64) and c (float32) on the nodes that `splits` make."""

    def __init__(self, kind: str, splits: list[int], dim: int = 2, **fields: Any) -> None:
        self.kind, self.dim = kind, dim
        self.parts = [range(a, b) for a, b in zip([0, *splits], [*splits, 256], strict=True)]
        self.nodes: list[dict[int, Any]] = []
        for buckets in self.parts:
            index = KeyIndex(buckets)
            tables: dict[int, Any] = {}
            for number, (name, dtype) in enumerate([("a", "float64"), ("b", "float64"), ("c", "float32")], 1):
                spec = TableSpec(name, kind, dim, dtype, (), Normal(0, 1), seed=number, table=number, **fields)  # type: ignore[arg-type]
                if kind == "dense":
                    tables[number] = DenseTable(
                        TableSpec(name, "dense", 1, dtype, (777,), spec.init, seed=number, **fields), buckets
                    )
                else:
                    tables[number] = SparseTable(spec, index)
                    index.attach(tables[number])
            if kind == "sparse":
                mine = KEYS[np.isin(_buckets(KEYS), list(buckets))]
                index.resolve(mine, index.runs(mine))
            self.nodes.append(tables)

    def call(self, function: str, table: str = "a", **args: Any) -> Any:
        call = build_call(function, IDS[table], args, IDS.__getitem__)
        parts = [functions.run([call], tables, buckets) for tables, buckets in zip(self.nodes, self.parts, strict=True)]
        return combine(function, call.args, parts)

    def values(self, table: str) -> np.ndarray:
        """All values, by bucket and slot: (n, dim)."""
        each = [
            tables[IDS[table]].rows_of(b) for tables, part in zip(self.nodes, self.parts, strict=True) for b in part
        ]
        return np.concatenate(each).astype(np.float64)

    def keys(self) -> np.ndarray:
        each = [tables[1].keys_of(b) for tables, part in zip(self.nodes, self.parts, strict=True) for b in part]
        return np.concatenate(each)


def _buckets(keys: np.ndarray) -> np.ndarray:
    from sparkps.wire.hashing import buckets_of

    return buckets_of(keys)


@pytest.fixture(params=["sparse", "dense"])
def tier(request: pytest.FixtureRequest) -> Tier:
    return Tier(request.param, [100])


def test_reductions(tier: Tier) -> None:
    for name in ("a", "c"):
        x = tier.values(name)
        assert tier.call("sum", name) == pytest.approx(x.sum(), rel=1e-11)
        assert tier.call("norm1", name) == pytest.approx(np.abs(x).sum(), rel=1e-11)
        assert tier.call("norm2", name) == pytest.approx(np.linalg.norm(x), rel=1e-11)
        assert tier.call("min", name) == x.min()
        assert tier.call("max", name) == x.max()
        assert tier.call("nnz", name) == x.size


def test_dot_and_gram(tier: Tier) -> None:
    x = {name: tier.values(name).ravel() for name in IDS}
    assert tier.call("dot", other="c") == pytest.approx(x["a"] @ x["c"], rel=1e-11)
    gram = tier.call("gram", left=["a", "b", "c"])
    assert gram == pytest.approx(np.array([[x[i] @ x[j] for j in IDS] for i in IDS]), rel=1e-11)
    assert tier.call("gram", left=["b"], right=["a", "c"]).tolist() == [[gram[1, 0], gram[1, 2]]]
    assert gram[0, 1] == tier.call("dot", other="b")


def test_writers(tier: Tier) -> None:
    a, b, c = (tier.values(name) for name in "abc")
    assert tier.call("axpy", alpha=-0.5, x="c") is None
    a = a - 0.5 * c
    assert np.array_equal(tier.values("a"), a)
    tier.call("scale", "b", alpha=3)
    b = 3 * b
    assert np.array_equal(tier.values("b"), b)
    tier.call("linear_combination", "a", tables=["b", "a", "c"], coefficients=[1, 2.0, np.float64(-1)])
    assert np.array_equal(tier.values("a"), b + 2.0 * a - c)
    tier.call("copy", "c", source="b")
    assert np.array_equal(tier.values("c"), b.astype(np.float32))
    tier.call("fill", "b", value=0.25)
    assert (tier.values("b") == 0.25).all()
    tier.call("scale", "b", alpha=0)
    assert tier.call("nnz", "b") == 0


@pytest.mark.parametrize("by", ["value", "magnitude"])
@pytest.mark.parametrize("k", [1, 10, 5000])
def test_top_k(tier: Tier, by: str, k: int) -> None:
    x = tier.values("a")
    measure = x[:, 0] if x.shape[1] == 1 else np.linalg.norm(x, axis=1)
    order = np.lexsort((tier.keys(), -(np.abs(measure) if by == "magnitude" else measure)))[:k]
    keys, values = tier.call("topk", k=k, by=by)
    assert keys.tolist() == tier.keys()[order].tolist()
    assert values == pytest.approx(measure[order], rel=1e-12)


def test_ties_of_top_k_go_to_the_smaller_keys() -> None:
    tier = Tier("dense", [128])
    tier.call("fill", "a", value=1)
    assert tier.call("topk", k=5)[0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_results_do_not_depend_on_the_placement(kind: str) -> None:
    results = []
    for splits in ([], [1], [100, 200]):
        tier = Tier(kind, splits)
        tier.call("axpy", alpha=0.3, x="c")
        results.append(
            [
                tier.call("sum"),
                tier.call("norm2"),
                tier.call("gram", left=["a", "b", "c"]).tolist(),
                tier.call("topk", k=7)[0].tolist(),
            ]
        )
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_ftrl_goes_on_from_rows_that_a_function_wrote(kind: str) -> None:
    tier = Tier(kind, [], optimizer=FTRL(0.1, l1=0.5))
    tier.call("fill", "a", value=0.75)
    table = tier.nodes[0][1]
    if kind == "dense":
        table.push(0, 256, np.zeros(777))
    else:
        runs = table.index.runs(KEYS)
        table.push(table.index.find(KEYS, runs), runs, np.zeros((len(KEYS), 2)))
    assert tier.values("a") == pytest.approx(np.full_like(tier.values("a"), 0.75))


def test_empty_table() -> None:
    index = KeyIndex(range(256))
    table = SparseTable(TableSpec("a", "sparse", 2, table=1), index)
    index.attach(table)

    def call(name: str, **args: Any) -> Any:
        made = build_call(name, 1, args, int)
        return combine(name, made.args, [functions.run([made], {1: table}, range(256))])

    assert (call("sum"), call("norm2"), call("nnz"), call("min"), call("max")) == (0.0, 0.0, 0, np.inf, -np.inf)
    assert call("gram", left=[1]).tolist() == [[0.0]]
    assert [each.tolist() for each in call("topk", k=3)] == [[], []]
    assert call("fill", value=1.0) is None


def test_user_function_reads_and_writes_rows(tier: Tier) -> None:
    def shift(shard: Any, by: float) -> Any:
        shard.rows()[:] += by * shard.rows("b")
        return np.array([len(shard.keys), shard.rows("b").sum()])

    a, b = tier.values("a"), tier.values("b")
    functions.register("shift", cloudpickle.dumps(shift))
    result = tier.call("shift", tables=["b"], by=2.0)
    assert np.array_equal(tier.values("a"), a + 2.0 * b)
    assert result == pytest.approx([len(b), b.sum()], rel=1e-11)


def test_user_function_that_returns_nothing_or_fails(tier: Tier) -> None:
    functions.register("quiet", cloudpickle.dumps(lambda shard: None))
    assert tier.call("quiet") == 0.0
    functions.register("broken", cloudpickle.dumps(lambda shard: 1 / 0))
    with pytest.raises(FunctionFailed, match="ZeroDivisionError on bucket 0"):
        tier.call("broken")
    assert tier.call("quiet") == 0.0  # the lock was given back
    functions.register("stranger", cloudpickle.dumps(lambda shard: shard.rows("c")))
    with pytest.raises(FunctionFailed, match="name it in `tables`"):
        tier.call("stranger")


def test_a_function_may_not_take_a_built_in_name() -> None:
    with pytest.raises(InvalidInput, match="built-in"):
        functions.register("sum", b"")
    with pytest.raises(FunctionFailed, match="importable"):
        functions.register("garbage", b"garbage")


def test_what_does_not_fit_is_refused_before_anything_is_changed(tier: Tier) -> None:
    before = tier.values("a")
    fill = build_call("fill", 1, {"value": 1.0}, IDS.__getitem__)
    strange = DenseTable(TableSpec("other", "dense", 1, shape=(5,)), range(256))
    tables = {**tier.nodes[0], 9: strange}
    for call, error in (
        (FunctionCall("axpy", [1, 9], {"alpha": 1.0}), InvalidInput),
        (FunctionCall("dot", [1, 77], {}), UnknownTable),
        (FunctionCall("never_registered", [1], {}), InvalidInput),
        (FunctionCall("sum", [], {}), InvalidInput),
    ):
        with pytest.raises(error):
            functions.run([fill, call], tables, tier.parts[0])
    assert np.array_equal(tier.values("a"), before)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("dot", {}, "`other` is missing"),
        ("sum", {"other": "b"}, "must be no arguments. Got other"),
        ("axpy", {"x": "b", "alpha": float("nan")}, "must be finite"),
        ("axpy", {"x": "b", "alpha": True}, "must be finite"),
        ("topk", {"k": 0}, "at least 1"),
        ("topk", {"k": 2, "by": "size"}, "value or magnitude"),
        ("linear_combination", {"tables": ["a"], "coefficients": [1, 2]}, "one coefficient per table"),
    ],
)
def test_wrong_arguments_are_refused_at_the_client(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build_call(name, 1, args, IDS.__getitem__)


def test_every_built_in_function_runs() -> None:
    assert set(functions._RUNNERS) == set(BUILT_IN)
