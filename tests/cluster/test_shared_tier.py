"""Programs that come to a tier which others have started: by URL and secret file, without Spark, several at once."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import psutil
import pytest

import sparkps
import sparkps.client.session as session_module
from sparkps.client import attaching
from sparkps.client.attaching import attach, leave, url_of
from sparkps.client.session import Session, connect
from sparkps.config import Settings
from sparkps.driver_bridge.launchers import attach as attach_launcher
from sparkps.errors import (
    ConfigError,
    InvalidInput,
    NotAdmitted,
    TableMismatch,
    TierError,
    UnknownTable,
)
from sparkps.secret import TierSecret, held, sealed
from sparkps.secret_files import read_secret_file, write_secret_file
from sparkps.specs import TableSpec
from sparkps.testing.tcp_tier import TcpTier
from sparkps.wire.messages.control import AdmitGroup, CreateTable, EndGroup, RegisterFunction
from tests.harness.leaks import spellings
from tests.harness.shared_tiers import SharedTier, dense, shared_tier, sparse
from tests.harness.waiting import wait_until

#: Seconds in which whoever is not admitted must know it.
WITHIN = 1.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedTier]:
    with shared_tier(tmp_path_factory.mktemp("tier"), table_ttl=3600.0) as tier:
        yield tier


# ---- reading and writing -----------------------------------------------------------------------------------------------


def test_a_program_pulls_pushes_and_calls(shared: SharedTier) -> None:
    with shared.connect() as tier:
        w, theta = sparse(tier, "plain", 2), dense(tier, "theta", (2, 3))
        w.add([7, -1, 7], [[1.0, 2.0], [0.0, 5.0], [1.0, 2.0]])
        w.push([7], [[1.0, 1.0]])
        assert w.pull([8, 7, -1]).tolist() == [[0.0, 0.0], [1.0, 3.0], [0.0, 5.0]]
        assert w.register([7, 7]).pull().tolist() == [[1.0, 3.0]] * 2
        w.assign([9], [[4.0, 4.0]])
        assert w.call("sum") == 17.0
        theta.add(np.ones((2, 3)))
        assert theta.pull().sum() == 6.0


def test_what_is_written_outlives_whoever_has_written_it(shared: SharedTier) -> None:
    with shared.connect() as tier:
        sparse(tier, "kept").add([1], [[1.0]])
    with shared.connect("bob") as tier:
        assert tier.table("ann/kept").pull([1]).tolist() == [[1.0]]
        assert held(tier.tier_id) is not None
    assert held(shared.running.address.tier_id) is None, "who has left has no secret"


def test_nothing_that_is_logged_on_the_way_in_and_out_has_the_secret(shared: SharedTier, caplog: pytest.LogCaptureFixture) -> None:
    """At the level of whoever looks for a fault."""
    secret = read_secret_file(shared.secret_file)
    settings = Settings(attach=shared.url, secret_file=str(shared.secret_file), owner="ann")
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(master="local[2]"))
    with caplog.at_level(logging.DEBUG):
        application = attach_launcher.launch(settings, spark)
        with shared.connect() as tier:
            sparse(tier, "logged").add([1], [[1.0]])
        application.stop()
        wrong = shared.secret_file.with_name("of another tier")
        write_secret_file(wrong, TierSecret.new())
        with pytest.raises(NotAdmitted) as refused:
            attach_launcher.launch(dataclasses.replace(settings, secret_file=str(wrong)), spark)
    assert "attached to tier" in caplog.text
    said = caplog.text.encode() + f"{refused.value!r} {refused.value.attributes}".encode()
    for each in (secret, read_secret_file(wrong)):
        assert not [name for name, spelt in spellings(each).items() if spelt in said]


def test_tables_are_listed_with_owner_size_and_last_use(shared: SharedTier) -> None:
    with shared.connect("carol") as tier:
        sparse(tier, "sizes", 4).add(np.arange(100), np.ones((100, 4)))
        listed = {table["name"]: table for table in tier.tables()}
        found = listed["carol/sizes"]
        assert (found["owner"], found["kind"], found["dim"], found["rows"]) == ("carol", "sparse", 4, 100)
        assert found["bytes"] > 100 * 16
        assert found["idle_seconds"] < 60


def test_last_use_is_when_somebody_asked_for_rows_and_not_for_the_list(shared: SharedTier) -> None:
    with shared.connect("dave") as tier:
        w = sparse(tier, "w")

        def idle() -> float:
            return float(next(table["idle_seconds"] for table in tier.tables() if table["name"] == "dave/w"))

        assert wait_until(lambda: idle() > 0.5, 20)
        w.pull([1])
        assert idle() < 0.5
        assert wait_until(lambda: idle() > 0.5, 20)
        w.call("sum")
        assert idle() < 0.5


# ---- names -------------------------------------------------------------------------------------------------------------


def test_owners_have_tables_of_the_same_name(shared: SharedTier) -> None:
    with shared.connect("ann") as ann, shared.connect("bob") as bob:
        of_ann, of_bob = sparse(ann, "same"), sparse(bob, "same", 2)
        of_ann.add([1], [[1.0]])
        of_bob.add([1], [[2.0, 2.0]])
        assert (of_ann.name, of_bob.name) == ("ann/same", "bob/same")
        assert bob.table("ann/same").pull([1]).tolist() == [[1.0]]
        assert bob.table("same").pull([1]).tolist() == [[2.0, 2.0]]
        assert bob.table("ann/same") == of_ann, "by whatever name"
        with pytest.raises(TableMismatch, match="'ann/same' exists with dim=1"):
            ann.request(CreateTable(0, TableSpec("ann/same", "sparse", 3)))
        of_bob.drop()
        with pytest.raises(UnknownTable, match="'bob/same' must exist"):
            bob.table("same")
        assert of_ann.pull([1]).tolist() == [[1.0]]


def test_what_is_no_name_is_refused(shared: SharedTier) -> None:
    with shared.connect() as tier:
        for name in ("", "a/b/c", "/w", "w/", "x" * 200, "ä", None, 5, b"w"):
            with pytest.raises(InvalidInput, match="A table name must"):
                tier.table(name)  # type: ignore[arg-type]
        with pytest.raises(UnknownTable):
            tier.table("nothing")


def test_owners_have_functions_of_the_same_name(shared: SharedTier) -> None:
    with shared.connect("erin") as erin, shared.connect("finn") as finn:
        for tier, times in ((erin, 2.0), (finn, 3.0)):
            sparse(tier, "w").add([1, 2], [[1.0], [1.0]])
            counts, name = cloudpickle.dumps(lambda shard, times=times: times * len(shard.keys)), f"{tier.owner}/count"
            tier.request(RegisterFunction(0, name, sealed(held(tier.tier_id), tier.tier_id, f"function {name}", counts)))
        assert erin.table("w").call("count") == 4.0
        assert finn.table("w").call("count") == 6.0
        assert finn.table("w").call("erin/count") == 4.0
        with pytest.raises(InvalidInput, match="no_such"):
            finn.table("w").call("no_such")


# ---- two at once -------------------------------------------------------------------------------------------------------


def test_a_reader_sees_what_a_writer_writes_meanwhile(shared: SharedTier) -> None:
    """Two processes at once: another one pushes, this one reads, and every push arrives once."""
    code = (
        "import sys, sparkps, numpy as np\n"
        "with sparkps.connect(sys.argv[1], sys.argv[2], owner='ann') as tier:\n"
        "    w = tier.table('meanwhile')\n"
        "    for _ in range(200):\n"
        "        w.add(np.arange(50), np.ones((50, 1)))\n"
    )
    with shared.connect() as tier:
        w = sparse(tier, "meanwhile")
        writer = subprocess.Popen([sys.executable, "-c", code, shared.url, str(shared.secret_file)])
        seen = [0.0]
        try:
            while writer.poll() is None:
                seen.append(float(w.pull([7])[0, 0]))
        finally:
            assert writer.wait(60) == 0
        assert seen == sorted(seen)
        assert w.pull(np.arange(50)).tolist() == [[200.0]] * 50


def test_threads_share_a_connection(shared: SharedTier) -> None:
    with shared.connect() as tier:
        w = sparse(tier, "threads")
        threads = [threading.Thread(target=lambda: [w.add([1], [[1.0]]) for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert w.pull([1]).tolist() == [[80.0]]


def test_groups_of_two_applications_do_not_wait_for_each_other(shared: SharedTier) -> None:
    with shared.connect() as tier:
        first, second = (
            tier.request(AdmitGroup(0, f"{owner}/run-1", 2, 2, 0, 2, f"tag-{owner}", (), f"application of {owner}")).spec
            for owner in ("ann", "bob")
        )
        assert [group["application"] for group in tier.status()["groups"]] == ["application of ann", "application of bob"]
        for spec in (first, second):
            tier.request(EndGroup(0, spec.group))


# ---- who does not belong there -----------------------------------------------------------------------------------------


def test_without_the_secret_nobody_is_admitted(shared: SharedTier, tmp_path: pathlib.Path) -> None:
    write_secret_file(tmp_path / "other", TierSecret.new())
    for secret_file in (tmp_path / "other", None):
        began = time.monotonic()
        with pytest.raises(NotAdmitted, match="must have its secret"):
            sparkps.connect(shared.url, secret_file)
        assert time.monotonic() - began < WITHIN
    with shared.connect() as tier:
        assert tier.status()["state"] == "ready"


def test_a_secret_file_that_others_can_read_is_refused(shared: SharedTier, tmp_path: pathlib.Path) -> None:
    open_to_all = tmp_path / "secret"
    open_to_all.write_text(shared.secret_file.read_text())
    open_to_all.chmod(0o644)
    with pytest.raises(ConfigError, match=r"readable by its owner alone.*0644.*chmod 600"):
        sparkps.connect(shared.url, open_to_all)


# ---- the end -----------------------------------------------------------------------------------------------------------


def test_handles_of_a_connection_that_was_closed_say_so(shared: SharedTier) -> None:
    tier = shared.connect()
    w = sparse(tier, "closed")
    w.add([1], [[1.0]])
    tier.close()
    tier.close()
    for call in (tier.tables, lambda: tier.table("closed"), lambda: w.pull([1])):
        with pytest.raises(TierError, match="It was closed: connect again"):
            call()
    assert repr(tier) == f"<Connection to {shared.url} as ann, closed>"


def test_one_of_two_connections_of_a_process_is_closed(shared: SharedTier) -> None:
    with shared.connect("bob") as other:
        with shared.connect("ann") as tier:
            sparse(tier, "two").add([1], [[1.0]])
        assert other.table("ann/two").pull([1]).tolist() == [[1.0]]


def test_connections_of_many_threads_that_come_and_go_leave_nothing(shared: SharedTier) -> None:
    me = psutil.Process()
    with shared.connect() as tier:
        sparse(tier, "turns").add([1], [[1.0]])

    def turn(_: int) -> None:
        together.wait()
        tier = shared.connect()
        assert tier.table("turns").pull([1]).tolist() == [[1.0]]
        together.wait()
        tier.close()
        together.wait()

    together = threading.Barrier(4, timeout=30)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(turn, range(4)))
        assert wait_until(lambda: not sessions_of(shared), 10), "which are closed though their threads live on"
        few = me.num_fds()
        list(pool.map(turn, range(16)))
        assert not sessions_of(shared)
        assert wait_until(lambda: me.num_fds() <= few, 10), f"{me.num_fds()} descriptors after {few}"


def sessions_of(shared: SharedTier) -> list[Session]:
    """Those of this process with a tier that are open."""
    return [each for each in list(session_module._connected) if each.address.tier_id == shared.running.address.tier_id and not each.closed]


def test_a_call_under_way_ends_with_the_last_connection_and_so_does_its_session(shared: SharedTier) -> None:
    tier = shared.connect()
    w = sparse(tier, "under_way")
    sleeps = cloudpickle.dumps(lambda shard: time.sleep(3.0))
    tier.request(RegisterFunction(0, "ann/sleeps", sealed(held(tier.tier_id), tier.tier_id, "function ann/sleeps", sleeps)))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(w.call, "sleeps")
        assert wait_until(lambda: any(lane.requests for each in sessions_of(shared) for lane in each._lanes.values()), 10)
        tier.close()
        with pytest.raises(TierError, match="It was closed"):
            call.result(5)
        assert wait_until(lambda: not sessions_of(shared), 5)


def test_who_attaches_while_another_leaves_is_attached(shared: SharedTier, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, found = read_secret_file(shared.secret_file), []
    address = attach(shared.url, secret, "ann")
    coming = threading.Thread(target=lambda: found.append(attach(shared.url, secret, "ann")))

    def end_all(*_: object) -> None:
        coming.start()
        coming.join(1.0)  # it comes now, or waits until the other has left

    monkeypatch.setattr(attaching, "end_all", end_all)
    leave(address, "left")
    monkeypatch.undo()
    coming.join(10)
    assert found == [address]
    assert held(address.tier_id) == secret, "of whoever has come, and not gone with whoever has left"
    connect(address)
    leave(address, "left")
    assert held(address.tier_id) is None


def test_handles_end_with_their_connection_where_a_tier_has_no_secret_too() -> None:
    running = TcpTier(Settings(num_nodes=1), is_secured=False).start()
    try:
        tier = sparkps.connect(url_of(running.address.coordinator), owner="ann")
        w = sparse(tier, "open")
        w.add([1], [[1.0]])
        tier.close()
        with pytest.raises(TierError, match="It was closed: connect again"):
            w.pull([1])
        with sparkps.connect(tier.url, owner="ann") as again:
            assert again.table("open").pull([1]).tolist() == [[1.0]]
    finally:
        running.stop()


def test_a_connection_stays_in_its_process_and_a_handle_carries_no_secret(shared: SharedTier) -> None:
    with shared.connect() as tier:
        with pytest.raises(InvalidInput, match="must stay in its process"):
            pickle.dumps(tier)
        secret = TierSecret.parse(shared.secret_file.read_text())
        pickled = pickle.dumps(sparse(tier, "carried"))
        assert secret.raw not in pickled
        assert secret.text.encode() not in pickled


def test_the_first_rows_come_soon_after_a_program_begins(shared: SharedTier) -> None:
    """Attach to first pull, with the imports, and without Spark, numba and Arrow; the best of five."""
    with shared.connect() as tier:
        sparse(tier, "first", 8).add(np.arange(1000), np.ones((1000, 8)))
    code = (
        "import sys, time; began = time.perf_counter()\n"
        "import sparkps\n"
        "with sparkps.connect(sys.argv[1], sys.argv[2], owner='ann') as tier:\n"
        "    assert tier.table('first').pull(range(1000)).sum() == 8000\n"
        "    took = time.perf_counter() - began\n"
        "print(took, [name for name in ('numba', 'pyspark', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, shared.url, str(shared.secret_file)]
    found = [subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split(" ", 1) for _ in range(5)]
    assert {names.strip() for _, names in found} == {"[]"}
    assert min(float(took) for took, _ in found) < 1.0  # 0.3 s where nothing else runs
