"""Worker groups: admission, leases on ranks, results and first causes. Pure: time is an argument (seconds, monotonic).

A group's life::

    admit ──> queued ──> running ──┬──> finished (every rank has)  ──┬──> ended
                                   └──> failed (with the first cause)┘

A rank's life::

    vacant ──lease──> leased ──finish──> finished, or lost where the driver has finished it (`GIVES_UP`)
      ^                 │  ^
      └──release────────┘  └── lease by another attempt, once this one is released, gone or silent for `ttl`: incarnation + 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkps.driver_bridge.coordinator.meetings import Meetings
from sparkps.driver_bridge.coordinator.reports import check_counters
from sparkps.errors import Fenced, GroupError, InvalidInput
from sparkps.namespaces import owner_of
from sparkps.specs import LONGEST_GROUP_NAME, MAX_RANKS, GroupSpec, check_group, check_start
from sparkps.wire.messages.control import (
    GIVES_UP,
    LONGEST_APPLICATION,
    MAX_RECORDED_RESULT,
    MAX_SAID,
    AdmitGroup,
    Cause,
    RankReport,
)

#: A group that nobody was heard from for so many lease times, and for at least so many seconds, is over.
PATIENCE_TTLS, PATIENCE_SECONDS = 3.0, 60.0

#: "No attempt": attempts are Spark's taskAttemptId (>= 0), -1 for the driver-side solver, or `GIVES_UP`.
NO_ATTEMPT = -2

#: Most characters of the name of a process.
LONGEST_PROCESS = 512
#: Most groups in the queue; and tags of groups that have ended which are remembered, the last ones.
MOST_QUEUED, MOST_ENDED = 4096, 10_000
#: Bytes of states from which running groups go on, together: a node that joins is told all of them at once.
MOST_START_BYTES = 40 << 20
#: Meetings are counted up to this.
MOST_MEETINGS = 1 << 48


#: Bytes of all results that are recorded together, of all groups that run: what does not fit is left to the tasks.
MOST_RECORDED = 256 << 20


@dataclass
class RankRecord:
    """One rank of a running group."""

    #: Attempt that holds or last held the rank.
    attempt: int = NO_ATTEMPT
    #: Its process, as `lifeline.this_process` names it; empty: not known.
    process: str = ""
    #: Number of attempts that have held the rank; fences lower ones at the nodes.
    incarnation: int = 0
    #: The holder's lease ends then; None: nobody holds the rank.
    expires_at: float | None = None
    #: Until then a successor may come, before the driver may give the rank up: the end of the last lease, also of one released.
    awaited_until: float = 0.0
    finished: bool = False
    #: Of a finished rank.
    result: bytes | None = None
    #: What the rank sent last: progress, plain values.
    counters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given_up(self) -> bool:
        """Whether the driver has the rank, to finish it in place of a lost worker, or has done so."""
        return self.attempt == GIVES_UP

    def hold(self, until: float) -> None:
        """The holder's lease lasts until then."""
        self.expires_at = self.awaited_until = until

    def is_held(self, now: float) -> bool:
        """Whether somebody's lease goes on."""
        return self.expires_at is not None and self.expires_at > now

    def report(self, rank: int, now: float) -> RankReport:
        """This rank as the driver sees it."""
        finished = "lost" if self.given_up else "finished"
        state = finished if self.finished else "leased" if self.is_held(now) else "vacant"
        attempt = -1 if self.attempt == NO_ATTEMPT else self.attempt
        return RankReport(rank, state, attempt, self.incarnation, dict(self.counters))


@dataclass
class GroupRecord:
    """One running group."""

    spec: GroupSpec
    #: Names the request that asked for it.
    tag: str
    ranks: list[RankRecord]
    #: When its driver or one of its ranks was last heard.
    heard_at: float
    #: First cause of its failure.
    cause: Cause | None = None
    #: Of its workers with each other.
    meetings: Meetings = field(default_factory=Meetings)
    #: Whose slots its workers take (`AdmitGroup.application`).
    application: str = ""
    #: Bytes of results that are recorded.
    recorded: int = 0

    @property
    def all_started(self) -> bool:
        """Whether every rank has been leased at least once."""
        return all(rank.incarnation for rank in self.ranks)

    @property
    def state(self) -> str:
        """One of "running", "failed", "finished"."""
        if self.cause is not None:
            return "failed"
        return "finished" if all(rank.finished for rank in self.ranks) else "running"


@dataclass
class QueuedGroup:
    """A group in the queue."""

    #: Names the request that asks for it again and again; no other in the queue or among the running groups has it.
    tag: str
    #: For messages.
    name: str
    #: When it asked last; who does not ask again within a lease time has gone.
    asked_at: float
    #: As in `GroupRecord`.
    application: str = ""


@dataclass(frozen=True)
class Holds:
    """Answer to a lease: the rank is the attempt's."""

    #: > 0, and above that of every earlier attempt.
    incarnation: int
    #: Whether every rank of the group has been leased.
    started: bool


@dataclass(frozen=True)
class HeldByOther:
    """Answer to a lease: ask again."""

    #: Who holds it, and for how long at least.
    reason: str
    #: The holder's process; empty: not known.
    process: str = ""


@dataclass(frozen=True)
class HasFinished:
    """Answer to a lease: nothing is left to do."""

    #: Pickled; None: it was too large to be recorded.
    result: bytes | None


class Groups:
    """All worker groups of a tier. Owner: the coordinator's thread.

    Parameters
    ----------
    ttl : float
        Seconds that a lease, or a place in the queue, lasts without being renewed.
    """

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        #: Seconds that a group lasts without a word of its driver or of a rank.
        self.patience = max(PATIENCE_TTLS * ttl, PATIENCE_SECONDS)
        #: Groups that were admitted and have not ended, by id.
        self.running: dict[int, GroupRecord] = {}
        #: First come, first served.
        self.queue: list[QueuedGroup] = []
        #: Next id, > all used ones.
        self.next_group = 1
        #: Tags of groups that have ended, the last ones, so that a late repetition of their request admits nothing.
        self._ended_tags: dict[str, None] = {}

    # ---- admission -----------------------------------------------------------------------------------------------------

    def admit(self, asked: AdmitGroup, now: float, is_closed: bool = False) -> tuple[GroupSpec | None, bool]:
        """The admitted group and whether it is new, or (None, False): it has to wait.

        One group of an application at a time, unless the free slots cover all workers of the first in its queue; none that is new if
        `is_closed`. Applications do not wait for each other: each has slots of its own.

        Raises
        ------
        InvalidInput
            An impossible size or staleness.
        GroupError
            The group has ended.
        """
        _check_asked(asked)
        for group in self.running.values():
            if group.tag == asked.tag:
                group.heard_at = now
                return group.spec, False
        if asked.tag in self._ended_tags:
            raise GroupError(f"Worker group {asked.name!r} must not have ended. It has.", group=asked.name)
        self._queue(asked, now)
        if is_closed or self._first(asked.application).tag != asked.tag or not self._fits(asked):
            return None, False
        self.queue = [waiting for waiting in self.queue if waiting.tag != asked.tag]
        spec = GroupSpec(self.next_group, asked.name, asked.num_ranks, asked.num_workers, asked.staleness, asked.start)
        self.next_group += 1
        ranks = [RankRecord() for _ in range(spec.num_ranks)]
        self.running[spec.group] = GroupRecord(spec, asked.tag, ranks, now, application=asked.application)
        return spec, True

    def _queue(self, asked: AdmitGroup, now: float) -> None:
        for waiting in self.queue:
            if waiting.tag == asked.tag:
                waiting.asked_at = now
                break
        else:
            self.queue.append(QueuedGroup(asked.tag, asked.name, now, asked.application))
        self.queue = [waiting for waiting in self.queue if now - waiting.asked_at <= self.ttl]
        if len(self.queue) > MOST_QUEUED:
            del self.queue[MOST_QUEUED:]
            raise GroupError(f"At most {MOST_QUEUED} worker groups may wait for others. As many do: ask again later.", group=asked.name)

    def _first(self, application: str) -> QueuedGroup:
        return next(waiting for waiting in self.queue if waiting.application == application)

    def _fits(self, asked: AdmitGroup) -> bool:
        used = [group.spec.num_workers for group in self.running.values() if group.application == asked.application]
        ranks = asked.num_ranks + sum(group.spec.num_ranks for group in self.running.values())
        nbytes = _start_bytes(asked) + sum(_start_bytes(group.spec) for group in self.running.values())
        has_slots = not used or sum(used) + asked.num_workers <= asked.slots
        return has_slots and (not self.running or (ranks <= MAX_RANKS and nbytes <= MOST_START_BYTES))

    def position(self, tag: str) -> int:
        """Number of groups of the same application ahead in the queue."""
        own = next((waiting.application for waiting in self.queue if waiting.tag == tag), "")
        ahead = [waiting.tag for waiting in self.queue if waiting.application == own]
        return ahead.index(tag) if tag in ahead else len(ahead)

    def owners(self) -> set[str]:
        """Of all groups that run or wait, by their names (see `sparkps.namespaces`)."""
        return {owner_of(group.spec.name) for group in self.running.values()} | {owner_of(waiting.name) for waiting in self.queue}

    def end(self, group: int) -> bool:
        """The group is over; whether it was there."""
        state = self.running.pop(group, None)
        if state is not None:
            self._note_end(state.tag)
        return state is not None

    def withdraw(self, tag: str) -> int:
        """A request for admission does not count any more, whether it was seen, or comes later; the group it led to, or 0."""
        _check_tag(tag)
        self.queue = [waiting for waiting in self.queue if waiting.tag != tag]
        for group, state in self.running.items():
            if state.tag == tag:
                return group
        self._note_end(tag)
        return 0

    def _note_end(self, tag: str) -> None:
        self._ended_tags[tag] = None
        if len(self._ended_tags) > MOST_ENDED:
            del self._ended_tags[next(iter(self._ended_tags))]

    # ---- time ----------------------------------------------------------------------------------------------------------

    def unheard(self, now: float) -> list[GroupRecord]:
        """Groups of which neither the driver nor a rank was heard for too long: they hold their slots for nobody."""
        return [state for state in self.running.values() if now - state.heard_at > self.patience]

    def shift(self, seconds: float) -> None:
        """So much time counts for nobody: the coordinator itself did not run."""
        for waiting in self.queue:
            waiting.asked_at += seconds
        for state in self.running.values():
            state.heard_at += seconds
            state.meetings.shift(seconds)
            for rank in state.ranks:
                rank.awaited_until += seconds
                if rank.expires_at is not None:
                    rank.expires_at += seconds

    # ---- ranks ---------------------------------------------------------------------------------------------------------

    def lease(
        self, group: int, rank: int, attempt: int, now: float, process: str = "", gone: str = ""
    ) -> Holds | HeldByOther | HasFinished:
        """An attempt asks for a rank.

        Parameters
        ----------
        group, rank, attempt : int
        now : float
        process : str
            That of the attempt; empty: not known.
        gone : str
            A holder's process that has been seen to be gone: if it is still the holder's, the lease is over.

        Raises
        ------
        SparkPSError
            The group's first cause, or `Fenced` if it has ended.
        """
        state = self._live(group, rank)
        if attempt < GIVES_UP or attempt == NO_ATTEMPT or max(len(process), len(gone)) > LONGEST_PROCESS:
            raise InvalidInput(
                f"An attempt must have a number from 0, -1 or {GIVES_UP}, and its process a name of at most {LONGEST_PROCESS} characters."
                f" Got attempt {attempt}, and names of {len(process)} and {len(gone)} characters.",
                rank=rank,
            )
        state.heard_at = now
        if state.cause is not None:
            raise state.cause.exception()
        slot = state.ranks[rank]
        if slot.finished:
            return HasFinished(slot.result)
        if slot.attempt != attempt:
            is_gone = slot.process != "" and slot.process == gone
            if slot.is_held(now) and not is_gone:
                said = f"attempt {slot.attempt} holds rank {rank}; its lease ends in {slot.awaited_until - now:.1f} s"
                return HeldByOther(said, slot.process)
            if attempt == GIVES_UP and (why := _why_kept(state, rank, now, is_gone)):
                return HeldByOther(why)
            slot.attempt, slot.incarnation = attempt, slot.incarnation + 1
        slot.process = process
        slot.hold(now + self.ttl)
        return Holds(slot.incarnation, state.all_started)

    def renew(self, group: int, rank: int, attempt: int, counters: Mapping[str, Any], now: float) -> GroupRecord:
        """An attempt keeps its rank, also after the lease's end if no other has taken it.

        Raises
        ------
        Fenced
            Another attempt has the rank, or the group has ended.
        """
        state = self._live(group, rank)
        slot = self._held(state, rank, attempt)
        check_counters(counters)
        state.heard_at = now
        if not slot.finished:  # a renewal that was on its way when the rank finished
            slot.hold(now + self.ttl)
            slot.counters = counters or slot.counters
        return state

    def meet(self, group: int, rank: int, attempt: int, after: int, said: bytes, now: float) -> tuple[int, dict[int, bytes]] | None:
        """An attempt asks for a meeting of the group's workers; see `meetings`.

        Returns
        -------
        tuple or None
            The meeting's number and what was said, by rank; None: ask again.

        Raises
        ------
        SparkPSError
            The group's first cause, or `Fenced`: another attempt has the rank, or the group has ended.
        InvalidInput
            The rank is no worker's, or more is said than `MAX_SAID` bytes.
        """
        state = self._live(group, rank)
        if state.cause is not None:
            raise state.cause.exception()
        if rank >= state.spec.num_workers or len(said) > MAX_SAID or not 0 <= after < MOST_MEETINGS:
            raise InvalidInput(
                f"Workers meet, ranks below {state.spec.num_workers}, say at most {MAX_SAID} bytes, and have been to a meeting with a"
                f" number below {MOST_MEETINGS}. Got rank {rank}, {len(said)} bytes and meeting {after}.",
                rank=rank,
            )
        slot = self._held(state, rank, attempt)
        workers = state.ranks[: state.spec.num_workers]
        live = {number: each.incarnation for number, each in enumerate(workers) if not each.finished and not each.given_up}
        found = state.meetings.ask(rank, slot.incarnation, after, said, now, live)
        return None if found is None else (state.meetings.number, found)

    def release(self, group: int, rank: int, attempt: int) -> None:
        """An attempt gives its rank back; of another's rank or an ended group this is nothing."""
        state = self.running.get(group)
        if state is not None and 0 <= rank < len(state.ranks) and state.ranks[rank].attempt == attempt:
            # The same attempt may come back, under a new incarnation as everybody else.
            slot = state.ranks[rank]
            slot.attempt, slot.process, slot.expires_at = NO_ATTEMPT, "", None

    def finish(self, group: int, rank: int, attempt: int, result: bytes | None, counters: Mapping[str, Any]) -> None:
        """The rank's function has returned.

        Raises
        ------
        Fenced
            Another attempt has the rank, or the group has ended.
        InvalidInput
            A result larger than `MAX_RECORDED_RESULT`.
        """
        if result is not None and len(result) > MAX_RECORDED_RESULT:
            raise InvalidInput(
                f"A recorded result must have at most {MAX_RECORDED_RESULT} bytes. Got {len(result)} instead.",
                rank=rank,
            )
        slot = self._held(self._live(group, rank), rank, attempt)
        check_counters(counters)
        if not slot.finished:
            slot.result = self._recorded(self.running[group], result)
        slot.finished, slot.expires_at = True, None
        slot.counters = counters or slot.counters

    def _recorded(self, state: GroupRecord, result: bytes | None) -> bytes | None:
        """A result, if there is room for it; None as of one that is too large: the task that returns brings it."""
        if result is None or sum(each.recorded for each in self.running.values()) + len(result) > MOST_RECORDED:
            return None
        state.recorded += len(result)
        return result

    def fail(self, group: int, cause: Cause) -> bool:
        """The group fails, unless it has failed or ended before; whether this is news.

        Any attempt may say so, also one that has lost its rank: what it raised is the user's error all the same.
        """
        state = self.running.get(group)
        if state is None or state.cause is not None:
            return False
        state.cause = cause
        return True

    # ---- questions -----------------------------------------------------------------------------------------------------

    def hear(self, group: int, now: float) -> GroupRecord:
        """A running group, of which the driver has just been heard.

        Raises
        ------
        GroupError
            It has ended, or never was.
        """
        state = self.get(group)
        state.heard_at = now
        return state

    def get(self, group: int) -> GroupRecord:
        """A running group.

        Raises
        ------
        GroupError
            It has ended, or never was.
        """
        state = self.running.get(group)
        if state is None:
            raise GroupError(f"Worker group {group} must not have ended. It has.", group=group)
        return state

    def validate(self) -> None:
        """Check the invariants that the fields' comments state."""
        tags = [g.tag for g in self.running.values()] + [w.tag for w in self.queue]
        assert len(set(tags)) == len(tags), "a request is queued or running, once"
        assert not self._ended_tags.keys() & set(tags)
        for group, state in self.running.items():
            assert 0 < group == state.spec.group < self.next_group
            assert len(state.ranks) == state.spec.num_ranks
            for rank in state.ranks:
                assert (rank.incarnation > 0) or (rank.attempt == NO_ATTEMPT and rank.expires_at is None)
                assert not (rank.finished and rank.expires_at is not None)
                assert rank.expires_at in (None, rank.awaited_until)
                assert rank.expires_at is None or rank.attempt != NO_ATTEMPT
                assert not rank.process or rank.attempt != NO_ATTEMPT
            workers = state.ranks[: state.spec.num_workers]
            assert not all(rank.given_up for rank in workers), "a group has at least one worker"

    def _live(self, group: int, rank: int) -> GroupRecord:
        state = self.running.get(group)
        if state is None:
            raise Fenced(f"Worker group {group} must not have ended. It has: this attempt must stop.", group=group)
        if not 0 <= rank < len(state.ranks):
            raise InvalidInput(
                f"A rank of worker group {state.spec.name!r} must be in [0, {len(state.ranks)}). Got {rank}.", rank=rank
            )
        return state

    def _held(self, state: GroupRecord, rank: int, attempt: int) -> RankRecord:
        slot = state.ranks[rank]
        if slot.attempt != attempt or attempt == NO_ATTEMPT:
            holder = "no attempt" if slot.attempt == NO_ATTEMPT else f"attempt {slot.attempt}"
            raise Fenced(
                f"Rank {rank} of worker group {state.spec.name!r} must be held by attempt {attempt}. It is held by {holder}:"
                " this attempt was silent for too long, and must stop.",
                group=state.spec.group,
                rank=rank,
            )
        return slot


def _why_kept(state: GroupRecord, rank: int, now: float, is_gone: bool) -> str:
    """Why the driver cannot give up a rank that nobody holds; empty: it can."""
    slot, workers = state.ranks[rank], state.ranks[: state.spec.num_workers]
    if rank >= len(workers):
        return f"rank {rank} is the solver's"
    if slot.incarnation == 0:
        return f"rank {rank} has not started yet"
    if slot.awaited_until > now and not is_gone:
        return f"a successor may come to rank {rank} within {slot.awaited_until - now:.1f} s"
    if all(other.given_up for other in workers if other is not slot):
        return f"rank {rank} is the last worker"
    return ""


def _check_asked(asked: AdmitGroup) -> None:
    check_group(asked.name, asked.num_workers, asked.num_ranks, asked.staleness)
    check_start(asked.name, asked.num_ranks, asked.start)
    _check_tag(asked.tag)
    if _start_bytes(asked) > MOST_START_BYTES:
        raise InvalidInput(
            f"The states from which the ranks of worker group {asked.name!r} go on must have at most {MOST_START_BYTES} bytes together. Got"
            f" {_start_bytes(asked)}: keep what is large in tables.",
            group=asked.name,
        )
    if len(asked.application) > LONGEST_APPLICATION:
        raise InvalidInput(
            f"The application of a request for admission must have at most {LONGEST_APPLICATION} characters. Got {len(asked.application)}.",
            group=asked.name,
        )


def _check_tag(tag: str) -> None:
    if not 0 < len(tag) <= LONGEST_GROUP_NAME:
        raise InvalidInput(
            f"A request for admission must have a tag of 1 to {LONGEST_GROUP_NAME} characters. Got {len(tag)} instead."
        )


def _start_bytes(of: AdmitGroup | GroupSpec) -> int:
    return sum(len(rank.state or b"") for rank in of.start)


__all__ = ["GroupRecord", "Groups", "HasFinished", "HeldByOther", "Holds", "QueuedGroup", "RankRecord"]
