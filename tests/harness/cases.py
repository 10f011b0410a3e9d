"""Cases of a test, some of which say little more than the others and take their time: these are left to `make test-long`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def cases(kept: Iterable[Any], long: Iterable[Any]) -> list[Any]:
    """Values for ``pytest.mark.parametrize``; a tuple is a case of several.

    Examples
    --------
    >>> cases([1, 2], long=[3])[:2]
    [1, 2]
    """
    given = [each if isinstance(each, tuple) else (each,) for each in long]
    return [*kept, *(pytest.param(*each, marks=pytest.mark.long) for each in given)]
