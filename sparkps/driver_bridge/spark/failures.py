"""What Spark says of a job that failed, brought to one sentence: its first cause, not the stack around it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from sparkps.errors import InputFailed, SparkPSError
from sparkps.plain import cut

log = logging.getLogger(__name__)

#: What Spark says of a task that was lost, up to the reason.
_LOST_TASK = re.compile(r"Lost task (\d+)\.\d+ in stage \S+ \(TID \d+\) \((\S+) executor (\S+)\): (.*)", re.DOTALL)

#: An executor that is gone, up to the reason of the resource manager.
_LOST_EXECUTOR = re.compile(r"^ExecutorLostFailure \(.*?\)\s*(?:Reason:)?\s*", re.DOTALL)

#: What a Python worker says when it crashes and Spark lets it (`spark.python.worker.faulthandler.enabled`), and where it was.
_FAULT = re.compile(r"Fatal Python error: ([^\n]+)(?:.*?File \"([^\"]+)\", line (\d+) in (\S+))?", re.DOTALL)

#: Signs that the system has killed a process, as it does where memory is short.
_KILLED = re.compile(r"exit(?:ed with)?(?: exit)? code (?:is )?137|SIGKILL|exceeding .*memory|OOM", re.IGNORECASE)

#: Characters of one sentence.
_LONGEST = 2000

_TRACEBACK = "Traceback (most recent call last)"

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
    raised = _of_traceback(text)
    if raised:  # by somebody's function: only ours may speak of processes
        return raised.startswith(_OURS)
    return any(sign in text for sign in _SIGNS)


def lost_task(error: BaseException) -> int:
    """The task that a job failed with, by the number of its partition; -1 if Spark does not say.

    Examples
    --------
    >>> lost_task(RuntimeError("Job aborted due to stage failure: Task 2 in stage 5.0 failed 4 times, most recent failure: ..."))
    2
    >>> lost_task(RuntimeError("Job 7 cancelled"))
    -1
    """
    found = re.search(r"\bTask (\d+) in stage \d+\.\d+ failed", str(error))
    return int(found[1]) if found else -1


@dataclass(frozen=True)
class LostTask:
    """A task whose process was lost."""

    #: Number of its partition: the rank.
    task: int
    host: str
    executor: str
    #: One sentence, without a full stop: what is known of the end of the process, and what to set.
    reason: str


def loss_of(error: BaseException) -> LostTask | None:
    """The task that a job has failed with because a process was lost: where it ran, and why; None if Spark does not say.

    Examples
    --------
    >>> loss_of(RuntimeError("Lost task 1.3 in stage 5.0 (TID 12) (host-b executor 3): ExecutorLostFailure (executor 3 exited caused by one"
    ...     " of the running tasks) Reason: Command exited with code 1"))
    LostTask(task=1, host='host-b', executor='3', reason='its executor was lost: Command exited with code 1')
    """
    found = _LOST_TASK.search(str(error))
    if found is None or not is_lost_worker(error):
        return None
    said = _STACK.split(found[4], maxsplit=1)[0].strip()
    return LostTask(int(found[1]), found[2], found[3], cut(_reason(said), _LONGEST))


def _reason(said: str) -> str:
    executor = _LOST_EXECUTOR.match(said)
    if executor is not None:
        why = re.sub(r"\[\d{4}-[^\]]+\]", "", said[executor.end() :])  # the resource manager's time of each line
        why = " ".join(why.split()).rstrip(".")
        hint = "" if "memoryOverhead" in why or not _KILLED.search(why) else f". {_MORE_MEMORY}"
        return f"its executor was lost: {why or 'Spark does not say why'}{hint}"
    fault = _FAULT.search(said)
    if fault is not None:
        where = f", in {fault[4]} ({fault[2]}, line {fault[3]})" if fault[4] else ""
        return f"its Python process crashed: {fault[1]}{where}"
    if "Python worker exited unexpectedly" in said:
        return f"its Python process was killed, or crashed without a word. {_MORE_MEMORY}"
    return " ".join(_without_package(said).split()).rstrip(".")


#: What to set where a process was killed.
_MORE_MEMORY = (
    "If the system has killed it for its memory, raise `spark.executor.memoryOverhead`, or lower `spark.sparkps.workerMemoryBudget`;"
    " `spark.python.worker.faulthandler.enabled` tells where a crash was"
)


def was_cancelled(error: BaseException) -> bool:
    """Whether somebody has cancelled the job."""
    return not _of_traceback(str(error)) and re.search(r"\b[Jj]ob \d+ (was )?cancelled|cancelled as part of", str(error)) is not None


#: What our own tasks raise so that they are run again.
_OURS = ("sparkps.errors.NodeUnreachable", "sparkps.errors.DeadlineExceeded")

#: What Spark and py4j say when a process is gone.
_SIGNS = (
    "Python worker exited unexpectedly",
    "Python worker failed to connect back",
    "Broken pipe",
    "Connection reset",
    "ExecutorLostFailure",
    "Lost executor",
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
    """The error at the end of the first Python traceback in a text, with all that it says; of a chain the last."""
    begin = text.find(_TRACEBACK)
    if begin < 0:
        return ""
    said: list[str] = []
    in_frames = False
    for line in _STACK.split(text[begin:], maxsplit=1)[0].splitlines():
        if line.startswith(_TRACEBACK):
            said, in_frames = [], True
        elif in_frames and line.startswith(" "):
            continue  # a frame
        elif line.startswith(("During handling of the above", "The above exception was")):
            continue
        elif line.strip():
            in_frames = False
            said.append(line.strip())
    return " ".join(said)


def _without_package(said: str) -> str:
    """``java.lang.NullPointerException: x`` as ``NullPointerException: x``."""
    return re.sub(r"^(?:\w+\.)+(?=[A-Z])", "", said)


__all__ = ["LostTask", "input_failed", "is_lost_worker", "loss_of", "lost_task", "root_cause", "was_cancelled"]
