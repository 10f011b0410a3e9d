"""The examples in the docstrings of pyspark.ml's classes, with our classes in place of pyspark.ml's."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pathlib
import re
import sys
import types

import pyspark
import pytest

from tests.harness.cases import cases

#: Classes whose examples are run, by module of pyspark.ml.
CLASSES = {
    "classification": ("FMClassifier", "LinearSVC", "LogisticRegression", "MultilayerPerceptronClassifier", "OneVsRest"),
    "feature": ("FeatureHasher",),
    "regression": ("FMRegressor", "GeneralizedLinearRegression", "LinearRegression"),
    "tuning": ("CrossValidator", "ParamGridBuilder", "TrainValidationSplit"),
}

#: Those of them whose examples say little more than others', and take their time.
LONG = ("LinearSVC", "OneVsRest", "FMRegressor", "TrainValidationSplit")

#: Modules of pyspark.ml that ours take the place of, class by class.
REPLACED = ("classification", "feature", "regression")

#: Lines that do not give what the docstring says, by class, with the reason.
LEFT_OUT: dict[str, dict[str, str]] = {
    "LogisticRegression": {
        "blorModel.evaluate(bdf).accuracy == blorModel.summary.accuracy": "the threshold was set to 0.1 after the fit: pyspark.ml's"
        " `evaluate` does not see what was set in Python until a `transform` has told the JVM; ours does",
    },
}

#: Classes that are none of ours, and work on ours.
OF_SPARK = ("CrossValidator", "OneVsRest", "ParamGridBuilder", "TrainValidationSplit")


def pairs(classes: dict[str, tuple[str, ...]], is_long: bool) -> list[tuple[str, str]]:
    """Module and class of those whose examples are left to the long tests, or are not."""
    return [(module, name) for module, names in classes.items() for name in names if (name in LONG) is is_long]


def substitute(name: str) -> types.ModuleType:
    """A module that has all that ``pyspark.ml.name`` has, and our classes where we have one of that name."""
    theirs, ours = importlib.import_module(f"pyspark.ml.{name}"), None
    if name in REPLACED and importlib.util.find_spec(f"sparkps.mllib.{name}"):
        ours = importlib.import_module(f"sparkps.mllib.{name}")
    made = types.ModuleType(f"conformance_{name}")
    vars(made).update({key: value for key, value in vars(theirs).items() if not key.startswith("__")})
    vars(made).update({key: getattr(ours, key) for key in getattr(ours, "__all__", ()) if hasattr(theirs, key)})
    return made


def is_ours(module: str, name: str) -> bool:
    return getattr(substitute(module), name).__module__.startswith("sparkps.")


def examples(module: str, name: str, globs: dict[str, object]) -> doctest.DocTest:
    """The examples of one class, with imports and paths as they are here."""
    text = getattr(importlib.import_module(f"pyspark.ml.{module}"), name).__doc__
    text = re.sub(rf"from pyspark\.ml\.({'|'.join(REPLACED)}) import", r"from conformance_\1 import", text)
    text = text.replace('"data/mllib/', f'"{pathlib.Path(pyspark.__file__).parent}/data/mllib/')
    return doctest.DocTestParser().get_doctest(text, globs, name, f"pyspark.ml.{module}", 0)


class Runner(doctest.DocTestRunner):
    """Remembers the lines that fail."""

    def __init__(self) -> None:
        super().__init__(optionflags=doctest.ELLIPSIS)
        self.failed: dict[str, str] = {}

    def report_failure(self, out, test, example, got):
        self.failed[example.source.strip()] = f"gives\n{got.strip()}\nand not\n{example.want.strip()}"

    def report_unexpected_exception(self, out, test, example, exc_info):
        self.failed[example.source.strip()] = f"raises {exc_info[0].__name__}: {exc_info[1]}"


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Pool.__del__:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Deprecated in 3.0.0:FutureWarning")
@pytest.mark.parametrize(("module", "name"), cases(*(pairs(CLASSES, is_long) for is_long in (False, True))))
def test_examples_of_pyspark_hold(spark, ps, monkeypatch, tmp_path, module, name):
    if name not in OF_SPARK and not is_ours(module, name):
        pytest.skip(f"sparkps has no {name}")
    made = {replaced: substitute(replaced) for replaced in REPLACED}
    for one in made.values():
        monkeypatch.setitem(sys.modules, one.__name__, one)
    globs = dict(vars(made.get(module) or substitute(module)))
    globs.update(sc=spark.sparkContext, spark=spark, temp_path=str(tmp_path))
    runner, test = Runner(), examples(module, name, globs)
    assert test.examples
    runner.run(test)
    expected = LEFT_OUT.get(name, {})
    wrong = {line: said for line, said in runner.failed.items() if line not in expected}
    assert not wrong, "\n\n".join(f">>> {line}\n{said}" for line, said in wrong.items())
    assert sorted(expected) == sorted(runner.failed), "lines that are left out, and need not be"
