"""Messages of worker groups, from admission to end: driver and workers <-> coordinator."""

from __future__ import annotations

from typing import Any

from sparkps.specs import GroupSpec, RankStart
from sparkps.wire.messages.base import ControlMessage
from sparkps.wire.messages.control.values import Cause, RankReport

#: Most characters of an application's name.
LONGEST_APPLICATION = 64

# ---- driver or worker -> coordinator -----------------------------------------------------------------------------------


class AdmitGroup(ControlMessage, frozen=True, tag=69):
    """Asks for admission of a worker group. Answer: `Admitted`, after every node has opened it, or `Queued`.

    The driver sends it again (with a new seq and the same `tag`) while queued; a request not repeated within the lease
    time leaves the queue.
    """

    seq: int
    name: str
    num_workers: int
    #: Members of the clock: the workers, plus 1 with a driver-side solver.
    num_ranks: int
    staleness: int
    #: Tasks that the cluster can run at once, of all groups together; 0: not known.
    slots: int
    #: Chosen by the driver, random: names this request.
    tag: str
    #: Where the ranks go on, of a group that continues an earlier one.
    start: tuple[RankStart, ...] = ()
    #: Random: who asks, where several applications share the tier, of whose groups alone `slots` are. At most `LONGEST_APPLICATION`
    #: characters.
    application: str = ""


class EndGroup(ControlMessage, frozen=True, tag=70):
    """The group is over; nodes forget it. Answer: `Accepted`, also if it has ended before.

    A driver that never learned the group's id (0) names its request for admission by `tag`.
    """

    seq: int
    group: int
    tag: str = ""


class Lease(ControlMessage, frozen=True, tag=71):
    """A task attempt asks for a rank. Answer: `Leased`, `Wait` (ask again), or `Recorded` (the rank has finished).

    Refused with the group's first cause if it failed, with `Fenced` if it ended.
    """

    seq: int
    group: int
    rank: int
    #: Spark's taskAttemptId; -1 for the driver-side solver; `GIVES_UP`: the driver gives the rank up, which it can when no successor
    #: has come by the end of the last lease, and the rank is not that of the last worker.
    attempt: int
    #: The process of the attempt, as `lifeline.this_process` names it; empty: not known.
    process: str = ""
    #: A process that held the rank and has been seen to be gone: its lease is over.
    gone: str = ""


class Renew(ControlMessage, frozen=True, tag=72):
    """Keeps a lease, with progress. Answer: `Renewed`; refused with `Fenced` if another attempt has the rank.

    To be sent three times per `lease_ttl` at least.
    """

    seq: int
    group: int
    rank: int
    attempt: int
    counters: dict[str, Any] = {}


class Meet(ControlMessage, frozen=True, tag=89):
    """Asks for a meeting of all workers of the group. Answer: `Met`, or `Wait` (ask again, several times a second).

    Refused with the group's first cause if it failed, with `Fenced` if another attempt has the rank.
    """

    seq: int
    group: int
    rank: int
    attempt: int
    #: Number of the last meeting that this attempt has been to; 0: none.
    after: int = 0
    #: What the others are to hear; at most `MAX_SAID` bytes.
    said: bytes = b""


class ReleaseRank(ControlMessage, frozen=True, tag=73):
    """Gives a rank back unfinished, so that the next attempt need not wait for the lease's end. Answer: `Accepted`."""

    seq: int
    group: int
    rank: int
    attempt: int


class FinishRank(ControlMessage, frozen=True, tag=74):
    """The rank's function has returned. Answer: `Accepted`; refused with `Fenced` if another attempt has the rank.

    `result` is recorded for later attempts at the same rank: at most `MAX_RECORDED_RESULT` bytes, or None.
    """

    seq: int
    group: int
    rank: int
    attempt: int
    result: bytes | None = None
    counters: dict[str, Any] = {}


class FailRank(ControlMessage, frozen=True, tag=75):
    """The rank's function raised: the group fails with this cause, unless it failed before. Answer: `Accepted`.

    Rank -1: the driver ends the group with a cause of its own (a cancelled call, a failed job).
    """

    seq: int
    group: int
    rank: int
    attempt: int
    cause: Cause


class GroupState(ControlMessage, frozen=True, tag=76):
    """Asks how a group is doing. Answer: `GroupReport`; refused with `GroupError` if it has ended."""

    seq: int
    group: int


# ---- coordinator -> driver or worker -----------------------------------------------------------------------------------


class Admitted(ControlMessage, frozen=True, tag=100):
    """The group may start; its start deadline runs from now."""

    seq: int
    spec: GroupSpec


class Queued(ControlMessage, frozen=True, tag=101):
    """Not yet: `position` groups are ahead, and those in `running` hold slots."""

    seq: int
    position: int
    running: list[str] = []


class Leased(ControlMessage, frozen=True, tag=102):
    """The rank is the attempt's. `started`: every rank of the group has been leased at least once."""

    seq: int
    incarnation: int
    started: bool


class Wait(ControlMessage, frozen=True, tag=103):
    """Another attempt holds the rank; ask again."""

    seq: int
    reason: str
    #: The holder's process (`Lease.process`).
    holder: str = ""


class Recorded(ControlMessage, frozen=True, tag=104):
    """The rank has finished before, with this result."""

    seq: int
    result: bytes | None = None


class Renewed(ControlMessage, frozen=True, tag=105):
    """The lease goes on. `all_started` opens the start barrier; `failed` is the group's first cause, if any."""

    seq: int
    all_started: bool
    failed: Cause | None = None
    #: Number of the meeting that a worker of the group waits for; 0: none.
    meeting: int = 0


class Met(ControlMessage, frozen=True, tag=94):
    """A meeting took place: its number, above those of earlier ones, and what each rank has said."""

    seq: int
    number: int
    said: dict[int, bytes]


class GroupReport(ControlMessage, frozen=True, tag=106):
    """State of a group: "running", "failed" (with `cause`) or "finished" (every rank has)."""

    seq: int
    group: int
    state: str
    cause: Cause | None
    all_started: bool
    ranks: list[RankReport]
