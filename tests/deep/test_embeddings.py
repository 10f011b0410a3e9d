"""Embeddings of `sparkps.nn` give what torch's own give, and their gradients."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sparkps.initializers import Constant, Normal, Uniform, Zeros
from sparkps.mllib.deep.job import DeepNames
from sparkps.mllib.deep.rows import LocalTable
from sparkps.nn import (
    MISSING,
    Bags,
    Batch,
    Embedding,
    EmbeddingBag,
    Keys,
    LocalRows,
    Lookup,
    Step,
    tables_of,
    vocabularies_of,
    with_plain_embeddings,
)
from sparkps.optim import SGD, Adam

DIM = 3


def keys(rng, rows, names=("a", "b"), missing=0.2, most=20):
    drawn = rng.integers(0, most, (rows, len(names)))
    return Keys(names, np.where(rng.random(drawn.shape) < missing, MISSING, drawn))


def bags(rng, rows, name="w", weighted=False, most=20):
    lengths = rng.integers(0, 4, rows)
    entries = int(lengths.sum())
    weights = rng.uniform(0.5, 2.0, entries).astype(np.float32) if weighted else None
    return Bags(name, rng.integers(0, most, entries), np.concatenate(([0], np.cumsum(lengths))), weights)


def both(module, batch, loss):
    """Gradients by key of each table: of our step, and of torch's own embeddings on the same rows; and both outputs."""
    source = LocalRows(module)
    with Step.of(module, batch, source) as step:
        ours = module(batch)
        loss(ours).backward()
    asked = {name: np.unique(keys) for name, (keys, _) in step.gradients().items()}
    plain = with_plain_embeddings(module, {name: (each, source.pull({name: each})[name]) for name, each in asked.items()})
    theirs = plain(batch)
    loss(theirs).backward()
    found, expected = {}, {}
    for name, (got, grads) in step.gradients().items():
        found[name] = {key: grads[got == key].sum(axis=0) for key in asked[name].tolist()}
    for each in plain.modules():
        table = getattr(each, "table", None)
        if table is not None:
            name = next(name for name, its in asked.items() if its.tolist() == table.keys.tolist())
            expected[name] = dict(zip(table.keys.tolist(), table.weight.grad.numpy(), strict=False))
    return ours, theirs, found, expected


def square(output):
    return (output * torch.arange(1.0, 1.0 + output.numel()).reshape(output.shape)).pow(2).sum()


@pytest.mark.parametrize("seed", range(4))
def test_rows_and_gradients_of_keys_are_torchs(seed):
    batch = keys(np.random.default_rng(seed), 17)
    ours, theirs, found, expected = both(Embedding("t", DIM, ["a", "b"], init=Normal(0, 1)), batch, square)
    torch.testing.assert_close(ours, theirs)
    assert found["t"].keys() == expected["t"].keys()
    for key, grad in found["t"].items():
        np.testing.assert_allclose(grad, expected["t"][key], rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_and_gradients_of_bags_are_torchs(seed, mode, weighted):
    if mode == "max" and weighted:
        pytest.skip("the largest of weighted rows is not defined: refused, as a test of its own says")
    batch = bags(np.random.default_rng(seed), 13, weighted=weighted)
    ours, theirs, found, expected = both(EmbeddingBag("t", DIM, ["w"], mode=mode, init=Normal(0, 1)), batch, square)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for key, grad in found["t"].items():
        np.testing.assert_allclose(grad, expected["t"][key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_columns_are_a_bag_whose_missing_keys_do_not_count(mode):
    batch = Keys(("a", "b", "c"), np.array([[1, 2, MISSING], [MISSING, MISSING, MISSING], [3, 3, 3]]))
    ours, theirs, found, expected = both(EmbeddingBag("t", DIM, ["a", "b", "c"], mode=mode, init=Normal(0, 1)), batch, square)
    torch.testing.assert_close(ours, theirs)
    assert ours[1].tolist() == [0.0] * DIM
    for key, grad in found["t"].items():
        np.testing.assert_allclose(grad, expected["t"][key], rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_missing_keys_of_bags_do_not_count(mode, weighted):
    if mode == "max" and weighted:
        pytest.skip("the largest of weighted rows is not defined: refused, as a test of its own says")
    weights = np.array([2.0, 8.0, 1.0, 3.0, 5.0], np.float32) if weighted else None
    text = Bags("w", np.array([4, MISSING, 5, 6, MISSING]), np.array([0, 2, 4, 4, 5]), weights)
    module = EmbeddingBag("t", DIM, ["w"], mode=mode, init=Normal(-2.0, 0.1))
    ours, theirs, found, expected = both(module, text, square)
    torch.testing.assert_close(ours, theirs)
    rows = torch.from_numpy(LocalRows(module).pull({"t": np.array([4])})["t"][0])
    torch.testing.assert_close(ours[0], rows * 2 if weighted and mode == "sum" else rows)
    assert ours[2:].tolist() == [[0.0] * DIM] * 2
    assert sorted(found["t"]) == [4, 5, 6]
    for key, grad in found["t"].items():
        np.testing.assert_allclose(grad, expected["t"][key], rtol=1e-5)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_missing_keys_of_columns_and_of_tensors_do_not_count(mode):
    bag = EmbeddingBag("t", 1, ["a", "b"], mode=mode, init=Constant(-1.0))
    pairs = Keys(("a", "b"), np.array([[1, MISSING], [MISSING, MISSING], [MISSING, -7]]))  # any other negative number is a key
    with Step.of(bag, pairs, LocalRows(bag)):
        assert bag(pairs).tolist() == [[-1.0], [0.0], [-1.0]]
        assert bag(torch.from_numpy(pairs.keys)).tolist() == [[-1.0], [0.0], [-1.0]]


def test_weights_whose_sum_is_zero_give_their_sum():
    bag = EmbeddingBag("t", 1, ["w"], mode="mean", init=Normal(0, 1))
    text = Bags("w", np.array([1, 2]), np.array([0, 2]), np.array([1.0, -1.0], np.float32))
    ours, theirs, _, _ = both(bag, text, square)
    first = LocalRows(bag).pull({"t": np.array([1, 2])})["t"]
    assert ours.item() == pytest.approx((first[0] - first[1]).item())
    torch.testing.assert_close(ours, theirs)


def test_weighted_mean_divides_by_the_weights():
    bag = EmbeddingBag("t", 1, ["w"], mode="mean", init=Zeros())
    rows = LocalRows(bag)
    rows.assign("t", np.array([1, 2]), np.array([[1.0], [4.0]]))
    text = Bags("w", np.array([1, 2]), np.array([0, 2, 2]), np.array([1.0, 3.0], np.float32))
    with Step.of(bag, text, rows):
        assert bag(text).tolist() == [[(1.0 + 12.0) / 4.0], [0.0]]


def test_largest_of_weighted_rows_is_refused():
    bag = EmbeddingBag("t", DIM, ["w"], mode="max")
    text = Bags("w", np.array([1]), np.array([0, 1]), np.array([2.0], np.float32))
    with Step.of(bag, text, LocalRows(bag)), pytest.raises(ValueError, match="take no weights"):
        bag(text)


def test_features_of_one_table_share_rows_and_gradients():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.item = Embedding("item", DIM, ["a"], init=Constant(1.0))
            self.seen = EmbeddingBag("item", DIM, ["w"], mode="sum", init=Constant(1.0))

        def forward(self, batch):
            return self.item(batch["a"]) + self.seen(batch["w"])

    module = Both()
    batch = Batch(2, Keys(("a",), np.array([[5], [6]])), {"w": Bags("w", np.array([5, 5]), np.array([0, 1, 2]))}, {})
    with Step.of(module, batch, LocalRows(module)) as step:
        module(batch).sum().backward()
    got, grads = step.gradients()["item"]
    assert {key: grads[got == key].sum(axis=0).tolist() for key in (5, 6)} == {5: [3.0] * DIM, 6: [1.0] * DIM}
    assert vocabularies_of(module) == {"a": "item", "w": "item"}


def test_keys_that_a_module_makes_up_are_pulled_and_learn():
    item = Embedding("item", DIM, ["a"], init=Normal(0, 1))
    batch, source = Keys(("a",), np.array([[1], [2]])), LocalRows(Embedding("item", DIM, ["a"], init=Normal(0, 1)))
    with Step.of(item, batch, source) as step:
        negatives = item(torch.tensor([[2, 9], [9, 9]]))
        (item(batch).sum() + negatives.sum()).backward()
    assert negatives.shape == (2, 2, DIM)
    np.testing.assert_array_equal(negatives[0, 1].detach(), source.pull({"item": np.array([9])})["item"][0])
    got, grads = step.gradients()["item"]
    assert {key: grads[got == key].sum() / DIM for key in set(got.tolist())} == {1: 1.0, 2: 2.0, 9: 3.0}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "part"])
def test_keys_and_bags_that_a_module_makes_have_their_own_rows(whole):
    module = nn.ModuleDict({"a": Embedding("t", 1, ["a", "b"]), "w": EmbeddingBag("t", 1, ["w"], mode="sum")})
    source = LocalRows(module)
    source.assign("t", np.arange(10), np.arange(10.0)[:, None])
    text = Bags("w", np.array([1, 2, 3, 4]), np.array([0, 1, 2, 3, 4]))
    batch = Batch(4, Keys(("a", "b"), np.array([[1, 5], [2, 6], [3, 7], [4, MISSING]])), {"w": text}, {})
    with Step.of(module, batch, source) as step:
        part = batch if whole else batch.rows(1, 4)
        pair, bag = part.categories, part["w"]
        made = [
            replace(pair["a"], keys=np.roll(pair["a"].keys, 1, axis=0)),  # negatives within the batch
            replace(pair["b"], keys=pair["b"].keys[::-1]),  # a view of the same memory, in another order
            replace(pair, keys=pair.keys[:, ::-1]),
            Keys(("a",), np.array([[9], [MISSING]])),  # fewer than the batch has
            replace(pair["a"], keys=np.full((20, 1), 8)),  # and more
        ]
        for each in made:
            found = module["a"](each)
            assert found.ravel().tolist() == np.where(each.keys == MISSING, 0, each.keys).ravel().tolist()
        assert module["w"](replace(bag, keys=bag.keys[::-1])).ravel().tolist() == bag.keys[::-1].tolist()
        found.sum().backward()
    keys, gradients = step.gradients()["t"]
    assert (keys.tolist(), gradients.tolist()) == ([8], [[20.0]])


def test_keys_of_the_batch_are_not_pulled_again(monkeypatch):
    module = Embedding("t", DIM, ["a", "b"])
    batch, source = Keys(("a", "x", "b"), np.arange(12).reshape(4, 3)), LocalRows(module)
    with Step.of(module, batch, source):
        monkeypatch.setattr(source, "pull", lambda wanted: pytest.fail("the step has these rows"))
        for each in (batch["a"], batch.of(("b", "a")), batch.rows(1, 3)["b"], replace(batch["a"], keys=batch["a"].keys.copy())):
            assert module(each).shape[0] == len(each)


def test_a_missing_key_in_a_tensor_is_a_row_of_zeros_that_learns_nothing():
    item = Embedding("item", DIM, ["a"], init=Constant(1.0))
    with Step.of(item, Keys(("a",), np.array([[1]])), LocalRows(item)) as step:
        found = item(torch.tensor([MISSING, 3]))
        found.sum().backward()
    assert found.tolist() == [[0.0] * DIM, [1.0] * DIM]
    assert step.gradients()["item"][0].tolist() == [3]


def test_what_no_loss_depends_on_is_not_pushed():
    two = nn.ModuleList([Embedding("x", DIM, ["a"]), Embedding("y", DIM, ["a"])])
    batch = Keys(("a",), np.array([[1]]))
    with Step.of(two, batch, LocalRows(two)) as step:
        two[0](batch).sum().backward()
    assert step.gradients().keys() == {"x"}


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_without_any_key(rows):
    module = nn.ModuleDict({"a": Embedding("t", DIM, ["a"]), "w": EmbeddingBag("u", DIM, ["w"], mode="mean")})
    empty = Bags("w", np.empty(0, np.int64), np.zeros(rows + 1, np.int64))
    batch = Batch(rows, Keys(("a",), np.full((rows, 1), MISSING)), {"w": empty}, {})
    with Step.of(module, batch, LocalRows(module)) as step:
        out = module["a"](batch["a"]) + module["w"](batch["w"])
        out.sum().backward()
    assert out.tolist() == [[0.0] * DIM] * rows
    assert step.gradients() == {}


def test_plain_modules_need_the_rows_of_each_table():
    module = nn.ModuleList([Embedding("x", DIM, ["a"]), Embedding("y", DIM, ["a"])])
    none = np.empty(0, np.int64), np.empty((0, DIM), np.float32)
    with pytest.raises(ValueError, match="Those of y are missing; got x"):
        with_plain_embeddings(module, {"x": none})
    plain = with_plain_embeddings(module, {"x": none, "y": none})
    assert plain[0](Keys(("a",), np.array([[7]]))).tolist() == [[0.0] * DIM]


def test_a_held_table_says_what_it_is():
    assert repr(LocalTable(Embedding("item", 2, ["a"]).table, np.arange(5), np.zeros((5, 2)))) == "LocalTable('item', rows=5, dim=2)"


class OfTwoNames(nn.Module):
    """One embedding under two names, and once more in a module within."""

    def __init__(self):
        super().__init__()
        self.e = Embedding("t", DIM, ["a"], init=Normal(0, 1))
        self.f = self.e
        self.inner = nn.ModuleList([self.e])

    def forward(self, batch):
        return self.e(batch) + 2 * self.f(batch) + 3 * self.inner[0](batch)


def test_an_embedding_of_two_names_is_replaced_under_each():
    batch = Keys(("a",), np.array([[1], [2]]))
    ours, theirs, found, expected = both(OfTwoNames(), batch, square)
    torch.testing.assert_close(ours, theirs)
    for key, grad in found["t"].items():
        np.testing.assert_allclose(grad, expected["t"][key], rtol=1e-5)
    plain = with_plain_embeddings(OfTwoNames(), {"t": (np.array([1]), np.ones((1, DIM), np.float32))})
    assert plain.e is plain.f is plain.inner[0]


def test_outside_of_a_step_there_are_no_rows():
    with pytest.raises(RuntimeError, match="within a step"):
        Embedding("t", DIM, ["a"])(Keys(("a",), np.array([[1]])))


def test_a_feature_must_be_declared():
    item = Embedding("t", DIM, ["a"])
    batch = Batch(1, Keys(("a", "b"), np.array([[1, 2]])), {}, {})
    with Step.of(item, batch, LocalRows(item)), pytest.raises(KeyError, match="must name their `features`"):
        item(batch["b"])
    with pytest.raises(KeyError, match="which the batch does not have"):
        Step.of(Embedding("t", DIM, ["z"]), batch, LocalRows(Embedding("t", DIM, ["z"])))


@pytest.mark.parametrize(
    ("made", "match"),
    [
        *((lambda name=name: Embedding(name, DIM, ["a"]), "name of a table") for name in ("", "a/b", "a b", "..", "9", "a" * 65, 7)),
        (lambda: Embedding("t", 0, ["a"]), "dim"),
        (lambda: Embedding("t", True, ["a"]), "dim"),
        (lambda: Embedding("t", DIM, []), "features"),
        (lambda: Embedding("t", DIM, ["a", "a"]), "features"),
        (lambda: EmbeddingBag("t", DIM, ["a"], mode="median"), "mode"),
        (lambda: Keys(("a",), np.array([1, 2])), "shape"),
        (lambda: Keys(("a",), np.array([[1.0]])), "int64"),
        (lambda: Bags("w", np.array([1]), np.array([0, 2])), "offsets"),
        (lambda: Bags("w", np.array([1, 2]), np.array([0, 2, 1, 2])), "offsets"),
        (lambda: Bags("w", np.array([1]), np.array([0, 1]), np.ones(2, np.float32)), "weights"),
    ],
)
def test_wrong_arguments_are_refused(made, match):
    with pytest.raises(ValueError, match=match):
        made()


def test_tables_of_any_name_are_none_of_a_trainings_own():
    names, given = DeepNames("fit"), ["dense", "buffers", "ranks", "losses", "measures", "rows", "best", "item", "item.best", "dense.0"]
    own = [name for name, each in vars(DeepNames).items() if isinstance(each, property)]
    assert {"dense", "best_dense", "buffers", "ranks", "losses", "measures"} <= set(own)
    every = [getattr(names, name) for name in own]
    every += [each(table) for table in given for each in (names.rows, names.best_rows)]
    every += [each(rank) for rank in range(3) for each in (names.dense_part, names.best_dense_part)]
    assert len(set(every)) == len(every) == len(own) + 2 * len(given) + 6


def test_one_name_is_not_a_list_of_names():
    with pytest.raises(TypeError, match=r"write \['abc'\]"):
        Embedding("t", DIM, "abc")


@pytest.mark.parametrize("other", [{"dim": 4}, {"init": Zeros()}, {"optimizer": SGD(1.0)}, {"seed": 1}])
def test_modules_of_one_table_must_agree(other):
    given = {"dim": DIM, "optimizer": Adam(0.1), **other}
    module = nn.ModuleList([Embedding("t", DIM, ["a"], optimizer=Adam(0.1)), Embedding("t", features=["b"], **given)])
    with pytest.raises(ValueError, match="are one table"):
        tables_of(module)


def test_a_feature_shares_the_rows_of_one_table():
    with pytest.raises(ValueError, match="may share the rows of one table"):
        vocabularies_of(nn.ModuleList([Embedding("t", DIM, ["a", "b"]), Embedding("u", DIM, ["b", "c"])]))


def test_modules_are_copied_and_pickled_without_their_rows():
    item, batch = Embedding("t", DIM, ["a"]), Keys(("a",), np.array([[1]]))
    with Step.of(item, batch, LocalRows(item)):
        item(batch)
        assert pickle.loads(pickle.dumps(item)).rows is None
        assert copy.deepcopy(item).rows is None
    assert item.rows is None


@pytest.mark.parametrize("init", [Constant(0.25), Uniform(-1.0, 2.0), Normal(0.5, 2.0)])
def test_first_rows_are_those_of_a_law(init):
    module = Embedding("t", 500, ["a"], init=init, seed=3)
    rows = LocalRows(module).pull({"t": np.arange(40)})["t"]
    low, high = {Constant: (0.25, 0.25), Uniform: (-1.0, 2.0), Normal: (-np.inf, np.inf)}[type(init)]
    assert rows.dtype == np.float32
    assert ((rows >= low) & (rows <= high)).all()
    mean, std = {Constant: (0.25, 0.0), Uniform: (0.5, 3 / 12**0.5), Normal: (0.5, 2.0)}[type(init)]
    assert rows.mean() == pytest.approx(mean, abs=0.05)
    assert rows.std() == pytest.approx(std, abs=0.05)
    assert np.array_equal(LocalRows(module).pull({"t": np.array([7])})["t"][0], rows[7])


def test_a_lookup_names_each_key_once():
    module = nn.ModuleList([Embedding("t", DIM, ["a", "b"]), EmbeddingBag("t", DIM, ["w"])])
    batch = Batch(2, Keys(("a", "b"), np.array([[1, 2], [1, MISSING]])), {"w": Bags("w", np.array([2, 4]), np.array([0, 0, 2]))}, {})
    lookup = Lookup.of(tables_of(module).values(), batch, LocalRows(module))
    assert sorted(lookup.keys["t"].tolist()) == [1, 2, 4]


def test_parts_of_a_batch_look_up_what_the_whole_of_it_does():
    rng = np.random.default_rng(0)
    module = nn.ModuleDict({"a": Embedding("t", DIM, ["a", "b"], init=Normal(0, 1)), "w": EmbeddingBag("u", DIM, ["w"], init=Normal(0, 1))})
    batch = Batch(9, keys(rng, 9), {"w": bags(rng, 9)}, {"numeric": torch.arange(9.0)[:, None]})
    with Step.of(module, batch, LocalRows(module)):
        for start, stop in ((0, 4), (4, 9), (2, 3)):
            part = batch.rows(start, stop).rows(0, stop - start)
            torch.testing.assert_close(module["a"](part["b"]), module["a"](batch["b"])[start:stop])
            torch.testing.assert_close(module["w"](part["w"]), module["w"](batch["w"])[start:stop])
            assert part.numeric.ravel().tolist() == list(range(start, stop))
