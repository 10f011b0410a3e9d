"""Which Python the workers of a local Spark run."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.driver_bridge.spark.python_workers import use_this_python


def context(master: str = "local[2]", python: str = "python3", **conf: str) -> Any:
    return SimpleNamespace(
        master=master, pythonExec=python, getConf=lambda: SimpleNamespace(contains=lambda key: key in conf)
    )


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_PYTHON")
    monkeypatch.setenv("PATH", "/nowhere")


def test_the_driver_s_own_unless_another_one_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in (context(), context("local-cluster[1,1,1024]")):
        use_this_python(made)
        assert made.pythonExec == sys.executable
    for other in (context("yarn"), context("spark://here:7077"), context(**{"spark.pyspark.python": "p"})):
        use_this_python(other)
        assert other.pythonExec == "python3"
    monkeypatch.setenv("PYSPARK_PYTHON", "p")
    named = context(python="p")
    use_this_python(named)
    assert named.pythonExec == "p"
