"""Runs requests: those of one session in order, those of different sessions in parallel on a few threads.

Small requests run at once on the I/O thread, since handing them over would cost more than the work; large ones run on
the pool, whose kernels release the interpreter's lock.
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


class Dispatcher:
    """Order within a session, parallelism across sessions.

    Parameters
    ----------
    threads : int
        Threads of the pool.
    run : callable
        Carries one request out.
    """

    def __init__(self, threads: int, run: Callable[[Any], None]) -> None:
        self._run = run
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sparkps-node")
        self._lock = threading.Lock()
        #: Bytes of requests that are queued or run on the pool; owner: `_lock`.
        self.queued_bytes = 0

    def submit(self, session: NodeSession, work: Any, nbytes: int) -> None:
        """Run `work` now, or behind what its session has under way. I/O thread only."""
        with self._lock:
            if not session.busy and nbytes > INLINE_BYTES:
                session.busy = True
                session.queue.append((work, nbytes))
                self.queued_bytes += nbytes
                self._pool.submit(self._drain, session)
                return
            if session.busy:
                session.queue.append((work, nbytes))
                self.queued_bytes += nbytes
                return
        self._run(work)

    def background(self, work: Callable[[], None]) -> None:
        """Run something that belongs to no session on the pool."""
        self._pool.submit(_logged, work)

    def _drain(self, session: NodeSession) -> None:
        while True:
            with self._lock:
                if not session.queue:
                    session.busy = False
                    return
                work, nbytes = session.queue.popleft()
            try:
                self._run(work)
            except Exception:
                log.exception("a request could not be carried out")
            finally:
                with self._lock:
                    self.queued_bytes -= nbytes

    def close(self) -> None:
        """Finish what runs; what is queued is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _logged(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        log.exception("background work failed")
