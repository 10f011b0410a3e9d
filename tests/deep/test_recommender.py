"""Two towers and the ranking: the loss against one written by hand, retrieval against all scores, real data, wrong rows."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sparkps.errors import InvalidInput
from sparkps.mllib import deep
from sparkps.mllib.deep.columns import InputColumns
from sparkps.mllib.deep.losses import SampledSoftmaxLoss
from sparkps.mllib.deep.zoo.blocks import Spec
from sparkps.mllib.deep.zoo.catalogue import LOG_PROBABILITY, Catalogue
from sparkps.mllib.deep.zoo.retrieval import best_items
from sparkps.mllib.deep.zoo.towers import TwoTowers
from sparkps.mllib.errors import InvalidColumn, InvalidParam
from sparkps.nn import MISSING, Bags, Batch, Keys, LocalRows, Step
from sparkps.nn.tables import tables_of, vocabularies_of
from sparkps.optim import Adam

#: The whole module has one Spark session and few rows; a busy machine may take its time.
pytestmark = pytest.mark.timeout(240)

SMALL = {
    "embeddingDim": 8, "hiddenUnits": [16], "initStd": 0.1, "optimizer": Adam(0.02), "embeddingOptimizer": Adam(0.02), "seed": 1,
    "batchSize": 50, "maxIter": 15,
}  # fmt: skip
MORE = {"item": "item", "categories": [], "numbers": [], "history": [], "normalize": False, "temperature": 0.5}


def towers(items, users=None):
    """Module, batch, and its scores with vectors of users and items."""
    inputs = InputColumns(("user", "item"), (), kinds=("integer", "integer"))
    torch.manual_seed(0)
    module = TwoTowers(inputs, Spec(dim=4, hidden=(8,), init_std=1.0, more=MORE))
    keys = np.stack([np.arange(len(items)) if users is None else np.asarray(users), np.asarray(items)], 1)
    batch = Batch(len(items), Keys(("user", "item"), keys.astype(np.int64)), {}, {})
    return module, batch


def scored(module, batch):
    with torch.no_grad(), Step.of(module, batch, LocalRows(module)):
        return module(batch), module.user(batch), module.item(batch)


def test_of_all_items_the_loss_is_that_of_the_full_softmax():
    module, batch = towers([3, 0, 2, 1])
    scores, users, items = scored(module, batch)
    even = torch.full((4, 1), math.log(0.25))
    found = SampledSoftmaxLoss().of_rows(scores, even)
    for row in range(4):
        logits = [sum(float(a) * float(b) for a, b in zip(users[row], item, strict=True)) / 0.5 for item in items]
        assert float(found[row]) == pytest.approx(-logits[row] + math.log(sum(math.exp(each) for each in logits)), abs=1e-5)
    assert torch.allclose(found, SampledSoftmaxLoss(corrected=False).of_rows(scores, even))


def test_scores_are_lowered_by_the_logarithm_of_the_probability_of_their_item():
    scores, probabilities = torch.tensor([[1.0, 2.0], [0.5, -1.0]]), torch.tensor([0.9, 0.1])
    found = SampledSoftmaxLoss().of_rows(scores, probabilities.log()[:, None])
    weighed = scores.exp() / probabilities
    assert torch.allclose(found, -(weighed.diagonal() / weighed.sum(1)).log())
    assert not torch.allclose(found, SampledSoftmaxLoss(corrected=False).of_rows(scores, probabilities.log()[:, None]))


def test_with_the_correction_the_sampled_gradient_tends_to_that_of_the_full_softmax():
    rng, draws = np.random.default_rng(0), 4096
    often = np.array([0.7, 0.15, 0.1, 0.05])
    logits = torch.tensor([0.3, 0.1, -0.4, 0.6])
    drawn = torch.from_numpy(rng.choice(4, draws, p=often))
    drawn[0] = 3  # the row's own
    others = [0, *(i for i in range(1, draws) if drawn[i] != 3)]

    def gradient(corrected):
        leaf = logits.clone().requires_grad_()
        scores = leaf[drawn[others]]
        labels = torch.from_numpy(np.log(often)).float()[drawn[others]][:, None]
        row = torch.full((len(others), len(others)), 0.0)
        row[0] = scores
        SampledSoftmaxLoss(corrected).of_rows(row, labels)[0].backward()
        return leaf.grad[:3] / leaf.grad[:3].sum()

    leaf = logits.clone().requires_grad_()
    torch.nn.functional.cross_entropy(leaf[None], torch.tensor([3])).backward()
    full = leaf.grad[:3] / leaf.grad[:3].sum()
    assert torch.allclose(gradient(True), full, atol=0.05)
    assert not torch.allclose(gradient(False), full, atol=0.2)


def test_another_row_with_the_same_item_is_none_that_was_not_chosen():
    module, batch = towers([7, 5, 7, 6])
    scores, users, items = scored(module, batch)
    assert torch.isneginf(scores).nonzero().tolist() == [[0, 2], [2, 0]]
    found = SampledSoftmaxLoss(corrected=False).of_rows(scores, torch.zeros(4, 1))
    logits = users @ items.T / 0.5
    assert float(found[0]) == pytest.approx(float(torch.logsumexp(logits[0, [0, 1, 3]], 0) - logits[0, 0]), abs=1e-5)


@pytest.mark.parametrize("items", [[7], [7, 7, 7]])
def test_where_all_rows_have_one_item_there_is_nothing_to_learn(items):
    module, batch = towers(items)
    with Step.of(module, batch, LocalRows(module)) as step:
        losses = SampledSoftmaxLoss().of_rows(module(batch), torch.zeros(len(items), 1))
        losses.sum().backward()
    assert losses.tolist() == [0.0] * len(items)
    assert all(not each.grad.any() for each in module.parameters())
    assert all(not gradients.any() for _, gradients in step.gradients().values())


def test_a_history_has_the_embeddings_of_items_and_is_added_to_what_layers_make_of_it():
    inputs = InputColumns(("seen", "last", "item"), (), kinds=("integer",) * 3, bags=("seen",))
    torch.manual_seed(0)
    module = TwoTowers(inputs, Spec(dim=4, hidden=(8,), init_std=1.0, more={**MORE, "history": ["seen", "last"]}))
    assert list(tables_of(module)) == ["items"]
    assert set(vocabularies_of(module).values()) == {"items"}  # so that equal values have equal keys
    seen = Bags("seen", np.array([1, 2]), np.array([0, 2, 2]))
    batch = Batch(2, Keys(("last", "item"), np.array([[2, 1], [MISSING, 2]])), {"seen": seen}, {})
    _, users, items = scored(module, batch)
    mean, last, none = items.mean(0), items[1], torch.zeros(4)  # of all items, 1 and 2
    with torch.no_grad():
        wanted = [mean + last + module.user.head(torch.cat([mean, last])), module.user.head(torch.cat([none, none]))]
    assert torch.allclose(users, torch.stack(wanted), atol=1e-6)


def test_retrieval_is_that_of_all_scores_sorted(monkeypatch):
    monkeypatch.setattr("sparkps.mllib.deep.zoo.retrieval.ITEMS_AT_ONCE", 7)
    monkeypatch.setattr("sparkps.mllib.deep.zoo.retrieval.USERS_AT_ONCE", 3)
    rng = np.random.default_rng(0)
    users = rng.integers(-3, 4, (8, 3)).astype(np.float32)  # so that many are equal
    items = rng.integers(-3, 4, (40, 3)).astype(np.float32)
    every = users @ items.T
    left_out = [np.unique(rng.integers(0, 40, number)) for number in (0, 1, 30, 0, 2, 2, 35, 5)]
    out = Bags("left out", np.concatenate(left_out), np.cumsum([0, *map(len, left_out)]))
    without = every.copy()
    for row, places in enumerate(left_out):
        without[row, places] = -np.inf
    for count, of, excluded in [(c, *of) for c in (1, 5, 40) for of in ((every, None), (without, out))]:
        places, scores = best_items(users, items, count, excluded)
        wanted = np.argsort(-of, axis=1, kind="stable")[:, :count]
        assert np.array_equal(places, wanted)
        assert np.array_equal(scores, np.take_along_axis(of, wanted, 1))


# ---- on a tier ---------------------------------------------------------------------------------------------------------

SCHEMA = "user string, seen array<int>, age double, item int, maker string, price double, aside boolean"


def choices(count=600):
    """Users of four kinds, each of whom chooses items of their kind."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        kind = int(rng.integers(0, 4))
        item = int(rng.integers(0, 10) * 4 + kind)
        seen = [int(each) for each in rng.integers(0, 10, 3) * 4 + kind]
        rows.append((f"u{kind}", seen, float(rng.random()), item, f"m{kind}", float(item), bool(rng.random() < 0.2)))
    return rows


COLUMNS = {"categoricalCols": ["user", "seen"], "numericCols": ["age"]}
OF_ITEMS = {"itemCategoricalCols": ["maker"], "itemNumericCols": ["price"]}


@pytest.fixture(scope="module")
def rows(spark):
    return spark.createDataFrame(choices(), SCHEMA).repartition(2).localCheckpoint()


def test_an_item_is_as_probable_as_rows_to_train_on_have_it(rows):
    catalogue = Catalogue.of(rows, InputColumns(("item",), (), kinds=("integer",)), "aside")
    found = catalogue.with_probabilities(rows).where("not aside")
    counts = {row.item: row["count"] for row in rows.where("not aside").groupBy("item").count().collect()}
    for row in found.select("item", LOG_PROBABILITY).collect():
        assert math.exp(row[LOG_PROBABILITY]) == pytest.approx(counts[row.item] / sum(counts.values()))


def share_of_own_kind(model, rows):
    found = model.recommendForUserSubset(rows.limit(40), 10).select("user", "recommendations.item").collect()
    return np.mean([[f"u{item % 4}" == row.user for item in row.item] for row in found])


@pytest.mark.parametrize(
    "how",
    [
        {"numWorkers": 1},
        {"numWorkers": 2, **OF_ITEMS, "validationIndicatorCol": "aside"},
        {"numWorkers": 2, "historyCols": ["seen"], "dense": "allreduce"},
        {"numWorkers": 2, "historyCols": ["seen"], "modelParallel": "fsdp", "validationIndicatorCol": "aside"},
        {"numWorkers": 2, "consistency": "ssp"},
        {"numWorkers": 2, "consistency": "asp", "normalizeVectors": False, "temperature": 1.0},
    ],
)
def test_users_get_the_items_of_their_kind(ps, rows, how):
    scaled = rows.withColumn("price", rows.price / 40)
    model = deep.YouTubeDNNRecommender(**SMALL, **COLUMNS, **how).fit(scaled)
    assert share_of_own_kind(model, rows) > 0.9
    assert model.summary.objectiveHistory[-1] < model.summary.objectiveHistory[0]
    assert len(model.summary.validationHistory) == (len(model.summary.objectiveHistory) if "validationIndicatorCol" in how else 0)


def test_vectors_recommendations_and_what_is_saved_agree(spark, ps, rows, tmp_path):
    made = deep.YouTubeDNNRecommender(**{**SMALL, "maxIter": 2}, **COLUMNS, **OF_ITEMS, historyCols=["seen"], outputCol="where")
    model = made.fit(rows)
    factors = model.itemFactors.collect()
    assert [row.id for row in factors] == list(range(40))
    assert model.rank == len(factors[0].features) == 8
    users = rows.select("user", "seen", "age").limit(30).localCheckpoint()  # nothing of items
    every = np.array([row.where for row in model.transform(users).collect()]) @ np.array([row.features for row in factors]).T
    found = model.recommendForUserSubset(users, 40)
    assert found.columns == ["user", "seen", "age", "recommendations"]
    assert found.schema["recommendations"].dataType.simpleString() == "array<struct<item:int,rating:float>>"
    for scores, row in zip(every, found.collect(), strict=True):
        assert [each.rating for each in row.recommendations] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
        assert [scores[each.item] for each in row.recommendations] == pytest.approx([e.rating for e in row.recommendations], abs=1e-5)
    left = model.recommendForUserSubset(users, 40, excludeCol="seen").select("seen", "recommendations")
    for row, of_all in zip(left.collect(), found.collect(), strict=True):
        assert row.recommendations == [each for each in of_all.recommendations if each.item not in row.seen]
    model.save(str(tmp_path / "model"))
    assert not list((tmp_path / "model").rglob("*.pkl"))
    loaded = deep.YouTubeDNNRecommenderModel.load(str(tmp_path / "model"))
    assert loaded.recommendForUserSubset(users, 5).collect() == model.recommendForUserSubset(users, 5).collect()
    assert loaded.itemFactors.collect() == factors
    with pytest.raises(InvalidColumn, match="`excludeCol` must hold items"):
        loaded.recommendForUserSubset(users, 5, excludeCol="user")
    for wrong in (0, 41, 2.0, True):
        with pytest.raises(InvalidParam, match="`numItems` must be an int from 1 to 40"):
            loaded.recommendForUserSubset(users, wrong)


def test_wrong_rows_and_columns_are_told(spark, ps, rows):
    made = deep.YouTubeDNNRecommender(**{**SMALL, "maxIter": 1}, **COLUMNS)
    with pytest.raises(InvalidColumn, match="'film' must exist"):
        made.copy().setItemCol("film").fit(rows)
    with pytest.raises(InvalidColumn, match="'user' twice"):
        made.copy().setItemCol("user").fit(rows)
    with pytest.raises(InvalidColumn, match="one item a row"):
        deep.YouTubeDNNRecommender(categoricalCols=["user"], itemCol="seen").fit(rows)
    with pytest.raises(InvalidInput, match="two distinct items"):
        made.fit(rows.where("item = 1"))
    with pytest.raises(InvalidParam, match="`temperature`"):
        made.copy().setTemperature(0.0).fit(rows)
    for param, value in (("accumulationSteps", 2), ("modelParallel", "pipeline")):  # parts of a batch have fewer items to tell from
        with pytest.raises(InvalidParam, match=f"`{param}` of YouTubeDNNRecommender must be"):
            made.copy().setParams(**{param: value, "numWorkers": 2}).fit(rows)
    for history in (["film"], ["seen", "seen"]):
        with pytest.raises(InvalidParam, match="`historyCols` must be some of `categoricalCols`"):
            made.copy().setHistoryCols(history).fit(rows)
    with pytest.raises(InvalidColumn, match="'user' of the `historyCols` must hold items"):
        made.copy().setHistoryCols(["user"]).fit(rows)
    holes = rows.selectExpr("user", "seen", "age", "if(item % 4 = 0, null, item) as item")
    missing = holes.where("item is null").count()
    with pytest.raises(InvalidInput, match=f"every row must have an item. Got {missing} rows"):
        made.fit(holes)
    assert made.copy().setHandleInvalid("skip").fit(holes).itemFactors.count() == 30


def test_the_odds_of_a_ranking_are_the_expected_watch_time(spark, ps, tmp_path):
    rng, data = np.random.default_rng(0), []
    for _ in range(3000):
        film = int(rng.integers(0, 2))
        watched = rng.random() < 0.1
        data.append((float(watched), f"f{film}", 0.5, float(rng.exponential(6.0 if film else 2.0)) if watched else None))
    frame = spark.createDataFrame(data, "label double, film string, x double, seconds double").coalesce(1)
    given = {**SMALL, "batchSize": 500, "maxIter": 40, "categoricalCols": ["film"], "numericCols": ["x"], "weightCol": "seconds"}
    model = deep.YouTubeDNNClassifier(**given, watchTimeCol="expected").fit(frame)
    got = {row.film: row.expected for row in model.transform(frame).select("film", "expected").distinct().collect()}
    for film in got:
        times = [seconds or 0.0 for label, name, _, seconds in data if name == film]
        missed = sum(label == 0 for label, name, _, _ in data if name == film)
        assert got[film] == pytest.approx(sum(times) / missed, rel=0.1)
    assert 0.5 < model.evaluate(frame).areaUnderROC <= 1.0
    model.save(str(tmp_path / "model"))
    loaded = deep.YouTubeDNNModel.load(str(tmp_path / "model"))
    assert loaded.transform(frame).select("expected").head() == model.transform(frame).select("expected").head()
    with pytest.raises(InvalidParam, match="`numClasses`"):
        deep.YouTubeDNNClassifier(numClasses=3, **given).fit(frame)


# ---- real data ---------------------------------------------------------------------------------------------------------


def words(name):
    return [each for each in re.split(r"[^a-z]+", name) if each]


def dependencies(path, seed, share=1.0):
    """Of a random share of all packages the dependencies to train on, and a fifth of them, which is held out.

    A row: words of the package's name, its section, its tags, what else it is known to depend on, what it depends on, and words of that
    one's name. Nothing is left out for being rare or frequent.
    """
    rng, train, held = np.random.default_rng(seed), [], []
    for row in pq.read_table(path, columns=["package", "section", "tags", "depends"]).to_pylist():
        if rng.random() >= share:
            continue
        needs = list(dict.fromkeys(row["depends"]))
        is_held = rng.random(len(needs)) < 0.2
        known = [need for need, held_out in zip(needs, is_held, strict=True) if not held_out]
        of = words(row["package"]), row["section"], row["tags"]
        for need, held_out in zip(needs, is_held, strict=True):
            (held if held_out else train).append((*of, [other for other in known if other != need], need, words(need)))
    return train, held


PACKAGES = ["words", "section", "tags", "besides", "needs", "needsWords"]
OF_PACKAGES = {
    "categoricalCols": ["words", "section", "tags", "besides"], "historyCols": ["besides"], "itemCol": "needs",
    "itemCategoricalCols": ["needsWords"],
}  # fmt: skip


def as_frame(spark, rows):
    return spark.createDataFrame(pa.table(dict(zip(PACKAGES, map(pa.array, zip(*rows, strict=True)), strict=True)))).coalesce(1)


def recall_by_popularity(train, held, count):
    """Share of held-out dependencies among the most frequent ones that their package is not known to have."""
    often = [name for name, _ in Counter(row[4] for row in train).most_common()]
    hits = 0
    for row in held:
        known = set(row[3])
        hits += row[4] in list(islice((name for name in often if name not in known), count))
    return hits / len(held)


@pytest.mark.timeout(600)
def test_of_debian_packages_twice_as_many_dependencies_are_found_as_by_popularity(spark, ps, shared_data):
    train, held = dependencies(shared_data / "debian_packages.parquet", seed=0)
    tested = [held[place] for place in np.random.default_rng(0).choice(len(held), 4000, replace=False)]
    made = deep.YouTubeDNNRecommender(
        **OF_PACKAGES, embeddingDim=32, hiddenUnits=[64], initStd=0.05, batchSize=512, optimizer=Adam(0.01),
        embeddingOptimizer=Adam(0.01), maxIter=1, seed=0, numWorkers=1,
    )  # fmt: skip
    model = made.fit(as_frame(spark, train))
    found = model.recommendForUserSubset(as_frame(spark, tested), 50, excludeCol="besides")
    recall = np.mean([wanted in items for wanted, items in found.select("needs", "recommendations.needs").collect()])
    popular = recall_by_popularity(train, tested, 50)
    assert recall >= 2 * popular, f"recall@50 {recall:.3f}, and {popular:.3f} by popularity"
