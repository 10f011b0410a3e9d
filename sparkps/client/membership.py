"""A session's place in a worker group's logical time, and whether all that it wrote there was acknowledged."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparkps.errors import SparkPSError, TierError
from sparkps.wire.messages.data import Member


@dataclass(slots=True)
class Faults:
    """The first write or tick of a membership that failed, or was half made.

    A tick says that all pushes up to it were acknowledged. Once one was not, no later tick can be true: the rank must end, and
    its successor does the clock again.

    Examples
    --------
    >>> faults = Faults()
    >>> faults.check(rank=1)
    >>> faults.note("push of table 'w'", TierError("node 3 is on fire"))
    >>> faults.note("push of table 'v'", TierError("something else"))
    >>> try:
    ...     faults.check(rank=1)
    ... except TierError as error:
    ...     print(str(error)[:110])
    Every write of rank 1 must be acknowledged before it goes on. The push of table 'w' was not: node 3 is on fire
    """

    what: str = ""
    error: BaseException | None = None

    def note(self, what: str, error: BaseException) -> None:
        """A write or a tick was not acknowledged; the first one is kept."""
        if self.error is None:
            self.what, self.error = what, error

    def check(self, rank: int) -> None:
        """Raise, as the first failure did, if there was one."""
        error = self.error
        if error is None:
            return
        cause = error.message if isinstance(error, SparkPSError) else f"{type(error).__name__}: {error}"
        message = (
            f"Every write of rank {rank} must be acknowledged before it goes on. The {self.what} was not: {cause}"
            " (End this attempt: the next one at the rank does the clock again.)"
        )
        if isinstance(error, SparkPSError):
            raise type(error)(message, **error.attributes) from error
        raise TierError(message, rank=rank) from error


@dataclass(slots=True)
class Membership:
    """The rank that a session speaks for. Owner: the session's thread."""

    group: int
    rank: int
    #: Numbered by the coordinator; nodes fence lower ones.
    incarnation: int
    #: The rank's logical time.
    clock: int
    #: Bound of the group; 0 for BSP (`GroupSpec.staleness`).
    staleness: int = 0
    #: Number of the next write within the clock.
    ordinal: int = 0
    faults: Faults = field(default_factory=Faults)

    def wire(self, *, write: bool) -> Member:
        """As a request carries it; a write takes the next ordinal."""
        ordinal = self.ordinal
        if write:
            self.ordinal += 1
        return Member(self.group, self.rank, self.incarnation, self.clock, ordinal if write else 0)

    def advance(self) -> None:
        """The clock has been ticked."""
        self.clock += 1
        self.ordinal = 0
