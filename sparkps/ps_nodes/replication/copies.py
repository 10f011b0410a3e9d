"""The primary's side: which buckets have copies where, what is shipped there, and when a change may be acknowledged."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sparkps.ps_nodes.io_thread import IoThread
from sparkps.ps_nodes.replication.sent_log import SentLog, Then
from sparkps.wire.codec import encode
from sparkps.wire.messages.base import DataMessage

log = logging.getLogger(__name__)

#: "async": beyond so many bytes that a replica has not acknowledged, writes wait for it after all.
MOST_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """An entry's place in one log."""

    log: SentLog
    number: int
    #: The buckets of the change that the node copies, as bits.
    buckets: int
    #: The change is acknowledged only when the node has the entry.
    awaited: bool
    #: It is that of an earlier entry, which a repetition waits for.
    is_earlier: bool = False

    def awaiting(self) -> Place:
        """The same, waited for in any case."""
        return Place(self.log, self.number, self.buckets, True, self.is_earlier)


#: The places of one change in all logs.
Places = tuple[Place, ...]

NOWHERE: Places = ()


class Copies:
    """Logs to the nodes that copy buckets of this one. Thread-safe.

    Parameters
    ----------
    io : IoThread
        Sends.
    now : callable
        Seconds, monotonic.
    send : callable
        Sends frames to the node of an id; on the I/O thread.
    """

    def __init__(self, io: IoThread, now: Callable[[], float], send: Callable[[int, list[Any]], None]) -> None:
        self._io = io
        self._now = now
        self._send = send
        #: Id of this node.
        self.node = -1
        #: Acknowledge before replicas have it.
        self.asynchronous = False
        self._lock = threading.Lock()
        #: By id of the node. Owner of this and all below: `_lock`.
        self._logs: dict[int, SentLog] = {}
        #: By id: the buckets that it gets entries of, and those of them that it has caught up in.
        self._shipped: dict[int, int] = {}
        self._caught_up: dict[int, int] = {}
        #: Number of the log that was begun last: a node that copies anew knows entries of the old log by it.
        self._generation = 0
        self._holds = 0
        #: Nodes that are given up: see `give_up`.
        self._broken: set[int] = set()
        self._flushing = False

    @property
    def active(self) -> bool:
        """Whether anybody copies anything."""
        return bool(self._shipped)

    # ---- who copies what -----------------------------------------------------------------------------------------------

    def begin(self, target: int, buckets: int) -> None:
        """From now on entries of these buckets go to `target`. Under the locks that decide the order of changes."""
        with self._lock:
            if target not in self._logs:
                self._generation += 1
                self._logs[target] = SentLog(target, self._generation)
            self._shipped[target] = self._shipped.get(target, 0) | buckets

    def caught_up(self, target: int, buckets: int) -> None:
        """From now on changes of these buckets are acknowledged when `target` has them."""
        with self._lock:
            known = buckets & self._shipped.get(target, 0)
            if known and target not in self._broken:
                self._caught_up[target] = self._caught_up.get(target, 0) | known

    def copied_by(self, target: int) -> tuple[int, int]:
        """Buckets of which `target` gets entries, and those that it has caught up in."""
        with self._lock:
            return self._shipped.get(target, 0), self._caught_up.get(target, 0)

    def end(self, target: int, buckets: int) -> None:
        """Entries of these buckets go to `target` no more. With its last bucket the log is over: no placement names a copy there, so
        nobody waits for one, and it may be that nobody is there any more."""
        with self._lock:
            for held in (self._shipped, self._caught_up):
                left = held.get(target, 0) & ~buckets
                if left:
                    held[target] = left
                else:
                    held.pop(target, None)
            over = target not in self._shipped
        if over:
            self.forget(target)

    def forget(self, target: int) -> None:
        """The node is gone: nobody waits for it."""
        with self._lock:
            self._shipped.pop(target, None)
            self._caught_up.pop(target, None)
            self._broken.discard(target)
            gone = self._logs.pop(target, None)
            due = gone.close() if gone is not None else []
        _call(due)

    def targets(self) -> list[int]:
        """Ids of the nodes that copy something, or have."""
        with self._lock:
            return list(self._logs)

    # ---- shipping ------------------------------------------------------------------------------------------------------

    def reserve(self, buckets: int) -> Places:
        """Places for an entry that changes these buckets. Under the lock that decides its order."""
        if not self._shipped or not buckets:
            return NOWHERE
        with self._lock:
            return tuple(
                self._place(target, shared) for target, held in self._shipped.items() if (shared := held & buckets)
            )

    def reserve_everywhere(self) -> Places:
        """Places for an entry that concerns a whole group."""
        if not self._shipped:
            return NOWHERE
        with self._lock:
            return tuple(self._place(target, held) for target, held in self._shipped.items())

    def reserve_at(self, target: int, buckets: int) -> Places:
        """A place for an entry that concerns one node."""
        with self._lock:
            return (self._place(target, buckets),)

    def reserve_again(self, places: Iterable[Place]) -> Places:
        """Places for an entry that follows an earlier one, in the same logs."""
        with self._lock:
            return tuple(
                Place(place.log, place.log.reserve(), place.buckets, place.awaited)
                for place in places
                if not (place.log.closed or place.is_earlier)
            )

    def next_hold(self) -> int:
        """A number for a user's function that has its turn."""
        with self._lock:
            self._holds += 1
            return self._holds

    def _place(self, target: int, shared: int) -> Place:
        sent = self._logs[target]
        awaited = bool(shared & self._caught_up.get(target, 0))
        if self.asynchronous:
            awaited = awaited and sent.nbytes > MOST_AHEAD_BYTES
        return Place(sent, sent.reserve(), shared, awaited)

    def latest(self, buckets: int) -> Places:
        """The last places so far: whoever repeats a change waits for them."""
        return NOWHERE if self.asynchronous else self.all_so_far(buckets)

    def all_so_far(self, buckets: int) -> Places:
        """The last places so far of entries of these buckets, awaited in any case."""
        if not self._shipped or not buckets:
            return NOWHERE
        with self._lock:
            return tuple(
                Place(self._logs[target], self._logs[target].last, held & buckets, True, True)
                for target, held in self._caught_up.items()
                if held & buckets
            )

    def ship(self, places: Iterable[Place], make: Callable[[Place], tuple[DataMessage, list[Any]]]) -> None:
        """Fill places: `make` gives the entry of each, with its arrays. Never raises: a node that cannot be told is given up."""
        filled = False
        for place in places:
            if place.is_earlier:
                continue
            try:
                message, arrays = make(place)
                frames = encode(message, arrays, (self.node, place.number, place.log.generation))
            except Exception:
                log.exception("an entry for node %d could not be made: its copies are given up", place.log.target)
                self.give_up(place.log)
                continue
            with self._lock:
                place.log.fill(place.number, frames)
            filled = True
        if filled:
            self._flush_soon()

    def give_up(self, sent: SentLog) -> None:
        """A copy differs from this node's rows, or could not be told: it gets nothing more, and the coordinator hears of it.

        Whoever waits for its acknowledgement goes on waiting, until the placement says that the copy does not count.
        """
        self.give_up_at(sent.target)

    # ---- sending and acknowledgements ----------------------------------------------------------------------------------

    def give_up_at(self, target: int) -> None:
        """As `give_up`, by the node's id. Where no copy there counts yet, the log is over at once."""
        with self._lock:
            if target in self._logs:
                self._broken.add(target)
            over = target not in self._caught_up
        if over:
            self.forget(target)

    def not_kept(self, target: int, generation: int) -> None:
        """A node could not carry an entry out. On the I/O thread."""
        with self._lock:
            sent = self._logs.get(target)
            is_current = sent is not None and sent.generation == generation
        if is_current:
            log.warning("node %d could not carry out what was shipped to it: its copies do not count", target)
            self.give_up_at(target)

    def _flush_soon(self) -> None:
        with self._lock:
            if self._flushing:
                return
            self._flushing = True
        self._io.post(self.flush)

    def flush(self) -> None:
        """Send what is due. On the I/O thread."""
        now = self._now()
        with self._lock:
            self._flushing = False
            due = [
                (target, frames)
                for target, sent in self._logs.items()
                if target not in self._broken
                for _, frames in sent.due(now)
            ]
        for target, frames in due:
            self._send(target, frames)

    def acknowledged(self, target: int, generation: int, number: int) -> None:
        """A node has entries. On the I/O thread."""
        with self._lock:
            sent = self._logs.get(target)
            due = [] if sent is None or sent.generation != generation else sent.acknowledge(number, self._now())
        _call(due)
        self.flush()

    def when_kept(self, places: Iterable[Place], then: Then, meanwhile: Then = lambda: None) -> None:
        """Call `then` when all nodes that are awaited have the entry; and `meanwhile` now, if that is later."""
        missing = [place for place in places if place.awaited]
        if missing:
            with self._lock:
                left = [1]

                def one() -> None:
                    left[0] -= 1
                    if not left[0]:
                        then()

                for place in missing:
                    if place.log.wait(place.number, one):
                        left[0] += 1
                left[0] -= 1
                later = left[0] > 0
            if later:
                meanwhile()
                return
        then()

    def silent(self, deadline: float) -> list[int]:
        """Nodes that have not acknowledged anything for so long, though there is something to acknowledge; and those given up."""
        now = self._now()
        with self._lock:
            late = {
                target
                for target, sent in self._logs.items()
                if sent.silent_since is not None and now - sent.silent_since > deadline
            }
            return sorted(late | self._broken)

    def nbytes(self) -> int:
        """Bytes of entries that are not acknowledged."""
        with self._lock:
            return sum(sent.nbytes for sent in self._logs.values())


def _call(due: Iterable[Then]) -> None:
    for then in due:
        try:
            then()
        except Exception:
            log.exception("what an acknowledgement has led to failed")


__all__ = ["NOWHERE", "Copies", "Place", "Places"]
