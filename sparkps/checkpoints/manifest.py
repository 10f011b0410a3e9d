"""A manifest: what a checkpoint is made of. It is written last, and what has none is no checkpoint.

It is JSON: ``{"format": 2, "crc32": ..., "body": {...}}``, the checksum being that of the bytes of ``body``. Struct fields that
come once a segment are written as arrays. No pyarrow here: the coordinator reads and writes manifests, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from sparkps.checkpoints.patience import checksum, damaged
from sparkps.errors import CheckpointDamaged
from sparkps.specs import NUM_BUCKETS, GroupSpec, TableSpec

#: Of this module; a manifest of another one is refused.
FORMAT = 2

#: Behind the name of a segment: what has changed since.
_CHANGES = "+"

_ID = re.compile(r"(\d{8,})-([0-9a-f]{8})")
_MANIFEST = re.compile(rf"manifest-({_ID.pattern})(\.again\d+)?\.json")
_FOLDER = re.compile(rf"data-({_ID.pattern})/")
_FILE = re.compile(r"[A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)*")


class DataFile(msgspec.Struct, frozen=True, array_like=True):
    """A file with segments. Every byte belongs to one segment."""

    name: str
    nbytes: int


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """Where one bucket of a table, an index or the logical time is."""

    #: See `format`: "t7", "i3" or "logical"; "t7+" or "i3+" for what has changed since the segment that lies under it.
    name: str
    bucket: int
    #: Place in the manifest's `files`; -1 if it has no bytes.
    file: int = -1
    offset: int = 0
    length: int = 0
    crc32: int = 0
    #: Of a table or an index.
    rows: int = 0
    #: Of a table's schedule.
    step: int = 0
    #: Given by the node that wrote it; the same for the same content, with what lies under it. 0: never taken over by a later checkpoint.
    version: int = 0
    #: Rows and planes of state of a table.
    planes: int = 0


class RankCut(msgspec.Struct, frozen=True):
    """Where a rank of a group was."""

    #: Its last ticked clock that the checkpoint has on all buckets; -1 for none.
    clock: int
    finished: bool = False
    #: What the rank stored with that tick: its position in the input, and what its function keeps.
    state: bytes | None = None


class GroupCut(msgspec.Struct, frozen=True):
    """Where a worker group was."""

    spec: GroupSpec
    #: BSP: the clock that is the cut; otherwise the lowest of its ranks'.
    clock: int
    ranks: tuple[RankCut, ...] = ()


class Owner(msgspec.Struct, frozen=True):
    """A run or a fit that takes checkpoints of itself: it goes on from them, and removes older ones."""

    #: The same when it is started again.
    name: str
    #: Another one when it is started again.
    life: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One checkpoint."""

    id: str
    #: Name of the tier that wrote it. Versions of segments mean something in one tier only.
    tier: str
    #: Seconds since 1970, by the clock of who wrote the manifest.
    time: float
    #: From the cut to the manifest.
    seconds: float
    #: Written for this checkpoint; what it takes over from older ones does not count.
    nbytes: int
    #: Id of the checkpoint from which it takes over what has not changed; empty for a full one.
    base: str = ""
    #: How many there are in line between this one and one that takes over nothing: 0 for a full one.
    chain: int = 0
    num_buckets: int = NUM_BUCKETS
    tables: tuple[TableSpec, ...]
    groups: tuple[GroupCut, ...] = ()
    files: tuple[DataFile, ...]
    segments: tuple[Segment, ...]
    #: Whose it is; None, as for `PSContext.checkpoint`: it stays until somebody removes it.
    owner: Owner | None = None
    #: Whatever else whoever takes checkpoints wants back.
    extra: bytes = b""

    @property
    def incremental(self) -> bool:
        """Whether it rests on files of older checkpoints."""
        return bool(self.base)

    @property
    def clocks(self) -> dict[str, int]:
        """By worker group, the clock of the cut."""
        return {group.spec.name: group.clock for group in self.groups}

    @cached_property
    def by_place(self) -> Mapping[tuple[int, str], Segment]:
        """Segments by bucket and name."""
        return {(segment.bucket, segment.name): segment for segment in self.segments}

    @cached_property
    def by_bucket(self) -> Mapping[int, list[Segment]]:
        """Segments of each bucket."""
        found: dict[int, list[Segment]] = {}
        for segment in self.segments:
            found.setdefault(segment.bucket, []).append(segment)
        return found


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that can be restored."""

    url: str
    id: str
    #: By worker group: the last clock in it.
    clocks: Mapping[str, int]
    #: Written for it.
    bytes: int
    seconds: float

    @classmethod
    def of(cls, url: str, manifest: Manifest) -> Checkpoint:
        """The one that `manifest` describes."""
        return cls(url, manifest.id, manifest.clocks, manifest.nbytes, manifest.seconds)


class _Envelope(msgspec.Struct):
    format: int
    crc32: int
    body: msgspec.Raw


# ---- names ---------------------------------------------------------------------------------------------------------------


def next_id(known: Iterable[str], token: str) -> str:
    """An id after all that are known; `token`, eight random hexadecimal digits, tells two apart that are made at once.

    Examples
    --------
    >>> next_id(["00000007-aaaaaaaa"], "3f2a9c01")
    '00000008-3f2a9c01'
    """
    return f"{1 + max((id_order(each)[0] for each in known), default=0):08d}-{token}"


def id_order(checkpoint: str) -> tuple[int, str]:
    """What to sort ids by, oldest first.

    Raises
    ------
    ValueError
        It is no id.
    """
    found = _ID.fullmatch(checkpoint)
    if found is None:
        raise ValueError(f"An id of a checkpoint must read like '00000001-3f2a9c01'. Got {checkpoint!r} instead.")
    return int(found[1]), found[2]


def segment_of_changes(name: str) -> str:
    """Name of the segments that lie over those of a name.

    Examples
    --------
    >>> segment_of_changes("t7"), segment_under("t7+"), segment_under("t7")
    ('t7+', 't7', 't7')
    """
    return f"{name}{_CHANGES}"


def segment_under(name: str) -> str:
    """Name of the segments that those of a name lie over; its own, if over none."""
    return name.removesuffix(_CHANGES)


def manifest_name(checkpoint: str) -> str:
    """Name of the manifest's file."""
    return f"manifest-{checkpoint}.json"


def id_of(name: str) -> str | None:
    """The id in the name of a manifest's file; None for other files.

    Examples
    --------
    >>> id_of("manifest-00000008-3f2a9c01.json"), id_of("notes.txt")
    ('00000008-3f2a9c01', None)
    """
    found = _MANIFEST.fullmatch(name)
    return found[1] if found else None


def folder_of(checkpoint: str) -> str:
    """Folder of the files that are written for a checkpoint.

    Examples
    --------
    >>> folder_of("00000008-3f2a9c01")
    'data-00000008-3f2a9c01'
    """
    return f"data-{checkpoint}"


def folder_id(name: str) -> str | None:
    """The id of the checkpoint for which a file was written; None for files in no such folder.

    Examples
    --------
    >>> folder_id("data-00000008-3f2a9c01/0-1.data"), folder_id("data/part.parquet")
    ('00000008-3f2a9c01', None)
    """
    found = _FOLDER.match(name)
    return found[1] if found else None


# ---- bytes ---------------------------------------------------------------------------------------------------------------


def encode(manifest: Manifest) -> bytes:
    """The manifest's file."""
    body = msgspec.json.encode(manifest)
    return msgspec.json.encode(_Envelope(FORMAT, checksum(body), msgspec.Raw(body)))


#: Made once, for threads (see `format`).
_envelopes, _manifests = msgspec.json.Decoder(_Envelope), msgspec.json.Decoder(Manifest)


def decode(data: bytes, name: str, url: str) -> Manifest:
    """The manifest in a file.

    Raises
    ------
    CheckpointDamaged
        The file is torn, or of another format; the error names it and says why.
    """
    try:
        envelope = _envelopes.decode(data)
        if envelope.format != FORMAT:
            raise damaged(url, name, f"it is of format {envelope.format}, and this version of sparkps reads {FORMAT}")
        body = bytes(envelope.body)
        if checksum(body) != envelope.crc32 or msgspec.json.encode(envelope) != data:
            raise damaged(url, name, "its checksum does not match")
        manifest = _manifests.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(url, name, f"it is no whole manifest: {error}") from None
    why = why_impossible(manifest)
    if id_of(name) != manifest.id or why:
        raise damaged(url, name, why or f"it is that of checkpoint {manifest.id}")
    return manifest


def why_impossible(manifest: Manifest) -> str:
    """What contradicts itself in a manifest; empty if nothing does."""
    sizes = [file.nbytes for file in manifest.files]
    if not all(_FILE.fullmatch(file.name) and ".." not in file.name for file in manifest.files):
        return "it names files outside of its folder"
    if len(manifest.by_place) != len(manifest.segments):
        return "it names a segment twice"
    for segment in manifest.segments:
        inside = segment.file < len(sizes) and (segment.file < 0 or segment.offset + segment.length <= sizes[segment.file])
        if (segment.bucket, segment_under(segment.name)) not in manifest.by_place:
            return f"segment {segment.name!r} of bucket {segment.bucket} lies over none"
        if not inside or min(segment.offset, segment.length, segment.rows) < 0 or not 0 <= segment.bucket < manifest.num_buckets:
            return f"segment {segment.name!r} of bucket {segment.bucket} lies outside of its file"
    return ""


__all__ = [
    "FORMAT", "Checkpoint", "CheckpointDamaged", "DataFile", "GroupCut", "Manifest", "Owner", "RankCut", "Segment", "decode", "encode",
    "folder_id", "folder_of", "id_of", "id_order", "manifest_name", "next_id", "segment_of_changes",
    "segment_under", "why_impossible",
]  # fmt: skip
