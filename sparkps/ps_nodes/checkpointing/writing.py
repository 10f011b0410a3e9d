"""A node writes the buckets that it leads: copied one by one between other changes, written behind the copying.

Copies that are not written yet take memory, so there is a limit: where files are slower than that lasts, copying waits for them, and in
BSP the next clock with it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from sparkps.checkpoints.parts import GroupPart, NodePart, ShardTime, encoded
from sparkps.checkpoints.plan import NodeFiles
from sparkps.ps_nodes.checkpointing import cuts
from sparkps.ps_nodes.shards import Entry
from sparkps.wire.buckets import buckets_in
from sparkps.wire.messages import control as c

if TYPE_CHECKING:
    from sparkps.ps_nodes.groups import NodeGroup
    from sparkps.ps_nodes.state import ServerState
    from sparkps.ps_nodes.tables.bucket_rows import BucketRows

log = logging.getLogger(__name__)

#: Bytes of copies that are not written yet, beyond which no further bucket is copied: where a clock waits for it, and otherwise.
MOST_COPIED_AT_A_CUT, MOST_COPIED = 512 << 20, 64 << 20

#: Buckets whose copy waits for its turn.
MOST_ORDERED = 4

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
        self._most = MOST_COPIED_AT_A_CUT if clocks else MOST_COPIED
        #: Copies to be written; None: there are no more. An error ends the writing.
        self._copies: queue.SimpleQueue[tuple[BucketRows, list[ShardTime]] | BaseException | None] = queue.SimpleQueue()
        #: Where clocks wait, copying goes first: files take processors and the disk.
        self._may_write = threading.Event()
        if not clocks:
            self._may_write.set()
        self._change = threading.Condition()
        #: Buckets that wait for their turn, bytes of copies that are not written. Owner of this and all below: `_change`.
        self._ordered = self._nbytes = 0
        self._error: BaseException | None = None
        #: BSP: where ranks are at the cut. SSP and ASP: where they were when the first bucket was cut.
        self._groups: dict[int, GroupPart] = {}
        #: SSP and ASP: groups that have been going on since the first bucket was cut; None before that.
        self._going_on: set[int] | None = None
        self._files: NodeFiles | None = None

    def run(self) -> None:
        """Copy and write; tells what came of it."""
        files, error = None, None
        writer = threading.Thread(target=self._write_all, name="sparkps-checkpoint-files", daemon=True)
        writer.start()
        try:
            self._begin()
            self._copy_all()
            self._release()
            self._may_write.set()
            writer.join()
            files = self._files
        except BaseException as raised:
            log.warning("a checkpoint was given up", exc_info=True)
            error = raised
        finally:
            self._copies.put(None)
            self._may_write.set()
            self._state.copied_bytes = 0
            self._release()
        if error is None:
            error = self._error
        part = None if error is not None or files is None else NodePart(files, list(self._groups.values()))
        self._done(error, {} if part is None else {"part": encoded(part)})

    def _release(self) -> None:
        """Clocks close again."""
        self._cut.release()
        state, cut = self._state, self._cut

        def forget() -> None:
            if state.cut is cut:
                state.cut = None

        state.io.post(forget)

    def _begin(self) -> None:
        for number, clock in self._clocks.items():
            group = self._cut.groups.get(number)
            if group is not None:
                self._groups[number] = GroupPart(number, clock, group.starts_after(clock))

    # ---- copying ---------------------------------------------------------------------------------------------------------

    def _copy_all(self) -> None:
        for bucket in buckets_in(self._state.bucket_bits):
            with self._change:
                if self._nbytes >= self._most:
                    self._may_write.set()
                self._change.wait_for(
                    lambda: self._error is not None or (self._nbytes < self._most and self._ordered < MOST_ORDERED)
                )
                if self._error is not None:
                    raise self._error
                self._ordered += 1
            self._order(bucket)
        with self._change:
            self._change.wait_for(lambda: self._error is not None or not self._ordered)
        self._copies.put(None)

    def _order(self, bucket: int) -> None:
        """Have a bucket copied when it is its turn."""
        state, groups, times = self._state, dict(self._state.groups), list[ShardTime]()

        def look() -> None:
            if state.epoch != self._message.epoch:
                raise cuts.again(f"Node {state.node} got another one")
            if not self._cut.holds:
                raise cuts.again(f"Node {state.node} has given up waiting for the checkpoint")
            times.extend(self._times(bucket, groups))

        def copied(rows: Any, error: BaseException | None) -> None:
            with self._change:
                self._ordered -= 1
                self._cut.deadline = state.now() + cuts.REACH_LIMIT
                self._error = self._error or error
                self._count(0 if error is not None else rows.nbytes)
                self._change.notify_all()
            self._copies.put((rows, times) if error is None else error)

        entry = Entry(state.tables.shards_of(1 << bucket), lambda: state.tables.copy_bucket(bucket), copied)
        with ExitStack() as still:
            for _, group in sorted(groups.items()):
                still.enter_context(group.still())
            its_turn = state.shards.order_with(entry, look)
        if its_turn:
            state.shards.carry_out(entry)

    def _times(self, bucket: int, groups: Mapping[int, NodeGroup]) -> list[ShardTime]:
        """What groups without a common clock have in a bucket. Under the locks of all.

        A group that has come since the first bucket was cut, or has ended, is no part of the checkpoint: it would say where ranks go on,
        and not of every bucket what they have written there.
        """
        now = {number for number, group in groups.items() if not group.is_synchronous and group.is_going_on}
        if self._going_on is None:
            self._going_on = now
            self._groups.update({number: GroupPart(number, -1, groups[number].starts_now()) for number in now})
        for ended in self._going_on - now:
            self._going_on.discard(ended)
            del self._groups[ended]
        return [ShardTime.of(number, groups[number].share_of(bucket)[1]) for number in sorted(self._going_on)]

    def _count(self, nbytes: int) -> None:
        """So many more bytes are copied and not written."""
        self._nbytes += nbytes
        self._state.copied_bytes = self._nbytes

    # ---- files -----------------------------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        # Not before a checkpoint is taken: pyarrow takes a while.
        from sparkps.checkpoints.writer import BucketWriter
        from sparkps.ps_nodes.checkpointing.records import record_of

        message = self._message
        self._may_write.wait()
        try:
            with BucketWriter(message.url, message.checkpoint, self._state.node, message.tables) as writer:
                while (copy := self._copies.get()) is not None:
                    if isinstance(copy, BaseException):
                        return
                    rows, times = copy
                    writer.put(record_of(rows, message.tables, times))
                    with self._change:
                        self._count(-rows.nbytes)
                        self._change.notify_all()
                self._files = writer.finish()
        except BaseException as error:
            with self._change:
                self._error = self._error or error
                self._change.notify_all()


__all__ = ["MOST_COPIED", "MOST_COPIED_AT_A_CUT", "write"]
