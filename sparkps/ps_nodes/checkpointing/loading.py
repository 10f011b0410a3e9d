"""A node loads the buckets that it leads from the files of a checkpoint; nodes that copy them get them by its log, as any change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sparkps.checkpoints.manifest import Manifest
from sparkps.checkpoints.parts import times_of
from sparkps.errors import ProtocolError, SparkPSError
from sparkps.kernels.layout import ENTRY
from sparkps.ps_nodes.checkpointing import cuts
from sparkps.ps_nodes.replication.replica_group import Share
from sparkps.ps_nodes.replication.snapshots import made
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.tables.bucket_rows import BucketRows
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.buckets import buckets_in
from sparkps.wire.marks import ShardMark, WriterMark
from sparkps.wire.messages import control as c

if TYPE_CHECKING:
    from sparkps.checkpoints.format import BucketRecord
    from sparkps.ps_nodes.state import ServerState

log = logging.getLogger(__name__)

#: Buckets whose place is taken and that are not at all their copies yet.
MOST_UNDER_WAY = 8

Done = Callable[[BaseException | None, dict[str, Any]], None]


def verify(state: ServerState, message: c.VerifyCheckpoint, done: Done) -> None:
    """See whether this node's share of a checkpoint can be loaded. On the I/O thread."""
    if not message.nodes:
        raise ProtocolError("A checkpoint must be verified by nodes. Got none.")
    mine = [bucket for bucket in range(NUM_BUCKETS) if message.nodes[bucket % len(message.nodes)] == state.node]

    copies = sum(len(row) for row in state.placement) / NUM_BUCKETS
    share = copies / max(1, len(message.nodes))

    def run() -> None:
        try:
            _verify(message, mine, lambda nbytes: state.memory.check_restore(int(share * nbytes)))
        except BaseException as error:
            log.warning("a checkpoint cannot be loaded: %s", error, exc_info=not isinstance(error, SparkPSError))
            done(error, {})
        else:
            done(None, {})

    threading.Thread(target=run, name="sparkps-verify", daemon=True).start()


def _verify(message: c.VerifyCheckpoint, buckets: list[int], check_room: Callable[[int], None]) -> None:
    # Not before something is restored: pyarrow takes a while.
    from sparkps.checkpoints.loading import load
    from sparkps.checkpoints.store import CheckpointStore
    from sparkps.ps_nodes.checkpointing.records import rows_of

    manifest = CheckpointStore(message.url).read(message.checkpoint)
    check_room(memory_of(manifest))
    into = [c.TableInto(spec.table, spec.index, spec.table, spec.index) for spec in manifest.tables]
    for record in load(message.url, manifest, buckets):
        rows_of(record, manifest, into).check()
        times_of(record.logical_header)


def memory_of(manifest: Manifest) -> int:
    """Bytes that the rows and keys of a checkpoint take in memory, all nodes together, at least."""
    specs = {f"t{spec.table}": spec for spec in manifest.tables}
    total = 0
    for segment in manifest.segments:
        if segment.name in specs:
            total += segment.rows * specs[segment.name].bytes_of_key(segment.planes)
        elif segment.name.startswith("i"):
            total += segment.rows * ENTRY * 4
    return total


def load(state: ServerState, message: c.LoadCheckpoint, done: Done) -> None:
    """Load all buckets that this node leads. On the I/O thread."""
    if state.epoch != message.epoch or state.placing:
        raise cuts.again(f"Node {state.node} has, or takes over, another one")
    loading = _Loading(state, message, done)
    threading.Thread(target=loading.run, name="sparkps-restore", daemon=True).start()


class _Loading:
    """One node's part of a restore; runs on a thread of its own."""

    def __init__(self, state: ServerState, message: c.LoadCheckpoint, done: Done) -> None:
        self._state = state
        self._message = message
        self._done = done
        self._change = threading.Condition()
        #: Owner: `_change`.
        self._under_way = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """Load; tells what came of it."""
        try:
            self._load()
        except BaseException as error:
            log.warning("a checkpoint could not be loaded: %s", error, exc_info=not isinstance(error, SparkPSError))
            self._done(error, {})
        else:
            self._done(None, {})

    def _load(self) -> None:
        # Not before something is restored: pyarrow takes a while.
        from sparkps.checkpoints.loading import load
        from sparkps.checkpoints.store import CheckpointStore
        from sparkps.ps_nodes.checkpointing.records import rows_of

        message = self._message
        manifest = CheckpointStore(message.url).read(message.checkpoint)
        for record in load(message.url, manifest, list(buckets_in(self._state.bucket_bits))):
            self._wait(MOST_UNDER_WAY - 1)
            with self._change:
                self._under_way += 1
            self._order(record, rows_of(record, manifest, message.tables), manifest)
        self._wait(0)

    def _wait(self, most: int) -> None:
        with self._change:
            self._change.wait_for(lambda: self._error is not None or self._under_way <= most)
            if self._error is not None:
                raise self._error

    def _one_done(self, error: BaseException | None = None) -> None:
        with self._change:
            self._under_way -= 1
            self._error = self._error or error
            self._change.notify_all()

    def _order(self, record: BucketRecord, rows: BucketRows, manifest: Manifest) -> None:
        """A bucket gets what was loaded, between other changes; so do its copies."""
        from sparkps.ps_nodes.checkpointing.records import with_others

        state, bucket, bit = self._state, record.bucket, 1 << record.bucket
        places: list[Any] = []
        marks: list[WriterMark] = []
        shares: list[Share] = []

        def look() -> None:
            if state.epoch != self._message.epoch:
                raise cuts.again(f"Node {state.node} got another one")
            self._mark(record)
            places.extend(state.copies.reserve(bit))
            marks.extend(state.shards.marks.export(bucket))
            shares.extend(group.share_of(bucket) for group in state.groups.values())

        def begin(keys: BucketRows) -> BucketRows:
            state.tables.adopt_bucket(keys)
            return state.tables.copy_bucket(bucket)

        def change() -> BucketRows:
            known = set(rows.tables)
            whole = rows if known.issuperset(state.tables.by_id) else with_others(rows, state.tables.copy_bucket(bucket), begin)
            state.tables.adopt_bucket(whole)
            return whole

        def changed(whole: Any, error: BaseException | None) -> None:
            if error is not None:
                for place in places:
                    state.copies.give_up(place.log)
                self._one_done(error)
                return
            state.copies.ship(places, lambda _: made(bucket, self._message.epoch, marks, shares, whole))
            state.copies.when_kept(places, self._one_done)

        entry = Entry(state.tables.shards_of(bit), change, changed)
        with ExitStack() as still:
            for _, group in sorted(state.groups.items()):
                still.enter_context(group.still())
            its_turn = state.shards.order_with(entry, look)
        if its_turn:
            state.shards.carry_out(entry)

    def _mark(self, record: BucketRecord) -> None:
        """What ranks of the group that goes on had written here beyond their ticks is known again."""
        message = self._message
        group = self._state.groups.get(message.group)
        if group is None:
            return
        into = {to.old_table: to.table for to in message.tables}
        for time in times_of(record.logical_header):
            if time.group == message.old_group:
                marks = [ShardMark(mark.rank, into[mark.table], mark.stamp) for mark in time.marks if mark.table in into]
                group.marks_at(record.bucket, time.ticked, marks, into.values())


__all__ = ["load"]
