"""Tiers of plain processes: the commands of their nodes, here and on hosts."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from sparkps.config import NetworkSettings, NodeSettings, Settings
from sparkps.driver_bridge.launchers.children import node_options
from sparkps.driver_bridge.launchers.launched import LaunchedTier
from sparkps.driver_bridge.launchers.local import LocalTier
from sparkps.driver_bridge.launchers.node_task import NodeTask
from sparkps.driver_bridge.launchers.processes import ProcessTier
from sparkps.errors import ConfigError
from sparkps.secret import TierSecret, forget, keep
from sparkps.testing.tcp_tier import TcpTier, free_port
from sparkps.wire.messages.control import TierAddress


@contextlib.contextmanager
def not_started(tier: LaunchedTier) -> Iterator[Any]:
    """A tier of which no process is started; yields its nodes' commands, in the order in which they would be."""
    commands: list[list[str]] = []

    class Running:
        exited = type("Never", (), {"is_set": staticmethod(lambda: False)})()

    def child(name: str, command: list[str]) -> Any:
        commands.append(command)
        return Running()

    tier._child = child  # type: ignore[method-assign]
    try:
        yield commands
    finally:
        forget(tier.address.tier_id)


def settings(**network: Any) -> Settings:
    peers = NetworkSettings(max_peer_connections=17, max_peer_handshakes=19, **network)
    return Settings(num_nodes=2, node=NodeSettings(max_message_bytes=5 << 20), network=peers)


@pytest.mark.parametrize("kind", ["local", "tcp", "processes", "hosts"])
def test_nodes_of_every_launcher_get_the_same_options(kind: str) -> None:
    made: dict[str, Any] = {
        "local": lambda: LocalTier(settings()),
        "tcp": lambda: TcpTier(settings()),
        "processes": lambda: ProcessTier(settings(), TierSecret.new()),
        "hosts": lambda: ProcessTier(settings(), TierSecret.new(), ["127.0.0.1"], "sh -c {command}"),
    }
    tier = made[kind]()
    with not_started(tier) as commands:
        tier._start_node(0)
    line = " ".join(commands[0])
    assert " ".join(node_options(settings(), tier.secret)) in line
    assert "--max-message-bytes 5242880" in line


def test_what_is_said_of_peers_is_what_was_set() -> None:
    made = node_options(settings(), None)
    assert (option(made, "--peer-connections"), option(made, "--peer-handshakes")) == ("17", "19")
    assert option(made, "--max-message-bytes") == "5242880"
    assert "--secret-on-stdin" not in made
    assert "--secret-on-stdin" in node_options(settings(), TierSecret.new())


def test_so_do_nodes_in_executors() -> None:
    secret, address = TierSecret.new(), TierAddress("t", "tcp://127.0.0.1:7077", is_secured=True)
    keep(address.tier_id, secret)
    try:
        command = NodeTask(address, settings(), 0)._command(1, "127.0.0.1", "n1")
    finally:
        forget(address.tier_id)
    assert command[-len(node_options(settings(), secret)) :] == node_options(settings(), secret)


# ---- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [[], ["127.0.0.9"]], ids=["here", "hosts"])
def test_every_address_and_port_is_what_its_setting_says(hosts: list[str]) -> None:
    port = free_port()
    given = settings(
        coordinator_port=port, coordinator_bind_address="127.0.0.2", coordinator_address="gateway.example",
        node_ports="7100-7199", node_bind_address="127.0.0.3", node_address="node.example",
    )  # fmt: skip
    tier = ProcessTier(given, TierSecret.new(), hosts, "sh -c {command}")
    with not_started(tier) as commands:
        tier._start_coordinator()
        tier._start_node(0)
    coordinator, node = commands[0], commands[1] if not hosts else shlex.split(commands[1][-1])
    assert tier.address.coordinator == option(node, "--coordinator") == f"tcp://gateway.example:{port}"
    assert option(coordinator, "--bind") == f"tcp://127.0.0.2:{port}"
    assert (option(node, "--bind"), option(node, "--advertise")) == ("tcp://127.0.0.3:7100-7199", "node.example")


@pytest.mark.parametrize(
    ("hosts", "listens", "bind", "advertise"),
    [([], "127.0.0.1", "127.0.0.1", "127.0.0.1"), (["127.0.0.9"], "0.0.0.0", "0.0.0.0", "127.0.0.9")],
    ids=["here", "hosts"],
)
def test_without_settings_a_tier_here_is_of_this_machine_alone(hosts: list[str], listens: str, bind: str, advertise: str) -> None:
    tier = ProcessTier(settings(), TierSecret.new(), hosts, "sh -c {command}")
    with not_started(tier) as commands:
        tier._start_node(0)
    node = commands[0] if not hosts else shlex.split(commands[0][-1])
    assert tier._bound().startswith(f"tcp://{listens}:")
    assert (option(node, "--bind"), option(node, "--advertise")) == (f"tcp://{bind}:0", advertise)


def test_a_coordinator_at_all_addresses_is_known_by_one_that_others_reach() -> None:
    for hosts, known_as in (([], socket.gethostname()), (["127.0.0.9"], "127.0.0.1")):
        tier = ProcessTier(settings(coordinator_bind_address="0.0.0.0"), TierSecret.new(), hosts)
        forget(tier.address.tier_id)
        assert tier.address.coordinator == f"tcp://{known_as}:{tier._port}"


def test_addresses_of_nodes_here_may_be_variables_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_IP", "127.0.0.2")
    tier = ProcessTier(settings(node_bind_address="$NODE_IP", node_address="$NODE_IP"), TierSecret.new())
    with not_started(tier) as commands:
        tier._start_node(0)
        assert option(commands[0], "--bind") == "tcp://127.0.0.2:0"
        assert option(commands[0], "--advertise") == "127.0.0.2"
        monkeypatch.delenv("NODE_IP")
        with pytest.raises(ConfigError, match=r"an environment variable that must be set .* '\$NODE_IP' is not on"):
            tier._start_node(1)


def test_addresses_of_nodes_on_hosts_are_expanded_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_IP", raising=False)
    tier = ProcessTier(settings(node_bind_address="$NODE_IP", node_address="$NODE_IP"), TierSecret.new(), ["127.0.0.1"], "sh -c {command}")
    tier._python = "echo"
    with not_started(tier) as commands:
        tier._start_node(0)
    there = subprocess.run(commands[0], env={**os.environ, "NODE_IP": "10.0.0.7"}, capture_output=True, text=True, check=True)
    assert option(there.stdout.split(), "--bind") == "tcp://10.0.0.7:0"
    assert option(there.stdout.split(), "--advertise") == "10.0.0.7"
    unset = subprocess.run(commands[0], capture_output=True, text=True, check=False)
    assert unset.returncode != 0
    assert "NODE_IP: must be set on each host with nodes" in " ".join(unset.stderr.split())


def test_a_host_is_known_by_its_name_and_not_by_who_enters_it() -> None:
    tier = ProcessTier(settings(), TierSecret.new(), ["ann@127.0.0.1"], "ssh {host} {command}")
    with not_started(tier) as commands:
        tier._start_node(0)
    assert commands[0][:2] == ["ssh", "ann@127.0.0.1"]
    there = shlex.split(commands[0][2])
    assert (option(there, "--advertise"), option(there, "--host")) == ("127.0.0.1", "127.0.0.1")


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]
