"""Options of a worker group that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.driver_bridge.groups.group import _check_names, _check_words
from sparkps.errors import InvalidInput

RIGHT: dict[str, Any] = {"name": "run", "label": "", "deterministic": False, "progress": None}


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": 3}, {"name": ""}, {"name": " "}, {"name": "a\n"}, {"label": 5}, {"progress": "x"}, {"deterministic": "x"},
        {"deterministic": None},
    ],
)  # fmt: skip
def test_a_word_of_another_kind_is_refused(wrong: dict[str, Any]) -> None:
    _check_words(**RIGHT)
    (name,) = wrong
    with pytest.raises(InvalidInput, match=f"`{name}` must be"):
        _check_words(**{**RIGHT, **wrong})


def test_an_option_that_there_is_not_is_told_those_that_there_are() -> None:
    _check_names({"timeout": 3.0}, ("solver",), ("checkpoint_dir",))
    with pytest.raises(TypeError, match=r"one of consistency, .*name, label, gpus_per_worker, checkpoint_dir. Got 'checkpoint_direc'"):
        _check_names({"checkpoint_direc": "/x"}, ("solver",), ("checkpoint_dir",))
    with pytest.raises(TypeError, match="Got 'solver'"):
        _check_names({"solver": True}, ("solver",))
