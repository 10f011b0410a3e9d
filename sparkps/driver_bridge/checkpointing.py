"""Checkpoints at the driver: nodes are told to write or load their parts, and the driver writes the manifest that makes them one."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from msgspec.structs import replace

from sparkps.checkpoints.files import absolute_url, check_shared, url_of
from sparkps.checkpoints.manifest import Checkpoint, Manifest, Owner
from sparkps.checkpoints.parts import cuts, part_of
from sparkps.checkpoints.patience import PATIENCE
from sparkps.checkpoints.plan import assemble, to_rest_on
from sparkps.checkpoints.store import CheckpointStore, Skipped, none_sound
from sparkps.client.control import ControlClient
from sparkps.config import PREFIX
from sparkps.errors import CheckpointDamaged, CheckpointError, NoCheckpoint, SparkPSError
from sparkps.filesystems import held_tokens
from sparkps.specs import NUM_BUCKETS, GroupSpec, TableSpec
from sparkps.wire.messages.control import CheckpointTaken, CheckpointWritten, RestoreCheckpoint, TakeCheckpoint

log = logging.getLogger(__name__)

#: Seconds that one checkpoint may take, with all attempts, if nothing else is said.
LIMIT = 3600.0

#: Seconds between two attempts where a placement was changing: first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5

T = TypeVar("T")


def store_at(url: str | os.PathLike[str], timeout: float = LIMIT) -> CheckpointStore:
    """The checkpoints at a URL; no operation on files there takes longer than `timeout` seconds.

    Raises
    ------
    ConfigError
        It is no URL of a file system that can be opened, and that driver and nodes share.
    """
    place = url_of(url)
    check_shared(place)
    held_tokens.see_to(place)
    return CheckpointStore(absolute_url(place), PATIENCE.within(timeout))


def writable_store_at(url: str | os.PathLike[str]) -> CheckpointStore:
    """As `store_at`, for whoever will write there for hours: that it can be done is seen now.

    Raises
    ------
    CheckpointError
        A file could not be written there.
    """
    store = store_at(url)
    try:
        store.files.delete(store.files.write(f"probe-{secrets.token_hex(4)}", [b"sparkps"]))
    except CheckpointError as error:
        why = error.__cause__ if error.__cause__ is not None else error
        raise CheckpointError(
            f"Checkpoints must be written to a directory where the driver and the nodes may write. {store.url} is none: {why}. Give another"
            " directory, or see that it can be made and written.",
            url=store.url,
        ) from error
    return store


# ---- taking one --------------------------------------------------------------------------------------------------------


def take(
    control: ControlClient,
    url: str | os.PathLike[str],
    timeout: float = LIMIT,
    group: GroupSpec | None = None,
    unless: Callable[[], bool] = lambda: False,
    given_up: Callable[[], bool] = lambda: False,
    owner: Owner | None = None,
    extra: bytes = b"",
) -> Checkpoint:
    """Take a checkpoint of all tables and groups; see `PSContext.checkpoint`.

    Parameters
    ----------
    control : ControlClient
    url : str or os.PathLike
    timeout : float
    group : GroupSpec, optional
        Must be in it.
    unless : callable, optional
        Whether to give up instead of trying again.
    given_up : callable, optional
        Whether nobody wants it any more: asked when all is written, right before it becomes a checkpoint.
    owner : Owner, optional
        Whose it is.
    extra : bytes
        Kept in the manifest.
    """
    asking = _Asking(control, store_at(url, timeout), time.monotonic() + timeout, group, given_up, owner, extra)
    return _patiently(lambda: _taken(asking), asking.deadline, lambda: unless() or given_up())


@dataclass(frozen=True)
class _Asking:
    """What is asked for; see `take`."""

    control: ControlClient
    store: CheckpointStore
    #: By `time.monotonic`.
    deadline: float
    group: GroupSpec | None
    given_up: Callable[[], bool]
    owner: Owner | None
    extra: bytes


def _taken(asking: _Asking) -> Checkpoint:
    """One attempt; what a failed one has written goes."""
    checkpoint = asking.store.new_id()
    try:
        made = _written(asking, checkpoint)
    except Exception:
        asking.store.discard(checkpoint)
        raise
    try:
        asking.control.request(CheckpointTaken(0, made.url, made.id, dict(made.clocks), made.bytes, made.seconds))
    except SparkPSError as error:
        log.warning("checkpoint %s is there, but the tier's status does not say so: %s", made.id, error)
    return made


def _written(asking: _Asking, checkpoint: str) -> Checkpoint:
    store, group = asking.store, asking.group
    began, base = time.monotonic(), to_rest_on(next(store.sound(), None))
    request = TakeCheckpoint(0, store.url, checkpoint, base.id if base is not None else "")
    written: CheckpointWritten = asking.control.request(request, max(0.1, asking.deadline - time.monotonic()))
    parts = [part_of(part) for part in written.parts]
    where = cuts(written.groups, parts)
    if group is not None and all(cut.spec.group != group.group for cut in where):
        raise CheckpointError(f"Worker group {group.name!r} must go on while it is written. It has ended.", group=group.name)
    manifest = assemble(
        [part.files for part in parts],
        checkpoint=checkpoint,
        tier=written.tier_id,
        tables=written.tables,
        groups=where,
        time=time.time(),
        seconds=time.monotonic() - began,
        base=base if base is not None and base.tier == written.tier_id else None,
        owner=asking.owner,
        extra=asking.extra,
    )
    if asking.given_up():
        raise CheckpointError("A checkpoint must be wanted when it is written. It is not any more: what it was for has ended.")
    return store.publish(manifest)


def _patiently(attempt: Callable[[], T], deadline: float, unless: Callable[[], bool] = lambda: False) -> T:
    """Try again while nodes say that the placement was changing."""
    pause, waiting = _FIRST_PAUSE, threading.Event()
    while True:
        try:
            return attempt()
        except CheckpointError as error:
            if not error.attributes.get("again") or time.monotonic() > deadline or unless():
                raise
            log.info("trying again: %s", error)
        waiting.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


# ---- restoring one -----------------------------------------------------------------------------------------------------


def restore(
    control: ControlClient,
    url: str | os.PathLike[str],
    checkpoint: str | None = None,
    timeout: float = LIMIT,
    owns: Callable[[str], bool] = lambda _: True,
) -> Checkpoint:
    """Restore the tables of a checkpoint that whoever asks `owns`, by their names; see `PSContext.restore`."""
    store = store_at(url, timeout)
    return Checkpoint.of(store.url, restored(control, store, candidates(store, checkpoint, owns=owns), timeout))


def narrowed(manifest: Manifest, owns: Callable[[str], bool]) -> Manifest:
    """A checkpoint with those of its tables that are owned, by their names.

    Raises
    ------
    NoCheckpoint
        It has tables, and all are others'.
    """
    mine = tuple(spec for spec in manifest.tables if owns(spec.name))
    if len(mine) == len(manifest.tables):
        return manifest
    if not mine:
        names = ", ".join(sorted(spec.name for spec in manifest.tables)[:20])
        raise NoCheckpoint(
            f"A checkpoint that is restored on a tier of several owners must have tables of one's own (`{PREFIX}owner`). Checkpoint"
            f" {manifest.id} has {names}: restore it as their owner, or on a tier of one's own."
        )
    return replace(manifest, tables=mine)


def candidates(
    store: CheckpointStore,
    checkpoint: str | None = None,
    skipped: list[Skipped] | None = None,
    owns: Callable[[str], bool] = lambda _: True,
) -> Generator[Manifest]:
    """The checkpoint of that id, or all sound ones, the newest first, with tables that are owned; others are added to `skipped`.

    Raises
    ------
    NoCheckpoint
        There is none.
    CheckpointDamaged
        The one of that id is not sound.
    """
    if checkpoint is not None:
        manifest = store.read(checkpoint)
        store.verify(manifest)
        yield narrowed(manifest, owns)
        return
    skipped = [] if skipped is None else skipped
    others: NoCheckpoint | None = None
    for manifest in store.sound(skipped=skipped):
        try:
            yield narrowed(manifest, owns)
        except CheckpointDamaged as error:  # found when it was loaded
            store.skip(manifest.id, error, skipped)
        except NoCheckpoint as error:  # an older one may have tables that are owned
            others = others or error
    raise others or none_sound(store.url, skipped)


def restored(control: ControlClient, store: CheckpointStore, found: Generator[Manifest], timeout: float = LIMIT) -> Manifest:
    """Restore the first of some checkpoints that can be loaded."""
    deadline = time.monotonic() + timeout
    manifest = next(found)
    while True:
        try:
            load(control, store, manifest, deadline)
        except CheckpointDamaged as error:
            manifest = found.throw(error)  # the next one
        else:
            return manifest


def load(
    control: ControlClient, store: CheckpointStore, manifest: Manifest, deadline: float, group: int = 0, old_group: int = 0
) -> None:
    """Have all nodes load a checkpoint, into tables that are made if they are not there; unless it is sound nothing is changed."""
    if manifest.num_buckets != NUM_BUCKETS:
        raise CheckpointError(f"A checkpoint must be of {NUM_BUCKETS} buckets. {manifest.id} is of {manifest.num_buckets}.")
    load_tables(control, store, manifest, manifest.tables, deadline, group, old_group)


def load_tables(
    control: ControlClient,
    store: CheckpointStore,
    manifest: Manifest,
    tables: Sequence[TableSpec],
    deadline: float,
    group: int = 0,
    old_group: int = 0,
) -> None:
    """As `load`, of some tables of the checkpoint; the others stay as they are."""
    asking = RestoreCheckpoint(0, store.url, manifest.id, list(tables), group, old_group)
    _patiently(lambda: control.request(asking, max(0.1, deadline - time.monotonic())), deadline)


__all__ = ["LIMIT", "candidates", "load", "load_tables", "restore", "restored", "store_at", "take"]
