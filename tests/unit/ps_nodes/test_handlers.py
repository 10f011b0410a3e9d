"""Every request and every command has somebody who carries it out, and knows nothing of who hands it over."""

from __future__ import annotations

import pathlib

import pytest

import sparkps.ps_nodes
from sparkps.config import NodeSettings
from sparkps.filesystems import held_tokens
from sparkps.ps_nodes.coordinator_link import _TAKEN
from sparkps.ps_nodes.handlers import requests
from sparkps.ps_nodes.handlers.commands import COMMANDS, welcome
from sparkps.ps_nodes.handlers.table import REQUESTS
from sparkps.ps_nodes.work import Unreadable
from sparkps.specs import GroupSpec
from sparkps.wire.codec import REGISTRY
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import Client, LoneNode

PACKAGE = pathlib.Path(sparkps.ps_nodes.__file__).parent


def test_every_request_has_a_handler() -> None:
    assert requests.REQUESTS is REQUESTS
    assert REQUESTS.keys() - {Unreadable} == {cls for cls in REGISTRY if issubclass(cls, m.Request)}


def test_every_command_has_somebody_who_carries_it_out() -> None:
    commands = {
        c.CreateTable, c.DropTable, c.RegisterFunction, c.OpenGroup, c.FailGroup, c.CloseGroup, c.SetPlacement, c.ReportNow, c.StopNode,
    }  # fmt: skip
    assert commands <= COMMANDS.keys() | _TAKEN.keys()


def test_tokens_are_held_from_a_welcome_or_a_command_on_and_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    first, second, other = (c.NodeToken(name, text, []) for name, text in (("a:1", "hush-1"), ("a:1", "hush-2"), ("b:1", "hush-3")))
    try:
        node = LoneNode()
        welcome(node.service.state, c.Welcome(1, 0, "t1", 0, [], [], [], [], NodeSettings(), tokens=[first]))
        assert (held_tokens.held("a:1"), held_tokens.held("b:1")) == ("hush-1", "")
        with caplog.at_level("DEBUG"):
            assert node.command(c.TakeTokens(1, [second, other])) == [None]
        assert (held_tokens.held("a:1"), held_tokens.held("b:1")) == ("hush-2", "hush-3")
    finally:
        for service in ("a:1", "b:1"):
            held_tokens.hold(service, "")
    assert "hush" not in caplog.text
    assert "hush" not in repr(c.TakeTokens(1, [second])) + repr(c.GiveToken(1, second)) + str([second])
    assert "hush" not in repr(node.service.report())


def test_what_is_no_command_is_told_so() -> None:
    (error,) = LoneNode().command(c.Accepted(1))
    assert "A node must be sent commands. Got Accepted" in str(error)


def test_handlers_know_neither_service_nor_server() -> None:
    below = [*PACKAGE.glob("handlers/*.py"), *PACKAGE.glob("tables/*.py"), PACKAGE / "state.py", PACKAGE / "work.py"]
    knowing = [path.name for path in below if "ps_nodes.serv" in path.read_text() or "ps_nodes.replies" in path.read_text()]
    assert not knowing


def test_whoever_reads_or_writes_a_table_in_whatever_way_uses_it() -> None:
    """By that the coordinator knows which tables nobody needs any more."""
    node = LoneNode()
    node.table()
    client = Client(node, 5)

    def uses() -> int:
        found: int = node.service.report()["tables"]["1"]["uses"]
        return found

    for message, arrays in (
        client.add([7]), client.pull([7]), (client.call("sum"), []),
        (Numbered(5, client.next(), 0, m.Export(1, 1, 3)), []),
    ):  # fmt: skip
        before = uses()
        assert isinstance(client.ask(message, arrays), m.Done), message
        assert uses() > before, message
    before = uses()
    client.ask(Numbered(5, client.next(), 0, m.Status()))
    assert uses() == before, "to look at the node is no use"


def test_a_welcome_brings_groups_and_how_long_sessions_are_remembered() -> None:
    node = LoneNode(session_ttl=7.5)
    state = node.service.state
    assert state.sessions.ttl == 7.5
    spec = GroupSpec(3, "g", 1, 1, 0)
    welcome(state, c.Welcome(1, 0, "tier", 1, [[0]] * 256, [], [], [spec], state.settings))
    assert state.group(3).spec == spec


def test_what_cannot_be_read_acknowledges_nothing() -> None:
    """Its session's answers may still be asked for again."""
    node = LoneNode()
    client = Client(node, 5)
    (session,) = node.service.state.sessions.sessions.values()
    before = session.acked
    frames = Numbered(5, 1, 0, m.Status()).frames([])
    node.service.receive(client.identity, [*frames, b"one frame too many"])
    assert (session.acked, session.next) == (before, 2)


def test_a_request_without_its_number_is_refused() -> None:
    node = LoneNode()
    client = Client(node, 5)
    client.send(m.Status())
    (answer,) = client.answers(0)[1:]  # the first one is to its Hello
    assert (answer.error, "must carry its number" in answer.message) == ("ProtocolError", True)
