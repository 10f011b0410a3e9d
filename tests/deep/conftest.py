"""Tests of deep models, which need torch: without it all of them are skipped."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest


class NeedsTorch(pytest.Module):
    """A module of tests that cannot be imported here."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip("tests of deep models need torch: .venv/bin/python -m pip install -e '.[torch]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: pathlib.Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip modules that import torch where there is none."""
    return None if importlib.util.find_spec("torch") else NeedsTorch.from_parent(parent, path=module_path)
