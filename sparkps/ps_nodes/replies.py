"""How the outcome of requests reaches sessions, dispatcher and clients: told by the I/O thread, from whatever thread it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparkps.ps_nodes.dispatch import Dispatcher
from sparkps.ps_nodes.io_thread import IoThread
from sparkps.ps_nodes.work import Work


class SessionReplies:
    """See `work.Replies`, which this is.

    Parameters
    ----------
    io : IoThread
    dispatcher : Dispatcher
        Told when a request has ended, so that those behind it begin.
    send : callable
        Sends the frames of an answer to the connection of that routing id. On the I/O thread.
    """

    def __init__(self, io: IoThread, dispatcher: Dispatcher, send: Callable[[bytes, list[Any]], None]) -> None:
        self._io = io
        self._dispatcher = dispatcher
        self._send = send

    def answer(self, work: Work, frames: list[Any], *, record: bool, plain: bool = False, bar: bool = False) -> None:
        """Send the answer to a request, once.

        Parameters
        ----------
        work : Work
        frames : list
        record : bool
            The request must not run twice: the answer is kept until the client has it.
        plain : bool
            The answer says no more than that a write is in the tables.
        bar : bool
            The request is a write that will be sent again under another number: later ones must not overtake it.
        """
        if self._io.is_current:
            self._answer(work, frames, record=record, plain=plain, bar=bar)
        else:
            self._io.post(lambda: self._answer(work, frames, record=record, plain=plain, bar=bar))

    def _answer(self, work: Work, frames: list[Any], *, record: bool, plain: bool, bar: bool) -> None:
        session, seq = work.session, work.seq
        if bar:
            session.bar(seq)
        session.answered(seq, frames, record=record, plain=plain)
        try:
            self._send(session.identity, frames)
        finally:
            self._dispatcher.ended(work)

    def park(self, work: Work, clock: int, waiting_for: list[int], *, passes: bool) -> None:
        """A request waits for ranks; with `passes` later requests of its session need not wait for it."""

        def tell() -> None:
            work.session.park(work.seq, clock, waiting_for, work.nbytes)
            if passes:
                self._dispatcher.ended(work)
            else:
                self._dispatcher.hold(work)

        self._io.post(tell)

    def hold(self, work: Work) -> None:
        """A request waits for others, and keeps back those behind it in its session."""
        self._io.post(lambda: self._dispatcher.hold(work))

    def pass_on(self, work: Work) -> None:
        """Later requests of its session need not wait for this one, whose answer comes when its copies are kept."""
        self._io.post(lambda: self._dispatcher.ended(work))

    def resume(self, work: Work) -> None:
        """Run a parked request again."""
        self._io.post(lambda: self._dispatcher.again(work))

    @property
    def queued_bytes(self) -> int:
        """See `Dispatcher.queued_bytes`."""
        return self._dispatcher.queued_bytes
