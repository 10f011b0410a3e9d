"""Checkpoints of a worker group while it runs, and groups that continue where a checkpoint has them."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from sparkps.checkpoints.manifest import Checkpoint, GroupCut, Manifest
from sparkps.checkpoints.parts import consistency_of, starts
from sparkps.checkpoints.schedule import CheckpointSchedule
from sparkps.checkpoints.store import CheckpointStore
from sparkps.client.control import ControlClient
from sparkps.driver_bridge import checkpointing
from sparkps.errors import CheckpointDamaged, CheckpointError, ConfigError, NoCheckpoint, SparkPSError
from sparkps.specs import GroupSpec, RankStart
from sparkps.wire.messages.control import TierStatus

log = logging.getLogger(__name__)

#: Seconds between two looks at the clock of the group.
_LOOK_EVERY = 0.1

#: Clocks between two checkpoints, if nothing is said.
_EVERY = 10

#: Checkpoints that are kept.
_KEEP = 3


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
        self._over = threading.Event()
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
        self._thread.join()

    def take(self, extra: bytes, unless: Callable[[], bool]) -> bool:
        """Take a checkpoint now; whether it could be. A run does not end for want of one.

        Parameters
        ----------
        extra : bytes
            Kept in its manifest.
        unless : callable
            Whether nobody needs it any more.
        """
        try:
            self.taken.append(self._written(extra, unless))
        except Exception as error:
            self._missed(error)
            return False
        return True

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
                self._missed(error)

    def _missed(self, error: Exception) -> None:
        if isinstance(error, SparkPSError):
            said = logging.DEBUG if self._over.is_set() else logging.WARNING
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
            self.taken.append(self._written(self._plan.extra, self._over.is_set))
            failed = False
        finally:
            self._schedule.end(time.monotonic(), failed)

    def _written(self, extra: bytes, unless: Callable[[], bool]) -> Checkpoint:
        """Take one; older ones go."""
        store = self._plan.store
        made = checkpointing.take(self._control, store.url, group=self._spec, unless=unless, extra=extra)
        try:
            store.prune(time.time(), _KEEP)
        except SparkPSError as error:
            log.warning("older checkpoints at %s stay: %s", store.url, error)
        return made


# ---- from a checkpoint on ----------------------------------------------------------------------------------------------


class Resumption:
    """A group that goes on from the newest sound checkpoint of one like it.

    Parameters
    ----------
    control : ControlClient
    store : CheckpointStore
    name : str
        Of the run, without the part that makes a group's name unique.
    num_workers, num_ranks, staleness : int
        Of the group that goes on.
    tables : callable, optional
        By its name, whether a table of the checkpoint is restored; None: all are.
    """

    def __init__(
        self,
        control: ControlClient,
        store: CheckpointStore,
        name: str,
        num_workers: int,
        num_ranks: int,
        staleness: int,
        tables: Callable[[str], bool] | None = None,
    ) -> None:
        self._control = control
        self._store = store
        self._name = name
        self._shape = (num_workers, num_ranks, staleness)
        self._tables = tables
        #: What was restored, with the tables that were.
        self.manifest: Manifest | None = None
        self._cut: GroupCut | None = None

    def restore(self) -> tuple[RankStart, ...]:
        """Restore the tables; where the ranks go on. Empty: there is no checkpoint at all.

        Raises
        ------
        CheckpointError
            There are checkpoints, and none is of such a group, or none is sound.
        """
        if not self._store.ids():
            return ()
        self.manifest = checkpointing.restored(self._control, self._store, self._mine())
        self._cut = self._cut_in(self.manifest)
        assert self._cut is not None, "as `_mine` has seen"
        log.warning("worker group %s goes on after clock %d, from checkpoint %s", self._name, self._cut.clock, self.manifest.id)
        return starts(self._cut)

    def mark(self, spec: GroupSpec) -> None:
        """SSP and ASP: what ranks had written beyond their ticks is known again. Before the group's ranks begin."""
        if self.manifest is None or self._cut is None or spec.staleness == 0:
            return
        deadline = time.monotonic() + checkpointing.LIMIT
        checkpointing.load(self._control, self._store, self.manifest, deadline, spec.group, self._cut.spec.group)

    def _mine(self) -> Generator[Manifest]:
        """Sound checkpoints with such a group, the newest first."""
        found = checkpointing.candidates(self._store)
        others: list[str] = []
        try:
            manifest = next(found)
            while True:
                if self._cut_in(manifest) is None:
                    others += [_shown(cut.spec) for cut in manifest.groups] or ["no group"]
                    manifest = next(found)
                    continue
                try:
                    yield self._narrowed(manifest)
                except CheckpointDamaged as error:
                    manifest = found.throw(error)
                else:
                    manifest = next(found)
        except NoCheckpoint as error:
            if not others:
                raise
            workers, _, staleness = self._shape
            raise CheckpointError(
                f"A run that resumes needs a checkpoint of a run {self._name!r} of {workers} workers in {consistency_of(staleness)}."
                f" Those at {self._store.url} are of {', '.join(sorted(set(others)))}: run it as it was, say resume=False, or give another"
                " `checkpoint_dir`."
            ) from error

    def _narrowed(self, manifest: Manifest) -> Manifest:
        """With the tables that are restored."""
        wanted = self._tables
        return manifest if wanted is None else replace(manifest, tables=tuple(spec for spec in manifest.tables if wanted(spec.name)))

    def _cut_in(self, manifest: Manifest) -> GroupCut | None:
        for cut in manifest.groups:
            spec = cut.spec
            if base_of(spec.name) == self._name and (spec.num_workers, spec.num_ranks, spec.staleness) == self._shape:
                return cut
        return None


def base_of(name: str) -> str:
    """The name of a run by that of its group.

    Examples
    --------
    >>> base_of("my-run-3fa0c1")
    'my-run'
    """
    return name.rpartition("-")[0]


def _shown(spec: GroupSpec) -> str:
    return f"{base_of(spec.name)!r} of {spec.num_workers} workers in {consistency_of(spec.staleness)}"


__all__ = ["CheckpointPlan", "Checkpointer", "Pace", "Resumption", "base_of", "plan_of"]
