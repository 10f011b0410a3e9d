"""What a node may use of its host's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkps.config import Settings
from sparkps.errors import ConfigError
from sparkps.host_memory import UNLIMITED, limit_of_node, memory_at_hand, resident_bytes

MiB = 1 << 20


def host(root: Path, files: dict[str, str]) -> Path:
    """A file system of these files, on a host of 1 GiB."""
    for name, text in {"proc/meminfo": "MemTotal:  1048576 kB\nMemFree: 7 kB\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_cgroups_it_is_the_hosts(tmp_path: Path) -> None:
    assert memory_at_hand(host(tmp_path, {})) == 1024 * MiB


@pytest.mark.parametrize("at", ["a/b", "a", "."])
def test_the_least_limit_of_a_cgroup_and_those_above_holds_in_version_2(tmp_path: Path, at: str) -> None:
    files = {f"sys/fs/cgroup/{each}/memory.max": "max\n" for each in ("a/b", "a", ".")}
    files |= {"proc/self/cgroup": "0::/a/b\n", f"sys/fs/cgroup/{at}/memory.max": f"{200 * MiB}\n"}
    assert memory_at_hand(host(tmp_path, files)) == 200 * MiB


def test_the_least_limit_holds_in_version_1(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{300 * MiB}\n",
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": f"{500 * MiB}\n",
    }
    assert memory_at_hand(host(tmp_path, files)) == 300 * MiB


def test_a_container_that_sees_only_its_own_cgroup(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/of/the/host\n", "sys/fs/cgroup/memory.max": f"{100 * MiB}\n"}
    assert memory_at_hand(host(tmp_path, files)) == 100 * MiB


def test_where_nothing_can_be_read_there_is_no_limit(tmp_path: Path) -> None:
    assert memory_at_hand(tmp_path) == UNLIMITED
    assert limit_of_node(0, UNLIMITED, 3) == UNLIMITED
    assert resident_bytes(tmp_path) == 0


def test_this_process_uses_less_than_there_is() -> None:
    assert 0 < resident_bytes() < memory_at_hand()


def test_the_setting_is_a_size_or_empty() -> None:
    assert Settings.parse({"spark.sparkps.nodeMemory": "2g"}).node.node_memory == 2 << 30
    assert Settings.parse({"spark.sparkps.nodeMemory": ""}).node.node_memory == 0
    with pytest.raises(ConfigError, match="nodeMemory.*or empty"):
        Settings.parse({"spark.sparkps.nodeMemory": "1m"})
