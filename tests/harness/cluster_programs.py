"""Driver programs for tests on clusters: a tier whose nodes are in executors, trainings on it, and what may happen to its processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any

from tests.harness.processes import DriverProgram


def session(settings: Mapping[str, str]) -> str:
    """Lines that make `spark`.

    Parameters
    ----------
    settings : mapping
        ``spark.master`` among them.
    """
    return f"""
import logging
logging.basicConfig(level=logging.INFO)
logging.getLogger("py4j").setLevel(logging.WARNING)
from pyspark.sql import SparkSession
builder = SparkSession.builder
for key, value in {dict(settings)!r}.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
"""


#: Functions of a program with a tier `ps`: `train`, in the middle of which a node's process, its task, its executor, a rank's task or a
#: rank's executor may be killed (all processes are on this machine), and `whole`.
TRAININGS = """
import faulthandler, threading, time, zlib
import psutil
faulthandler.register(signal.SIGUSR1)
from sparkps import PSContext
from sparkps.optim import Adam
from tests.harness.stateful_training import KEYS, StatefulTraining

def nodes():
    return [node for node in ps.status()["nodes"] if node["state"] == "up"]

def executor_of(pid):
    return next(each.pid for each in psutil.Process(pid).parents() if each.name() == "java")

def worker_tasks():
    "Python tasks of this application that run no node."
    of_nodes = {psutil.Process(node["pid"]).ppid() for node in nodes()}
    found = []
    for executor in psutil.process_iter(["cmdline"]):
        words = executor.info["cmdline"] or []
        if "--executor-id" in words and spark.sparkContext.applicationId in words:
            for daemon in executor.children():
                found += [task.pid for task in daemon.children() if task.pid not in of_nodes]
    return found

STRIKES = {
    "node": lambda: nodes()[0]["pid"],
    "node task": lambda: psutil.Process(nodes()[0]["pid"]).ppid(),
    "node executor": lambda: executor_of(nodes()[0]["pid"]),
    "worker": lambda: worker_tasks()[0],
    "worker executor": lambda: executor_of(worker_tasks()[0]),
}

def strike_at(what, clock, struck):
    until = time.monotonic() + 60
    while True:
        assert time.monotonic() < until, "no rank has come so far"
        time.sleep(0.02)
        groups = ps.status()["groups"]
        if groups and max((rank["clock"] for rank in groups[0]["ranks"]), default=-1) >= clock:
            break
    pid = STRIKES[what]()
    struck.append(pid)
    os.kill(pid, signal.SIGKILL)

def train(clocks, strike=None, workers=2):
    ps_tables = ps.sparse_table("w", dim=2, dtype="float64", optimizer=Adam(0.1))
    struck = []
    if strike is not None:
        threading.Thread(target=strike_at, args=(strike, clocks // 2, struck), daemon=True).start()
    began = time.monotonic()
    results = ps.run(spark.range(0, 1000, 1, workers), StatefulTraining(clocks, seconds=0.02), num_workers=workers)
    rows = ps_tables.pull(KEYS)
    ps_tables.drop()
    return {"crc": zlib.crc32(rows.tobytes()), "seconds": time.monotonic() - began, "struck": struck, "results": results[:]}

def whole():
    "Waits until the tier has all nodes and copies again."
    until = time.monotonic() + 60
    while True:
        status = ps.status()
        up = [node for node in status["nodes"] if node["state"] == "up"]
        if len(up) == status["num_nodes"] and not status["under_replicated"] and status["moving"] is None:
            return [(node["id"], node["host"]) for node in up]
        assert time.monotonic() < until, status
        time.sleep(0.05)
"""

#: Makes the tier, does what the test asks for, and says what came of it.
OBEY = """
def scale(number):
    ps.scale(number, timeout=100)
    return {"nodes": whole()}

DEEDS = {"train": train, "scale": scale, "whole": lambda: {"nodes": whole()}}
began = time.monotonic()
with PSContext(spark, num_nodes=2, replication=2) as ps:
    say(seconds=time.monotonic() - began, nodes=whole())
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            say(**DEEDS[asked.pop("do")](**asked))
        except Exception as error:
            say(error=f"{type(error).__name__}: {error}")
"""


class Obedient:
    """A driver program on a cluster that does what it is asked to.

    Parameters
    ----------
    program : DriverProgram
        Of `TRAININGS` and `OBEY`.
    """

    def __init__(self, program: DriverProgram) -> None:
        self.program = program
        self.started = program.hear(150)

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """Have one thing done; what came of it."""
        stdin = self.program.process.stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": do, **what}) + "\n")
        stdin.flush()
        try:
            told = self.program.hear(150)
        except AssertionError:
            self.program.process.send_signal(signal.SIGUSR1)  # where it hangs
            raise AssertionError(f"{do} {what} has not ended: {self.program.errors[-6000:]}") from None
        assert "error" not in told, told["error"] + self.program.errors[-3000:]
        return told

    def end(self) -> int:
        """End the program in good order; its exit status."""
        assert self.program.process.stdin is not None
        self.program.process.stdin.close()
        return self.program.wait(60)

__all__ = ["OBEY", "TRAININGS", "Obedient", "session"]
