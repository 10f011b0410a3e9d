"""A node writes the buckets that it leads, as they were at one moment, while they go on changing.

At that moment every bucket gets a place for the checkpoint in the order of its changes; clocks close again at once. From that place on
rows that are changed are kept aside as they were (`tables.images`), until their bucket is copied. Copying and writing go on beside the
node's other work, as fast as the `throttle` lets them. Copies that are not written yet take memory, so there is a limit: where
files are slower than that lasts, copying waits for them.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkps.checkpoints.parts import GroupPart, NodePart, ShardTime, encoded
from sparkps.checkpoints.plan import NodeFiles, Unchanged, ids_of_segments, versions_by_segment
from sparkps.errors import CheckpointError, SparkPSError, UnknownTable
from sparkps.ps_nodes.checkpointing import cuts
from sparkps.ps_nodes.checkpointing.throttle import Throttle, share_of
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.tables.buffers import return_freed_memory
from sparkps.ps_nodes.tables.images import NodeImage
from sparkps.ps_nodes.tables.taken_buckets import TakenBucket
from sparkps.wire.buckets import buckets_in
from sparkps.wire.messages import control as c

if TYPE_CHECKING:
    from sparkps.checkpoints.manifest import Manifest
    from sparkps.checkpoints.writer import BucketWriter
    from sparkps.ps_nodes.groups import NodeGroup
    from sparkps.ps_nodes.state import ServerState
    from sparkps.ps_nodes.tables.directory import Use

log = logging.getLogger(__name__)

#: Bytes of copies that are not written yet, beyond which no further bucket is copied; and what share of its memory a node has for them.
MOST_COPIED, COPIES = 64 << 20, 1 / 32

#: A file is written when it has so many bytes, or this share of those copies: some are filled and written at a time.
FILE_BYTES, FILE_SHARE = 16 << 20, 1 / 4

#: Copies that wait for their turn, each of a bucket of one table.
MOST_ORDERED = 16

#: Longest rest before it is seen whether anybody is in the way (seconds).
LONGEST_REST = 0.05

#: Called with the error or None, and what there is to report.
Done = Callable[[BaseException | None, dict[str, Any]], None]


def write(state: ServerState, message: c.WriteCheckpoint, done: Done) -> None:
    """Write all buckets that this node leads. On the I/O thread.

    A coordinator that was started again asks again for what it has asked for before: who is at it answers both.
    """
    if state.writing is not None and state.writing.is_for(message):
        state.writing.tell(done)
        return
    make_way(state)
    if state.epoch != message.epoch or state.placing:
        cuts.release(state)
        raise cuts.again(f"Node {state.node} has, or takes over, another one")
    clocks = {int(group): clock for group, clock in message.clocks.items()}
    cut = state.cut if clocks else cuts.hold(state)
    if cut is None or cut.is_given_up or cut.epoch != message.epoch:
        raise cuts.again(f"Node {state.node} has given up waiting for the checkpoint")
    cut.deadline = state.now() + cuts.REACH_LIMIT
    state.writing = writing = Writing(state, message, cut, clocks)
    writing.tell(done)

    def reached(error: BaseException | None) -> None:
        try:
            if error is not None:
                raise error
            threading.Thread(target=writing.run, name="sparkps-checkpoint", daemon=True).start()
        except BaseException as raised:  # also where the system gives no thread
            state.io.post(lambda: cuts.release(state))
            writing.end(raised, {})

    state.pool.submit(cut.reach, clocks, reached)


def make_way(state: ServerState) -> None:
    """See that no checkpoint is being written that nobody wants any more, before another one begins. On the I/O thread.

    Raises
    ------
    CheckpointError
        There was one; it ends soon.
    """
    if state.writing is not None:
        state.writing.give_up(cuts.again(f"Node {state.node} was told to write another checkpoint"))
        cuts.release(state)
        raise cuts.again(f"Node {state.node} is still at an older checkpoint")


class _Copy(NamedTuple):
    """A bucket on its way to the files."""

    of: TakenBucket
    times: list[ShardTime]
    versions: dict[str, int]
    since: dict[str, int]


class Writing:
    """One node's part of one checkpoint; runs on a thread of its own."""

    def __init__(self, state: ServerState, message: c.WriteCheckpoint, cut: cuts.Cut, clocks: dict[int, int]) -> None:
        self._state = state
        self._message = message
        self._cut = cut
        self._clocks = clocks
        #: Who is told what came of it. Owner: the I/O thread.
        self._told: list[Done] = []
        self._buckets = list(buckets_in(state.bucket_bits))
        #: Copies to be written; None: there are no more. An error ends the writing.
        self._copies: queue.SimpleQueue[_Copy | BaseException | None] = queue.SimpleQueue()
        self._change = threading.Condition()
        #: Images and copies that wait for their turn, bytes of copies that are not written. Owner of this and all below: `_change`.
        self._ordered = self._begun = self._nbytes = 0
        self._error: BaseException | None = None
        #: By bucket: logical time of groups without a common clock, and versions of its segments.
        self._times: dict[int, list[ShardTime]] = {bucket: [] for bucket in self._buckets}
        self._versions: dict[int, dict[str, int]] = {bucket: versions_by_segment({}, {}) for bucket in self._buckets}
        #: Where ranks go on.
        self._groups: list[GroupPart] = []
        self._base: Manifest | None = None
        self._image: NodeImage | None = None
        self._writer: BucketWriter | None = None
        self._most_copied = state.memory.most(COPIES, MOST_COPIED)
        self._throttle = Throttle(share_of(os.cpu_count() or 1, sum(state.tables.sizes())), time.monotonic(), state.load.requests)
        #: Seconds of processors' time that copying and writing have taken.
        self._spent = {"copying": 0.0, "writing": 0.0}
        self._files: NodeFiles | None = None

    def run(self) -> None:
        """Copy and write; tells what came of it."""
        error, report = None, {}
        try:
            report = {"part": encoded(self._written())}
        except BaseException as raised:
            log.warning("a checkpoint was given up: %s", raised, exc_info=not isinstance(raised, SparkPSError))
            error = raised
        return_freed_memory()
        self.end(error, report)

    def _written(self) -> NodePart:
        with ExitStack() as after:
            try:
                use = self._use()
                after.callback(use.release)
                image = self._image = NodeImage(use.tables, self._state.memory.has_room)
                after.callback(image.end)
                self._cut_all(image)
                self._base = self._older()
                threading.Thread(target=self._write_all, name="sparkps-checkpoint-files", daemon=True).start()
                self._copy_all(image)
                with self._change:
                    self._change.wait_for(lambda: self._error is not None or self._files is not None)
            finally:
                self._copies.put(None)
                self._release()
                with self._change:  # tables are in use as long as something may be copied
                    self._change.wait_for(lambda: not self._ordered)
                self._image = self._writer = None
        if self._error is not None or self._files is None:
            raise self._error or CheckpointError("A checkpoint must be written before it ends.")
        return NodePart(self._files, self._groups)

    # ---- who asks for it -------------------------------------------------------------------------------------------------

    def is_for(self, message: c.WriteCheckpoint) -> bool:
        """Whether it is what a message asks for."""
        own = self._message
        return (own.url, own.checkpoint, own.epoch, own.clocks) == (message.url, message.checkpoint, message.epoch, message.clocks)

    def tell(self, done: Done) -> None:
        """Call `done` at the end. On the I/O thread."""
        self._told.append(done)

    def give_up(self, cause: BaseException) -> None:
        """Nobody wants it any more."""
        with self._change:
            self._error = self._error or cause
            self._change.notify_all()

    def look_around(self) -> None:
        """Time has passed, or the placement has changed."""
        try:
            self._check_epoch()
        except CheckpointError as error:
            self.give_up(error)

    @property
    def nbytes(self) -> int:
        """Bytes of rows that are kept aside, or copied and not written yet."""
        image = self._image
        return self._copied + (0 if image is None else image.nbytes)

    @property
    def _copied(self) -> int:
        writer = self._writer
        return self._nbytes + (0 if writer is None else writer.held)

    def end(self, error: BaseException | None, report: dict[str, Any]) -> None:
        """It has come to its end."""

        def over() -> None:
            self._state.writing = None
            for done in self._told:
                done(error, report)

        self._state.io.post(over)

    # ---- what it does ----------------------------------------------------------------------------------------------------

    def _use(self) -> Use:
        try:
            return self._state.tables.use([spec.table for spec in self._message.tables])
        except UnknownTable as error:
            raise CheckpointError(f"Tables must not be dropped while a checkpoint begins. {error}", again=True) from error

    def _release(self) -> None:
        """Clocks close again."""
        self._cut.release()
        state, cut = self._state, self._cut

        def forget() -> None:
            if state.cut is cut:
                state.cut = None

        state.io.post(forget)

    def _older(self) -> Manifest | None:
        """The checkpoint from which what has not changed is taken over."""
        from sparkps.checkpoints.store import CheckpointStore  # not before one is taken: pyarrow takes a while

        if not self._message.base:
            return None
        try:
            return CheckpointStore(self._message.url).read(self._message.base)
        except CheckpointError as error:
            log.warning("all is written, not only what has changed: %s", error)
            return None

    # ---- the moment ------------------------------------------------------------------------------------------------------

    def _cut_all(self, image: NodeImage) -> None:
        """Every bucket's image begins where all groups are at one moment; clocks go on as soon as that is ordered."""
        state, groups = self._state, dict(self._state.groups)
        for number, clock in self._clocks.items():
            group = self._cut.groups.get(number)
            if group is not None:
                self._groups.append(GroupPart(number, clock, group.starts_after(clock)))
        entries = [self._beginning(image, bucket, order) for bucket in self._buckets for order in image.orders]
        self._begun = len(entries)
        with ExitStack() as still:
            for _, group in sorted(groups.items()):
                still.enter_context(group.still())
            now = state.shards.order_at_once(entries, lambda: self._look(groups))
        self._release()
        for entry in now:
            state.shards.carry_out(entry)
        with self._change:
            self._change.wait_for(lambda: not self._ordered)
            if self._error is not None:
                raise self._error

    def _look(self, groups: Mapping[int, NodeGroup]) -> None:
        """Note where groups are. Under the locks of all."""
        self._check_epoch()
        if not self._cut.holds:
            raise cuts.again(f"Node {self._state.node} has given up waiting for the checkpoint")
        for number, group in sorted(groups.items()):
            if not group.is_synchronous and group.is_going_on:
                self._groups.append(GroupPart(number, -1, group.starts_now()))
                for bucket in self._buckets:
                    self._times[bucket].append(ShardTime.of(number, group.share_of(bucket).clock))
        with self._change:
            self._ordered = self._begun

    def _check_epoch(self) -> None:
        if self._state.epoch != self._message.epoch:
            raise cuts.again(f"Node {self._state.node} got another one")

    def _beginning(self, image: NodeImage, bucket: int, order: int) -> Entry:
        """Each shard has its own: one that a user's function is busy with does not keep writers from the others."""

        def begin() -> dict[str, int]:
            image.begin(bucket, order)
            return versions_by_segment(*image.versions(bucket, order))

        def begun(versions: Any, error: BaseException | None) -> None:
            with self._change:
                if error is None:
                    self._versions[bucket].update(versions)
                self._one_done(error)

        return Entry({order: 1 << bucket}, begin, begun)

    def _one_done(self, error: BaseException | None) -> None:
        """Under the lock: one of those that were ordered."""
        self._ordered -= 1
        self._error = self._error or error
        self._change.notify_all()

    # ---- copying ---------------------------------------------------------------------------------------------------------

    def _copy_all(self, image: NodeImage) -> None:
        unchanged = Unchanged(self._base)
        for bucket in self._buckets:
            self._rest("copying")
            with self._change:
                while self._error is None and (self._copied >= self._most_copied or self._ordered >= MOST_ORDERED):
                    self._change.wait(LONGEST_REST)  # files are written on other threads
                if self._error is not None:
                    raise self._error
            self._copy(image, bucket, unchanged)
        with self._change:
            self._change.wait_for(lambda: self._error is not None or not self._ordered)
        self._copies.put(None)

    def _rest(self, what: str, more: float = 0.0) -> None:
        """Leave the processors to those who want them, for as long as that takes. `more`: what others have spent for this thread."""
        with self._change:
            self._spent[what] = time.thread_time() + more
            # Near the node's limit there is no memory for what writers change meanwhile.
            while self._error is None and not self._state.memory.near:
                seconds = self._throttle.rest(time.monotonic(), sum(self._spent.values()), self._state.load.requests)
                if seconds <= 0.0:
                    return
                self._change.wait(min(seconds, LONGEST_REST))

    def _copy(self, image: NodeImage, bucket: int, unchanged: Unchanged) -> None:
        """Have what has changed of a bucket copied: of each table when it is its turn."""
        state, versions = self._state, self._versions[bucket]
        since = versions_by_segment(*image.since(bucket))
        split = unchanged.split(bucket, versions, since)
        names = (*ids_of_segments(split.written), *ids_of_segments(split.under))
        parts: list[TakenBucket] = []

        def copied(found: Any, error: BaseException | None) -> None:
            with self._change:
                if error is None:
                    parts.append(found)
                    self._nbytes += found.nbytes
                    put_if_whole()
                else:
                    self._copies.put(error)
                self._one_done(error)

        def put_if_whole() -> None:
            if len(parts) == len(image.orders):
                self._copies.put(_Copy(TakenBucket.joined(bucket, parts), self._times[bucket], versions, since))

        def look() -> None:
            self._check_epoch()
            with self._change:
                self._ordered += 1

        put_if_whole()  # there may be no table at all
        for order in image.orders:
            entry = Entry({order: 1 << bucket}, partial(image.take, bucket, *names, order=order), copied)
            if state.shards.order_with(entry, look):
                state.shards.carry_out(entry)

    # ---- files -----------------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        # Not before a checkpoint is taken: pyarrow takes a while.
        from sparkps.checkpoints.writer import BucketWriter
        from sparkps.ps_nodes.checkpointing.records import record_of

        message = self._message
        try:
            size = int(min(FILE_BYTES, FILE_SHARE * self._most_copied))
            where = message.url, message.checkpoint, self._state.node, message.tables
            with BucketWriter(*where, base=self._base, file_bytes=size) as writer:
                self._writer = writer
                while (copy := self._copies.get()) is not None:
                    if isinstance(copy, BaseException) or self._error is not None:
                        return
                    writer.keep(copy.of.whole.bucket, copy.versions, copy.since)
                    writer.put(record_of(copy.of, message.tables, copy.times), copy.versions)
                    with self._change:
                        self._nbytes -= copy.of.nbytes
                        self._change.notify_all()
                    self._rest("writing", writer.spent)
                files = writer.finish()
            with self._change:
                self._files = files
                self._change.notify_all()
        except BaseException as error:
            with self._change:
                self._error = self._error or error
                self._change.notify_all()


__all__ = ["MOST_COPIED", "Writing", "make_way", "write"]
