"""Ctrl-C while nodes run as Spark jobs: the user's jobs end, the nodes do not."""

from __future__ import annotations

import pathlib

import pytest

from tests.harness.fake_nodes import FAKE_NODE, session
from tests.harness.processes import DriverProgram
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

#: Runs a job in the main thread, and says what an interrupt has done to it and to the node.
PROGRAM = """
from sparkps.driver_bridge.spark.interrupts import SpareNodes
from py4j.clientserver import ClientServerConnection

spare, original = SpareNodes(spark), ClientServerConnection.send_command
begin()
try:
    context.parallelize(range(2), 2).mapPartitions(waiting("user")).collect()
    say(interrupted=False)
except KeyboardInterrupt as error:
    held = error  # as an interactive shell does, with all frames
    tracker = context._jsc.sc().statusTracker()
    others = lambda: set(tracker.getActiveJobIds()) - set(tracker.getJobIdsForTag(NODES_TAG))
    say(interrupted=True, cancelled=until(lambda: not others(), 10), counted=[spark.range(n).count() for n in (3, 4, 5)])
let_end("node")
node.join(30)
say(ends=ends, starts=starts("node"))
spare.end()
say(put_back="cancelAllJobs" not in vars(context) and ClientServerConnection.send_command is original)
let_end("user")
spark.stop()
"""

#: How the nodes come to be spared.
BEGINNINGS = {
    "main_thread": "begin = lambda: spare.begin()",
    "another_thread": """
def begin():
    thread = threading.Thread(target=spare.begin)
    thread.start()
    thread.join()
""",
    "handler_of_a_notebook": """
def begin():
    spare.begin()
    signal.signal(signal.SIGINT, signal.default_int_handler)
""",
    "handler_of_the_user": """
def begin():
    def mine(number, frame, pyspark=signal.getsignal(signal.SIGINT)):
        say(mine=True)
        pyspark(number, frame)
    signal.signal(signal.SIGINT, mine)
    spare.begin()
""",
}


def interrupted(directory: pathlib.Path, master: str, beginning: str) -> list[dict[str, object]]:
    """What a program says that is interrupted in a job of its own beside a node's."""
    said = []
    quiet = session(master, spark_ui_showConsoleProgress="false")
    lines = [quiet, f"directory = {str(directory)!r}", FAKE_NODE, BEGINNINGS[beginning], PROGRAM]
    with DriverProgram("\n".join(lines)) as program:
        assert wait_until(lambda: any(directory.glob("user-started-*")), 150, 0.05), program.errors
        program.interrupt()
        while not said or "put_back" not in said[-1]:
            said.append(program.hear())
        assert program.wait() == 0, program.errors
    return said


def test_interrupt_cancels_the_jobs_of_the_user_and_not_the_node(tmp_path):
    job, node, end = interrupted(tmp_path, "local-cluster[1,3,1024]", "main_thread")
    assert job == {"interrupted": True, "cancelled": True, "counted": [3, 4, 5]}
    assert node == {"ends": [["node"]], "starts": 1}
    assert end["put_back"]


def test_interrupt_spares_the_node_of_a_tier_that_another_thread_has_started(tmp_path):
    job, node, _ = interrupted(tmp_path, "local[3]", "another_thread")
    assert job["interrupted"]
    assert job["cancelled"]
    assert node == {"ends": [["node"]], "starts": 1}


@pytest.mark.long  # tests/spark/test_notebook.py presses the button, too
def test_interrupt_in_a_notebook_leaves_the_gateway_whole(tmp_path):
    """Its handler raises KeyboardInterrupt and cancels nothing; py4j would close the connections of all threads then."""
    job, node, _ = interrupted(tmp_path, "local[4]", "handler_of_a_notebook")
    assert (job["interrupted"], job["counted"]) == (True, [3, 4, 5])
    assert node == {"ends": [["node"]], "starts": 1}


def test_handler_of_the_user_stays_and_may_call_that_of_pyspark(tmp_path):
    mine, job, node, _ = interrupted(tmp_path, "local[3]", "handler_of_the_user")
    assert mine == {"mine": True}
    assert job["interrupted"]
    assert job["cancelled"]
    assert node == {"ends": [["node"]], "starts": 1}
