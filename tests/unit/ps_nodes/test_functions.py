"""Server functions on nodes and their results at the client, whatever the placement."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.errors import FunctionFailed, InvalidInput, ProtocolError, UnknownTable
from sparkps.kernels import layout
from sparkps.optim import FTRL
from sparkps.ps_nodes import built_in, functions
from sparkps.ps_nodes.tables.dense import DenseShards
from sparkps.ps_nodes.tables.index import KeyIndex
from sparkps.ps_nodes.tables.sparse import SparseShards
from sparkps.specs import TableSpec
from sparkps.wire.functions import BUILT_IN, build_call, combine
from sparkps.wire.messages.data import FunctionCall
from tests.unit.ps_nodes.tables.given import grouped
from tests.unit.ps_nodes.tier import IDS, KEYS, Tier


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


def test_functions_by_column() -> None:
    tier = Tier("sparse", [100])
    a, c = (tier.values(name).astype(np.float64) for name in "ac")
    assert tier.call("column_dots", other="c") == pytest.approx((a * c).sum(axis=0), rel=1e-11)
    alphas = np.arange(1.0, 1.0 + a.shape[1])
    for target, source in (("a", "c"), ("c", "a"), ("c", "c"), ("a", "a")):
        before = {name: tier.values(name) for name in (target, source)}
        assert tier.call("column_axpy", target, alphas=alphas, x=source) is None
        expected = (before[target] + alphas * before[source]).astype(before[target].dtype)
        np.testing.assert_allclose(tier.values(target), expected, rtol=1e-6)


def test_functions_by_column_take_a_factor_for_each_column_of_a_sparse_table() -> None:
    tier = Tier("sparse", [100])
    wrong = np.ones(tier.values("a").shape[1] + 1)
    with pytest.raises(InvalidInput, match="one of `alphas` for each of the"):
        tier.call("column_axpy", alphas=wrong, x="c")
    with pytest.raises(InvalidInput, match="must be sparse"):
        Tier("dense", [100]).call("column_dots", other="c")


@pytest.mark.parametrize("target", ["float32", "float64"])
@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2])
def test_columns_are_taken_to_a_table_of_fewer(target: str, source: str, width: int) -> None:
    index = KeyIndex(range(256))
    tables = {
        number: SparseShards(TableSpec(f"t{number}", "sparse", dim, dtype, table=number), index)
        for number, dim, dtype in ((1, width, target), (2, 3, source))
    }
    for table in tables.values():
        index.attach(table)
    keys = grouped(KEYS)
    runs = index.runs(keys)
    slots, rows = index.resolve(keys, runs), np.random.default_rng(3).normal(size=(len(keys), 3))
    tables[2].assign(slots, runs, rows.astype(source))
    functions.run([build_call("take_column", 1, {"source": 2, "column": 1}, int)], tables, range(256))
    taken = tables[1].gather(keys, slots, runs)
    assert np.array_equal(taken, rows[:, 1 : 1 + width].astype(source).astype(target))
    for wrong in (FunctionCall("take_column", [1, 2], {"column": 4 - width}), FunctionCall("take_column", [2, 1], {"column": 0})):
        with pytest.raises(InvalidInput, match="'take_column' must be sparse and of one group"):
            functions.run([wrong], tables, range(256))


def test_steps_of_adaptive_solvers_are_those_of_their_formulas_to_the_last_bit(tier: Tier) -> None:
    a, b, c = (tier.values(name) for name in "abc")
    tier.call("add_squares", "b", x="a", keep=0.999, weight=0.001)
    b = b * 0.999 + 0.001 * (a * a)
    assert np.array_equal(tier.values("b"), b)
    tier.call("scale", "b", alpha=-1)
    tier.call("add_squares", "b", x="b", keep=0.0, weight=1.0)
    b = b * b
    tier.call("adaptive_step", "a", mean="c", square="b", rate=0.3, first=0.1, second=0.001, epsilon=1e-8, decay=0.01)
    a = a - (0.3 * (c / 0.1) / (np.sqrt(b / 0.001) + 1e-8) + 0.01 * a)
    assert np.array_equal(tier.values("a"), a)
    tier.call("divide", "a", divisor=3)
    tier.call("divide", "c", divisor=7)
    assert np.array_equal(tier.values("a"), a / 3)
    assert np.array_equal(tier.values("c"), (c / 7).astype(np.float32))


#: What the elementwise functions are called with besides the table that they write, and their twins.
ELEMENTWISE: dict[str, tuple[dict[str, Any], Any]] = {
    "product": ({"other": "c"}, lambda a, b, c: a * c),
    "opposed": ({"other": "c"}, lambda a, b, c: np.where(a * c < 0, a, 0.0)),
    "clip": ({"lower": "b", "upper": "c"}, lambda a, b, c: np.minimum(np.maximum(a, b), c)),
    "pseudo_gradient": (
        {"gradient": "b", "point": "a", "weights": "c"},
        lambda a, b, c: np.where(a > 0, b + c, b - c),
    ),
    "orthant_step": (
        {"point": "a", "direction": "b", "guide": "c", "alpha": 0.5},
        lambda a, b, c: np.where(np.sign(a + 0.5 * b) == np.sign(a), a + 0.5 * b, 0.0),
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_write_the_table_that_is_called_and_no_other(tier: Tier, name: str) -> None:
    args, twin = ELEMENTWISE[name]
    a, b, c = (tier.values(each) for each in "abc")
    assert tier.call(name, "a", **args) is None
    assert np.array_equal(tier.values("a"), twin(a, b, c))
    assert np.array_equal(tier.values("b"), b)
    assert np.array_equal(tier.values("c"), c)


def test_sums_under_weights(tier: Tier) -> None:
    x = {name: tier.values(name).ravel() for name in IDS}
    assert tier.call("weighted_norm1", weights="c") == pytest.approx(np.abs(x["a"] * x["c"]).sum(), rel=1e-11)
    left, right = ["a", "c"], ["b", "a", "c"]
    expected = [[(x["c"] * x[i] * x[j]).sum() for j in right] for i in left]
    assert tier.call("weighted_gram", "b", weights="c", left=left, right=right) == pytest.approx(np.array(expected), rel=1e-10)


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
        table.push(table.held, np.zeros(777))
    else:
        runs = table.index.runs(KEYS)
        table.push(table.index.find(KEYS, runs), runs, np.zeros((len(KEYS), 2)))
    assert tier.values("a") == pytest.approx(np.full_like(tier.values("a"), 0.75))


def test_empty_table() -> None:
    index = KeyIndex(range(256))
    table = SparseShards(TableSpec("a", "sparse", 2, table=1), index)
    index.attach(table)

    def call(name: str, **args: Any) -> Any:
        made = build_call(name, 1, args, int)
        return combine(name, made.args, [functions.run([made], {1: table}, range(256))])

    assert (call("sum"), call("norm2"), call("nnz"), call("min"), call("max")) == (0.0, 0.0, 0, np.inf, -np.inf)
    assert call("gram", left=[1]).tolist() == [[0.0]]
    assert [each.tolist() for each in call("topk", k=3)] == [[], []]
    assert call("fill", value=1.0) is None


def test_a_function_may_not_take_a_built_in_name() -> None:
    with pytest.raises(InvalidInput, match="built-in"):
        functions.register("sum", b"")
    with pytest.raises(FunctionFailed, match="importable"):
        functions.register("garbage", b"garbage")


def test_what_does_not_fit_is_refused_before_anything_is_changed(tier: Tier) -> None:
    before = tier.values("a")
    fill = build_call("fill", 1, {"value": 1.0}, IDS.__getitem__)
    strange = DenseShards(TableSpec("other", "dense", 1, shape=(5,)), range(256))
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


MANY = [1] * 256


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (FunctionCall("axpy", [1], {"alpha": 1.0}), "on 2 tables"),
        (FunctionCall("axpy", [1, 2, 3], {"alpha": 1.0}), "on 2 tables"),
        (FunctionCall("copy", [1], {}), "on 2 tables"),
        (FunctionCall("dot", [1], {}), "on 2 tables"),
        (FunctionCall("sum", [1, 2], {}), "on 1 tables"),
        (FunctionCall("fill", [1, 2], {"value": 1.0}), "on 1 tables"),
        (FunctionCall("linear_combination", [1, 2], {"tables": 1, "coefficients": [1.0, 2.0]}), "one coefficient"),
        (FunctionCall("linear_combination", [1, 2], {"tables": 2, "coefficients": [1.0, 2.0]}), "on 3 tables"),
        (FunctionCall("linear_combination", [1, 2], {"tables": 1, "coefficients": []}), "one coefficient"),
        (FunctionCall("linear_combination", [1, 2], {"tables": 1, "coefficients": "1"}), "one coefficient"),
        (FunctionCall("linear_combination", [1, 2], {"tables": 1, "coefficients": [float("inf")]}), "must be finite"),
        (FunctionCall("linear_combination", [1, 2], {"tables": 1, "coefficients": ["x"]}), "must be finite"),
        (FunctionCall("gram", [1, 2], {"left": 2, "right": 0}), "on 3 tables"),
        (FunctionCall("gram", [1, 2], {"left": 0, "right": 1}), "at least 1"),
        (FunctionCall("gram", [1, 2], {"left": -1, "right": 2}), "at least 1"),
        (FunctionCall("gram", [1, 2, 3], {"left": 1 << 70, "right": 0}), "at most 255"),
        (FunctionCall("gram", [1, 2], {"left": "1", "right": 0}), "must be an int"),
        (FunctionCall("gram", [1, 2], {"left": True, "right": 0}), "must be an int"),
        (FunctionCall("gram", [1, 2], {"left": 1.0, "right": 0}), "must be an int"),
        (FunctionCall("gram", [1, 2], {"left": 1}), "`right` is missing"),
        (FunctionCall("gram", [1, *MANY], {"left": 256, "right": 0}), "at most 256 tables"),
        (FunctionCall("never", [1, *MANY], {}), "must be one of"),
        (FunctionCall("topk", [1], {"k": 0, "by": "value"}), "at least 1"),
        (FunctionCall("topk", [1], {"k": -3, "by": "value"}), "at least 1"),
        (FunctionCall("topk", [1], {"k": 1 << 40, "by": "value"}), "at most 16777216"),
        (FunctionCall("topk", [1], {"k": 2.0, "by": "value"}), "must be an int"),
        (FunctionCall("topk", [1], {"k": 2, "by": ["value"]}), "value or magnitude"),
        (FunctionCall("topk", [1], {"k": 2}), "`by` is missing"),
        (FunctionCall("scale", [1], {"alpha": float("nan")}), "must be finite"),
        (FunctionCall("scale", [1], {"alpha": None}), "must be finite"),
        (FunctionCall("scale", [1], {"alpha": [1.0]}), "must be finite"),
        (FunctionCall("scale", [1], {"alpha": 1 << 2000}), "must be finite"),
        (FunctionCall("scale", [1], {"alpha": "9" * 10_000_000}), "must be finite"),
        (FunctionCall("scale", [1], {"alpha": 1.0, "beta": 2.0}), "Got beta"),
        (FunctionCall("fill", [1], {}), "`value` is missing"),
        (FunctionCall("x" * 10_000_000, [1], {}), "must be one of"),
    ],
    ids=lambda value: f"{value.function[:20]}-{str(value.args)[:40]}" if isinstance(value, FunctionCall) else "",
)
def test_wrong_arguments_are_refused_at_the_node(tier: Tier, call: FunctionCall, message: str) -> None:
    before = [tier.values(name) for name in IDS]
    with pytest.raises(InvalidInput, match=message) as caught:
        functions.run([call], tier.nodes[0], tier.parts[0])
    assert len(caught.value.message) < 1000
    assert all(np.array_equal(tier.values(name), values) for name, values in zip(IDS, before, strict=True))


def test_calls_of_one_request_are_bounded(tier: Tier) -> None:
    total = FunctionCall("sum", [1], {})
    assert len(functions.run([total] * 1024, tier.nodes[0], tier.parts[0])) == 2048
    with pytest.raises(ProtocolError, match="at most 1024 calls"):
        functions.run([total] * 1025, tier.nodes[0], tier.parts[0])
    gram = FunctionCall("gram", [1] * 201, {"left": 200, "right": 0})
    with pytest.raises(InvalidInput, match="at most 268435456 bytes"):
        functions.run([gram] * 4, tier.nodes[0], tier.parts[0])


def test_prepared_calls_tell_what_they_use(tier: Tier) -> None:
    a, b, c = (tier.nodes[0][i] for i in (1, 2, 3))
    gram = FunctionCall("gram", [3, 1, 3], {"left": 2, "right": 0})
    axpy = FunctionCall("axpy", [1, 2], {"alpha": 1.0})
    reading, writing = (functions.prepare(calls, tier.nodes[0]) for calls in ([gram], [gram, axpy, axpy]))
    assert (reading.tables, reading.written, reading.writes, reading.users) == ([c, a], [], False, False)
    assert (writing.tables, writing.written, writing.writes, writing.users) == ([c, a, b], [a], True, False)


def test_preparing_changes_nothing_and_later_calls_see_what_earlier_ones_wrote(tier: Tier) -> None:
    before = tier.values("a")
    calls = [FunctionCall("fill", [1], {"value": 2.0}), FunctionCall("max", [1], {})]
    prepared = [functions.prepare(calls, tables) for tables in tier.nodes]
    assert np.array_equal(tier.values("a"), before)
    answers = [each.run(part) for each, part in zip(prepared, tier.parts, strict=True)]
    assert combine("max", {}, [answer[1:] for answer in answers]) == 2.0


def test_a_table_that_has_left_its_group_is_never_read_or_written_past_its_rows() -> None:
    tier = Tier("sparse", [])
    tables = tier.nodes[0]
    kept, left = tables[1], tables[2]
    left.free()
    rows = left.heads[:, layout.ROOM].copy()
    more = grouped(np.random.default_rng(1).integers(-(1 << 62), 1 << 62, 30_000))
    kept.index.resolve(more, kept.index.runs(more))
    assert (kept.index.counts() > rows).all()
    for call in (
        FunctionCall("copy", [2, 1], {}),
        FunctionCall("axpy", [1, 2], {"alpha": 1.0}),
        FunctionCall("fill", [2], {"value": 3.0}),
        FunctionCall("sum", [2], {}),
        FunctionCall("dot", [1, 2], {}),
    ):
        functions.run([call], tables, range(256))
    functions.register("counts", cloudpickle.dumps(lambda shard: [len(shard.rows()), len(shard.rows("b"))]))
    answer = functions.run([FunctionCall("counts", [1, 2], {"tables": 1})], tables, range(256))[1]
    assert (answer == np.minimum(kept.index.counts(), rows)[:, None]).all()


def test_every_built_in_function_runs() -> None:
    assert set(built_in.RUNNERS) == set(BUILT_IN)
