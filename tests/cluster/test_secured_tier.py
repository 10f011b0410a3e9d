"""A tier at TCP endpoints: who has its secret uses it, nobody else gets anything or disturbs anyone, and nobody can read the secret."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import zmq

from sparkps import sockets
from sparkps.client.control import ControlClient
from sparkps.client.handshake import check_admitted
from sparkps.client.session import disconnect
from sparkps.client.tables import SparseTable
from sparkps.config import NetworkSettings, Settings
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.launchers import local
from sparkps.errors import NotAdmitted, SparkPSError
from sparkps.secret import TierSecret, forget, keep, sealed
from sparkps.specs import TableSpec
from sparkps.testing.tcp_tier import TcpTier
from sparkps.wire.codec import encode
from sparkps.wire.messages.control import CreateTable, RegisterFunction, TierStatus
from tests.harness.leaks import in_files, in_processes, spellings
from tests.harness.strangers import floods
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.renews_nodes

KEYS = np.arange(1000, dtype=np.int64)


@pytest.fixture(scope="module")
def tier() -> Iterator[TcpTier]:
    made = TcpTier(Settings(num_nodes=2, replication=2)).start()
    yield made
    disconnect(made.address)
    ControlClient.of(made.address).close()
    made.stop()
    forget(made.address.tier_id)


@pytest.fixture(scope="module")
def w(tier: TcpTier) -> SparseTable:
    spec = ControlClient.of(tier.address).request(CreateTable(0, TableSpec("w", "sparse", 1, "float64"))).spec
    table = SparseTable(tier.address, spec)
    table.assign(KEYS, KEYS[:, None] * 0.5)
    return table


def endpoints(tier: TcpTier) -> list[str]:
    """Of the coordinator and the nodes."""
    return [tier.address.coordinator, *tier._nodes]


def test_who_has_the_secret_uses_it(tier: TcpTier, w: SparseTable) -> None:
    for endpoint in endpoints(tier):
        check_admitted(endpoint, tier.secret)
    np.testing.assert_array_equal(w.pull(KEYS), KEYS[:, None] * 0.5)
    report = ControlClient.of(tier.address).request(TierStatus(0)).report
    assert (report["state"], report["under_replicated"]) == ("ready", 0), "copies go from node to node"


@pytest.mark.parametrize("secret", [None, TierSecret.new()], ids=["none", "another tier's"])
def test_nobody_else_learns_anything_anywhere(tier: TcpTier, secret: TierSecret | None) -> None:
    for endpoint in endpoints(tier):
        began = time.monotonic()
        with pytest.raises(NotAdmitted):
            check_admitted(endpoint, secret)
        assert time.monotonic() - began < 1.0
    with pytest.raises(SparkPSError):
        ControlClient(tier.address.coordinator, 0.5, secret).request(TierStatus(0))
    assert answers_to(tier, tier.secret, 30.0) > 0, "who has the secret is answered"
    assert answers_to(tier, secret, 0.5) == 0


def answers_to(tier: TcpTier, secret: TierSecret | None, seconds: float) -> int:
    """Frames that come within a time for a question to the coordinator, of a socket that looks at nothing itself."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        sockets.connect(stranger, tier.address.coordinator, secret)
        stranger.send_multipart(encode(TierStatus(1)))
        return len(stranger.recv_multipart()) if stranger.poll(int(1000 * seconds)) else 0


def test_a_process_without_the_secret_is_told_so_at_once(tier: TcpTier, w: SparseTable) -> None:
    assert tier.secret is not None
    disconnect(tier.address)
    forget(tier.address.tier_id)
    try:
        with pytest.raises(NotAdmitted, match="This one has none"):
            w.pull(KEYS)
    finally:
        keep(tier.address.tier_id, tier.secret)
    assert w.pull(KEYS).sum() == KEYS.sum() * 0.5


def test_connections_of_strangers_disturb_nobody(tier: TcpTier, w: SparseTable) -> None:
    rng = np.random.default_rng(0)
    strangers = []
    try:
        for i in range(200):
            host, port = endpoints(tier)[i % 3].removeprefix("tcp://").split(":")
            stranger = socket.create_connection((host, int(port)), 5)
            stranger.settimeout(5)
            stranger.sendall(rng.bytes(int(rng.integers(1, 4000))))
            strangers.append(stranger)
            if i % 40 == 0:
                np.testing.assert_array_equal(w.pull(KEYS), KEYS[:, None] * 0.5)
        assert ControlClient.of(tier.address).request(TierStatus(0)).report["state"] == "ready"
    finally:
        for stranger in strangers:
            stranger.close()
    assert all(child.status is None for child in (tier._coordinator, *tier._nodes.values()) if child)


def test_a_status_says_how_many_were_turned_away(tier: TcpTier, w: SparseTable) -> None:
    def told() -> list[dict[str, int]]:
        report = ControlClient.of(tier.address).request(TierStatus(0)).report
        return [report["coordinator"], *(node for node in report["nodes"] if node["state"] == "up")]

    assert tier.secret is not None
    of_another = TierSecret(tier.secret.raw)
    vars(of_another)["client"] = TierSecret.new().client
    before = told()
    assert len(before) == 3
    for endpoint in endpoints(tier):
        with pytest.raises(NotAdmitted):
            check_admitted(endpoint, of_another)
        floods(endpoint, 3, 400 << 20, 64 << 20)
    assert wait_until(lambda: all(now["cut_handshakes"] >= old["cut_handshakes"] + 2 for now, old in zip(told(), before, strict=True)), 20)
    assert all(now["refused_peers"] > old["refused_peers"] for now, old in zip(told(), before, strict=True))
    assert all(now["refused_connections"] == 0 for now in told())


@pytest.fixture(scope="module")
def narrow() -> Iterator[TcpTier]:
    """A tier that takes few connections of a host, and was started where fewer descriptors are given than may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
    try:
        made = TcpTier(Settings(num_nodes=1, network=NetworkSettings(max_peer_connections=12))).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield made
    disconnect(made.address)
    ControlClient.of(made.address).close()
    made.stop()
    forget(made.address.tier_id)


def test_limits_of_connections_are_those_of_the_settings(narrow: TcpTier) -> None:
    for endpoint, figures in ((narrow.address.coordinator, coordinator_of), (next(iter(narrow._nodes)), node_of)):
        host, port = endpoint.removeprefix("tcp://").split(":")
        held = [socket.create_connection((host, int(port)), 5) for _ in range(30)]
        try:
            assert wait_until(lambda held=held: sum(map(ended, held)) >= 18, 4), "before the time of their handshakes is over"
            assert sum(map(ended, held)) < 30, "some may be there"
        finally:
            for each in held:
                each.close()
        assert wait_until(lambda figures=figures: figures(narrow)["refused_connections"] >= 18, 20)


def ended(connection: socket.socket) -> bool:
    """Whether the other side has hung up."""
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def coordinator_of(tier: TcpTier) -> dict[str, int]:
    found: dict[str, int] = ControlClient.of(tier.address).request(TierStatus(0)).report["coordinator"]
    return found


def node_of(tier: TcpTier) -> dict[str, int]:
    found: dict[str, int] = ControlClient.of(tier.address).request(TierStatus(0)).report["nodes"][0]
    return found


def test_its_processes_have_as_many_descriptors_as_they_may(narrow: TcpTier) -> None:
    children = [narrow._coordinator, *narrow._nodes.values()]
    assert len(children) == 2
    for child in children:
        assert child is not None
        soft, hard = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
        assert soft == hard


def test_a_function_runs_only_if_somebody_of_the_tier_has_signed_it(tier: TcpTier, w: SparseTable, tmp_path: Path) -> None:
    control, mark = ControlClient.of(tier.address), tmp_path / "was_here"
    evil = cloudpickle.dumps(_Touches(str(mark)))
    here = tier.address.tier_id
    before = sealed(tier.secret, "an earlier life", "function f", evil)
    for blob in (evil, sealed(TierSecret.new(), here, "function f", evil), sealed(tier.secret, here, "function g", evil), before, b""):
        with pytest.raises(SparkPSError, match="must be signed"):
            control.request(RegisterFunction(0, "f", blob))
    assert not mark.exists(), "it was not even unpickled"
    counts = cloudpickle.dumps(lambda shard: float(len(shard.keys)))
    control.request(RegisterFunction(0, "f", sealed(tier.secret, here, "function f", counts)))
    assert w.call("f") == len(KEYS)


class _Touches:
    """Writes a file where it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self._path, "w")


def test_the_secret_is_in_no_log_and_in_no_list_of_processes(tier: TcpTier, w: SparseTable) -> None:
    assert tier.secret is not None
    spelt = spellings(tier.secret)
    assert in_files([tier.directory], spelt) == []
    assert in_processes(spelt) == []
    (tier.directory / "proof").write_bytes(b"x" + spelt["hex"])
    assert len(in_files([tier.directory], spelt)) == 1, "it would be found"


def test_the_secret_is_in_no_checkpoint(tier: TcpTier, w: SparseTable, tmp_path: Path) -> None:
    """Of a tier with tables, a function that is registered, and sessions that hold key sets."""
    assert tier.secret is not None
    control, here = ControlClient.of(tier.address), tier.address.tier_id
    blob = sealed(tier.secret, here, "function kept", cloudpickle.dumps(lambda shard: float(len(shard.keys))))
    control.request(RegisterFunction(0, "kept", blob))
    registered = w.register(KEYS)
    registered.pull()
    made = checkpointing.take(control, tmp_path / "checkpoints")
    assert made.bytes > 8 * len(KEYS)
    spelt = spellings(tier.secret)
    assert in_files([tmp_path], spelt) == []
    (tmp_path / "checkpoints" / "proof").write_bytes(b"x" + spelt["raw"])
    assert len(in_files([tmp_path], spelt)) == 1, "it would be found"


def test_nodes_and_the_coordinator_are_started_again_with_it(tier: TcpTier, w: SparseTable) -> None:
    for child in (next(iter(tier._nodes.values())), tier._coordinator):
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        assert wait_until(lambda: whole(tier), 60)
        np.testing.assert_array_equal(w.pull(KEYS), KEYS[:, None] * 0.5)


def whole(tier: TcpTier) -> bool:
    try:
        report = ControlClient.of(tier.address).request(TierStatus(0), 2.0).report
    except SparkPSError:
        return False
    return report["state"] == "ready" and not report["under_replicated"] and sum(n["state"] == "up" for n in report["nodes"]) == 2


# ---- another user of this machine --------------------------------------------------------------------------------------

#: Tries everything at a tier: connects, reads, writes, signals. Prints what it could do.
_INTRUDER = """
import os, signal, socket, sys
directory, *pids = sys.argv[1:]
def could(what, act):
    try:
        act()
        print(what)
    except OSError:
        pass
could("list", lambda: os.listdir(directory))
for name in ("coordinator", "node0"):
    probe = socket.socket(socket.AF_UNIX)
    could(f"connect to {name}", lambda: probe.connect(f"{directory}/{name}"))
    could(f"read the log of {name}", lambda: open(f"{directory}/{name}.log").close())
could("read the journal", lambda: open(f"{directory}/coordinator.journal").close())
could("write", lambda: open(f"{directory}/more", "w").close())
could("rename", lambda: os.rename(directory, directory + "-moved"))
for pid in pids:
    could("signal", lambda: os.kill(int(pid), signal.SIGTERM))
    could("read memory", lambda: open(f"/proc/{pid}/mem", "rb").close())
    could("read environment", lambda: open(f"/proc/{pid}/environ", "rb").read())
    could("see files", lambda: os.listdir(f"/proc/{pid}/fd"))
print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_can_do_nothing_at_a_local_tier() -> None:
    tier = local.launch(Settings(num_nodes=1))
    try:
        assert tier._coordinator is not None
        pids = [str(child.pid) for child in (tier._coordinator, *tier._nodes.values())]
        command = ["/usr/bin/env", "python3", "-c", _INTRUDER, str(tier.directory), *pids]
        if not Path("/usr/bin/python3").exists():
            command[:2] = [os.path.realpath(sys.executable)]
        ran = subprocess.run(command, user=65534, group=65534, extra_groups=[], capture_output=True, text=True, timeout=60, cwd="/")
        if "ermission denied" in ran.stderr and "done" not in ran.stdout:
            pytest.skip("another user can run no Python here")
        assert ran.stdout == "done\n", ran.stdout + ran.stderr
    finally:
        tier.stop()
