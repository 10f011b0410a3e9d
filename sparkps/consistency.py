"""Consistency of a worker group: how far a rank may run ahead of the slowest one.

The rule is enforced in the nodes: a pull at clock c is answered when every rank has ticked c - s - 1, where s is the staleness.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparkps.errors import ConfigError
from sparkps.specs import UNBOUNDED


@dataclass(frozen=True)
class Consistency:
    """Base of `BSP`, `SSP` and `ASP`; ``bound`` is the staleness as the wire carries it."""

    @property
    def bound(self) -> int:
        """0 for BSP, > 0 for SSP, `UNBOUNDED` for ASP."""
        raise NotImplementedError


@dataclass(frozen=True)
class BSP(Consistency):
    """Bulk-synchronous: updates are applied once, when every rank has ticked the clock. Deterministic.

    Examples
    --------
    >>> BSP().bound
    0
    """

    @property
    def bound(self) -> int:
        """0."""
        return 0


@dataclass(frozen=True)
class SSP(Consistency):
    """Stale-synchronous: updates are applied on arrival; no rank reads more than `staleness` clocks ahead of the slowest.

    Parameters
    ----------
    staleness : int
        At least 1.

    Examples
    --------
    >>> SSP(3).bound
    3

    References
    ----------
    Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server, NIPS 2013, section 2.
    """

    staleness: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.staleness, int) or isinstance(self.staleness, bool) or not 1 <= self.staleness < 1 << 31:
            raise ConfigError(
                f"The `staleness` of SSP must be an int >= 1 (BSP() is 0, ASP() has no bound). Got {self.staleness!r} instead.",
                key="staleness",
            )

    @property
    def bound(self) -> int:
        """The staleness."""
        return self.staleness


@dataclass(frozen=True)
class ASP(Consistency):
    """Asynchronous: updates are applied on arrival, and nobody waits.

    Examples
    --------
    >>> ASP().bound
    -1
    """

    @property
    def bound(self) -> int:
        """`UNBOUNDED`."""
        return UNBOUNDED


def check_consistency(given: object) -> Consistency:
    """`given`, or an instance of it where a class was given.

    Raises
    ------
    ConfigError
        It is neither.
    """
    if isinstance(given, type) and issubclass(given, Consistency) and given is not Consistency:
        return given()
    if isinstance(given, Consistency):
        return given
    raise ConfigError(
        f"`consistency` must be BSP(), SSP(staleness) or ASP(). Got {given!r} instead.", key="consistency"
    )


__all__ = ["ASP", "BSP", "SSP", "Consistency", "check_consistency"]
