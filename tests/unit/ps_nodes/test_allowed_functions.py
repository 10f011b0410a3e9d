"""A tier may take no functions of users: nothing that its driver sends is unpickled then, by the coordinator or by a node."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import cloudpickle
import pytest

from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.coordinator.tier import Tier
from sparkps.errors import ConfigError, InvalidInput
from sparkps.ps_nodes import functions
from sparkps.wire.messages import control as c
from tests.harness.waiting import wait_until
from tests.unit.ps_nodes.lone_node import LoneNode

RAN: list[str] = []


class Bomb:
    """Unpickling one is noted."""

    def __reduce__(self) -> Any:
        return RAN.append, ("it ran",)


def test_a_node_that_takes_no_functions_unpickles_none() -> None:
    node = LoneNode(allow_functions=False)
    told = node.command(c.RegisterFunction(1, "bomb", pickle.dumps(Bomb())))
    assert wait_until(lambda: bool(told), 20.0)
    assert isinstance(told[0], InvalidInput)
    assert "spark.sparkps.allowFunctions" in str(told[0])
    assert not RAN
    node.service.close()


def test_a_coordinator_whose_tier_takes_no_functions_sends_none_to_its_nodes() -> None:
    tier = Tier("t1", Settings(num_nodes=1, node=replace(NodeSettings(), allow_functions=False)))
    tier.receive(b"n0", c.NodeHello(1, "ipc://n0", "host", 1), 0.0)
    tier.receive(b"n0", c.CommandDone(1, 0), 0.0)
    ((receiver, answer),) = tier.receive(b"driver", c.RegisterFunction(1, "f", b"x"), 0.1)
    assert (receiver, answer.error) == (b"driver", "InvalidInput")
    assert "spark.sparkps.allowFunctions" in answer.message
    assert not tier.catalog.functions


def test_functions_are_taken_if_nothing_is_said() -> None:
    functions.register("of a test", cloudpickle.dumps(lambda shard: 1.0), Settings.parse({}).node.allow_functions)
    assert not Settings.parse({"spark.sparkps.allowFunctions": "False"}).node.allow_functions
    with pytest.raises(ConfigError, match="one of true, false"):
        Settings.parse({"spark.sparkps.allowFunctions": "maybe"})
