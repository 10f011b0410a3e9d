"""Runs requests: those of one session one after the other, those of different sessions side by side on a few threads.

Small requests run at once on the I/O thread, since handing them over would cost more than the work; large ones run on
the pool, whose kernels release the interpreter's lock. The pieces into which a client cut one call touch different shards:
they run side by side, too. A request that is parked behind a clock lets later ones of its session pass.

Owner of everything here: the node's I/O thread; what the pool's threads have done is told there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from sparkps.ps_nodes.sessions import NodeSession
from sparkps.ps_nodes.shards import Pool

#: Requests with at most this many bytes of arrays run on the I/O thread.
INLINE_BYTES = 1 << 17

#: Pieces of one call that are handed to the pool beyond what its threads can do: none of them has to wait for the next.
AHEAD = 2

#: Size of a request whose work is not known before it is done.
UNKNOWN_BYTES = 1 << 60


class Job(Protocol):
    """A request under way."""

    session: NodeSession
    #: Bytes of its arrays, or of its answer's, whichever are more.
    size: int
    #: Bytes of the request itself.
    nbytes: int
    #: Later requests of its session wait for it.
    in_line: bool
    #: It waits for others itself.
    held: bool

    @property
    def call(self) -> int:
        """Pieces of one call carry one number > 0; 0 runs alone."""


class Dispatcher:
    """Order within a session, parallelism across sessions and within a call.

    Parameters
    ----------
    pool : Pool
    run : callable
        Carries one request out, on any thread.
    """

    def __init__(self, pool: Pool, run: Callable[[Any], None]) -> None:
        self._run = run
        self._pool = pool
        #: Bytes of requests that are queued or under way, in sessions none of whose requests waits for others: what the node can
        #: work off. The others are bounded by their clients' credits, and what they wait for must still be read.
        self.queued_bytes = 0

    def submit(self, work: Job) -> None:
        """Run `work` now, or behind what its session has under way."""
        session = work.session
        self._line_up(session, work.nbytes)
        if session.running:
            session.queue = deque() if session.queue is None else session.queue
            session.queue.append(work)
            session.waiting_bytes += work.nbytes
            self._start_next(session)
        else:
            self._start(work)

    def again(self, work: Job) -> None:
        """Run a request again that was parked, or whose answer was not kept; it keeps nobody back that it did not before."""
        if work.size > INLINE_BYTES:
            self._pool.submit(self._run, work)
        else:
            self._run(work)

    def ended(self, work: Job) -> None:
        """`work` was answered, or lets later requests pass."""
        if not work.in_line:
            return
        work.in_line = False
        session = work.session
        self._line_up(session, -work.nbytes)
        if work.held:
            work.held = False
            session.held -= 1
            if not session.held:
                self.queued_bytes += session.line_bytes
        session.running -= 1
        if session.queue:
            self._start_next(session)

    def hold(self, work: Job) -> None:
        """`work` waits for others, and later requests of its session for it."""
        if work.in_line and not work.held:
            work.held = True
            work.session.held += 1
            if work.session.held == 1:
                self.queued_bytes -= work.session.line_bytes

    def _line_up(self, session: NodeSession, nbytes: int) -> None:
        session.line_bytes += nbytes
        if not session.held:
            self.queued_bytes += nbytes

    def _start(self, work: Job) -> None:
        session = work.session
        session.running += 1
        session.call = work.call
        work.in_line = True
        self.again(work)

    def _start_next(self, session: NodeSession) -> None:
        """Begin what may begin now."""
        if session.starting:
            return  # a request that ends at once comes back here: the loop below goes on
        session.starting = True
        try:
            while session.queue and session.running < self._pool.threads + AHEAD:
                work = session.queue[0]
                if session.running and not (work.call and work.call == session.call):
                    return
                session.queue.popleft()
                session.waiting_bytes -= work.nbytes
                self._start(work)
        finally:
            session.starting = False
