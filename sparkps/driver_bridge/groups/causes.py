"""Why a worker group failed, as the driver raises it: the first cause, not its echoes."""

from __future__ import annotations

from sparkps.driver_bridge.spark.failures import loss_of, root_cause
from sparkps.errors import DeadlineExceeded, GroupError, InputFailed, SparkPSError, WorkerFailed, from_wire
from sparkps.plain import name_of, text_of
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import GroupReport


def told(cause: SparkPSError) -> SparkPSError:
    """The group's first cause as an error to raise: caused by the error of sparkps that it came from, with the worker's traceback."""
    name = cause.attributes.get("cause")
    if isinstance(cause, WorkerFailed) and isinstance(name, str):
        details = {key: value for key, value in cause.attributes.items() if key not in ("cause", "traceback")}
        inner = from_wire(name, cause.message, details)
        if type(inner).__name__ == name:
            cause.__cause__ = inner
        text = cause.attributes.get("traceback")
        if text and not getattr(cause, "__notes__", None):
            cause.add_note(f"Traceback of the worker:\n{text}")
    return cause


def raise_first_cause(error: BaseException, cause: SparkPSError | None) -> None:
    """Raise the group's first cause, if it is known and `error` is but its echo in the driver's thread."""
    is_echo = isinstance(error, SparkPSError) and not isinstance(error, WorkerFailed) and error is not cause
    if is_echo and isinstance(cause, (WorkerFailed, InputFailed)):
        raise told(cause) from error


def left(group: str, error: BaseException | None) -> SparkPSError:
    """What ranks and nodes are told of a group that its driver ends before its ranks have."""
    if isinstance(error, SparkPSError):
        return error
    if error is None:
        said = "its driver left it"
    else:
        text = text_of(error)
        said = f"{name_of(error)}{f': {text}' if text else ''} at the driver"
    return GroupError(f"Worker group {group!r} was ended: {said}.", group=group)


def not_started(report: GroupReport, group: GroupSpec, timeout: float, slots: int, found: str = "", remedy: str = "") -> DeadlineExceeded:
    """The error for ranks that have not started in time; names them, and the cluster's slots.

    Parameters
    ----------
    report : GroupReport
    group : GroupSpec
    timeout : float
        Seconds that they had.
    slots : int
        Task slots of the cluster; 0: not known.
    found : str
        What was asked for and what the cluster has, in sentences, where somebody could look.
    remedy : str
        What to change to get more slots, as a part of a sentence.
    """
    missing = [rank.rank for rank in report.ranks if rank.incarnation == 0]
    has = f"The cluster has {slots} task slots" if slots else "The number of task slots is not known"
    details = f" {found}" if found else ""
    more = f" {remedy}," if remedy else ""
    return DeadlineExceeded(
        f"All {group.num_workers} workers of group {group.name!r} must start within {timeout:g} s. Ranks {missing} have not: other jobs"
        f" hold the slots, or the resource manager gives none. {has}, {group.num_workers} workers were asked for.{details} Ask for fewer"
        f" (`num_workers`), end the other jobs,{more} or raise `spark.sparkps.groupStartTimeout`.",
        group=group.name,
        missing=missing,
        slots=slots,
        asked=group.num_workers,
    )


def worker_lost(error: BaseException, group: GroupSpec) -> WorkerFailed | None:
    """The error for a rank whose process is gone for good, by what Spark says of the job; None where it does not say of which."""
    loss = loss_of(error)
    if loss is None:
        return None
    return WorkerFailed(
        f"Rank {loss.task} of worker group {group.name!r} was lost with its process on {loss.host} (executor {loss.executor}):"
        f" {loss.reason}.",
        group=group.name,
        rank=loss.task,
        host=loss.host,
        executor=loss.executor,
        cause=root_cause(error),
    )


__all__ = ["left", "not_started", "raise_first_cause", "told", "worker_lost"]
