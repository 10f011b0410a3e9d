"""Launchers by name: one table, a line a launcher."""

from __future__ import annotations

import importlib
import inspect
import threading

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge import tier_life
from sparkps.driver_bridge.context import PSContext
from sparkps.driver_bridge.launchers import AUTO, LAUNCHERS, RunningTier, choose
from sparkps.errors import ConfigError
from tests.unit.driver_bridge.launchers import toy
from tests.unit.driver_bridge.test_context import FakeSpark


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more line in the table."""
    monkeypatch.setitem(LAUNCHERS, "toy", toy.__name__)
    monkeypatch.setattr(toy, "started", [])
    monkeypatch.setattr(tier_life, "start_python_workers", lambda spark: threading.Event())
    monkeypatch.setattr(tier_life, "_START_PATIENCE", 0.0)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_has_a_function_of_the_settings_and_the_session(name: str) -> None:
    launch = importlib.import_module(LAUNCHERS[name]).launch
    assert list(inspect.signature(launch).parameters) == ["settings", "spark"]
    assert name != AUTO
    assert Settings(launch=name).launch == name


@pytest.mark.usefixtures("with_toy")
def test_a_launcher_is_chosen_by_its_name_in_the_settings() -> None:
    with PSContext(FakeSpark("yarn", launch="toy", numNodes="3")) as ps:
        (tier,) = toy.started
        assert ps.address == tier.address
        assert tier.settings.num_nodes == 3
    assert tier.is_stopped


@pytest.mark.usefixtures("with_toy")
def test_errors_list_what_is_in_the_table() -> None:
    with pytest.raises(ConfigError, match=r"'auto', 'local', 'executors', 'attach', 'toy'\. Got 'tory'") as caught:
        choose("tory", "local[2]")
    assert caught.value.key == "spark.sparkps.launch"


def test_a_process_that_has_no_launchers_takes_settings_that_name_any() -> None:
    """Settings travel to the coordinator and the nodes, which know no launcher."""
    assert Settings.parse({"spark.sparkps.launch": "toy"}).launch == "toy"


def test_a_launched_tier_is_what_a_context_needs() -> None:
    members = {name for name in vars(RunningTier) if not name.startswith("_")} | set(RunningTier.__annotations__)
    assert members <= set(dir(toy.ToyTier(Settings())))
