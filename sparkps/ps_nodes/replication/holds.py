"""A user's function at the primary, at a node that copies its buckets: it has its turn among other changes, and brings its rows later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from sparkps.ps_nodes.shards import LATER, Entry, Shards
from sparkps.ps_nodes.turns import ShardSet


class Hold:
    """Keeps others from some shards until rows have come, or will not come. Thread-safe.

    Parameters
    ----------
    shards : ShardSet
    done : callable
        Told what was raised, if anything was.
    """

    def __init__(self, shards: ShardSet, done: Callable[[Any, BaseException | None], None]) -> None:
        self.entry = Entry(shards, self._turn, done)
        self._lock = threading.Lock()
        #: Owner of both: `_lock`. Its turn has come; and what is to be done then.
        self._has_turn = False
        self._write: Callable[[], Any] | None = None

    def _turn(self) -> Any:
        with self._lock:
            self._has_turn = True
            write = self._write
        return LATER if write is None else write()

    def bring(self, shards: Shards, write: Callable[[], Any]) -> None:
        """The rows are here: `write` writes them when it is their turn."""
        with self._lock:
            self._write = write
            if not self._has_turn:
                return
        error: BaseException | None = None
        try:
            write()
        except BaseException as raised:  # told to whoever asked for the change
            error = raised
        shards.finish(self.entry, None, error)

    def cancel(self, shards: Shards) -> None:
        """Nothing will come."""
        self.bring(shards, lambda: None)
