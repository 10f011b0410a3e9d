"""An application's settings, where the tier that it attaches to has its own."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from sparkps.client.attaching import endpoint_of, url_of
from sparkps.config import NetworkSettings, Settings
from sparkps.driver_bridge.arguments import settings_of
from sparkps.driver_bridge.coordinator.status import told
from sparkps.driver_bridge.launchers import attach
from sparkps.driver_bridge.launchers.attach import as_the_tier_is
from sparkps.errors import ConfigError
from sparkps.secret import TierSecret
from sparkps.secret_files import write_secret_file
from sparkps.wire.messages.control import TierAddress
from tests.unit.driver_bridge.test_context import FakeSpark


def test_what_must_agree_is_the_tiers_and_the_rest_the_applications() -> None:
    def parsed(**given: str) -> Settings:
        return Settings.parse({f"spark.sparkps.{key}": value for key, value in given.items()})

    tier = parsed(numNodes="5", replication="2", leaseTtl="7s", heartbeatDeadline="3s")
    mine = parsed(workerMemoryBudget="2g", logLevel="INFO", leaseTtl="60s")
    found = as_the_tier_is(mine, 5, told(tier))
    assert (found.num_nodes, found.replication) == (5, 2)
    assert (found.workers.lease_ttl, found.workers.memory_budget) == (7.0, 2 << 30)
    assert found.node.heartbeat_deadline == 3.0
    assert found.log_level == ""


@pytest.mark.parametrize("launch", [{}, {"launch": "attach"}, {"launch": "auto"}])
def test_a_url_is_enough_to_attach(launch: dict[str, str]) -> None:
    spark = FakeSpark("local[2]", attach="sparkps://gateway:7077", secretFile="tier.secret", **launch)
    settings = settings_of(spark, None, None, None, None)
    assert (settings.attach, settings.secret_file) == ("sparkps://gateway:7077", "tier.secret")


def test_a_tier_of_ones_own_is_asked_for_by_name() -> None:
    spark = FakeSpark("local[2]", attach="sparkps://gateway:7077")
    assert settings_of(spark, 3, None, "local", None).launch == "local"


def test_on_a_cluster_keys_go_through_channels_that_are_closed_to_others() -> None:
    with pytest.raises(ConfigError, match="`spark.authenticate` = true"):
        attach.launch(Settings(attach="sparkps://gateway:7077"), FakeSpark("spark://master:7077"))


def test_where_a_user_says_that_the_network_is_trusted_an_application_on_a_cluster_attaches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    came: list[TierAddress] = []
    monkeypatch.setattr(attach, "attach", lambda url, *_: TierAddress("t", url, is_secured=True))
    monkeypatch.setattr(attach, "AttachedTier", lambda settings, address: came.append(address))
    write_secret_file(tmp_path / "secret", TierSecret.new())
    trusted = Settings(
        attach="sparkps://gateway:7077", secret_file=str(tmp_path / "secret"), owner="ann",
        network=NetworkSettings(allow_plaintext_keys=True),
    )  # fmt: skip
    attach.launch(trusted, FakeSpark("spark://master:7077"))
    assert [address.tier_id for address in came] == ["t"]
    with pytest.raises(ConfigError, match="allowPlaintextKeys"):
        attach.launch(dataclasses.replace(trusted, network=NetworkSettings()), FakeSpark("spark://master:7077"))
    assert len(came) == 1


NO_URLS = ["", "gateway:7077", "sparkps://gateway", "sparkps://:7077", "sparkps://u@h:1", "sparkps://h:99999", "http://h:1", None, 7]


@pytest.mark.parametrize("url", NO_URLS)
def test_other_urls_are_refused(url: object) -> None:
    with pytest.raises(ConfigError, match=r"must be sparkps://host:port, as `sparkps tier start` prints it"):
        endpoint_of(url)  # type: ignore[arg-type]


def test_a_url_says_where_the_coordinator_listens() -> None:
    assert endpoint_of("sparkps://10.0.0.1:7077/") == "tcp://10.0.0.1:7077"
    assert endpoint_of(url_of("tcp://gateway:1")) == "tcp://gateway:1"
