"""The examples in docstrings are true. Those that need a tier are marked to be skipped, and run in tests/cluster in other words."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import sparkps

#: Packages that need an extra that is not there.
MISSING = () if importlib.util.find_spec("torch") else ("sparkps.nn", "sparkps.mllib.deep")

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(sparkps.__path__, "sparkps.")
    if not module.name.endswith("__main__") and not f"{module.name}.".startswith(tuple(f"{name}." for name in MISSING))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0
