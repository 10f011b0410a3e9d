"""Settings: parsing, checks, and conf/sparkps-defaults.conf held against the dataclasses."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import msgspec
import pytest

from sparkps.config import (
    ClientSettings,
    NetworkSettings,
    NodeSettings,
    Settings,
    WorkerSettings,
    keys,
    parse_bytes,
    parse_seconds,
)
from sparkps.errors import ConfigError

CONF = pathlib.Path(__file__).resolve().parents[2] / "conf"


def entries(path: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Value and comment above each key of a properties file."""
    found: dict[str, tuple[str, str]] = {}
    comment = ""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            comment = "" if line.startswith("# ----") else comment + line[1:]
        elif line.strip():
            key, _, value = line.partition(" ")
            assert key not in found, f"{key} is listed twice"
            found[key] = (value.strip(), comment.strip())
            comment = ""
        else:
            comment = ""
    return found


def test_defaults_file_lists_every_key_with_its_default_and_a_reason() -> None:
    listed = entries(CONF / "sparkps-defaults.conf")
    assert list(listed) == [f"spark.sparkps.{key.name}" for _, key in keys()], "every key, in the order of the sections"
    for field, key in keys():
        value, reason = listed[f"spark.sparkps.{key.name}"]
        assert key.read(value) == field.default, key.name
        assert len(reason) > 20, f"{key.name} needs a reason"
    assert Settings.parse({key: value for key, (value, _) in listed.items()}) == Settings()


def test_other_files_use_keys_that_exist() -> None:
    for path in CONF.glob("*.conf"):
        parsed = Settings.parse({key: value for key, (value, _) in entries(path).items()})
        assert isinstance(parsed, Settings), path


def test_every_field_that_is_no_section_has_a_key() -> None:
    for section in (Settings, NodeSettings, ClientSettings, WorkerSettings, NetworkSettings):
        for field in dataclasses.fields(section):
            is_copy = section is not Settings and hasattr(Settings(), field.name)
            is_section = section is Settings and dataclasses.is_dataclass(getattr(Settings(), field.name))
            is_derived = field.metadata.get("derived", False)
            assert "key" in field.metadata or is_section or is_copy or is_derived, field.name


def test_settings_survive_the_wire() -> None:
    settings = Settings.parse({"spark.sparkps.chunkBytes": "1m", "spark.sparkps.leaseTtl": "3s"})
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings
    assert (settings.client.chunk_bytes, settings.workers.lease_ttl) == (1 << 20, 3.0)


def test_other_keys_of_spark_are_left_alone() -> None:
    assert Settings.parse({"spark.master": "yarn", "spark.executor.cores": "many"}) == Settings()


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10.0), ("1.5s", 1.5), ("500ms", 0.5), ("2m", 120.0), ("2 min", 120.0), ("1H", 3600.0)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64k", 65536), ("64KB", 65536), ("2m", 2 << 20), ("1g", 1 << 30), ("3 MiB", 3 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("numNodes", "0"),
        ("numNodes", "two"),
        ("replication", "4"),
        ("launch", "by hand"),
        ("startTimeout", "-1s"),
        ("startTimeout", "soon"),
        ("heartbeatInterval", "5 parsecs"),
        ("chunkBytes", "1.5m"),
        ("chunkBytes", "1"),
        ("pullCreditBytes", "8k"),
        ("heartbeatDeadline", "20ms"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"`spark\.sparkps\.{key}` must be .* [Gg]ot ") as caught:
        Settings.parse({f"spark.sparkps.{key}": value})
    assert caught.value.key == f"spark.sparkps.{key}"


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"did you mean `spark\.sparkps\.numNodes`"):
        Settings.parse({"spark.sparkps.numNode": "2"})


def test_fields_are_checked_however_they_are_set() -> None:
    with pytest.raises(ConfigError, match="numNodes"):
        dataclasses.replace(Settings(), num_nodes=0)
    with pytest.raises(ConfigError, match="numNodes"):
        Settings(num_nodes=True)


def test_a_path_that_cannot_travel_is_refused_as_a_setting_and_not_told_to_clients() -> None:
    name = os.fsdecode(b"/bad\xff")
    with pytest.raises(ConfigError, match=r"`spark\.sparkps\.kernelCacheDir` must be"):
        Settings(kernel_cache_dir=name)
    with pytest.raises(ConfigError, match=r"`spark\.sparkps\.localDir` must be"):
        WorkerSettings(local_dir=name)


def test_kernels_are_kept_on_a_disk_not_at_a_url() -> None:
    with pytest.raises(ConfigError, match=r"`spark\.sparkps\.kernelCacheDir` must be a path on each machine"):
        Settings.parse({"spark.sparkps.kernelCacheDir": "hdfs://name/kernels"})


def test_every_message_names_what_must_hold() -> None:
    for _, key in keys():
        kinds = "an int in", "a time in", "a size in", "one of", "a path", "a name", "0, a number in", "a range of ports", "the URL of"
        assert key.must.startswith((*kinds, "'true' or 'false'"))


def test_clients_are_told_where_compiled_kernels_are() -> None:
    assert Settings.parse({"spark.sparkps.kernelCacheDir": "/some/where"}).client.kernel_cache_dir == "/some/where"


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ({"heartbeatDeadline": "500ms"}, 0.1),
        ({"heartbeatDeadline": "10s"}, 1.0),
        ({"heartbeatDeadline": "2s", "heartbeatInterval": "1s"}, 1.0),
    ],
)
def test_a_short_deadline_of_heartbeats_brings_an_interval_that_fits(given: dict[str, str], interval: float) -> None:
    settings = Settings.parse({f"spark.sparkps.{name}": value for name, value in given.items()})
    assert settings.node.heartbeat_interval == pytest.approx(interval)
