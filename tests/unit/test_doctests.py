"""The examples in docstrings are true. Those that need a tier are marked to be skipped, and run in tests/cluster in other words."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import sparkps

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(sparkps.__path__, "sparkps.") if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0
