"""One sentence out of what Spark says of a failed job."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.driver_bridge.spark.failures import input_failed, is_lost_worker, root_cause, was_cancelled
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
