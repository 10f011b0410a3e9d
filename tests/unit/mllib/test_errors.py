"""Errors of estimators are those of sparkps and those of pyspark."""

from __future__ import annotations

import pickle

import pytest
from pyspark.errors import IllegalArgumentException, PySparkException, SparkRuntimeException

from sparkps.errors import InvalidInput
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
