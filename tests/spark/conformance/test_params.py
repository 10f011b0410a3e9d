"""Params of pyspark.ml's names take and refuse what pyspark.ml's do, and say of themselves what those say."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math

import pytest
from pyspark.errors import IllegalArgumentException
from pyspark.ml.linalg import Matrices, Vectors

from sparkps.errors import InvalidInput

#: Estimators of pyspark.ml that ours take the place of, by module.
CLASSES = {
    "classification": ("FMClassifier", "LinearSVC", "LogisticRegression", "MultilayerPerceptronClassifier"),
    "regression": ("FMRegressor", "GeneralizedLinearRegression", "LinearRegression"),
}
ESTIMATORS = [
    (module, name)
    for module, names in CLASSES.items()
    if importlib.util.find_spec(f"sparkps.mllib.{module}")
    for name in names
    if hasattr(importlib.import_module(f"sparkps.mllib.{module}"), name)
]

#: Given to every Param, whatever its type.
NUMBERS = (-2, -1, 0, 1, 2, 3, -0.5, 0.0, 0.5, 1.0, 1.5, 1e300, math.nan, math.inf, -math.inf, 1 + 1e-9, -1e-9)
WORDS = ("", "nonsense", "auto", "AUTO", "binomial", "Multinomial", "l-bfgs", "normal", "irls", "gd", "adamW", "adamw")
MORE_WORDS = ("squaredError", "huber", "Gaussian", "poisson", "gamma", "tweedie", "identity", "LOG", "inverse", "logit", "sqrt", "probit")
LISTS = ([], [0.5], [0.5, 0.5], [0, 1], [0.0, 0.0], [-1.0, 2.0], ["a"], (0.2, 0.8))
OTHERS = (True, False, None, b"x", {}, object(), Vectors.dense(0.5), Matrices.dense(1, 1, [0.5]))
VALUES = (*NUMBERS, *WORDS, *MORE_WORDS, *LISTS, *OTHERS)

#: Where ours differ: what pyspark.ml takes and ours refuse, or the other way round, with the reason.
DIFFERENT = {
    ("initStd", "inf"): "all factors would be infinite",
    ("regParam", "inf"): "pyspark.ml divides infinity by infinity",
    ("epsilon", "inf"): "with it the loss has no scale: loss='squaredError' is what is meant",
    ("solver", "'l-bfgs'"): "GeneralizedLinearRegression has it, too",
    ("stepSize", "inf"): "all coefficients would be infinite after one step",
    ("thresholds", "[]"): "pyspark.ml takes no thresholds at all, and fails when it scores",
    **{("initialWeights", repr(value)): "they are counted before rows are read" for value in (*LISTS, Vectors.dense(0.5))},
}

#: Params that must be set, by name of the estimator.
REQUIRED = {"MultilayerPerceptronClassifier": {"layers": [1, 2]}}

#: Params whose text is ours, since they take more.
OWN_WORDS = {"solver", "stepSize"}


def pair(module, name):
    return tuple(getattr(importlib.import_module(f"{package}.{module}"), name) for package in ("sparkps.mllib", "pyspark.ml"))


def outcome(cls, param, value, frame):
    """What becomes of a value: taken; refused as it is set; or refused by `fit`, before it looks at the columns."""
    estimator = cls(**REQUIRED.get(cls.__name__, {}))
    try:
        estimator.set(estimator.getParam(param), value)
    except TypeError:
        return "of the wrong type"
    try:
        estimator.fit(frame)
    except (IllegalArgumentException, ValueError) as error:
        about_columns = "FIELD_NOT_FOUND" in str(error) or (isinstance(error, InvalidInput) and "column" in error.attributes)
        return "taken" if about_columns else "out of range"
    except Exception:  # py4j, where a value does not fit into a type of the JVM
        return "broken"


def test_all_estimators_of_these_names_are_checked():
    assert ESTIMATORS


@pytest.mark.timeout(600)  # dozens of fits; a call to the JVM that is cut short would fail all that come after it
@pytest.mark.parametrize(("module", "name"), ESTIMATORS)
def test_values_are_taken_and_refused_as_pyspark_does(spark, module, name):
    frame = spark.createDataFrame([(1,)], "x int")
    ours, theirs = pair(module, name)
    wrong = []
    for param in theirs().params:
        if not ours().hasParam(param.name):
            wrong.append(f"there is no {param.name}")
            continue
        for value in VALUES:
            expected = outcome(theirs, param.name, value, frame)
            found = outcome(ours, param.name, value, frame)
            if found != expected != "broken" and (param.name, repr(value)) not in DIFFERENT:
                wrong.append(f"{param.name}={value!r}: {found}, with pyspark.ml {expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("module", "name"), ESTIMATORS)
def test_params_have_pysparks_text_and_default(spark, module, name):
    ours, theirs = (cls() for cls in pair(module, name))
    wrong = []
    for param in theirs.params:
        if not ours.hasParam(param.name):
            wrong.append(f"there is no {param.name}")
            continue
        same = ours.getParam(param.name)
        if param.name not in OWN_WORDS and same.doc != param.doc:
            wrong.append(f"{param.name}: {same.doc!r}, with pyspark.ml {param.doc!r}")
        defaults = [each.getOrDefault(param.name) if each.hasDefault(param.name) else None for each in (ours, theirs)]
        if param.name != "seed" and defaults[0] != defaults[1]:
            wrong.append(f"{param.name}: by default {defaults[0]!r}, with pyspark.ml {defaults[1]!r}")
    assert not wrong, "\n".join(wrong)
    explained = {line.split(":")[0] for line in ours.explainParams().splitlines()}
    assert {param.name for param in theirs.params} <= explained


@pytest.mark.parametrize(("module", "name"), ESTIMATORS)
def test_public_names_and_arguments_of_pyspark_are_there(spark, module, name):
    ours, theirs = pair(module, name)
    assert [each for each in dir(theirs) if not each.startswith("_") and not hasattr(ours, each)] == []
    arguments = [set(inspect.signature(cls.__init__).parameters) for cls in (ours, theirs)]
    assert arguments[1] <= arguments[0]


@pytest.mark.parametrize(("module", "name"), ESTIMATORS)
def test_setters_return_the_estimator_and_getters_what_was_set(spark, module, name):
    ours, theirs = pair(module, name)
    given = theirs()
    for param in given.params:
        setter = f"set{param.name[0].upper()}{param.name[1:]}"
        if not hasattr(theirs, setter) or not given.hasDefault(param):
            continue
        estimator, value = ours(), given.getOrDefault(param)
        assert getattr(estimator, setter)(value) is estimator
        assert getattr(estimator, f"g{setter[1:]}")() == value


@pytest.mark.parametrize(("module", "name"), ESTIMATORS)
def test_arguments_must_have_names(spark, module, name):
    ours, _ = pair(module, name)
    with pytest.raises(TypeError, match="forces keyword arguments"):
        ours("features")
    with pytest.raises(TypeError, match="forces keyword arguments"):
        ours().setParams("features")
    with pytest.raises(TypeError, match="nonsense"):
        ours(nonsense=1)
