"""In a notebook: no start-up but `PSContext(spark)`, and the interrupt button ends the call, not the tier."""

from __future__ import annotations

import os
import pathlib
import queue
import sys
import time

import pytest
from jupyter_client.manager import KernelManager

from tests.harness.waiting import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]

START = """
from pyspark.sql import SparkSession
from sparkps import PSContext
spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
         .config("spark.driver.host", "127.0.0.1").getOrCreate())
ps = PSContext(spark)
w = ps.sparse_table("w", dim=1)
w.add([1, 2], [[1.0], [2.0]])
pids = [node["pid"] for node in ps.status()["nodes"]]
"""

ENDLESS = """
def train(worker, batches):
    import pathlib, threading, time
    pathlib.Path({started!r}, str(worker.rank)).touch()
    while True:
        worker.tick()
        threading.Event().wait(0.05)

ps.run(spark.range(10), train, num_workers=2)
"""

AFTER = """
assert [node["pid"] for node in ps.status()["nodes"]] == pids
assert w.pull([1, 2]).tolist() == [[1.0], [2.0]]
assert ps.run(spark.range(10), lambda worker, batches: worker.rank, num_workers=2) == [0, 1]
"""


class Notebook:
    """A kernel as a notebook drives it."""

    def __init__(self) -> None:
        self.manager = KernelManager(kernel_name="python3")
        # the kernel of this environment, whichever are installed for the user
        self.manager.kernel_spec.argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        self.manager.start_kernel(cwd=str(ROOT), env={**os.environ, "PYTHONWARNINGS": "default"})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)

    def send(self, code: str) -> str:
        """Start a cell; gives the id of its request."""
        return self.client.execute(code)

    def outcome(self, request: str, timeout: float) -> str:
        """"ok", the name of the exception that ended the cell, or "aborted"."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                reply = self.client.get_shell_msg(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                raise TimeoutError(f"the cell did not end within {timeout} s") from None
            if reply["parent_header"].get("msg_id") == request:
                content = reply["content"]
                return f"{content['ename']}: {content['evalue']}" if content["status"] == "error" else content["status"]

    def run(self, code: str, timeout: float = 40.0) -> str:
        # A kernel drops the cells that come while it still tells of an error.
        while (outcome := self.outcome(self.send(code), timeout)) == "aborted":
            continue
        return outcome

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)
        self.manager.cleanup_resources()


@pytest.fixture
def notebook():
    opened = Notebook()
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_interrupt_ends_the_call_and_not_the_tier(notebook, tmp_path):
    assert notebook.run(START) == "ok"
    running = notebook.send(ENDLESS.format(started=str(tmp_path)))
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2, timeout=40)
    notebook.manager.interrupt_kernel()
    assert notebook.outcome(running, timeout=30).startswith("KeyboardInterrupt")
    assert notebook.run(AFTER) == "ok"
    assert notebook.run("ps.stop(); spark.stop()") == "ok"
