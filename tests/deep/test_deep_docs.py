"""The examples of deep models in README.md and docs/deep.md run as they stand, on rows of the columns that they name."""

from __future__ import annotations

import pathlib
import re
import textwrap

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def examples(name: str) -> list[str]:
    """The indented blocks of a document that import deep estimators, in order."""
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / name).read_text(), re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if "import " in block and "mllib.deep" in block]


@pytest.fixture(scope="module")
def df(spark):
    rng = np.random.default_rng(0)
    rows = [
        (float(item % 2), f"i{item}", [f"i{each}" for each in rng.integers(0, 10, 3)], "ab"[item % 2], float(rng.normal()))
        for item in rng.integers(0, 10, 3000).tolist()
    ]
    return spark.createDataFrame(rows, "label double, item string, seen array<string>, town string, price double")


@pytest.fixture(scope="module")
def views(spark):
    """Users of two kinds, each of whom views films of that kind."""
    rng = np.random.default_rng(0)
    rows = [
        ("AB"[kind], [f"f{2 * each + kind}" for each in rng.integers(0, 20, 3)], float(rng.random()), f"f{2 * film + kind}")
        for kind, film in zip(rng.integers(0, 2, 2000).tolist(), rng.integers(0, 20, 2000).tolist(), strict=True)
    ]
    return spark.createDataFrame(rows, "country string, seen array<string>, age double, film string")


@pytest.mark.parametrize(("name", "number"), [("README.md", 0), ("docs/deep.md", 0), ("docs/deep.md", 1)])
def test_examples_run(ps, df, name, number):
    scope = {"__name__": "__main__", "df": df}
    exec(compile(examples(name)[number], name, "exec"), scope)
    losses = scope["model"].summary.objectiveHistory
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_the_example_of_candidates_runs(ps, views):
    scope = {"__name__": "__main__", "views": views, "users": views.limit(20)}
    exec(compile(examples("docs/deep.md")[2].replace("50, exclude", "10, exclude"), "docs/deep.md", "exec"), scope)
    model = scope["model"]
    assert model.summary.objectiveHistory[1] < model.summary.objectiveHistory[0]
    for row in model.recommendForUserSubset(views.limit(20), 10, excludeCol="seen").collect():
        assert not {each.film for each in row.recommendations} & set(row.seen)


def test_the_example_without_spark_runs():
    text = (ROOT / "docs/deep.md").read_text()
    (block,) = [each for each in re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, re.MULTILINE) if "LocalRows(module)" in each]
    scope = {"__name__": "__main__"}
    exec(compile(examples("docs/deep.md")[0].partition("\nestimator =")[0], "docs/deep.md", "exec"), scope)
    exec(compile(textwrap.dedent(block), "docs/deep.md", "exec"), scope)
    assert scope["output"].shape == (2, 1)
    item, seen = scope["found"]["item"], scope["found"]["seen"]
    assert item[0] == seen[1] != seen[0]  # columns of one table have the same keys
    assert item[1] == -1


def test_defaults_that_are_told_are_those_of_the_estimators():
    from sparkps.mllib.deep import DeepFMClassifier

    made, text = DeepFMClassifier(), (ROOT / "docs/deep.md").read_text()
    for name in ("maxIter", "batchSize", "embeddingDim", "hiddenUnits", "dropout", "initStd"):
        assert f"`{name}` ({made.getOrDefault(name)}" in text


def test_architectures_are_counted_alike():
    rows = re.findall(r"^\| `\w+(?:Classifier|Recommender)`.*\|.*\|.*\|$", (ROOT / "docs/deep.md").read_text(), re.MULTILINE)
    assert len(rows) == 14
    for name in ("README.md", "docs/estimators.md"):
        assert "fourteen architectures" in " ".join((ROOT / name).read_text().lower().split())


def test_every_example_is_run():
    assert (len(examples("README.md")), len(examples("docs/deep.md"))) == (1, 3)


def test_every_architecture_has_a_row():
    from sparkps.mllib import deep

    table = set(re.findall(r"`(\w+Classifier)`", (ROOT / "docs/deep.md").read_text()))
    assert {name for name in deep.__all__ if name.endswith("Classifier")} <= table
