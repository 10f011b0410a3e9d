"""The checkpoints at a URL: a new one is published, sound ones are found, old ones and leftovers go.

Everybody who writes or deletes here may be interrupted anywhere, and may be one of several. So a checkpoint exists when its
manifest does; manifests go before the files that they name; and a file goes only if no manifest that is kept rests on it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sparkps.checkpoints.files import Buffer, Files, open_files
from sparkps.checkpoints.manifest import (
    Checkpoint,
    Manifest,
    Segment,
    decode,
    encode,
    folder_of,
    id_of,
    id_order,
    manifest_name,
    next_id,
)
from sparkps.checkpoints.patience import PATIENCE, Patience, PatientFiles, checksum, damaged
from sparkps.checkpoints.retention import what_goes
from sparkps.errors import CheckpointDamaged, CheckpointError, NoCheckpoint

logger = logging.getLogger(__name__)

#: How long it is tried to remove what a checkpoint that has failed has left.
DISCARDING = Patience(seconds=10.0, attempt_seconds=10.0, attempts=2)

#: Seconds after which files that no manifest names are taken for those of a checkpoint that has failed.
LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that was not used."""

    checkpoint: str
    file: str
    why: str


class CheckpointStore:
    """The checkpoints at a URL.

    Parameters
    ----------
    url : str or Files
        A path, or a URL of pyarrow's or fsspec's.
    patience : Patience, optional

    Examples
    --------
    >>> import tempfile
    >>> store = CheckpointStore(tempfile.mkdtemp())
    >>> store.ids()
    []
    """

    def __init__(self, url: str | Files, patience: Patience = PATIENCE) -> None:
        self.files = PatientFiles(open_files(url) if isinstance(url, str) else url, patience)
        self.url = self.files.url

    # ---- making one --------------------------------------------------------------------------------------------------------

    def new_id(self, token: str = "") -> str:
        """An id for a checkpoint that is about to be taken: after all that are here, and nobody else's."""
        return next_id(self.ids(), token or secrets.token_hex(4))

    def publish(self, manifest: Manifest) -> Checkpoint:
        """Make what nodes have written a checkpoint, if all of it is there.

        Raises
        ------
        CheckpointError
            A file is missing, or the manifest cannot be written; older checkpoints are as they were.
        """
        self.verify(manifest)
        data = encode(manifest)
        self.files.write(manifest_name(manifest.id), [data], [(len(data), checksum(data))])
        self.verify(manifest)  # nobody has removed what it rests on meanwhile
        logger.info(
            "checkpoint %s at %s: %s bytes in %.2f s", manifest.id, self.url, f"{manifest.nbytes:,}", manifest.seconds
        )
        return Checkpoint.of(self.url, manifest)

    # ---- finding one -------------------------------------------------------------------------------------------------------

    def ids(self) -> list[str]:
        """Ids of all checkpoints that have a manifest, sound or not, oldest first."""
        return sorted(self._manifests(), key=id_order)

    def _manifests(self) -> dict[str, list[str]]:
        """By id the files that are, or were to be, its manifest."""
        found: dict[str, list[str]] = {}
        for entry in self.files.entries():
            checkpoint = id_of(entry.name)
            if checkpoint is not None:
                found.setdefault(checkpoint, []).append(entry.name)
        return {checkpoint: sorted(names) for checkpoint, names in found.items()}

    def read(self, checkpoint: str) -> Manifest:
        """The manifest of a checkpoint; what it names is not looked at.

        Raises
        ------
        NoCheckpoint, CheckpointDamaged
        """
        names = self._manifests().get(checkpoint)
        if not names:
            raise NoCheckpoint(f"A checkpoint must be one of those in {self.url}: {self.ids()}. Got {checkpoint!r} instead.", id=checkpoint)
        return self._read(names)

    def _read(self, names: list[str]) -> Manifest:
        """The manifest in the first of some files that is whole: attempts to write it may have failed."""
        for position, name in enumerate(names):
            try:
                return self._decoded(name)
            except CheckpointDamaged:
                if position + 1 == len(names):
                    raise
        raise AssertionError("there is a name")

    def _decoded(self, name: str) -> Manifest:
        """Read twice before it is called damaged, as segments are."""
        try:
            return decode(self._bytes(name), name, self.url)
        except CheckpointDamaged:
            return decode(self._bytes(name), name, self.url)

    def _bytes(self, name: str) -> bytes:
        try:
            return self.files.read(name)
        except CheckpointError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise damaged(self.url, name, "it is missing") from None
            raise

    def verify(self, manifest: Manifest, deep: bool = False) -> None:
        """See whether all files of a checkpoint are there in their length; with `deep`, whether all bytes are as they were.

        Raises
        ------
        CheckpointDamaged
            Names the file.
        """
        sizes = {entry.name: entry.nbytes for folder in _folders(manifest) for entry in self.files.entries(folder)}
        for file in manifest.files:
            got = sizes.get(file.name)
            if got is None:
                raise damaged(self.url, file.name, "it is missing")
            if got != file.nbytes:
                raise damaged(self.url, file.name, f"it has {got:,} bytes instead of {file.nbytes:,}")
        if deep:
            for segment in manifest.segments:
                self.check_segment(manifest, segment)

    def check_segment(self, manifest: Manifest, segment: Segment) -> None:
        """Read a segment and see whether it is as it was written."""
        if segment.file >= 0:
            name = manifest.files[segment.file].name
            self.files.read_checked(name, segment.offset, segment.length, lambda data: why_other(segment, data))

    def sound(self, deep: bool = False, before: str = "", skipped: list[Skipped] | None = None) -> Iterator[Manifest]:
        """Sound checkpoints, newest first; others are named in the log, and added to `skipped`.

        Parameters
        ----------
        deep : bool
            Read all bytes of all files.
        before : str
            Only those older than this id.
        skipped : list of Skipped, optional
        """
        found = self._manifests()
        for checkpoint in sorted(found, key=id_order, reverse=True):
            if before and id_order(checkpoint) >= id_order(before):
                continue
            try:
                manifest = self._read(found[checkpoint])
                self.verify(manifest, deep=deep)
            except CheckpointDamaged as error:
                self.skip(checkpoint, error, skipped)
                continue
            yield manifest

    def skip(self, checkpoint: str, error: CheckpointDamaged, skipped: list[Skipped] | None = None) -> None:
        """Say that a checkpoint is not used."""
        found = Skipped(checkpoint, str(error.attributes.get("file", "")), str(error.attributes.get("why", error)))
        if skipped is not None:
            skipped.append(found)
        logger.warning("checkpoint %s at %s is not used: %s: %s", checkpoint, self.url, found.file, found.why)

    def newest_sound(self, deep: bool = False, before: str = "") -> Manifest:
        """The newest sound checkpoint; see `sound`.

        Raises
        ------
        NoCheckpoint
            There is none; the error names those that are not sound.
        """
        skipped: list[Skipped] = []
        for manifest in self.sound(deep, before, skipped):
            return manifest
        raise none_sound(self.url, skipped)

    # ---- removing ----------------------------------------------------------------------------------------------------------

    def discard(self, checkpoint: str) -> None:
        """Remove what was written for a checkpoint that is none: it may be what fills the disk. What cannot be removed soon stays."""
        files = PatientFiles(self.files.files, DISCARDING)
        try:
            manifests = [entry.name for entry in files.entries() if id_of(entry.name) == checkpoint]
            for name in manifests + [entry.name for entry in files.entries(folder_of(checkpoint))]:
                files.delete(name)
        except CheckpointError as error:
            logger.warning("files of checkpoint %s, which has failed, stay at %s: %s", checkpoint, self.url, error)

    def prune(
        self, now: float, keep: int = 3, leftover_seconds: float = LEFTOVER_SECONDS, owner: str | None = None
    ) -> list[str]:
        """Remove all but the newest sound checkpoints of an owner, and what failed ones have left.

        Parameters
        ----------
        now : float
            Seconds since 1970.
        keep : int
            Number of checkpoints to keep, at least 1.
        leftover_seconds : float
            Age of files without a manifest, and of damaged manifests, from which on they go.
        owner : str, optional
            Only checkpoints whose `Owner` has this name go; None: whoever has taken them.

        Returns
        -------
        list of str
            Names of the files that were removed.
        """
        if keep < 1:
            raise CheckpointError(f"The number of checkpoints to keep must be at least 1. Got {keep} instead.")
        entries = self.files.entries(deep=True)  # before manifests are read: what is written from now on is not looked at
        whole, torn = self._sorted_out(self._manifests())
        gone = what_goes(entries, whole, torn, keep=keep, before=now - leftover_seconds, owner=owner)
        for name in gone:
            self.files.delete(name)
        return gone

    def _sorted_out(self, found: dict[str, list[str]]) -> tuple[list[Manifest], set[str]]:
        """Sound checkpoints, newest first, and ids of damaged ones."""
        whole, torn = [], set()
        for checkpoint in sorted(found, key=id_order, reverse=True):
            try:
                manifest = self._read(found[checkpoint])
                self.verify(manifest)
            except CheckpointDamaged:
                torn.add(checkpoint)
            else:
                whole.append(manifest)
        return whole, torn


def why_other(segment: Segment, data: Buffer) -> str:
    """Why the bytes of a segment are not those that were written; empty if they are."""
    if checksum(data) == segment.crc32:
        return ""
    return f"the checksum of {segment.name!r} of bucket {segment.bucket}, at byte {segment.offset:,}, does not match"


def none_sound(url: str, skipped: Iterable[Skipped]) -> NoCheckpoint:
    """The error where nothing can be restored."""
    said = "; ".join(f"{each.checkpoint} ({each.file}: {each.why})" for each in skipped)
    return NoCheckpoint(
        f"There must be a sound checkpoint at {url}. Got {'only damaged ones: ' + said if said else 'none'}. Give the URL that"
        " checkpoints were written to, or start without one.",
        url=url,
    )


def _folders(manifest: Manifest) -> list[str]:
    return sorted({file.name.rpartition("/")[0] for file in manifest.files})


__all__ = ["LEFTOVER_SECONDS", "CheckpointStore", "Skipped", "none_sound", "why_other"]
