"""Who is told before rows of a table are changed: an image of it that is being copied, versions of its content, and bits of its rows.

A table that no checkpoint was ever taken of has no `Watcher`, and asks for none of this.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sparkps.ps_nodes.tables.changes import Buckets, ChangedRows, Runs, Versions


class Image(Protocol):
    """What keeps rows as they were; see `images`."""

    def keep(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows are about to be changed."""

    def keep_all(self, buckets: Buckets) -> None:
        """Any row of these buckets may be about to be changed."""


class Watcher:
    """Told before rows of one table are changed."""

    def __init__(self) -> None:
        self.versions = Versions()
        #: Of a sparse table.
        self.rows = ChangedRows()
        #: Set while the table is copied.
        self.image: Image | None = None

    def about_to_write(self, slots: NDArray[np.int32], runs: Runs) -> None:
        """Rows by slot."""
        self.versions.changed[runs[0]] = True
        self.rows.mark(slots, runs)
        image = self.image
        if image is not None:
            image.keep(slots, runs)

    def about_to_write_all(self, buckets: Buckets) -> None:
        """Any rows of these buckets."""
        self.versions.changed[buckets] = True
        self.rows.forget(buckets)
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
            self.watcher.rows.forget(np.array([bucket]))


__all__ = ["Image", "Watched", "Watcher"]
