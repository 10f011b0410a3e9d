"""What a node does with the log of a primary whose buckets it copies: takes entries in order, and carries them out in that order.

An entry counts as kept when it is here, in its order: it is acknowledged then, and carried out when the node comes to it. Logical time
and open clocks of these buckets are kept apart from the node's own (`replica_group`); their rows lie in the same tables.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from sparkps.errors import Fenced, ProtocolError, UnknownTable
from sparkps.ps_nodes.replication.answers import Answers
from sparkps.ps_nodes.replication.holds import Hold
from sparkps.ps_nodes.replication.replica_group import ReplicaGroup, Share
from sparkps.ps_nodes.shards import Pool, Shards
from sparkps.ps_nodes.tables.directory import Tables
from sparkps.specs import GroupSpec
from sparkps.wire.buckets import buckets_in
from sparkps.wire.marks import SessionMarks, WriterMark

log = logging.getLogger(__name__)

#: Entries of at most so many bytes are carried out at once, by the thread that has received them.
INLINE_BYTES = 1 << 17

#: Entries that wait beyond so many bytes are not acknowledged until there are fewer: the primary sends no more meanwhile.
MOST_WAITING_BYTES = 64 << 20


class _Pause:
    """In line among entries: nothing behind it is carried out until somebody says so."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then


class Follower:
    """The log of one primary, at a node that copies some of its buckets.

    `take` is the I/O thread's. Entries are carried out one after the other by whoever has the turn; what they change goes through
    `Shards`, so that it is ordered with all else.

    Parameters
    ----------
    source : int
        Id of the primary.
    tables : Tables
    shards : Shards
    pool : Pool
    answers : Answers
    spec_of : callable
        Specification of a worker group by its id; None: it has ended.
    carry_out : callable
        Does what an entry says: takes the follower, the message and its arrays.
    named : callable
        The buckets that this node shall copy by the placement, as bits.
    is_at : callable
        Whether this is the epoch of this node's placement.
    leader_of : callable
        The primary of a bucket by that placement; None: there is no such bucket.
    """

    def __init__(
        self,
        source: int,
        tables: Tables,
        shards: Shards,
        pool: Pool,
        answers: Answers,
        spec_of: Callable[[int], GroupSpec | None],
        carry_out: Callable[[Follower, Any, list[Any]], None],
        named: Callable[[], int],
        is_at: Callable[[int], bool],
        leader_of: Callable[[int], int | None],
    ) -> None:
        self.source = source
        self.tables = tables
        self.shards = shards
        #: Of this node: calls that the log has brought are among them.
        self.answers = answers
        self._pool = pool
        #: Specification of a worker group; None: it has ended.
        self.spec_of = spec_of
        self._carry_out = carry_out
        self._named = named
        self.is_at = is_at
        self._leader_of = leader_of
        #: The log that it follows, 0: none yet; and the last entry of it that is here.
        self.generation = 0
        self.taken = 0
        #: A copy differs from the primary's: nothing more is acknowledged, and the primary will let it go.
        self.broken = False
        self._lock = threading.Lock()
        #: Entries that are not carried out yet, with their bytes; a callable is called in its turn. Owner of this and the next two:
        #: `_lock`.
        self._waiting: deque[tuple[Any, list[Any], int]] = deque()
        self._waiting_bytes = 0
        self._working = False
        #: Buckets that are copied, as bits. Owner of this and all below: whoever carries entries out.
        self.held = 0
        self.groups: dict[int, ReplicaGroup] = {}
        #: Groups that are over.
        self._ended: set[int] = set()
        self.marks = SessionMarks()
        #: Users' functions at the primary that have their turn, by number.
        self.holds: dict[int, Hold] = {}

    # ---- what comes ----------------------------------------------------------------------------------------------------

    def take(self, generation: int, number: int, message: Any, arrays: list[Any], nbytes: int) -> None:
        """An entry has arrived; one out of order is as good as lost. On the I/O thread."""
        if generation > self.generation and number == 1:
            if self.generation:
                self.then(self._begin_anew)
            self.generation, self.taken = generation, 0
        if generation != self.generation or number != self.taken + 1:
            return
        self.taken = number
        with self._lock:
            self._waiting.append((message, arrays, nbytes))
            self._waiting_bytes += nbytes
        self._work(nbytes <= INLINE_BYTES)

    @property
    def acknowledged(self) -> int | None:
        """Number of the last entry that counts as kept; None: that cannot be said now."""
        return None if self.broken or self._waiting_bytes > MOST_WAITING_BYTES else self.taken

    def then(self, do: Callable[[], None]) -> None:
        """Do something when all entries that are here were carried out. On the I/O thread."""
        with self._lock:
            self._waiting.append((do, [], 0))
        self._work(True)

    def pause(self, then: Callable[[], None]) -> None:
        """Call `then` when all entries that are here were carried out; later ones wait until `go_on`. On the I/O thread."""
        with self._lock:
            self._waiting.append((_Pause(then), [], 0))
        self._work(True)

    def go_on(self) -> None:
        """Entries are carried out again."""
        with self._lock:
            if not self._waiting:
                self._working = False
                return
        self._pool.submit(self._carry_all_out)

    # ---- carrying out --------------------------------------------------------------------------------------------------

    def _work(self, inline: bool) -> None:
        with self._lock:
            if self._working:
                return
            self._working = True
        if inline:
            self._carry_all_out(most=1)
        else:
            self._pool.submit(self._carry_all_out)

    def _carry_all_out(self, most: int = 1 << 62) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._working = False
                    return
                if most <= 0:
                    break
                message, arrays, nbytes = self._waiting.popleft()
            most -= 1
            if isinstance(message, _Pause):
                message.then()
                return  # `_working` stays: nobody else goes on
            self._one(message, arrays)
            with self._lock:
                self._waiting_bytes -= nbytes
        self._pool.submit(self._carry_all_out)

    def _one(self, message: Any, arrays: list[Any]) -> None:
        if self.broken and not callable(message):
            return
        try:
            if callable(message):
                message()
            else:
                self._carry_out(self, message, arrays)
        except UnknownTable:  # it was dropped meanwhile: on the primary, too
            log.debug("an entry of node %d is for a table that was dropped", self.source)
        except Fenced as error:  # the rank's successor has spoken to a node that has led one of these buckets, and not yet to the source
            log.warning("node %d does not know yet of a rank's successor: its copies here are to be made anew (%s)", self.source, error)
            self.broken = True
        except Exception:
            self.fail("an entry of node %d could not be carried out: its copies here do not count", self.source)

    def fail(self, what: str, *args: Any) -> None:
        """The copies are not what they should be."""
        log.exception(what, *args)
        self.broken = True

    def _begin_anew(self) -> None:
        """The primary has begun a new log: what it had shipped and no placement named does not count."""
        for bucket in list(buckets_in(self.held & ~self._named())):
            self.drop(bucket)
        self.broken = False
        self.release_holds()

    # ---- what it holds -------------------------------------------------------------------------------------------------

    def group(self, number: int) -> ReplicaGroup | None:
        """A worker group in these buckets; None: it has ended, or there is no bucket."""
        return self._group(number, self.held) if self.held else None

    def _group(self, number: int, held: int) -> ReplicaGroup | None:
        found = self.groups.get(number)
        if found is None and number not in self._ended and (spec := self.spec_of(number)) is not None:
            found = self.groups[number] = ReplicaGroup(spec, self.tables)
            for bucket in buckets_in(held):
                found.clock.hold(bucket)
        return found

    def end_group(self, number: int, failed: bool) -> None:
        """A worker group is over at the primary. What is still due, in buckets that it has given up, is kept for who leads them next."""
        group = self.groups.get(number)
        if group is not None and (failed or not group.has_due):
            del self.groups[number]
        self._ended = {each for each in (*self._ended, number) if self.spec_of(each) is not None}

    def check_source(self, bucket: int) -> None:
        """Refuse a bucket that its sender does not lead.

        Raises
        ------
        ProtocolError
        """
        leader = self._leader_of(bucket)
        if leader != self.source:
            raise ProtocolError(
                f"A bucket must come from the node that leads it, {leader}. Got bucket {bucket} of node {self.source}.", bucket=bucket
            )

    def has_ended(self, number: int) -> bool:
        """Whether a worker group is known to be over at the primary."""
        return number in self._ended

    def bring(self, bucket: int, marks: list[WriterMark], shares: Iterable[Share]) -> None:
        """A bucket comes with what sessions have written there, and with what every group has in it that is open where it comes from.

        One that has ended there, of which nodes hear at different moments, has nothing in it.
        """
        before, shares = self.held & ~(1 << bucket), list(shares)
        self.held |= 1 << bucket
        self.marks.adopt(bucket, marks)
        for number in set(self.groups).difference(share.group for share in shares):
            self.groups[number].clock.hold(bucket)
        for share in shares:
            group = self._group(share.group, before)
            if group is not None:
                group.adopt(share)

    def hold(self, bucket: int) -> None:
        """A bucket is copied from its beginning."""
        self.held |= 1 << bucket
        for group in self.groups.values():
            group.clock.hold(bucket)

    def drop(self, bucket: int) -> None:
        """A copy is let go of; its rows are the caller's."""
        for group in self.groups.values():
            group.drop(bucket)
        self.let_go(bucket)

    def let_go(self, bucket: int) -> None:
        """A bucket is not copied any more. Without any, nothing is heard of its primary: what is known of groups is out of date."""
        self.held &= ~(1 << bucket)
        self.marks.remove(bucket)
        if not self.held:
            self.groups.clear()
            self.marks = SessionMarks()

    def release_holds(self) -> None:
        """Functions at a primary that is gone will write nothing."""
        holds, self.holds = self.holds, {}
        for hold in holds.values():
            hold.cancel(self.shards)

    def nbytes(self) -> int:
        """Bytes of entries that wait, and of writes that wait for their clock."""
        return self._waiting_bytes + sum(group.buffers.nbytes for group in list(self.groups.values()))
