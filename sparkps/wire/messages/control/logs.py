"""Messages that carry what nodes, coordinator and workers log to the driver's log (`spark.sparkps.logLevel`)."""

from __future__ import annotations

import msgspec

from sparkps.wire.messages.base import ControlMessage


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One record of a logger."""

    #: As in `logging`: 20 is INFO.
    level: int
    #: Name of the logger.
    logger: str
    #: The message with its arguments, and the traceback, if it has one.
    text: str


class KeptLine(msgspec.Struct, frozen=True, array_like=True):
    """A record, and the process that it comes from: "node 1 on host-a", "rank 3 on host-b", "coordinator"."""

    origin: str
    line: LogLine


# ---- node or worker -> coordinator ------------------------------------------------------------------------------------


class LogLines(ControlMessage, frozen=True, tag=85):
    """What a process has logged. There is no answer, and what is lost on the way is not sent again."""

    seq: int
    origin: str
    lines: list[LogLine]
    #: So many records more were there, and too many to be sent.
    dropped: int = 0


# ---- driver -> coordinator --------------------------------------------------------------------------------------------


class FetchLog(ControlMessage, frozen=True, tag=86):
    """Asks for the records that came after one. Answer: `LogFetched`."""

    seq: int
    #: Number of the last record that the driver has; 0: none.
    after: int


# ---- coordinator -> driver --------------------------------------------------------------------------------------------


class LogFetched(ControlMessage, frozen=True, tag=110):
    """The next records, as many as fit into a message of moderate size; none: there are no more now."""

    seq: int
    #: Number of the last one of these; where there is none, what was asked for.
    last: int
    lines: list[KeptLine]
    #: So many before these are not kept any more.
    dropped: int = 0


__all__ = ["FetchLog", "KeptLine", "LogFetched", "LogLine", "LogLines"]
