"""Who is told before rows of a table are changed: an image of it that is being copied, and versions of its content.

A table that no checkpoint was ever taken of has no `Watcher`, and asks for none of this.
"""

from __future__ import annotations

import itertools
import secrets
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.specs import NUM_BUCKETS

Buckets = NDArray[np.int32]
Runs = tuple[NDArray[np.int32], NDArray[np.int64]]

#: Numbers that no other process gives.
_fresh = itertools.count((1 + secrets.randbits(35)) << 27)


class Image(Protocol):
    """What keeps rows as they were; see `images`."""

    def keep(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows are about to be changed."""

    def keep_all(self, buckets: Buckets) -> None:
        """Any row of these buckets may be about to be changed."""


class Versions:
    """Numbers for the content of each bucket: the same number means the same content, on all nodes and for ever.

    Examples
    --------
    >>> versions = Versions()
    >>> first = versions.of(3, rows=10)
    >>> versions.of(3, rows=10) == first, versions.of(3, rows=11) == first
    (True, False)
    """

    def __init__(self) -> None:
        #: By bucket: whether it has changed since it got its number. Whoever changes a bucket says so before.
        self.changed = np.ones(NUM_BUCKETS, bool)
        self._numbers = [0] * NUM_BUCKETS
        self._rows = [0] * NUM_BUCKETS

    def of(self, bucket: int, rows: int) -> int:
        """The number of a bucket that nobody is changing, and that has so many rows: a table gets them by writes to others, too."""
        if self.changed[bucket] or self._rows[bucket] != rows:
            self._numbers[bucket], self._rows[bucket] = next(_fresh), rows
            self.changed[bucket] = False
        return self._numbers[bucket]


class Watcher:
    """Told before rows of one table are changed."""

    def __init__(self) -> None:
        self.versions = Versions()
        #: Set while the table is copied.
        self.image: Image | None = None

    def about_to_write(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows by slot."""
        self.versions.changed[runs[0]] = True
        image = self.image
        if image is not None:
            image.keep(slots, runs)

    def about_to_write_all(self, buckets: Buckets) -> None:
        """Any rows of these buckets."""
        self.versions.changed[buckets] = True
        image = self.image
        if image is not None:
            image.keep_all(buckets)


class Watched:
    """What both kinds of tables have, so that somebody can be told before they change."""

    #: None: nobody asks.
    watcher: Watcher | None = None

    def watch(self) -> Watcher:
        """The table's watcher, from now on."""
        if self.watcher is None:
            self.watcher = Watcher()
        return self.watcher

    def changing(self, buckets: Buckets) -> None:
        """To be called before rows of `buckets` are written without the table's own verbs."""
        if self.watcher is not None:
            self.watcher.about_to_write_all(buckets)

    def changing_rows(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """The same for some rows, by slot."""
        if self.watcher is not None:
            self.watcher.about_to_write(slots, runs)

    def replaced(self, bucket: int) -> None:
        """A bucket has come with other content, or begins anew."""
        if self.watcher is not None:
            self.watcher.versions.changed[bucket] = True


__all__ = ["Buckets", "Image", "Runs", "Versions", "Watched", "Watcher"]
