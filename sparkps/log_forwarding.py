"""What a process of the tier logs, on its way to the driver's log by way of the coordinator (`spark.sparkps.logLevel`).

Whoever logs only puts a text into a bounded queue: nothing here waits for anybody or raises, and what is too much is counted instead of
kept. A thread sends what is in the queue, a little at a time, on a connection of its own. In a process that forwards nothing none of
this exists.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import threading
import traceback

import zmq

from sparkps.plain import LONGEST_NAME, cut, shown
from sparkps.secret import TierSecret
from sparkps.sockets import AT_ONCE, connect, send
from sparkps.wire.codec import encode
from sparkps.wire.messages.control import ROUTING_ID_BYTES, LogLine, LogLines

#: Records that wait to be sent; more are dropped.
MOST_WAITING = 2000
#: Characters of one record.
LONGEST_LINE = 8000
#: Seconds between two messages, and characters of one message: a process sends 256 KB a second at most.
SEND_EVERY, MESSAGE_SIZE = 0.25, 64 << 10
#: Messages that wait for a coordinator that is not there; and those that go out at once when a process is done.
MOST_MESSAGES = 8
#: Seconds that the last messages have to get out.
PARTING = 0.5

#: Loggers of libraries that tell of every step when somebody wants to see INFO or DEBUG of everything else.
_TALKATIVE = ("asyncio", "fsspec", "matplotlib", "numba", "py4j", "urllib3")


class Outbox(logging.Handler):
    """Keeps records, as text, until somebody takes them. A handler without a lock: it never waits.

    Parameters
    ----------
    level : str
        As `logging` knows it.
    """

    def __init__(self, level: str) -> None:
        super().__init__(level)
        #: Putting is safe wherever Python code can run, in signal handlers and destructors, too.
        self._waiting: queue.SimpleQueue[LogLine] = queue.SimpleQueue()
        #: Records that were not kept, since `take` was called last. Two threads may count one.
        self._dropped = 0
        #: ``here`` is set in a thread that is busy with a record, or with sending: what it logs meanwhile is about itself.
        self._inside = threading.local()
        #: A forked child has the queue, and nobody who sends what is in it.
        self._pid = os.getpid()

    def handle(self, record: logging.LogRecord) -> bool:
        """As `logging.Handler.handle`, without its lock."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record, or count it."""
        if getattr(self._inside, "here", False) or os.getpid() != self._pid:
            return
        self.mute()
        try:
            if self._waiting.qsize() < MOST_WAITING:
                self._waiting.put(line_of(record))
            else:
                self._dropped += 1
        except Exception:  # no memory for it
            self._dropped += 1
        finally:
            self._inside.here = False

    def mute(self) -> None:
        """Nothing is kept of what this thread logs from now on."""
        self._inside.here = True

    def take(self, size: int = MESSAGE_SIZE) -> tuple[list[LogLine], int]:
        """The oldest records, together of `size` characters or a few more, and how many were not kept."""
        taken: list[LogLine] = []
        while size > 0:
            try:
                taken.append(self._waiting.get_nowait())
            except queue.Empty:
                break
            size -= len(taken[-1].text)
        dropped, self._dropped = self._dropped, 0
        return taken, dropped

    def drop(self, number: int) -> None:
        """So many were taken, and have not come through."""
        self._dropped += number


def line_of(record: logging.LogRecord) -> LogLine:
    """A record as text; what cannot be made text is described."""
    try:
        text = record.getMessage()
    except Exception as error:  # as many arguments as the format wants, and a ``__str__`` that works, are the user's affair
        text = f"{shown(record.msg)} with arguments that cannot be put in: {type(error).__name__}"
    if record.exc_info and record.exc_info[0] is not None:
        with contextlib.suppress(Exception):
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return LogLine(record.levelno, cut(record.name, LONGEST_NAME), cut(text, LONGEST_LINE))


class LogForwarder:
    """Sends what this process logs to the coordinator, from `begin` to `close`; a context manager.

    Parameters
    ----------
    coordinator : str
        Its endpoint.
    origin : str
        Begins each line at the driver: "node 1 on host-a".
    level : str
        Of the records; the root logger lets them pass meanwhile.
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(self, coordinator: str, origin: str, level: str, secret: TierSecret | None = None) -> None:
        self._secret = secret
        self._coordinator = coordinator
        self._origin = origin
        self._outbox = Outbox(level)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="sparkps-log", daemon=True)
        self._listening = Listening(self._outbox)

    def begin(self) -> LogForwarder:
        """Listen to the root logger, and send."""
        self._listening.begin()
        self._thread.start()
        return self

    def close(self) -> None:
        """Send what is left, as far as it gets out in half a second; nothing is forwarded any more."""
        self._listening.end()
        self._over.set()
        self._thread.join(2 * PARTING + 1.0)

    def __enter__(self) -> LogForwarder:
        return self.begin()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_all(self) -> None:
        """The thread."""
        self._outbox.mute()
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.setsockopt(zmq.LINGER, int(PARTING * 1000))
            socket.setsockopt(zmq.SNDHWM, MOST_MESSAGES)
            socket.setsockopt(zmq.ROUTING_ID, b"\x03" + secrets.token_bytes(ROUTING_ID_BYTES - 1))
            connect(socket, self._coordinator, self._secret)
            while not self._over.wait(SEND_EVERY):
                self._send(socket)
            for _ in range(MOST_MESSAGES):
                if not self._send(socket):
                    break

    def _send(self, socket: zmq.Socket[bytes]) -> bool:
        """Send one message, if there is anything to tell; whether there was."""
        lines, dropped = self._outbox.take()
        if not (lines or dropped):
            return False
        try:
            send(socket, encode(LogLines(0, self._origin, lines, dropped)), AT_ONCE)
        except Exception:  # nobody takes them: the coordinator is gone
            self._outbox.drop(len(lines) + dropped)
        return True


class Listening:
    """Has the root logger pass records on to a handler, from `begin` to `end`; everything else is as before then.

    Parameters
    ----------
    handler : logging.Handler
        With the level from which on records reach it.
    """

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler
        #: What to put back.
        self._levels: list[tuple[logging.Logger, int]] = []
        self._last_resort: logging.Handler | None = None

    def begin(self) -> None:
        """Let records of the level pass; those of talkative libraries as before."""
        root = logging.getLogger()
        if not root.handlers and logging.lastResort is not None:
            # Without any handler warnings go to standard error, and they shall go on doing so.
            self._last_resort = logging.lastResort
            root.addHandler(self._last_resort)
        if self._handler.level < root.level:
            for talkative in map(logging.getLogger, _TALKATIVE):
                if talkative.level == logging.NOTSET:
                    self._set(talkative, root.level)
            self._set(root, self._handler.level)
        root.addHandler(self._handler)

    def _set(self, logger: logging.Logger, level: int) -> None:
        self._levels.append((logger, logger.level))
        logger.setLevel(level)

    def end(self) -> None:
        """Put everything back."""
        root = logging.getLogger()
        root.removeHandler(self._handler)
        if self._last_resort is not None:
            root.removeHandler(self._last_resort)
        while self._levels:
            logger, level = self._levels.pop()
            logger.setLevel(level)


__all__ = ["Listening", "LogForwarder", "Outbox", "line_of"]
