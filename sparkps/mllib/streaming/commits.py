"""Which batches of a stream a model has learned, kept with its tables in one checkpoint: both are there, or neither."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from sparkps.checkpoints.manifest import Manifest, Owner
from sparkps.driver_bridge import checkpointing
from sparkps.errors import CheckpointError, NoCheckpoint

if TYPE_CHECKING:
    from sparkps.client.control import ControlClient

#: Of `Commit`: one of another format is not read.
_FORMAT = 1

#: Checkpoints that stay.
_KEPT = 2


class Commit(msgspec.Struct, frozen=True):
    """What a model has learned."""

    #: Of the names of its tables.
    prefix: str
    #: Params that later batches must be learned with, by name.
    params: dict[str, str]
    #: By the id of a streaming query: the last of its batches that was learned.
    epochs: dict[str, int]
    #: Rows that it was trained on.
    rows: int = 0
    #: As `ranks.Figures`.
    num_features: int = 0
    width: int = 0
    #: Raw columns that features come from, with the kinds that they had in the first batch (`FeatureSource.facts`); empty: there are none.
    source: dict[str, Any] = {}
    format: int = _FORMAT

    def has(self, query: str, epoch: int) -> bool:
        """Whether a batch was learned.

        Examples
        --------
        >>> commit = Commit("m", {}, {"q": 3})
        >>> commit.has("q", 3), commit.has("q", 4), commit.has("another", 0)
        (True, False, False)
        """
        return epoch <= self.epochs.get(query, -1)

    def encoded(self) -> bytes:
        """As it lies in a manifest."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def of(cls, manifest: Manifest) -> Commit | None:
        """That of a checkpoint; None: it is none of a model that learns from a stream."""
        try:
            found = msgspec.msgpack.decode(manifest.extra, type=cls)
        except msgspec.MsgspecError:
            return None
        return found if found.format == _FORMAT else None


class CommitLog:
    """Commits of one model, in a directory of its own.

    Parameters
    ----------
    control : ControlClient
    url : str
        A directory, on any file system that checkpoints may be written to.
    full_name : callable, optional
        What the name of a table means on the tier, which several owners may share.
    """

    def __init__(self, control: ControlClient, url: str, full_name: Callable[[str], str] = lambda name: name) -> None:
        self._control = control
        self._full_name = full_name
        self._store = checkpointing.writable_store_at(url)
        self._newest: Manifest | None = None

    @property
    def url(self) -> str:
        """Where they are."""
        return self._store.url

    def latest(self) -> Commit | None:
        """The newest one that is sound; None: there is none.

        Raises
        ------
        CheckpointError
            What is there is of something else.
        """
        try:
            self._newest = self._store.newest_sound()
        except NoCheckpoint:
            if self._store.ids():
                raise
            return None
        found = Commit.of(self._newest)
        if found is None:
            raise CheckpointError(
                f"Checkpoints at {self.url} must be of a model that learns from a stream. They are of something else: give another"
                " `checkpointDir`.",
                url=self.url,
            )
        return found

    def write(self, commit: Commit) -> None:
        """All tables as they are now, with what they have learned; older ones go."""
        owner = Owner(commit.prefix)
        checkpointing.take(self._control, self.url, owner=owner, extra=commit.encoded())
        self._newest = self._store.newest_sound()
        self._store.prune(time.time(), _KEPT, owner=owner.name)

    def roll_back(self) -> None:
        """The model's tables are as they were at the newest commit; other tables of the tier stay as they are."""
        newest = self._newest
        found = None if newest is None else Commit.of(newest)
        assert newest is not None, "there is a commit"
        assert found is not None, "of a model"
        mine = [each for each in newest.tables if each.name.startswith(self._full_name(found.prefix))]
        self._store.verify(newest)
        checkpointing.load_tables(self._control, self._store, newest, mine, time.monotonic() + checkpointing.LIMIT)


__all__ = ["Commit", "CommitLog"]
