"""`make cluster`: what it tells a person to type must be something that the cluster takes."""

from __future__ import annotations

import pathlib
import shlex

import pytest

from sparkps.config import Settings
from sparkps.driver_bridge.resources import node_profile
from sparkps.driver_bridge.spark.slots import Observed, count_slots
from tests.harness import hadoop_console
from tests.harness.hadoop import HadoopCluster


def test_the_command_that_is_printed_has_room_for_nodes_and_workers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hadoop_console, "FOLDER", tmp_path)
    said = hadoop_console.message(HadoopCluster(tmp_path), 1.0)
    (line,) = [line.strip() for line in said.splitlines() if "spark-submit" in line]
    words = shlex.split(line)
    properties = pathlib.Path(words[words.index("--properties-file") + 1]).read_text()
    conf = dict(line.split(" ", 1) for line in properties.splitlines())
    nodes = node_profile(conf["spark.master"], conf, Settings())
    slots = count_slots(conf["spark.master"], conf, Observed(2, 0))
    if nodes.executor is None:
        assert slots.limit is not None
        assert slots.limit > Settings().num_nodes
    else:
        assert int(conf["spark.dynamicAllocation.maxExecutors"]) >= Settings().num_nodes
        assert slots.default >= 2, "of which two train"
    assert "/" in conf["spark.sparkps.stagingDir"], "rows that are split at random are staged"
