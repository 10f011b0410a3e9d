"""What nodes, coordinator and workers log, in the driver's log: fetched from the coordinator where `spark.sparkps.logLevel` is set."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from sparkps.errors import SparkPSError
from sparkps.wire.messages.control import FetchLog, KeptLine

log = logging.getLogger(__name__)

#: Seconds between two looks, and that an answer may take: then, and when the tier ends.
FETCH_EVERY, ANSWER_WITHIN, LAST_WITHIN = 0.5, 5.0, 2.0

#: Answers that are fetched in a row.
_MOST_ANSWERS = 32

#: Loggers at the driver, by the first word of where a record comes from.
LOGGERS = {"node": "sparkps.nodes", "rank": "sparkps.workers", "coordinator": "sparkps.coordinator"}


class LogFetching:
    """A thread that hands records of other processes to the driver's loggers, from `begin` to `end`.

    Parameters
    ----------
    request : callable
        ``request(message, timeout)``: asks the coordinator.
    level : str
        The loggers of the driver let records of it pass, unless the user has given them a level.

    Notes
    -----
    Records go through the handlers that the user has set up (`logging.basicConfig`). Where there are none they go to standard error.
    """

    def __init__(self, request: Callable[[Any, float], Any], level: str) -> None:
        self._request = request
        self._level = level
        #: Number of the last record that was fetched. Owner: the thread, and `end` after it.
        self._last = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._fetch_on, name="sparkps-log-fetching", daemon=True)
        #: Loggers that had no level of their own.
        self._opened: list[logging.Logger] = []
        self._stderr = logging.StreamHandler()
        self._stderr.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def begin(self) -> LogFetching:
        """Start the thread."""
        for logger in map(logging.getLogger, LOGGERS.values()):
            if logger.level == logging.NOTSET:
                logger.setLevel(self._level)
                self._opened.append(logger)
        self._thread.start()
        return self

    def end(self) -> None:
        """Fetch what there is, and end; does nothing the second time."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join(ANSWER_WITHIN + LAST_WITHIN)
        if not self._thread.is_alive():
            self._fetch(LAST_WITHIN)
        while self._opened:
            self._opened.pop().setLevel(logging.NOTSET)

    def _fetch_on(self) -> None:
        while not self._over.wait(FETCH_EVERY):
            self._fetch(ANSWER_WITHIN)

    def _fetch(self, seconds: float) -> None:
        """Fetch what has come since the last time; a coordinator that does not answer is asked again later."""
        try:
            for _ in range(_MOST_ANSWERS):
                reply = self._request(FetchLog(0, self._last), seconds)
                self._last = reply.last
                if reply.dropped:
                    log.warning("%d records of other processes are lost: they were fetched too late", reply.dropped)
                for kept in reply.lines:
                    self._tell(kept)
                if not reply.lines:
                    return
        except SparkPSError as error:
            log.debug("the log of other processes cannot be fetched: %s", error)

    def _tell(self, kept: KeptLine) -> None:
        logger = logging.getLogger(LOGGERS.get(kept.origin.split(" ", 1)[0], "sparkps"))
        if not logger.isEnabledFor(kept.line.level):
            return
        if logger.hasHandlers():
            logger.log(kept.line.level, "%s: %s", kept.origin, kept.line.text)
            return
        record = logger.makeRecord(
            logger.name, kept.line.level, __file__, 0, "%s: %s", (kept.origin, kept.line.text), None
        )
        self._stderr.handle(record)


__all__ = ["LOGGERS", "LogFetching"]
