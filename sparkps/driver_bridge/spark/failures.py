"""What Spark says of a job that failed, brought to one sentence: its first cause, not the stack around it."""

from __future__ import annotations

import logging
import re
from typing import Any

from sparkps.errors import InputFailed, SparkPSError
from sparkps.plain import cut

log = logging.getLogger(__name__)

#: Characters of one sentence.
_LONGEST = 2000

#: The line of a Python traceback that names the error.
_RAISED = re.compile(r"(sparkps\.errors\.\w+|[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit))\b")

#: Where Spark's own stack begins.
_STACK = re.compile(r"\n\s+at [\w.$]+\(|\nDriver stacktrace:")


def root_cause(error: BaseException) -> str:
    """The first cause of a failed job, in one line: the user's own error where their function raised, else Spark's.

    Examples
    --------
    >>> root_cause(RuntimeError("Job aborted.\\n\\tat org.apache.spark.Scheduler(Scheduler.scala:1)"))
    'RuntimeError: Job aborted.'
    >>> root_cause(RuntimeError('from the worker:\\nTraceback (most recent call last):\\n  File "f.py"\\nZeroDivisionError: by zero\\n'))
    'ZeroDivisionError: by zero'
    """
    text = _innermost(error) or str(error)
    raised = _of_traceback(text) or _of_traceback(str(error))
    if raised:
        return cut(raised, _LONGEST)
    said = " ".join(_STACK.split(text, maxsplit=1)[0].split())
    if not said:
        return type(error).__name__
    named = re.match(r"[\w.$]+(Error|Exception)\b", said) is not None
    return cut(_without_package(said) if named else f"{type(error).__name__}: {said}", _LONGEST)


def is_lost_worker(error: BaseException) -> bool:
    """Whether the job failed because a process was lost, so that it may succeed if it is run again."""
    text = f"{_innermost(error)}\n{error}"
    return any(sign in text for sign in _SIGNS)


#: What Spark, py4j and we ourselves say when a process is gone, or cannot be reached for now.
_SIGNS = (
    "Python worker exited unexpectedly",
    "Python worker failed to connect back",
    "Broken pipe",
    "Connection reset",
    "ExecutorLostFailure",
    "Lost executor",
    "sparkps.errors.NodeUnreachable",
    "sparkps.errors.DeadlineExceeded",
)


def input_failed(told: SparkPSError, job: BaseException | None) -> SparkPSError:
    """The error for rows that Spark could not compute: what is known of it so far, and what Spark says. Others stay as they are."""
    if job is None or not isinstance(told, InputFailed):
        return told
    cause = root_cause(job)
    group = told.attributes.get("group", "")
    error = InputFailed(
        f"The rows for worker group {group!r} must be computable. They are not: {cause}", **{**told.attributes, "cause": cause}
    )
    error.__cause__ = job
    return error


def _innermost(error: BaseException) -> str:
    """The deepest exception of the JVM that says anything; empty if there is none."""
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    said = ""
    try:
        while java is not None:
            if java.getMessage():
                said = str(java.toString())
            java = java.getCause()
    except Exception:  # the JVM is gone
        log.debug("the JVM cannot be asked for a cause", exc_info=True)
    return said


def _of_traceback(text: str) -> str:
    """The error at the end of the first Python traceback in a text."""
    begin = text.find("Traceback (most recent call last)")
    if begin < 0:
        return ""
    traceback = _STACK.split(text[begin:], maxsplit=1)[0]
    raised = [line.strip() for line in traceback.splitlines() if _RAISED.match(line)]
    return raised[-1] if raised else ""


def _without_package(said: str) -> str:
    """``java.lang.NullPointerException: x`` as ``NullPointerException: x``."""
    return re.sub(r"^(?:\w+\.)+(?=[A-Z])", "", said)


__all__ = ["input_failed", "is_lost_worker", "root_cause"]
