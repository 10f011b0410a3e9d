"""Keys go through Spark only where its own connections are closed to others."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.spark.channel import check_channel
from sparkps.errors import ConfigError

AUTHENTICATED = {"spark.authenticate": "true"}


@pytest.mark.parametrize("encrypted", ["spark.network.crypto.enabled", "spark.ssl.rpc.enabled"])
def test_authenticated_and_encrypted(encrypted: str) -> None:
    check_channel({**AUTHENTICATED, encrypted: "true"}, False)


@pytest.mark.parametrize(
    ("conf", "missing"),
    [
        ({}, "spark.authenticate"),
        ({"spark.authenticate": "false", "spark.network.crypto.enabled": "true"}, "spark.authenticate"),
        ({"spark.network.crypto.enabled": "true"}, "spark.authenticate"),
        (AUTHENTICATED, "spark.network.crypto.enabled"),
        ({**AUTHENTICATED, "spark.network.crypto.enabled": "false", "spark.ssl.enabled": "true"}, "spark.network.crypto.enabled"),
    ],
)
def test_otherwise_refused_unless_the_network_is_trusted(conf: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigError, match="spark.sparkps.allowPlaintextKeys") as raised:
        check_channel(conf, False)
    assert raised.value.key == missing
    check_channel(conf, True)
