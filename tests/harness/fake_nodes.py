"""Driver programs with a Spark job that runs as a node's does: one task under the nodes' tag, until the test lets it go."""

from __future__ import annotations

#: Lines of a driver program, after those that make `spark`. `directory` is one that the program and its executors share.
FAKE_NODE = """
import pathlib, threading, time
from pyspark import InheritableThread
from sparkps.driver_bridge.spark.jobs import NODES_TAG

context = spark.sparkContext
context.setLogLevel("FATAL")

def until(happens, seconds=60):
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not happens() and time.monotonic() < deadline:
        pause.wait(0.02)
    return happens()

def waiting(name):
    # A task that leaves a file when it starts, and runs until there is another one.
    def task(rows):
        import pathlib, threading, uuid
        pathlib.Path(directory, f"{name}-started-{uuid.uuid4().hex}").touch()
        while not pathlib.Path(directory, f"{name}-may-end").exists():
            threading.Event().wait(0.02)
        return [name]
    return task

def starts(name):
    return len(list(pathlib.Path(directory).glob(f"{name}-started-*")))

def let_end(name):
    pathlib.Path(directory, f"{name}-may-end").touch()

def run_node():
    context.addJobTag(NODES_TAG)
    try:
        ends.append(context.parallelize([0], 1).mapPartitions(waiting("node")).collect())
    except BaseException as error:
        ends.append(repr(error))

ends = []
node = InheritableThread(target=run_node, daemon=True)
node.start()
assert until(lambda: starts("node") == 1)
"""


def session(master: str, **settings: str) -> str:
    """Lines of a driver program that make `spark`."""
    lines = "".join(f"\n    .config({key.replace('_', '.')!r}, {value!r})" for key, value in settings.items())
    return f"""
from pyspark.sql import SparkSession
spark = (
    SparkSession.builder.master({master!r})
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.memory", "512m").config("spark.executor.memory", "512m")
    .config("spark.ui.enabled", "false"){lines}
    .getOrCreate()
)
"""


__all__ = ["FAKE_NODE", "session"]
