"""Results that are still on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from sparkps.client.membership import Faults
    from sparkps.client.sending import Sender

T = TypeVar("T")


class Future(Generic[T]):
    """What an asynchronous call will give.

    The calling thread does the work of receiving while it waits in `result`; nothing runs in the background but the
    sockets' own buffers.

    Examples
    --------
    >>> f = table.pull_async(keys)          # doctest: +SKIP
    >>> rows = f.result(timeout=5)          # doctest: +SKIP
    """

    __slots__ = ("_build", "_built", "_error", "_pending", "_session", "_told", "_value", "faults", "what")

    def __init__(self, session: Sender, what: str, build: Callable[[], T]) -> None:
        self._session = session
        #: What it is, for messages to people.
        self.what = what
        self._build = build
        self._built = False
        self._value: T | None = None
        self._error: BaseException | None = None
        #: Whether the caller has seen the failure.
        self._told = False
        #: Answers still missing.
        self._pending = 0
        #: Of a rank's write: where a failure is noted, whoever sees it.
        self.faults: Faults | None = None

    @property
    def whole(self) -> Future[T]:
        """The call that what belongs to this future is a part of."""
        return self

    def expect(self) -> None:
        """One more answer belongs to this future."""
        self._pending += 1

    def arrived(self) -> None:
        """One of its answers is here."""
        self._pending -= 1

    def fail(self, error: BaseException) -> None:
        """One of its requests failed; the first cause is kept."""
        self._pending -= 1
        if self._error is None:
            self._error = error
        if self.faults is not None:
            self.faults.note(self.what, error)

    def settled(self) -> bool:
        """Whether all answers are here, without looking for new ones."""
        return self._pending <= 0

    def told(self) -> bool:
        """Whether there is nothing left to say: it succeeded, or its failure was raised."""
        return self.settled() and (self._error is None or self._told)

    def done(self) -> bool:
        """Whether `result` would return (or raise) at once."""
        if not self.settled():
            self._session.poll()
        return self.settled()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the result.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default the session's deadline.

        Raises
        ------
        DeadlineExceeded
            The time is over; names who was waited for. The call itself goes on and may be waited for again.
        SparkPSError
            What the tier refused.
        """
        if not self.settled():
            self._session.wait(self, timeout)
        if self._error is not None:
            self._told = True
            raise self._error
        if not self._built:
            self._value = self._build()
            self._built = True
        return self._value  # type: ignore[return-value]  # _build gave a T
