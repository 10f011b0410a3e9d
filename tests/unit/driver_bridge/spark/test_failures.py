"""One sentence out of what Spark says of a failed job."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.driver_bridge.spark.failures import input_failed, is_lost_worker, loss_of, root_cause, was_cancelled
from sparkps.errors import InputFailed, WorkerFailed


class Java:
    """An exception of the JVM."""

    def __init__(self, name: str, message: str | None, cause: Java | None = None) -> None:
        self.name, self.message, self.cause = name, message, cause

    def getMessage(self) -> str | None:
        return self.message

    def getCause(self) -> Java | None:
        return self.cause

    def toString(self) -> str:
        return self.name if self.message is None else f"{self.name}: {self.message}"


class JobError(Exception):
    def __init__(self, text: str, java: Any = None) -> None:
        super().__init__(text)
        self.java_exception = java


class NoJvm:
    def getMessage(self) -> str:
        raise ConnectionError("py4j")


UDF = """An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/x/worker.py", line 3, in main
    process()
  File "<stdin>", line 1, in f
{}

\tat org.apache.spark.api.python.BasePythonRunner.read(PythonRunner.scala:1)
ERROR: not this Error: line
"""


CHAINED = 'Traceback (most recent call last):\n  File "f.py", line 2, in g\n    raise Refused\nmod.Refused: no'
NESTED = Java("a.b.SparkException", "lots", Java("java.lang.OopsException", "no\nluck"))
CRASHED = "Python worker exited unexpectedly (crashed)"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (JobError(UDF.format("ZeroDivisionError: division by zero")), "ZeroDivisionError: division by zero"),
        (JobError(UDF.format("my.pkg.OddError")), "my.pkg.OddError"),
        (JobError(UDF.format("ValueError: row 7 is bad:\nTypeError in field b")), "ValueError: row 7 is bad: TypeError in field b"),
        (JobError(UDF.format(f"KeyError: 1\n\nDuring handling of the above exception, another occurred:\n\n{CHAINED}")), "mod.Refused: no"),
        (JobError("Job aborted due to stage failure: lots\n\tat x.Y(Z.scala:1)", NESTED), "OopsException: no luck"),
        (JobError(CRASHED, Java("a.SparkException", CRASHED, Java("java.io.EOFException", None))), f"SparkException: {CRASHED}"),
        (JobError("Job aborted.\n\tat org.x.Y(Z.scala:1)", NoJvm()), "JobError: Job aborted."),
        (JobError(""), "JobError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_the_first_cause_in_one_line(error: BaseException, said: str) -> None:
    assert root_cause(error) == said


def test_no_cause_is_too_long_for_a_message() -> None:
    assert len(root_cause(JobError("x" * 1_000_000))) < 10_000


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("Python worker exited unexpectedly (crashed)", True),
        ("ExecutorLostFailure (executor 3 exited ...)", True),
        (UDF.format("sparkps.errors.NodeUnreachable: The coordinator ..."), True),
        (UDF.format("ZeroDivisionError: division by zero"), False),
        ("Job 3 cancelled", False),
        (UDF.format("ConnectionResetError: Connection reset by peer"), False),
    ],
)
def test_what_may_succeed_when_it_is_run_again(text: str, lost: bool) -> None:
    assert is_lost_worker(JobError(text)) == lost


@pytest.mark.parametrize(
    ("text", "cancelled"),
    [
        ("org.apache.spark.SparkException: Job 3 cancelled ", True),
        ("Job 3 cancelled as part of cancellation of all jobs", True),
        (UDF.format("ValueError: Job 7 was cancelled by its customer"), False),
    ],
)
def test_what_somebody_has_cancelled(text: str, cancelled: bool) -> None:
    assert was_cancelled(JobError(text)) == cancelled


def test_only_failures_of_the_input_are_explained() -> None:
    told = InputFailed("rows end", group="g", rank=3)
    job = JobError(UDF.format("ZeroDivisionError: division by zero"))
    explained = input_failed(told, job)
    assert str(explained).startswith("The rows for worker group 'g' must be computable. They are not: ZeroDivisionError")
    assert (explained.rank, explained.cause) == (3, "ZeroDivisionError: division by zero")
    assert explained.__cause__ is job
    assert input_failed(told, None) is told
    other = WorkerFailed("x")
    assert input_failed(other, job) is other


# ---- processes that the system or the resource manager has ended -------------------------------------------------------

LOST = (
    "An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.\n: org.apache.spark.SparkException: Job"
    " aborted due to stage failure: Task 1 in stage 5.0 failed 4 times, most recent failure: Lost task 1.3 in stage 5.0 (TID 12)"
    " (host-b executor 3): {}\n\nDriver stacktrace:\n\tat org.apache.spark.scheduler.DAGScheduler.abort(DAGScheduler.scala:1)"
)
GONE = "ExecutorLostFailure (executor 3 exited caused by one of the running tasks) Reason: "
YARN = "Container killed by YARN for exceeding physical memory limits. 1.5 GB of 1.5 GB physical memory used. Consider boosting"
FAULT = (
    "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed): Fatal Python error: Segmentation fault\n\n"
    'Current thread 0x00007f01 (most recent call first):\n  File "/x/ctypes.py", line 519 in string_at\n  File "/x/mine.py", line 10 in f\n'
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"{GONE}{YARN} spark.executor.memoryOverhead.", f"its executor was lost: {YARN} spark.executor.memoryOverhead"),
        (
            GONE + "[2026-11-22 12:00:01.503]Container killed on request. Exit code is 137\n[2026-11-22 12:00:01.5]Killed by signal",
            "its executor was lost: Container killed on request. Exit code is 137 Killed by signal. If the system has killed it",
        ),
        (GONE + "Command exited with code 1", "its executor was lost: Command exited with code 1"),
        ("ExecutorLostFailure (executor 3 exited)", "its executor was lost: Spark does not say why"),
        (FAULT, "its Python process crashed: Segmentation fault, in string_at (/x/ctypes.py, line 519)"),
        (
            "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed): \n\n\tat org.apache.spark.X(X.scala:3)",
            "its Python process was killed, or crashed without a word. If the system has killed it for its memory, raise",
        ),
        ("java.net.SocketException: Broken pipe", "SocketException: Broken pipe"),
    ],
)
def test_where_a_process_was_lost_and_why(said: str, reason: str) -> None:
    loss = loss_of(JobError(LOST.format(said)))
    assert loss is not None
    assert (loss.task, loss.host, loss.executor) == (1, "host-b", "3")
    assert loss.reason.startswith(reason)
    assert "\n" not in loss.reason
    if "memoryOverhead" not in reason and "137" not in reason and "killed" not in reason:
        assert loss.reason == reason


def test_a_function_that_raises_is_no_lost_process() -> None:
    assert loss_of(JobError(LOST.format(UDF.format("ValueError: Broken pipe")))) is None
    assert loss_of(JobError("Job 7 cancelled")) is None
