"""A server function that takes its time keeps nobody waiting but those who must: no reads, no heartbeats."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest

from sparkps.client.session import disconnect
from sparkps.config import ClientSettings, NodeSettings, Settings
from sparkps.driver_bridge.launchers import local
from sparkps.errors import DeadlineExceeded, FunctionFailed
from sparkps.wire.messages.control import RegisterFunction
from tests.cluster.conftest import Tier


@pytest.fixture(scope="module")
def impatient() -> Iterator[Tier]:
    """One node that is dead after a second and a half of silence, and clients that wait five seconds."""
    settings = Settings(
        num_nodes=1,
        node=NodeSettings(heartbeat_interval=0.1, heartbeat_deadline=1.5),
        client=ClientSettings(request_timeout=5.0),
    )
    running = local.launch(settings)
    try:
        made = Tier(running)
        yield made
        made.disconnect()
    finally:
        running.stop()


def function(tier: Tier, fn: Callable[..., Any]) -> str:
    tier.control.request(RegisterFunction(0, fn.__name__, cloudpickle.dumps(fn)))
    return fn.__name__


def slow_double(shard: Any, seconds: float) -> None:
    import threading

    if shard.bucket == 0:
        threading.Event().wait(seconds)
    shard.rows()[:] *= 2.0


def double_when_told(shard: Any, path: str) -> None:
    import pathlib
    import threading

    while shard.bucket == 0 and not pathlib.Path(path).exists():
        threading.Event().wait(0.01)
    shard.rows()[:] *= 2.0


def spinning(shard: Any, seconds: float) -> None:
    import time

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def in_background(tier: Tier, work: Callable[[], Any]) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            disconnect(tier.address)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_reads_go_on_and_writes_wait_while_a_function_runs(impatient: Tier, tmp_path: pathlib.Path) -> None:
    w = impatient.sparse("waited_for", dtype="float64")
    keys = np.arange(1000)
    w.add(keys, np.ones((1000, 1)))
    name, told = function(impatient, double_when_told), tmp_path / "told"
    began = time.monotonic()
    caller, failures = in_background(impatient, lambda: w.call(name, path=str(told)))
    reads = 0
    while reads < 4 or time.monotonic() < began + 1.2:
        assert (w.pull(keys[:5]) == 1.0).all(), "a read waits for nobody's function"
        reads += 1
    # Waits for its turn, and is neither lost nor overwritten.
    writer, refused = in_background(impatient, lambda: w.add(keys, np.ones((1000, 1))))
    writer.join(0.3)
    assert writer.is_alive()
    told.touch()
    caller.join()
    writer.join()
    assert not failures + refused
    assert (w.pull(keys) == 3.0).all()
    assert [node["state"] for node in impatient.status()["nodes"]] == ["up"], "longer than a heartbeat's deadline"


def test_a_function_past_its_deadline_changes_nothing_and_its_session_goes_on(impatient: Tier) -> None:
    w = impatient.sparse("too_slow", dtype="float64")
    w.add(np.arange(1000), np.ones((1000, 1)))
    name = function(impatient, slow_double)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        w.call(name, seconds=20.0)
    assert time.monotonic() - began < 15.0
    assert (w.pull(np.arange(1000)) == 1.0).all()
    w.add(np.arange(1000), np.ones((1000, 1)))
    assert float(w.call("sum")) == 2000.0


def test_a_function_that_never_gives_the_processor_away_leaves_its_node_alive(impatient: Tier) -> None:
    w = impatient.sparse("spun", dtype="float64")
    w.add([1], [[1.0]])
    name = function(impatient, spinning)
    with pytest.raises(DeadlineExceeded):
        w.call(name, seconds=6.0)
    assert w.pull([1])[0, 0] == 1.0
    assert [node["state"] for node in impatient.status()["nodes"]] == ["up"]


def test_a_function_that_exits_is_answered(impatient: Tier) -> None:
    w = impatient.sparse("exits", dtype="float64")
    w.add([1], [[1.0]])

    def leaving(shard: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(FunctionFailed, match="SystemExit"):
        w.call(function(impatient, leaving))


def test_keys_and_rows_of_a_shard_are_of_one_moment(impatient: Tier) -> None:
    w = impatient.sparse("growing", dtype="float64")

    def weighed(shard: Any) -> float:
        return float((shard.rows()[:, 0] * (shard.keys >= 0)).sum())

    name = function(impatient, weighed)
    rng, until = np.random.default_rng(3), time.monotonic() + 3.0

    def grow() -> None:
        while time.monotonic() < until:
            w.add(rng.integers(0, 1 << 40, 20_000), np.ones((20_000, 1)))

    grower, failures = in_background(impatient, grow)
    calls = 0
    while time.monotonic() < until:
        w.call(name)
        calls += 1
    grower.join()
    assert not failures
    assert calls > 0
