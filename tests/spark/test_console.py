"""Spark's progress bar on the console while nodes run as Spark jobs."""

from __future__ import annotations

import re

import pytest

from tests.harness.fake_nodes import FAKE_NODE, session
from tests.harness.processes import DriverProgram

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BEGINNING = """
from sparkps.driver_bridge.spark import console
off = console.KeepOff(spark)
off.begin()
off.begin()
"""

#: Runs a job beside the node's, and says what the bar shows while it runs, at its end, and when Spark's own bar is back.
PROGRAM = """

def drawn():
    bar = console.bar_of(spark)
    return console._method(bar, "lastProgressBar").invoke(bar, context._gateway.new_array(context._jvm.java.lang.Object, 0))

def run_user():
    context.parallelize(range(2), 2).foreachPartition(waiting("user"))

def shown_in(name):
    user = InheritableThread(target=run_user)
    user.start()
    until(lambda: drawn() != "")
    shown = drawn()
    let_end(name)
    user.join()
    return shown

say(during=shown_in("user"))
say(after=drawn())
off.end()
off.end()
until(lambda: "/ 1]" in drawn())
say(put_back=drawn())
let_end("node")
node.join()
spark.stop()
off.end()
say(threads=[thread.name for thread in threading.enumerate() if "console" in thread.name])
"""


def said(tmp_path, **settings):
    lines = [session("local[3]", **settings), BEGINNING, f"directory = {str(tmp_path)!r}", FAKE_NODE, PROGRAM]
    with DriverProgram("\n".join(lines)) as program:
        heard = {}
        while "threads" not in heard:
            heard |= program.hear()
        assert program.wait() == 0, program.errors
    return heard, program.errors


def test_stages_of_nodes_stay_off_the_progress_bar_and_others_are_shown(tmp_path):
    heard, terminal = said(tmp_path, spark_ui_showConsoleProgress="true")
    assert re.fullmatch(r"\[Stage \d+:[=> ]*\(0 \+ \d\) / 2\]", heard["during"])
    # Spark wipes its job off at the end, but for a busy JVM whose timer draws it once more.
    assert "/ 1]" not in heard["after"]
    assert re.fullmatch(r"\[Stage \d+:[=> ]*\(0 \+ 1\) / 1\]", heard["put_back"])
    node = re.match(r"\[Stage \d+:", heard["put_back"])[0]
    assert node not in terminal[: terminal.index(heard["during"]) + len(heard["during"])]
    assert heard["threads"] == []
