"""Runs requests: those of one session in order, those of different sessions in parallel on a few threads.

Small requests run at once on the I/O thread, since handing them over would cost more than the work; large ones run on
the pool, whose kernels release the interpreter's lock. The pieces into which a client cut one call touch different buckets:
they run in parallel, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sparkps.ps_nodes.sessions import NodeSession

log = logging.getLogger(__name__)

#: Requests with at most this many bytes of arrays run on the I/O thread.
INLINE_BYTES = 1 << 17

#: Size of a request whose work is not known before it is done.
UNKNOWN_BYTES = INLINE_BYTES + 1


class Dispatcher:
    """Order within a session, parallelism across sessions and within a call.

    Parameters
    ----------
    threads : int
        Threads of the pool.
    run : callable
        Carries one request out.
    """

    def __init__(self, threads: int, run: Callable[[Any], None]) -> None:
        self._run = run
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sparkps-node")
        self._lock = threading.Lock()
        #: Bytes of requests that are queued or run on the pool; owner: `_lock`.
        self.queued_bytes = 0

    def submit(self, session: NodeSession, work: Any, nbytes: int, call: int = 0) -> None:
        """Run `work` now, or behind what its session has under way. I/O thread only.

        Parameters
        ----------
        session : NodeSession
        work : object
        nbytes : int
            Bytes of its arrays, or of its answer's, whichever are more.
        call : int
            Pieces of one call carry one number > 0; 0 runs alone.
        """
        with self._lock:
            if session.running or nbytes > INLINE_BYTES:
                session.queue.append((work, nbytes, call))
                self.queued_bytes += nbytes
                self._start_next(session)
                return
        self._run(work)

    def background(self, work: Callable[[], None]) -> None:
        """Run something that belongs to no session on the pool."""
        self._pool.submit(_logged, work)

    def _start_next(self, session: NodeSession) -> None:
        """Hand to the pool what may run now; under the lock."""
        while session.queue and session.running < self._threads:
            work, nbytes, call = session.queue[0]
            if session.running and not (call and call == session.call):
                return
            session.queue.popleft()
            session.running += 1
            session.call = call
            self._pool.submit(self._work, session, work, nbytes)

    def _work(self, session: NodeSession, work: Any, nbytes: int) -> None:
        try:
            self._run(work)
        except Exception:
            log.exception("a request could not be carried out")
        finally:
            with self._lock:
                self.queued_bytes -= nbytes
                session.running -= 1
                self._start_next(session)

    def close(self) -> None:
        """Finish what runs; what is queued is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        log.exception("background work failed")
