"""One Hadoop for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import tier_processes
from tests.harness.hadoop import HadoopCluster
from tests.harness.hadoop_files import why_not
from tests.harness.waiting import wait_until


@pytest.fixture(scope="session")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HadoopCluster]:
    """HDFS and YARN on loopback: two NodeManagers of 6 GiB and 8 cores each; skipped, with the reason, where they cannot be had."""
    if reason := why_not():
        pytest.skip(reason)
    with HadoopCluster(tmp_path_factory.mktemp("hadoop"), tokens=True) as cluster:
        yield cluster
        wait_until(lambda: not tier_processes(), 60)
        assert tier_processes() == {}, "no node, and no coordinator, outlives its application"
