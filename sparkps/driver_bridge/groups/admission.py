"""A worker group's place on the tier: asked for, waited for, given back."""

from __future__ import annotations

import threading
import time

from sparkps.client.control import ControlClient
from sparkps.errors import DeadlineExceeded
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import AdmitGroup, Admitted, EndGroup

#: Seconds between two questions whether the group is admitted: first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


def admit(control: ControlClient, asking: AdmitGroup, limit: float, remedy: str) -> GroupSpec:
    """Wait for admission: one group at a time, unless the free slots cover this one, too.

    Parameters
    ----------
    control : ControlClient
    asking : AdmitGroup
        Its tag names the request: the group may have been admitted though no answer came.
    limit : float
        Seconds.
    remedy : str
        How to get more slots, as the end of a sentence.

    Raises
    ------
    DeadlineExceeded
        Not within `limit` seconds; names the groups that hold the slots.
    """
    deadline = time.monotonic() + limit
    pause, waiting = _FIRST_PAUSE, threading.Event()
    while True:
        answer = control.request(asking)
        if isinstance(answer, Admitted):
            return answer.spec
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"Worker group {asking.name!r} must be admitted within {limit:g} s. Groups {answer.running} hold the slots, and"
                f" {answer.position} are ahead: wait for them, raise `spark.sparkps.admissionTimeout`, or {remedy}.",
                running=answer.running,
            )
        waiting.wait(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)


def withdraw(control: ControlClient, tag: str, timeout: float) -> None:
    """End the group that a request for admission has led to, or will lead to."""
    control.request(EndGroup(0, 0, tag), timeout=timeout)


def end(control: ControlClient, group: GroupSpec) -> None:
    """End an admitted group."""
    control.request(EndGroup(0, group.group))


__all__ = ["admit", "end", "withdraw"]
