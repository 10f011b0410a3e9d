"""The mutants: each breaks one stated invariant by a change of a few characters."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change that some test must catch."""

    #: The invariant that it breaks, in a few words.
    name: str
    #: Path from the root of the project.
    file: str
    #: Text that occurs once in the file, and what takes its place.
    old: str
    new: str


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "staleness off by one",
        "sparkps/wire/clock.py",
        "staleness > bound != UNBOUNDED",
        "staleness > bound + 1 != UNBOUNDED",
    ),
)
