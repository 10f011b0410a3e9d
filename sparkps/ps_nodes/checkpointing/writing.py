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
from typing import TYPE_CHECKING, Any, NamedTuple

from sparkps.checkpoints.parts import GroupPart, NodePart, ShardTime, encoded
from sparkps.checkpoints.plan import NodeFiles, Unchanged, ids_of_segments, versions_by_segment
from sparkps.errors import CheckpointError, UnknownTable
from sparkps.ps_nodes.checkpointing import cuts
from sparkps.ps_nodes.checkpointing.throttle import Throttle, share_of
from sparkps.ps_nodes.shards import Entry
from sparkps.ps_nodes.tables.images import BucketCopy, NodeImage
from sparkps.wire.buckets import buckets_in
from sparkps.wire.messages import control as c

if TYPE_CHECKING:
    from sparkps.checkpoints.manifest import Manifest
    from sparkps.ps_nodes.groups import NodeGroup
    from sparkps.ps_nodes.state import ServerState
    from sparkps.ps_nodes.tables.directory import Use

log = logging.getLogger(__name__)

#: Bytes of copies that are not written yet, beyond which no further bucket is copied.
MOST_COPIED = 64 << 20

#: Buckets whose copy waits for its turn.
MOST_ORDERED = 4

#: Longest rest before it is seen whether anybody is in the way (seconds).
LONGEST_REST = 0.05

#: Called with the error or None, and what there is to report.
Done = Callable[[BaseException | None, dict[str, Any]], None]


def write(state: ServerState, message: c.WriteCheckpoint, done: Done) -> None:
    """Write all buckets that this node leads. On the I/O thread."""
    if state.epoch != message.epoch or state.placing:
        cuts.release(state)
        raise cuts.again(f"Node {state.node} has, or takes over, another one")
    clocks = {int(group): clock for group, clock in message.clocks.items()}
    cut = state.cut if clocks else cuts.hold(state)
    if cut is None or cut.epoch != message.epoch:
        raise cuts.again(f"Node {state.node} has given up waiting for the checkpoint")
    cut.deadline = state.now() + cuts.REACH_LIMIT
    writing = _Writing(state, message, cut, clocks, done)

    def reached(error: BaseException | None) -> None:
        if error is None:
            threading.Thread(target=writing.run, name="sparkps-checkpoint", daemon=True).start()
        else:
            state.io.post(lambda: cuts.release(state))
            done(error, {})

    state.pool.submit(cut.reach, clocks, reached)


class _Copy(NamedTuple):
    """A bucket on its way to the files."""

    of: BucketCopy
    times: list[ShardTime]
    versions: dict[str, int]
    since: dict[str, int]


class _Writing:
    """One node's part of one checkpoint; runs on a thread of its own."""

    def __init__(
        self, state: ServerState, message: c.WriteCheckpoint, cut: cuts.Cut, clocks: dict[int, int], done: Done
    ) -> None:
        self._state = state
        self._message = message
        self._cut = cut
        self._clocks = clocks
        self._done = done
        self._buckets = list(buckets_in(state.bucket_bits))
        #: Copies to be written; None: there are no more. An error ends the writing.
        self._copies: queue.SimpleQueue[_Copy | BaseException | None] = queue.SimpleQueue()
        self._change = threading.Condition()
        #: Buckets that wait for their turn, bytes of copies that are not written. Owner of this and all below: `_change`.
        self._ordered = self._nbytes = 0
        self._error: BaseException | None = None
        #: By bucket: logical time of groups without a common clock, and versions of its segments.
        self._times: dict[int, list[ShardTime]] = {bucket: [] for bucket in self._buckets}
        self._versions: dict[int, dict[str, int]] = {}
        #: Where ranks go on.
        self._groups: list[GroupPart] = []
        self._base: Manifest | None = None
        self._throttle = Throttle(share_of(os.cpu_count() or 1, sum(state.tables.sizes())), time.monotonic(), state.load.requests)
        #: Seconds of processors' time that copying and writing have taken.
        self._spent = {"copying": 0.0, "writing": 0.0}
        self._files: NodeFiles | None = None

    def run(self) -> None:
        """Copy and write; tells what came of it."""
        error: BaseException | None = None
        image: NodeImage | None = None
        with ExitStack() as after:
            try:
                use = self._use()
                after.callback(use.release)
                image = NodeImage(use.tables)
                after.callback(image.end)
                self._cut_all(image)
                self._base = self._older()
                writer = threading.Thread(target=self._write_all, name="sparkps-checkpoint-files", daemon=True)
                writer.start()
                self._copy_all(image)
                writer.join()
            except BaseException as raised:
                log.warning("a checkpoint was given up", exc_info=True)
                error = raised
            finally:
                self._copies.put(None)
                self._release()
                with self._change:  # tables are in use as long as something may be copied
                    self._change.wait_for(lambda: not self._ordered)
                self._state.copied_bytes = 0
        error = error or self._error
        part = None if error is not None or self._files is None else NodePart(self._files, self._groups)
        self._done(error, {} if part is None else {"part": encoded(part)})

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
        entries = [self._beginning(image, bucket) for bucket in self._buckets]
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
                    self._times[bucket].append(ShardTime.of(number, group.share_of(bucket)[1]))
        with self._change:
            self._ordered = len(self._buckets)

    def _check_epoch(self) -> None:
        if self._state.epoch != self._message.epoch:
            raise cuts.again(f"Node {self._state.node} got another one")

    def _beginning(self, image: NodeImage, bucket: int) -> Entry:
        def begin() -> dict[str, int]:
            image.begin(bucket)
            return versions_by_segment(*image.versions(bucket))

        def begun(versions: Any, error: BaseException | None) -> None:
            with self._change:
                self._versions[bucket] = versions
                self._one_done(error)

        return Entry(self._state.tables.shards_of(1 << bucket), begin, begun)

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
                self._change.wait_for(
                    lambda: self._error is not None or (self._nbytes < MOST_COPIED and self._ordered < MOST_ORDERED)
                )
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
            while self._error is None:
                seconds = self._throttle.rest(time.monotonic(), sum(self._spent.values()), self._state.load.requests)
                if seconds <= 0.0:
                    return
                self._change.wait(min(seconds, LONGEST_REST))

    def _copy(self, image: NodeImage, bucket: int, unchanged: Unchanged) -> None:
        """Have what has changed of a bucket copied when it is its turn."""
        state, versions = self._state, self._versions[bucket]
        since = versions_by_segment(*image.since(bucket))
        split = unchanged.split(bucket, versions, since)
        names = (*ids_of_segments(split.written), *ids_of_segments(split.under))

        def copied(found: Any, error: BaseException | None) -> None:
            with self._change:
                self._count(0 if error is not None else found.nbytes, image)
                self._one_done(error)
            self._copies.put(_Copy(found, self._times[bucket], versions, since) if error is None else error)

        def look() -> None:
            self._check_epoch()
            with self._change:
                self._ordered += 1

        entry = Entry(state.tables.shards_of(1 << bucket), lambda: image.take(bucket, *names), copied)
        if state.shards.order_with(entry, look):
            state.shards.carry_out(entry)

    def _count(self, nbytes: int, image: NodeImage | None = None) -> None:
        """So many more bytes are copied and not written."""
        self._nbytes += nbytes
        if image is not None:
            self._state.copied_bytes = self._nbytes + image.nbytes

    # ---- files -----------------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        # Not before a checkpoint is taken: pyarrow takes a while.
        from sparkps.checkpoints.writer import BucketWriter
        from sparkps.ps_nodes.checkpointing.records import record_of

        message = self._message
        try:
            with BucketWriter(message.url, message.checkpoint, self._state.node, message.tables, base=self._base) as writer:
                while (copy := self._copies.get()) is not None:
                    if isinstance(copy, BaseException):
                        return
                    writer.keep(copy.of.whole.bucket, copy.versions, copy.since)
                    writer.put(record_of(copy.of, message.tables, copy.times), copy.versions)
                    with self._change:
                        self._count(-copy.of.nbytes)
                        self._change.notify_all()
                    self._rest("writing", writer.spent)
                self._files = writer.finish()
        except BaseException as error:
            with self._change:
                self._error = self._error or error
                self._change.notify_all()


__all__ = ["MOST_COPIED", "write"]
