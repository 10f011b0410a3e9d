"""Who writes what of a checkpoint, what an incremental one takes over, and whether the parts make a whole: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from sparkps.checkpoints.manifest import DataFile, GroupCut, Manifest, Owner, Segment, segment_of_changes
from sparkps.errors import CheckpointError
from sparkps.specs import NUM_BUCKETS, TableSpec

#: Less than this share of an older file is not taken over but written again, so that the file can go. The keys of narrow rows are a third
#: or half of what is written, and stay as they are: they are rested on.
LEAST_LIVE = 0.25

#: So many checkpoints in line rest on older ones; the next one is full. A byte that has gone bad is in all that rest on it.
LONGEST_CHAIN = 8


class NodeFiles(msgspec.Struct, frozen=True):
    """What a node has written for a checkpoint, and what it takes over from older ones."""

    node: int
    files: tuple[DataFile, ...]
    #: `Segment.file` counts in `files`.
    segments: tuple[Segment, ...]
    #: Written now.
    nbytes: int


def live_shares(manifest: Manifest) -> list[float]:
    """By file of a manifest: the share of its bytes that the manifest rests on."""
    used = [0] * len(manifest.files)
    for segment in manifest.segments:
        if segment.file >= 0:
            used[segment.file] += segment.length
    return [share / max(1, file.nbytes) for share, file in zip(used, manifest.files, strict=True)]


class Split(NamedTuple):
    """What is to be done with the segments of a bucket."""

    #: Segments of the older checkpoint to be taken over.
    kept: list[Segment]
    #: Names of those to be written.
    written: frozenset[str]
    #: Those of the older checkpoint over which changes may be written, by name: each is one of `written`.
    under: dict[str, Segment]


class Unchanged:
    """What of an older checkpoint is still so.

    Parameters
    ----------
    base : Manifest or None
        The older checkpoint; None if there is none.
    """

    def __init__(self, base: Manifest | None) -> None:
        self.base = base
        self._shares = live_shares(base) if base else []

    def split(self, bucket: int, versions: Mapping[str, int], since: Mapping[str, int] | None = None) -> Split:
        """Which segments are taken over, which are written, and over which changes will do.

        Parameters
        ----------
        bucket : int
        versions : mapping of str to int
            All segments that the bucket has now, by name, with the version of their content: never the same for two contents of
            a bucket in one tier, also after the bucket has moved. 0 for unknown.
        since : mapping of str to int, optional
            Those of which it is known what has changed since content of these versions. 0 for unknown.
        """
        kept: list[Segment] = []
        under: dict[str, Segment] = {}
        written = set()
        for name, version in versions.items():
            whole, changes = self._found(bucket, name), self._found(bucket, segment_of_changes(name))
            last = changes or whole
            if whole and last and version and last.version == version and self._is_live(whole) and self._is_live(last):
                kept += [whole] if changes is None else [whole, changes]
                continue
            written.add(name)
            if whole and whole.version and whole.version == (since or {}).get(name) and self._is_live(whole):
                under[name] = whole
        return Split(kept, frozenset(written), under)

    def _found(self, bucket: int, name: str) -> Segment | None:
        return self.base.by_place.get((bucket, name)) if self.base else None

    def _is_live(self, segment: Segment) -> bool:
        return segment.file < 0 or self._shares[segment.file] >= LEAST_LIVE


def to_rest_on(newest: Manifest | None) -> Manifest | None:
    """What the next checkpoint rests on; None: it is full."""
    return newest if newest is not None and newest.chain < LONGEST_CHAIN else None


def joined(parts: Iterable[NodeFiles]) -> tuple[tuple[DataFile, ...], tuple[Segment, ...]]:
    """Files of all nodes, each once, and the segments in them by bucket."""
    places: dict[str, int] = {}
    files: list[DataFile] = []
    segments: list[Segment] = []
    for part in parts:
        for file in part.files:
            if file.name not in places:
                places[file.name] = len(files)
                files.append(file)
        for segment in part.segments:
            place = places[part.files[segment.file].name] if segment.file >= 0 else -1
            segments.append(msgspec.structs.replace(segment, file=place))
    return tuple(files), tuple(sorted(segments, key=lambda segment: (segment.bucket, segment.name)))


def assemble(
    parts: Sequence[NodeFiles],
    *,
    checkpoint: str,
    tier: str,
    tables: Sequence[TableSpec],
    groups: Sequence[GroupCut],
    time: float,
    seconds: float,
    base: Manifest | None = None,
    num_buckets: int = NUM_BUCKETS,
    owner: Owner | None = None,
    extra: bytes = b"",
) -> Manifest:
    """The manifest of what nodes have written.

    Parameters
    ----------
    parts : sequence of NodeFiles
        Of every node.
    checkpoint : str
        Its id.
    tier, tables, groups, time, seconds, num_buckets, owner, extra
        See `Manifest`.
    base : Manifest, optional
        The older checkpoint that the nodes were told to rest on.

    Raises
    ------
    CheckpointError
        A bucket of a table, an index or the logical time is missing or there twice.
    """
    if base is not None and base.tier != tier:
        raise CheckpointError(
            f"An incremental checkpoint must rest on one of the same tier, {tier!r}. Got one of {base.tier!r}: take a full one."
        )
    files, segments = joined(parts)
    _check_whole(segments, tables, num_buckets)
    mine = sum(part.nbytes for part in parts)
    rests_on = base if base is not None and {file.name for file in files} & {file.name for file in base.files} else None
    return Manifest(
        id=checkpoint, tier=tier, time=time, seconds=seconds, nbytes=mine, base=rests_on.id if rests_on else "",
        chain=rests_on.chain + 1 if rests_on else 0, num_buckets=num_buckets, tables=tuple(tables),
        groups=tuple(groups), files=files, segments=segments, owner=owner, extra=extra,
    )  # fmt: skip


def versions_by_segment(tables: Mapping[int, int], indexes: Mapping[int, int]) -> dict[str, int]:
    """Versions of a bucket's content by the names of its segments, from those by the ids of tables and indexes.

    Logical time is never the same.

    Examples
    --------
    >>> versions_by_segment({7: 100}, {3: 101})
    {'logical': 0, 't7': 100, 'i3': 101}
    """
    of_tables = {f"t{table}": version for table, version in tables.items()}
    return {"logical": 0, **of_tables, **{f"i{index}": version for index, version in indexes.items()}}


def ids_of_segments(names: Iterable[str]) -> tuple[set[int], set[int]]:
    """The ids of the tables and of the indexes whose segments have these names.

    Examples
    --------
    >>> ids_of_segments(["logical", "t7", "i3"])
    ({7}, {3})
    """
    names = list(names)
    return {int(name[1:]) for name in names if name[0] == "t"}, {int(name[1:]) for name in names if name[0] == "i"}


def segment_names(tables: Iterable[TableSpec]) -> list[str]:
    """Names of the segments that every bucket has.

    Examples
    --------
    >>> segment_names([TableSpec(name="w", kind="sparse", dim=1, table=7, index=3)])
    ['logical', 'i3', 't7']
    """
    # As `format` names them, which needs pyarrow; a test holds the two together.
    found = ["logical"]
    for spec in tables:
        if spec.kind == "sparse":
            found.append(f"i{spec.index}")
        found.append(f"t{spec.table}")
    return list(dict.fromkeys(found))


def _check_whole(segments: Sequence[Segment], tables: Sequence[TableSpec], num_buckets: int) -> None:
    got = [(segment.bucket, segment.name) for segment in segments]
    must = {(bucket, name) for bucket in range(num_buckets) for name in segment_names(tables)}
    may = must | {(bucket, segment_of_changes(name)) for bucket, name in must if name != "logical"}
    for wrong, said in ((sorted(must - set(got)), "nobody wrote"), (_others(got, may), "nobody asked for, or two nodes wrote,")):
        if wrong:
            bucket, name = wrong[0]
            raise CheckpointError(
                f"Each segment of a checkpoint must be written by one node. Got {len(wrong)} that {said} beginning with {name!r} of"
                f" bucket {bucket}: take it again when no bucket moves.",
                bucket=bucket,
            )


def _others(got: Sequence[tuple[int, str]], may: set[tuple[int, str]]) -> list[tuple[int, str]]:
    """Those that may not be there, or not twice."""
    seen: set[tuple[int, str]] = set()
    found = []
    for each in got:
        if each not in may or each in seen:
            found.append(each)
        seen.add(each)
    return found


__all__ = [
    "LEAST_LIVE", "LONGEST_CHAIN", "NodeFiles", "Split", "Unchanged", "assemble", "ids_of_segments", "joined", "live_shares",
    "segment_names", "to_rest_on", "versions_by_segment",
]  # fmt: skip
