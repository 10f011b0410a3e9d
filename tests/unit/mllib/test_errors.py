"""Errors of estimators are those of sparkps and those of pyspark."""

from __future__ import annotations

import pickle

import pytest
from pyspark.errors import IllegalArgumentException, PySparkException, SparkRuntimeException

from sparkps.errors import InvalidInput
from sparkps.mllib.classification import LogisticRegression
from sparkps.mllib.errors import InvalidColumn, InvalidParam, InvalidRow


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        (InvalidParam, IllegalArgumentException),
        (InvalidColumn, IllegalArgumentException),
        (InvalidRow, SparkRuntimeException),
    ],
)
def test_an_error_is_caught_by_both_names_and_survives_pickling(kind, theirs):
    error = pickle.loads(pickle.dumps(kind("It must hold. Got 1.", column="c", rank=3)))
    assert type(error) is kind
    for base in (InvalidInput, ValueError, PySparkException, theirs):
        assert isinstance(error, base)
    assert (str(error), error.column, error.rank) == ("It must hold. Got 1.", "c", 3)
    assert "It must hold. Got 1." in error.getMessage()
    assert (error.getCondition(), error.getMessageParameters(), error.getSqlState()) == (None, None, None)
    with pytest.raises(AttributeError):
        _ = error.table


def test_thresholds_that_contradict_are_refused_in_pysparks_words():
    with pytest.raises(ValueError, match="Logistic Regression getThreshold found inconsistent values for threshold \\(0.42\\)") as caught:
        LogisticRegression(threshold=0.42, thresholds=[0.5, 0.5])
    assert caught.value.param == "threshold"
    assert LogisticRegression(threshold=0.5, thresholds=[0.5, 0.5]).getThreshold() == 0.5
