"""Checkpoints of a fit: taken while it trains, found by the next fit with the same Params, and removed when they have served.

Each says which fit it is of. A directory belongs to one fit at a time: from its first checkpoint until it has ended well.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import ClassVar, Protocol, Self

import msgspec

from sparkps.checkpoints.manifest import Manifest, folder_id, id_of, id_order
from sparkps.checkpoints.store import CheckpointStore
from sparkps.driver_bridge.checkpointing import writable_store_at
from sparkps.driver_bridge.groups.checkpoints import CheckpointPlan, Pace
from sparkps.driver_bridge.groups.resuming import Attempt
from sparkps.errors import CheckpointDamaged, CheckpointError, SparkPSError
from sparkps.mllib.tables import new_prefix

log = logging.getLogger(__name__)

#: Of `FitRecord`: a record of another one is not read.
_FORMAT = 3


class FitRecord(msgspec.Struct, frozen=True):
    """What a checkpoint says of its fit; kept in the manifest."""

    #: What must be the same, by the names of Params; see `CheckpointedJob`.
    fit: dict[str, str]
    #: Of the fit's tables, and the name of its worker group.
    prefix: str
    #: Where a solver at the driver goes on; None: its ranks know.
    standing: bytes | None = None
    format: int = _FORMAT

    def encoded(self) -> bytes:
        """As it lies in a manifest."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def of(cls, manifest: Manifest) -> FitRecord | None:
        """That of a checkpoint; None: it is not of a fit, or of another version of sparkps."""
        try:
            found = msgspec.msgpack.decode(manifest.extra, type=cls)
        except msgspec.MsgspecError:
            return None
        return found if found.format == _FORMAT else None


def differences(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In words, where two descriptions differ.

    Examples
    --------
    >>> differences({"solver": "adam", "maxIter": "5"}, {"solver": "adam", "maxIter": "7"})
    ['`maxIter` was 5 and is 7']
    """
    names = [name for name in {**now, **was} if was.get(name) != now.get(name)]
    return [f"`{name}` was {was.get(name, 'not there')} and is {now.get(name, 'not there')}" for name in names]


class CheckpointedJob(Protocol):
    """What checkpoints are of."""

    @property
    def uid(self) -> str:
        """Of the estimator."""

    @property
    def checkpoint_dir(self) -> str:
        """Where they are written."""

    @property
    def checkpoint_interval(self) -> int:
        """Iterations from one to the next."""

    def described(self, num_workers: int) -> dict[str, str]:
        """What makes a fit another one: Params that it depends on, by name, and its number of workers. Rows are compared by the ranks."""


class FitCheckpoints:
    """The checkpoints of one fit, in a directory of its own; a context manager that claims it.

    Parameters
    ----------
    job : CheckpointedJob
        With a directory.

    Raises
    ------
    CheckpointError
        Another fit of this process uses the directory, what is there is no checkpoint of a fit, or none of it is sound.
    """

    #: URLs in use by fits of this process. Owner: `_lock`.
    _in_use: ClassVar[set[str]] = set()
    _lock = threading.Lock()

    def __init__(self, job: CheckpointedJob) -> None:
        self._job = job
        self._store = writable_store_at(job.checkpoint_dir)
        #: Made when the number of workers is known.
        self._record: FitRecord | None = None
        #: What an earlier attempt at the fit has left.
        self._left: FitRecord | None = None
        #: Id of the newest checkpoint when the fit began; empty: there was none.
        self._since = ""
        #: Of the fit's tables, and the name of its worker group.
        self.prefix = ""

    def __enter__(self) -> Self:
        url = self._store.url
        with FitCheckpoints._lock:
            if url in FitCheckpoints._in_use:
                raise CheckpointError(
                    f"A directory of checkpoints must be used by one fit at a time. Another fit is using {url}: give each a `checkpointDir`"
                    " of its own, or fit one after the other.",
                    url=url,
                )
            FitCheckpoints._in_use.add(url)
        try:
            self._look()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def _give_back(self) -> None:
        with FitCheckpoints._lock:
            FitCheckpoints._in_use.discard(self._store.url)

    def _look(self) -> None:
        """Find what an earlier attempt has left."""
        ids = self._store.ids()
        if ids:
            self._since = ids[-1]
            self._left = FitRecord.of(self._store.newest_sound())
            if self._left is None:
                raise self._refused("They are not of a fit")
        self.prefix = new_prefix(self._job.uid) if self._left is None else self._left.prefix

    def _refused(self, why: str) -> CheckpointError:
        return CheckpointError(
            f"Checkpoints at {self._store.url} must be of this fit, which goes on from them. {why}: fit with the same Params, give another"
            " `checkpointDir`, or remove what is there.",
            url=self._store.url,
        )

    def begin(self, num_workers: int) -> CheckpointPlan:
        """The fit's number of workers is known; when and where its checkpoints are written.

        Raises
        ------
        CheckpointError
            Those that are there are of another fit; says in what it differs.
        """
        fit = self._job.described(num_workers)
        if self._left is not None and self._left.fit != fit:
            raise self._refused(f"They are of another one: {', '.join(differences(self._left.fit, fit))}")
        self._record = FitRecord(fit, self.prefix)
        return CheckpointPlan(self._store, 0, 0.0, resume=True, extra=self._record.encoded())

    def is_mine(self, manifest: Manifest) -> bool:
        """Whether a checkpoint is of this fit."""
        record = FitRecord.of(manifest)
        return record is not None and record.prefix == self.prefix

    @property
    def store(self) -> CheckpointStore:
        """Where they are."""
        return self._store

    def saver(self, attempt: Attempt) -> FitSaver:
        """What the solver's driver saves with."""
        assert self._record is not None, "begun"
        return FitSaver(attempt, self._record, self._job.checkpoint_interval)

    # ---- the end -------------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """The fit has ended well, and needs them no more. It is none the worse if they cannot be removed."""
        try:
            for name in self._served():
                self._store.files.delete(name)
        except SparkPSError as error:
            log.warning("checkpoints of a fit that has ended stay at %s; remove them before the next fit: %s", self._store.url, error)

    def _served(self) -> list[str]:
        """Names of the fit's files: manifests first, for what they name must not go while they are there."""
        entries = self._store.files.entries(deep=True)
        mine, others, needed, rested_on = set[str](), set[str](), set[str](), set[str]()
        for checkpoint in self._store.ids():
            try:
                manifest = self._store.read(checkpoint)
            except CheckpointDamaged:
                (mine if self._is_later(checkpoint) else others).add(checkpoint)
                continue
            if self.is_mine(manifest):
                mine.add(checkpoint)
                rested_on |= {file.name for file in manifest.files}  # also of older ones, which are gone
            else:
                others.add(checkpoint)
                needed |= {file.name for file in manifest.files}
        manifests = [entry.name for entry in entries if id_of(entry.name) in mine]
        served = [name for name in (entry.name for entry in entries) if name in rested_on or self._has_served(name, mine, others)]
        return manifests + [name for name in served if name not in needed]

    def _has_served(self, name: str, mine: set[str], others: set[str]) -> bool:
        """Whether a file of data is the fit's: also of a checkpoint that was not finished."""
        checkpoint = folder_id(name)
        return checkpoint is not None and (checkpoint in mine or (checkpoint not in others and self._is_later(checkpoint)))

    def _is_later(self, checkpoint: str) -> bool:
        return not self._since or id_order(checkpoint) > id_order(self._since)


class FitSaver:
    """A `Saver` of one attempt at a fit.

    Parameters
    ----------
    attempt : Attempt
    record : FitRecord
        Of the fit.
    interval : int
        Iterations from one checkpoint to the next.
    """

    def __init__(self, attempt: Attempt, record: FitRecord, interval: int) -> None:
        self._attempt = attempt
        self._record = record
        self._interval = interval
        found = None if attempt.restored is None else FitRecord.of(attempt.restored)
        #: See `Saver`.
        self.standing: bytes | None = None if found is None else found.standing
        #: Iteration of the last checkpoint; None: none was taken, nor asked for, in this attempt.
        self._last: int | None = None

    def is_due(self, iteration: int) -> bool:
        """See `Saver`; the first iteration that is asked about is the one where the solver stands already."""
        if self._last is None:
            self._last = iteration
        return iteration - self._last >= self._interval

    def save(self, iteration: int, standing: bytes) -> None:
        """See `Saver`."""
        self._last = iteration
        record = msgspec.structs.replace(self._record, standing=standing)
        self._attempt.checkpointer.take(record.encoded(), unless=lambda: self._attempt.running.is_over)

    def meanwhile(self, pace: Callable[[int, int], Pace | None]) -> AbstractContextManager[object]:
        """See `Saver`."""
        return self._attempt.checkpointer.at_pace(lambda clock: pace(clock, self._interval))


__all__ = ["CheckpointedJob", "FitCheckpoints", "FitRecord", "FitSaver", "differences"]
