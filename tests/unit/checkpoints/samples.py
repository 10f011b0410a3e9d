"""Tables, buckets and whole checkpoints to write, made from a seed, and what must come back."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sparkps.checkpoints.files import Files
from sparkps.checkpoints.format import BucketRecord, TableRecord
from sparkps.checkpoints.loading import load
from sparkps.checkpoints.manifest import Checkpoint, GroupCut, Manifest, Owner, RankCut
from sparkps.checkpoints.patience import Patience
from sparkps.checkpoints.plan import NodeFiles, assemble, segment_names
from sparkps.checkpoints.store import CheckpointStore
from sparkps.checkpoints.writer import BucketWriter
from sparkps.optim import SGD, Adagrad, Adam
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.placement import dense_range

#: No time is lost where something fails for good.
QUICK = Patience(seconds=5.0, attempt_seconds=5.0, attempts=2, pause=0.0)

#: As many buckets as tests of files need; each has all kinds of segments.
BUCKETS = 4

#: A group of two tables, one of its own, a dense one smaller than the number of buckets, and an empty one.
SPECS = (
    TableSpec(name="linear", kind="sparse", dim=1, optimizer=Adagrad(0.1), group="fm", table=1, index=1),
    TableSpec(name="factors", kind="sparse", dim=3, dtype="float64", optimizer=Adam(0.1), group="fm", table=2, index=1),
    TableSpec(name="bias", kind="dense", dim=1, shape=(3,), optimizer=SGD(0.1), table=3),
    TableSpec(name="empty", kind="sparse", dim=2, optimizer=SGD(0.1), table=4, index=2),
)
PLANES = {1: 2, 2: 3, 3: 1, 4: 1}
GROUP = GroupCut(GroupSpec(1, "train", 2, 2, 0), 7, (RankCut(7, False, b"\x00\xff"), RankCut(7, True, None)))


def record(bucket: int, seed: int, specs: Sequence[TableSpec] = SPECS, rows: int = 5) -> BucketRecord:
    """A bucket's content; every bit of its floats is random. A group's later tables have fewer rows than its index has keys."""
    random = np.random.default_rng([bucket, seed])
    indexes: dict[int, Any] = {}
    tables: dict[int, TableRecord] = {}
    for spec in specs:
        count = 0 if spec.name == "empty" else rows
        if spec.kind == "dense":
            first, last = dense_range(spec.size, bucket)
            count = last - first
        elif spec.index in indexes:
            count = min(len(indexes[spec.index]), max(0, rows - 1))
        else:
            indexes[spec.index] = random.integers(-(1 << 63), (1 << 63) - 1, count)
        tables[spec.table] = TableRecord(
            tuple(_bits(random, count, spec.dim, dtype) for dtype in spec.plane_dtypes(PLANES.get(spec.table, 2))),
            int(random.integers(1 << 40)),
        )
    arrays = [random.integers(0, 9, (2, 3)), random.random(4, np.float32), np.zeros((0, 2), bool), np.array(3, np.uint8)]
    return BucketRecord(bucket, indexes, tables, {"low": seed, "fences": [1, None, b"x"]}, arrays)


def _bits(random: np.random.Generator, count: int, dim: int, dtype: str) -> np.ndarray:
    return np.frombuffer(random.bytes(count * dim * np.dtype(dtype).itemsize), dtype).reshape(count, dim)


def same(one: BucketRecord, other: BucketRecord) -> bool:
    """Whether two records are equal, bit by bit."""
    return (
        one.bucket == other.bucket
        and _same_arrays(one.indexes, other.indexes)
        and one.tables.keys() == other.tables.keys()
        and all(
            part.step == other.tables[table].step
            and _same_arrays(dict(enumerate(part.planes)), dict(enumerate(other.tables[table].planes)))
            for table, part in one.tables.items()
        )
        and one.logical_header == other.logical_header
        and _same_arrays(dict(enumerate(one.logical_arrays)), dict(enumerate(other.logical_arrays)))
    )


def _same_arrays(one: Mapping[int, Any], other: Mapping[int, Any]) -> bool:
    return one.keys() == other.keys() and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in ((one[name], other[name]) for name in one)
    )


def write_node(
    url: str | Files,
    checkpoint: str,
    node: int,
    records: Iterable[BucketRecord],
    specs: Sequence[TableSpec] = SPECS,
    base: Manifest | None = None,
    versions: int = 0,
    **options: Any,
) -> NodeFiles:
    """What a node does for a checkpoint; with `versions` what has not changed is taken over."""
    with BucketWriter(url, checkpoint, node, specs, base=base, **{"patience": QUICK, **options}) as writer:
        for each in records:
            known = dict.fromkeys(segment_names(specs), versions)
            if base is None or writer.keep(each.bucket, known):
                writer.put(each, known)
        return writer.finish()


def write(
    url: str | Files | pathlib.Path,
    seed: int,
    specs: Sequence[TableSpec] = SPECS,
    nodes: int = 2,
    buckets: int = BUCKETS,
    rows: int = 5,
    token: str = "",
    **options: Any,
) -> Checkpoint:
    """A whole checkpoint of the content of `seed`, written by some nodes."""
    place = str(url) if isinstance(url, pathlib.Path) else url
    store = CheckpointStore(place, QUICK)
    checkpoint = store.new_id(token)
    parts = []
    for node in range(nodes):
        mine = [record(bucket, seed, specs, rows) for bucket in range(node, buckets, nodes)]
        parts.append(write_node(place, checkpoint, node, mine, specs, **options))
    manifest = assemble(
        parts, checkpoint=checkpoint, tier="tier", tables=specs, groups=[GROUP], time=1.0, seconds=0.5, num_buckets=buckets
    )
    return store.publish(manifest)


def increment(
    root: pathlib.Path, versions: Sequence[int], base: Manifest | None, owner: Owner | None = None
) -> tuple[Checkpoint, Manifest]:
    """A checkpoint whose bucket b has the content, and the version, ``versions[b]``."""
    store = CheckpointStore(str(root), QUICK)
    checkpoint = store.new_id()
    names = segment_names(SPECS)
    with BucketWriter(str(root), checkpoint, 0, SPECS, base=base, patience=QUICK) as writer:
        for bucket, version in enumerate(versions):
            known = dict.fromkeys(names, version)
            if writer.keep(bucket, known):
                writer.put(record(bucket, version), known)
        part = writer.finish()
    manifest = assemble(
        [part], checkpoint=checkpoint, tier="t", tables=SPECS, groups=[], time=0.0, seconds=0.0, base=base, num_buckets=len(versions),
        owner=owner,
    )  # fmt: skip
    return store.publish(manifest), manifest


def holds(url: str | Files | pathlib.Path, manifest: Manifest, seed: int, rows: int = 5) -> bool:
    """Whether a checkpoint has the content of `seed`."""
    place = str(url) if isinstance(url, pathlib.Path) else url
    buckets = range(manifest.num_buckets)
    return all(
        same(got, record(bucket, seed, manifest.tables, rows))
        for bucket, got in zip(buckets, load(place, manifest, buckets, patience=QUICK), strict=True)
    )
