"""Closes of a group's clocks that are due: in which order they come, who applies them, and where a checkpoint holds them up.

Pure: no lock, no shard. What each call returns says what the group is to do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sparkps.errors import CheckpointError, SparkPSError
from sparkps.wire.effects import Close

#: Called once: with None, or with why the group ended first.
Then = Callable[[SparkPSError | None], None]


class DueCloses:
    """A queue with one consumer at a time, which a checkpoint stops at its clock. Owner: the group's lock.

    Parameters
    ----------
    group : str
        Its name, for errors.

    Examples
    --------
    >>> due = DueCloses("g")
    >>> due.add(Close(clock=0, buckets=1))
    >>> due.begin(), due.begin()
    (True, False)
    >>> due.next(), due.next(), due.busy
    (Close(clock=0, buckets=1), None, False)
    """

    def __init__(self, group: str) -> None:
        self._group = group
        #: In order.
        self._due: deque[Close] = deque()
        #: Somebody applies closes, or goes on with it when a checkpoint lets clocks go on: nobody else may begin.
        self.busy = False
        #: A checkpoint is being taken: closes of later clocks wait, though they are due. None: there is none.
        self._last_clock: int | None = None
        #: Whoever applies closes has come to one that waits for that, and has stopped.
        self._has_stopped = False
        #: Called when the clock of the checkpoint is closed; None: nobody waits for that. Only while there is a checkpoint.
        self.when_cut: Then | None = None

    def __len__(self) -> int:
        return len(self._due)

    # ---- one after the other -------------------------------------------------------------------------------------------

    def add(self, close: Close) -> None:
        """A clock closes, behind all that are due."""
        self._due.append(close)

    def begin(self) -> bool:
        """Whether the caller has to apply what is due: something is, and nobody does."""
        if self.busy or not self._due:
            return False
        self.busy = True
        return True

    def next(self) -> Close | None:
        """The next one, taken out by whoever applies them; None: there is none, or it has to wait, and the caller is done."""
        if not self._due:
            self.busy = False
            return None
        if self._last_clock is not None and self._due[0].clock > self._last_clock:
            self._has_stopped = True
            return None
        return self._due.popleft()

    def give_up(self) -> None:
        """Whoever applies them cannot go on: the group has failed."""
        self.clear()
        self.busy = False

    def clear(self) -> None:
        """The group has failed; whoever applies them finds none."""
        self._due.clear()

    def leave(self, bucket: int) -> None:
        """A bucket goes to another node, where its closes are due, too."""
        left = [Close(close.clock, close.buckets & ~(1 << bucket)) for close in self._due]
        self._due = deque(close for close in left if close.buckets)

    def clocks(self) -> list[int]:
        """Of all that are due, in order."""
        return [close.clock for close in self._due]

    # ---- a checkpoint's cut ----------------------------------------------------------------------------------------------

    @property
    def are_held(self) -> bool:
        """Whether a checkpoint is being taken."""
        return self._last_clock is not None

    def stop_after(self, clock: int) -> None:
        """No later clock is closed until `cut_at` or `go_on`."""
        self._last_clock = clock

    def cut_at(self, clock: int, then: Then) -> bool:
        """Clocks close up to `clock`, and `then` is called after that one; whether the caller has to go on with what is due.

        Raises
        ------
        CheckpointError
            Later clocks may have been closed.
        """
        if self._last_clock is None or clock < self._last_clock:
            raise CheckpointError(
                f"A cut must be at a clock after which none is closed. Got {clock} for group {self._group!r}.", again=True
            )
        self._last_clock, self.when_cut = clock, then
        return self._goes_on()

    def reach_cut(self, is_closed: Callable[[int], bool]) -> Then | None:
        """What to call now because the clock of the checkpoint is closed, if anything.

        Parameters
        ----------
        is_closed : callable
            Whether every rank has ticked a clock, or never will. What is still due is seen to here.
        """
        clock = self._last_clock
        if self.when_cut is None or clock is None or not is_closed(clock) or any(close.clock <= clock for close in self._due):
            return None
        return self.take_when_cut()

    def take_when_cut(self) -> Then | None:
        """Whoever waits for the cut waits no more."""
        then, self.when_cut = self.when_cut, None
        return then

    def go_on(self) -> tuple[Then | None, bool]:
        """The checkpoint is over: who has waited for its cut in vain, and whether the caller has to go on with what is due."""
        self._last_clock = None
        return self.take_when_cut(), self._goes_on()

    def _goes_on(self) -> bool:
        resume, self._has_stopped = self._has_stopped, False
        return resume

    def validate(self) -> None:
        """Asserts the invariants written at the fields."""
        assert self.busy or not self._due, "what is due is being applied"
        assert not self._has_stopped or (self.busy and self.are_held), "only a checkpoint stops who applies closes"
        assert self.when_cut is None or self.are_held, "nobody waits for a cut without a checkpoint"


__all__ = ["DueCloses", "Then"]
