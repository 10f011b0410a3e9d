"""What a node is told when it joins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sparkps.config import Settings
from sparkps.driver_bridge.coordinator.handlers import nodes
from sparkps.wire.messages import control as c


def core(commands: list[Any], replies: list[Any]) -> Any:
    joined = c.NodeInfo(2, "tcp://a:1", "a", 1)
    cause = c.Cause.of(ValueError("x"))
    groups = {4: SimpleNamespace(spec=None, cause=None), 5: SimpleNamespace(spec=None, cause=cause)}
    return SimpleNamespace(
        tokens={},
        torn="",
        nodes=SimpleNamespace(epoch=1, placement=[[0]], join=lambda *_: joined, infos=list),
        clock=SimpleNamespace(now=0.0),
        node_at={},
        tier_id="t",
        catalog=SimpleNamespace(tables={}, functions={}),
        groups=SimpleNamespace(running=groups),
        settings=SimpleNamespace(node=Settings().node, log_level="INFO"),
        reply=lambda sender, message: replies.append(message),
        placing=SimpleNamespace(joined=lambda node: None),
        moves=SimpleNamespace(members_changed=lambda why: None),
        command=lambda what, make, done, nodes: commands.append((make(9), nodes)),
    )


def test_a_node_that_joins_is_told_what_to_log_and_of_groups_that_have_failed() -> None:
    commands: list[Any] = []
    replies: list[Any] = []
    nodes.hello(core(commands, replies), b"", c.NodeHello(1, "tcp://a:1", "a", 1))
    assert replies[0].log_level == "INFO"
    ((command, to),) = commands
    assert (type(command), command.seq, command.group, to) == (c.FailGroup, 9, 5, [2])
