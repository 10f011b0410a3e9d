"""A request under way at a node, and the ways in which it may go on: answered, sent back, parked, held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparkps.errors import ProtocolError, to_wire
from sparkps.ps_nodes.closing import ParkedRequest
from sparkps.ps_nodes.sessions import NodeSession
from sparkps.wire.codec import encode
from sparkps.wire.functions import spec_of
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage


@dataclass(frozen=True)
class Unreadable:
    """Stands for the message of a request that cannot be understood, but whose session and number can."""

    error: ProtocolError


class Replies(Protocol):
    """Where the outcome of requests is told, from any thread."""

    def answer(self, work: Work, frames: list[Any], *, record: bool, plain: bool = False, bar: bool = False) -> None:
        """See `Work.answer`."""

    def park(self, work: Work, clock: int, waiting_for: list[int], *, passes: bool) -> None:
        """See `Work.park`."""

    def hold(self, work: Work) -> None:
        """See `Work.hold`."""

    def pass_on(self, work: Work) -> None:
        """See `Work.pass_on`."""

    def resume(self, work: Work) -> None:
        """See `Work.resume`."""

    @property
    def queued_bytes(self) -> int:
        """Bytes of requests that the node has taken and not worked off."""


@dataclass(slots=True, eq=False)
class Work:
    """One request under way. Owner of what changes: the I/O thread; its methods may be called from any."""

    session: NodeSession
    #: Its number within the session.
    seq: int
    #: When it was made, the client had the answers to all requests up to this one.
    acked: int
    message: Any
    arrays: list[Any]
    #: Bytes of the request.
    nbytes: int
    #: Bytes of the request or of its answer, whichever are more.
    size: int
    #: When it arrived (seconds, the node's clock).
    since: float
    replies: Replies
    #: Later requests of its session wait for it.
    in_line: bool = field(default=False)
    #: It waits for others itself, so that nobody must wait for its bytes to be worked off.
    held: bool = field(default=False)

    @property
    def call(self) -> int:
        """Number of the call that it is a piece of; 0: it runs alone."""
        return int(self.message.call) if type(self.message) is m.Step else 0

    @property
    def is_write(self) -> bool:
        """Whether it changes rows. Server functions that do are writes; users' functions may."""
        message = self.message
        if type(message) is m.Step:
            return any(op.code != m.OpCode.PULL for op in message.ops)
        if type(message) is m.Call:
            return any(spec_of(call.function).writes for call in message.calls)
        return type(message) is Unreadable  # it may have been one

    @property
    def stamp(self) -> int:
        """Number of the call that a session's write is a piece of: by it shards know what they have.

        Raises
        ------
        ProtocolError
            It has none.
        """
        call: int = self.message.call
        if call < 1:
            raise ProtocolError(f"A write must carry the number of its call, from 1. Got {call} instead.")
        return call

    # ---- how it ends ---------------------------------------------------------------------------------------------------

    def answer(self, message: DataMessage, *, record: bool) -> None:
        """Answer it; with `record` it must not run twice, and the answer is kept until the client has it."""
        self.replies.answer(self, encode(message), record=record)

    def done(self, arrays: list[Any] | None = None, *, record: bool) -> None:
        """Answer that it was carried out."""
        self.replies.answer(self, encode(m.Done(self.seq), arrays or []), record=record, plain=not arrays)

    def fail(self, error: BaseException) -> None:
        """Answer why it was not."""
        self.answer(m.Failed(self.seq, *to_wire(error)), record=self.is_write)

    def send_back(self, refusal: DataMessage) -> None:
        """Nothing was done, and the client will send the same work again in another form."""
        write = self.is_write
        self.replies.answer(self, encode(refusal), record=write, bar=write)

    # ---- how it waits --------------------------------------------------------------------------------------------------

    def park(self, clock: int, waiting_for: list[int], *, passes: bool) -> None:
        """It waits for ranks; with `passes` later requests of its session need not wait for it."""
        self.replies.park(self, clock, waiting_for, passes=passes)

    def hold(self) -> None:
        """It waits for others, and keeps back those behind it in its session."""
        self.replies.hold(self)

    def pass_on(self) -> None:
        """It is done here, and is answered when its copies are kept; later requests of its session need not wait for that."""
        self.replies.pass_on(self)

    def resume(self) -> None:
        """Run it again, after it was parked."""
        self.replies.resume(self)

    def parked(self, member: m.Member, now: float) -> ParkedRequest:
        """As a worker group keeps it until its clock allows it."""
        return ParkedRequest(member, resume=self.resume, fail=self.fail, since=now)

    def told(self, then: Callable[[], None], arrays: list[Any] | None = None) -> Callable[[BaseException | None], None]:
        """What answers a write when it is in the tables, or has failed; `then` follows, and the client need not wait for that."""

        def done(error: BaseException | None) -> None:
            try:
                if error is None:
                    self.done(arrays, record=True)
                else:
                    self.fail(error)
            finally:
                then()

        return done
