"""What architectures compute is what their papers say: each against a slow, obvious twin that takes rows and pairs one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.zoo import architectures, interest, tasks
from sparkps.mllib.deep.zoo.blocks import Columns, Fields, Linear, Pairs, Spec
from sparkps.nn import MISSING, Bags, Batch, Keys, LocalRows, Step

COLUMNS = InputColumns(("a", "b", "w"), ("x", "y"), kinds=("integer",) * 3, bags=("w",))
ROWS, DIM = 5, 3
SPEC = Spec(dim=DIM, hidden=(6, 4), init_std=0.7, more={})


def batch():
    rng = np.random.default_rng(2)
    keys = rng.integers(0, 9, (ROWS, 2))
    keys[1, 0] = MISSING
    words = Bags("w", rng.integers(0, 9, 7), np.array([0, 2, 2, 3, 6, 7]))
    return Batch(ROWS, Keys(("a", "b"), keys), {"w": words}, {"numeric": torch.from_numpy(rng.normal(size=(ROWS, 2)).astype(np.float32))})


def evaluated(make, given=None):
    """A module in a step of a batch: what it gives, and the module with its rows at hand."""
    torch.manual_seed(1)
    module, given = make(), given or batch()
    module.eval()
    step = Step.of(module, given, LocalRows(module))
    step.__enter__()
    return module(given), module, given


def fields_of(module, given):
    """(rows, fields, dim): of a, b, the mean of w, and x and y times their vectors."""
    rows = LocalRows(module)

    def row(key):
        name = next(iter(rows.tables)) if "fields" not in rows.tables else "fields"
        return rows.pull({name: np.array([key])})[name][0] if key != MISSING else np.zeros(DIM, np.float32)

    found = []
    for r in range(ROWS):
        bag = given.bags["w"].rows(r, r + 1).keys
        mean = np.mean([row(key) for key in bag], axis=0) if len(bag) else np.zeros(DIM)
        vectors = [row(given.categories.keys[r, 0]), row(given.categories.keys[r, 1]), mean]
        found.append(vectors)
    return torch.tensor(np.array(found), dtype=torch.float32)


def with_numbers(module, given, vectors):
    numbers = given.numeric[:, :, None] * module.fields.numbers
    return torch.cat([vectors, numbers], 1)


def linear_of(module, given):
    rows, part = LocalRows(module), module.linear if hasattr(module, "linear") else module.wide
    out = []
    for r in range(ROWS):
        bag = given.bags["w"].rows(r, r + 1).keys

        def one(key):
            return float(rows.pull({"linear": np.array([key])})["linear"][0, 0]) if key != MISSING else 0.0

        total = one(given.categories.keys[r, 0]) + one(given.categories.keys[r, 1])
        total += float(np.mean([one(key) for key in bag])) if len(bag) else 0.0
        out.append(total + float(part.bias.detach()) + float(part.numbers(given.numeric[r]).detach()))
    return torch.tensor(out)[:, None]


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_fields_are_categories_bags_and_numbers():
    ours, module, given = evaluated(lambda: Fields(COLUMNS, SPEC))
    assert (module.count, module.width) == (5, 15)
    expected = torch.cat([fields_of(module, given), given.numeric[:, :, None] * module.numbers], 1)
    close(ours, expected)


def test_columns_lie_one_after_the_other():
    ours, module, given = evaluated(lambda: Columns(COLUMNS, SPEC))
    close(ours, torch.cat([fields_of(module, given).flatten(1), given.numeric], 1))
    assert module.width == ours.shape[1]


def test_pairs_are_each_once():
    vectors = torch.randn(2, 4, 3)
    left, right = Pairs(4)(vectors)
    expected = [(vectors[:, i], vectors[:, j]) for i, j in itertools.combinations(range(4), 2)]
    close(left, torch.stack([each[0] for each in expected], 1))
    close(right, torch.stack([each[1] for each in expected], 1))
    close(Pairs(4).dots(vectors), (left * right).sum(2))


def test_linear_terms():
    ours, module, given = evaluated(lambda: torch.nn.ModuleDict({"linear": Linear(COLUMNS, SPEC)}).linear)
    holder = torch.nn.Module()
    holder.linear = module
    close(ours, linear_of(holder, given))


def test_wide_and_deep():
    ours, module, given = evaluated(lambda: architectures.WideAndDeep(COLUMNS, SPEC))
    deep = module.deep.head(torch.cat([fields_of(module, given).flatten(1), given.numeric], 1))
    close(ours, linear_of(module, given) + deep)


def second_order(vectors):
    return sum(vectors[:, i] * vectors[:, j] for i, j in itertools.combinations(range(vectors.shape[1]), 2))


def test_deep_fm():
    ours, module, given = evaluated(lambda: architectures.DeepFM(COLUMNS, SPEC))
    vectors = with_numbers(module, given, fields_of(module, given))
    close(ours, linear_of(module, given) + second_order(vectors).sum(1, keepdim=True) + module.head(vectors.flatten(1)))


def test_neural_fm():
    ours, module, given = evaluated(lambda: architectures.NeuralFM(COLUMNS, SPEC))
    vectors = with_numbers(module, given, fields_of(module, given))
    close(ours, linear_of(module, given) + module.head(module.norm(second_order(vectors))))


def test_attentional_fm():
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, more={"attention": 4})
    ours, module, given = evaluated(lambda: architectures.AttentionalFM(COLUMNS, spec))
    vectors = with_numbers(module, given, fields_of(module, given))
    out = []
    for row in vectors:
        products = [row[i] * row[j] for i, j in itertools.combinations(range(len(row)), 2)]
        weights = torch.stack([module.attention(each) for each in products]).exp()
        out.append(sum(w * p for w, p in zip(weights / weights.sum(), products, strict=True)))
    close(ours, linear_of(module, given) + module.out(torch.stack(out)))


@pytest.mark.parametrize("outer", [False, True])
def test_product_networks(outer):
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, more={"outer": outer})
    ours, module, given = evaluated(lambda: architectures.ProductNetwork(COLUMNS, spec))
    vectors = with_numbers(module, given, fields_of(module, given))
    if outer:
        products = torch.stack([torch.outer(row.sum(0), row.sum(0)).flatten() for row in vectors])
    else:
        products = torch.stack([torch.stack([row[i] @ row[j] for i, j in itertools.combinations(range(5), 2)]) for row in vectors])
    close(ours, module.head(torch.cat([vectors.flatten(1), products], 1)))


@pytest.mark.parametrize("rank", [0, 2])
def test_cross_network(rank):
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, more={"cross": 3, "rank": rank})
    ours, module, given = evaluated(lambda: architectures.CrossNetwork(COLUMNS, spec))
    first = torch.cat([fields_of(module, given).flatten(1), given.numeric], 1)
    x = first
    for each in module.crosses:
        matrix, bias = (each[1].weight @ each[0].weight, each[1].bias) if rank else (each.weight, each.bias)
        x = first * (x @ matrix.T + bias) + x
    close(ours, module.out(torch.cat([x, module.deep(first)], 1)))


def test_compressed_interactions():
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, more={"cin": [3, 2]})
    ours, module, given = evaluated(lambda: architectures.CompressedInteractions(COLUMNS, spec))
    first = with_numbers(module, given, fields_of(module, given))
    hidden, pooled = first, []
    for each in module.maps:
        maps = []
        weights = each.weight[:, :, 0].reshape(each.weight.shape[0], hidden.shape[1], first.shape[1])
        for h in range(len(weights)):
            pairs = itertools.product(range(hidden.shape[1]), range(first.shape[1]))
            maps.append(sum(weights[h, i, j] * hidden[:, i] * first[:, j] for i, j in pairs) + each.bias[h])
        hidden = torch.stack(maps, 1)
        pooled.append(hidden.sum(2))
    close(ours, linear_of(module, given) + module.cin(torch.cat(pooled, 1)) + module.head(first.flatten(1)))


def test_recommendation_model():
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, more={"bottom": [5]})
    ours, module, given = evaluated(lambda: architectures.RecommendationModel(COLUMNS, spec))
    dense = module.bottom(given.numeric)
    vectors = torch.cat([fields_of(module, given), dense[:, None]], 1)
    dots = torch.stack([torch.stack([row[i] @ row[j] for i, j in itertools.combinations(range(4), 2)]) for row in vectors])
    close(ours, module.head(torch.cat([dense, dots], 1)))


def test_recommendation_model_without_numbers():
    columns = InputColumns(("a", "b"), kinds=("integer",) * 2)
    spec = Spec(dim=DIM, hidden=(4,), more={"bottom": [5]})
    given = Batch(2, Keys(("a", "b"), np.array([[1, 2], [3, 4]])), {}, {})
    ours, _, _ = evaluated(lambda: architectures.RecommendationModel(columns, spec), given)
    assert ours.shape == (2, 1)


def test_deep_interest():
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, more={"target": "b", "history": "w", "attention": 4})
    ours, module, given = evaluated(lambda: interest.DeepInterest(COLUMNS, spec))
    rows = LocalRows(module)

    def item(key):
        return torch.from_numpy(rows.pull({"items": np.array([key])})["items"][0])

    parts = []
    for r in range(ROWS):
        target, summed = item(given.categories.keys[r, 1]), torch.zeros(DIM)
        for key in given.bags["w"].rows(r, r + 1).keys:
            each = item(key)
            summed = summed + module.attention(torch.cat([target, each, target - each, target * each])) * each
        parts.append(torch.cat([target, summed]))
    fields = module.fields(given).flatten(1)
    close(ours, module.head(torch.cat([fields, torch.stack(parts), given.numeric], 1)))


def softmaxed(gate, experts):
    weights = gate.exp() / gate.exp().sum()
    return sum(w * e for w, e in zip(weights, experts, strict=True))


def test_gated_experts():
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, outputs=2, more={"experts": 3, "tower": [5]})
    ours, module, given = evaluated(lambda: tasks.GatedExperts(COLUMNS, spec))
    expected = []
    for x in module.inputs(given):
        experts = [each(x) for each in module.experts]
        expected.append(torch.cat([tower(softmaxed(gate(x), experts)) for gate, tower in zip(module.gates, module.towers, strict=True)]))
    close(ours, torch.stack(expected))


def test_layered_extraction():
    spec = Spec(dim=DIM, hidden=(4,), init_std=0.7, outputs=2, more={"experts": 2, "tower": [5], "levels": 2})
    ours, module, given = evaluated(lambda: tasks.LayeredExtraction(COLUMNS, spec))
    expected = []
    for x in module.inputs(given):
        states = [x, x, x]
        for level in module.levels:
            shared = [each(states[2]) for each in level.shared]
            own = [[each(states[task]) for each in level.own[task]] for task in range(2)]
            following = [softmaxed(level.gates[task](states[task]), [*own[task], *shared]) for task in range(2)]
            if level.shared_gate is not None:
                following.append(softmaxed(level.shared_gate(states[2]), [*own[0], *own[1], *shared]))
            states = following
        expected.append(torch.cat([tower(state) for tower, state in zip(module.towers, states, strict=False)]))
    close(ours, torch.stack(expected))


def test_a_column_of_vectors_is_a_factorization_machine_of_its_entries():
    columns = InputColumns(features="v")
    rng = np.random.default_rng(0)
    bags = Bags("v", rng.integers(0, 9, 6), np.array([0, 3, 6]), rng.normal(size=6).astype(np.float32))
    given = Batch(2, Keys((), np.empty((2, 0), np.int64)), {"v": bags}, {})
    ours, module, _ = evaluated(lambda: architectures.DeepFM(columns, SPEC), given)
    rows, expected = LocalRows(module), []
    for r in range(2):
        keys, weights = bags.rows(r, r + 1).keys, bags.rows(r, r + 1).weights
        vectors = torch.from_numpy(rows.pull({"fields": keys})["fields"] * weights[:, None])
        linear = float((rows.pull({"linear": keys})["linear"][:, 0] * weights).sum())
        pairs = sum(vectors[i] @ vectors[j] for i, j in itertools.combinations(range(3), 2))
        expected.append(linear + module.linear.bias + pairs + module.head(vectors.sum(0)))
    close(ours, torch.stack(expected))


def test_there_must_be_columns():
    with pytest.raises(ValueError, match="columns to read"):
        architectures.DeepFM(InputColumns(), SPEC)
    with pytest.raises(ValueError, match="columns to read"):
        architectures.Perceptron(InputColumns(), SPEC)
