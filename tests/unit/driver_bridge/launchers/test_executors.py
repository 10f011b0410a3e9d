"""Where the coordinator of a tier in executors listens."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.launchers.executors import _free_port, _numeric
from sparkps.errors import ConfigError


def test_names_become_addresses() -> None:
    assert _numeric("127.0.0.1") == "127.0.0.1"
    assert _free_port(f"tcp://{_numeric('localhost')}") > 0


def test_what_is_not_this_machine_is_refused_with_what_to_set() -> None:
    with pytest.raises(ConfigError, match=r"must name this machine. Got 'no.such.host.invalid'.*Set them to an address") as caught:
        _numeric("no.such.host.invalid")
    assert caught.value.key == "spark.driver.host"
    with pytest.raises(ConfigError, match=r"must name this machine. Got '192.0.2.77'.*Cannot assign"):
        _free_port("tcp://192.0.2.77")
