"""Checkpoints of a worker group while it runs: where and when they are taken, and that nobody waits long for one in vain."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sparkps.checkpoints.manifest import Checkpoint, Owner
from sparkps.checkpoints.schedule import CheckpointSchedule
from sparkps.checkpoints.store import CheckpointStore
from sparkps.client.control import ControlClient
from sparkps.driver_bridge import checkpointing
from sparkps.errors import ConfigError, SparkPSError
from sparkps.specs import GroupSpec
from sparkps.wire.messages.control import TierStatus

log = logging.getLogger(__name__)

#: Seconds between two looks at the clock of the group.
_LOOK_EVERY = 0.1

#: Clocks between two checkpoints, if nothing is said.
_EVERY = 10

#: Checkpoints of a run that are kept.
_KEEP = 3

#: Seconds that a group which has ended waits for the checkpoint that is under way.
GRACE = 3.0


@dataclass(frozen=True)
class CheckpointPlan:
    """Where and when checkpoints of a run are written. Made by `plan_of`."""

    store: CheckpointStore
    #: 0 for never by clocks; and for never by time.
    every_clocks: int
    every_seconds: float
    resume: bool
    #: Kept in the manifest of each.
    extra: bytes = b""
    #: Tells checkpoints of this run from those of earlier ones of the same name.
    life: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Pace:
    """When checkpoints are due in a run whose clocks are known only when its ranks have seen their rows."""

    #: Clocks from one to the next.
    every_clocks: int
    #: None is begun from this clock on: the run is about to end.
    until: int


def plan_of(
    checkpoint_dir: str | os.PathLike[str] | None,
    checkpoint_every: int | None,
    checkpoint_seconds: float | None,
    resume: bool | None,
) -> CheckpointPlan | None:
    """What the arguments of a run say; None: no checkpoints.

    Raises
    ------
    ConfigError
        They contradict each other, or are no numbers that can be.
    """
    if checkpoint_dir is None:
        given = {"checkpoint_every": checkpoint_every, "checkpoint_seconds": checkpoint_seconds, "resume": resume}
        for name, value in given.items():
            if value is not None:
                raise ConfigError(f"`{name}` needs `checkpoint_dir`, where checkpoints are written. Got {name}={value!r} without it.")
        return None
    if resume is not None and not isinstance(resume, bool):
        raise ConfigError(f"`resume` must be True or False. Got {resume!r} instead.")
    for name, value in (("checkpoint_every", checkpoint_every), ("checkpoint_seconds", checkpoint_seconds)):
        whole = name == "checkpoint_every"
        if value is None or (isinstance(value, int if whole else (int, float)) and type(value) is not bool and 0 < value < float("inf")):
            continue
        what = "a whole number of clocks, at least 1" if whole else "a number of seconds in (0, inf)"
        raise ConfigError(f"`{name}` must be {what}. Got {value!r} instead.")
    every = checkpoint_every if checkpoint_every is not None else 0 if checkpoint_seconds is not None else _EVERY
    plan = CheckpointPlan(checkpointing.writable_store_at(checkpoint_dir), every, float(checkpoint_seconds or 0.0), resume is not False)
    CheckpointSchedule(plan.every_clocks, plan.every_seconds, now=0.0)  # checks them
    return plan


# ---- while it runs -----------------------------------------------------------------------------------------------------


class Checkpointer:
    """Takes checkpoints of a running group: as a context manager on a thread of its own, when they are due; with `take` now.

    Parameters
    ----------
    control : ControlClient
    plan : CheckpointPlan
    spec : GroupSpec

    Notes
    -----
    A group that has ended, well or not, waits `GRACE` seconds at most for a checkpoint that is under way, be it that nodes or files do
    not answer. Then that one is given up: its thread, a daemon, ends when it is answered, and makes no checkpoint of what was written.
    """

    def __init__(self, control: ControlClient, plan: CheckpointPlan, spec: GroupSpec) -> None:
        self._control = control
        self._plan = plan
        self._spec = spec
        #: Those that were taken, oldest first. Owner of this and the next two: the thread while it runs, else whoever calls `take`.
        self.taken: list[Checkpoint] = []
        #: Last clock that all ranks have been seen to have ticked.
        self.clock = min((rank.clock for rank in spec.start), default=-1)
        self._schedule = CheckpointSchedule(plan.every_clocks, plan.every_seconds, time.monotonic(), self.clock)
        #: Asked with the clock until it answers; None: the plan has said all.
        self._ask_pace: Callable[[int], Pace | None] | None = None
        self._until: int | None = None
        #: The group has ended: none is begun any more.
        self._over = threading.Event()
        #: Nobody waits any more for the one that is under way.
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sparkps-checkpoints-{spec.name}", daemon=True)

    def at_pace(self, ask: Callable[[int], Pace | None]) -> Self:
        """Before it is entered: let `ask` say how many clocks lie between two checkpoints.

        Parameters
        ----------
        ask : callable
            Takes the last clock that all ranks have ticked; called on the thread until it gives something.
        """
        self._ask_pace = ask
        return self

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        try:
            self._thread.join(GRACE)
        finally:  # also when a second Ctrl-C ends the wait
            self._give_up(self._thread, self._given_up)

    def take(self, extra: bytes, unless: Callable[[], bool]) -> bool:
        """Take a checkpoint now; whether it could be. A run does not end for want of one. Soon after one that failed none is tried.

        Parameters
        ----------
        extra : bytes
            Kept in its manifest.
        unless : callable
            Whether nobody needs it any more: then it is waited for `GRACE` seconds.
        """
        if self._schedule.rests(time.monotonic()):
            return False
        given_up, before = threading.Event(), len(self.taken)
        thread = threading.Thread(
            target=lambda: self._try(extra, unless, given_up), name=f"sparkps-checkpoint-{self._spec.name}", daemon=True
        )
        self._schedule.begin(self.clock, time.monotonic())
        try:
            thread.start()
            _wait(thread, unless)
        finally:
            self._give_up(thread, given_up)
            is_taken = len(self.taken) > before
            self._schedule.end(time.monotonic(), failed=not is_taken)
        return is_taken

    def _give_up(self, thread: threading.Thread, given_up: threading.Event) -> None:
        given_up.set()
        if thread.is_alive() and self._schedule.busy:
            log.info("worker group %s has ended while a checkpoint of it was written, which is given up", self._spec.name)

    def _run(self) -> None:
        # Buckets that are lost before the first clocks are done can be had back, too; whoever sets a pace of his own begins later.
        is_due = not self._spec.start and self._ask_pace is None
        while is_due or not self._over.wait(_LOOK_EVERY):
            try:
                if not is_due:
                    self._look()
                is_due, take = False, is_due or self._is_due()
                if take:
                    self._take()
            except Exception as error:
                self._missed(error, self._over)

    def _try(self, extra: bytes, unless: Callable[[], bool], given_up: threading.Event) -> None:
        try:
            self._written(extra, unless, given_up)
        except Exception as error:
            self._missed(error, given_up)

    def _missed(self, error: Exception, over: threading.Event) -> None:
        if isinstance(error, SparkPSError):
            said = logging.DEBUG if over.is_set() else logging.WARNING
            log.log(said, "no checkpoint of worker group %s now: %s", self._spec.name, error)
        else:
            log.error("no checkpoint of worker group %s now", self._spec.name, exc_info=error)

    def _look(self) -> None:
        report = self._control.request(TierStatus(0, fresh=True)).report
        for group in report["groups"]:
            if group["id"] == self._spec.group:
                self.clock = max(self.clock, group["clock"])

    def _is_due(self) -> bool:
        if self._ask_pace is not None:
            pace = self._ask_pace(self.clock)
            if pace is None:
                return False
            self._ask_pace, self._until = None, pace.until
            self._schedule.every_clocks = pace.every_clocks
        is_ending = self._until is not None and self.clock >= self._until
        return not is_ending and self._schedule.due(self.clock, time.monotonic())

    def _take(self) -> None:
        self._schedule.begin(self.clock, time.monotonic())
        failed = True
        try:
            self._written(self._plan.extra, self._over.is_set, self._given_up)
            failed = False
        finally:
            self._schedule.end(time.monotonic(), failed)

    def _written(self, extra: bytes, unless: Callable[[], bool], given_up: threading.Event) -> None:
        """Take one; older ones of the run go."""
        store, owner = self._plan.store, Owner(base_of(self._spec.name), self._plan.life)
        made = checkpointing.take(
            self._control, store.url, group=self._spec, unless=unless, given_up=given_up.is_set, owner=owner, extra=extra
        )
        self.taken.append(made)
        if given_up.is_set():
            return
        try:
            store.prune(time.time(), _KEEP, owner=owner.name)
        except SparkPSError as error:
            log.warning("older checkpoints at %s stay: %s", store.url, error)


def _wait(thread: threading.Thread, unless: Callable[[], bool]) -> None:
    """Wait for a thread; `GRACE` seconds from when nobody needs what it does."""
    deadline = float("inf")
    while thread.is_alive() and time.monotonic() < deadline:
        thread.join(_LOOK_EVERY)
        if deadline == float("inf") and unless():
            deadline = time.monotonic() + GRACE


def base_of(name: str) -> str:
    """The name of a run by that of its group.

    Examples
    --------
    >>> base_of("my-run-3fa0c1")
    'my-run'
    """
    return name.rpartition("-")[0]


__all__ = ["GRACE", "CheckpointPlan", "Checkpointer", "Pace", "base_of", "plan_of"]
