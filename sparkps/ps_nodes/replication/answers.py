"""Answers of calls that also write, by their number: who asks again must not have them carried out again.

Marks tell that the writes of such a call were done; what it read in between nobody could read later. A replica has the same answers,
for it has carried out the same calls.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.errors import TierError
from sparkps.wire.buckets import bits_of
from sparkps.wire.messages.data import Member

Arrays = list[NDArray[Any]]

#: Who calls: a session by its id, or a rank by group and number.
Writer = int | tuple[int, int]


#: An answer on one bucket: group and rank of its writer, or 0 and the session; its stamp; what it gave.
Answered = tuple[int, int, int, Arrays]


def writer_of(session: int, member: Member | None) -> Writer:
    """Who makes a call."""
    return session if member is None else (member.group, member.rank)


@dataclass
class _Latest:
    """A writer's latest call."""

    stamp: int
    #: What it gave, by the buckets on which it ran.
    parts: dict[int, Arrays] = field(default_factory=dict)


def _chosen(arrays: Arrays, buckets: int) -> Arrays | None:
    """What a call gave on some of its buckets; None: that cannot be told, for its partials are of all buckets together.

    Arrays are, for each function, the numbers of the buckets and then what it gave on each of them.
    """
    kept = bits_of(buckets)[arrays[0]]
    return [array[kept] for array in arrays] if all(len(array) == len(kept) for array in arrays) else None


class Answers:
    """The answer of each writer's latest call. Thread-safe.

    A writer waits for the answer to a call that reads before it makes the next one, so no more than one is asked for again.

    Examples
    --------
    >>> answers = Answers()
    >>> answers.keep(7, 1, 0b11, [np.array([0, 1], np.int32), np.array([0.5, 2.0])])
    >>> [array.tolist() for array in answers.find(7, 1, 0b11)]
    [[0, 1], [0.5, 2.0]]
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Owner: `_lock`.
        self._latest: dict[Writer, _Latest] = {}

    def keep(self, writer: Writer, stamp: int, buckets: int, arrays: Arrays) -> None:
        """A call has run on these buckets."""
        with self._lock:
            latest = self._latest.get(writer)
            if latest is None or stamp > latest.stamp:
                latest = self._latest[writer] = _Latest(stamp)
            if stamp == latest.stamp:
                latest.parts[buckets] = arrays

    def find(self, writer: Writer, stamp: int, buckets: int) -> list[NDArray[Any]] | None:
        """What a call gave on these buckets, put together; None: it has not run on any of them.

        Raises
        ------
        TierError
            Parts of what it gave cannot be told apart any more.
        """
        with self._lock:
            latest = self._latest.get(writer)
            if latest is None or latest.stamp != stamp:
                return None
            parts = {mask: arrays for mask, arrays in latest.parts.items() if mask & buckets}
        if not parts:
            return None
        covered = 0
        for mask in parts:
            covered |= mask
        chosen = [arrays if not mask & ~buckets else _chosen(arrays, buckets) for mask, arrays in parts.items()]
        if buckets & ~covered or None in chosen:
            raise TierError(
                "A call that reads and writes must be asked for again for buckets on which it ran, and whose results can be told apart."
                " Its buckets have come to lie on different nodes since: make the call again where that does no harm."
            )
        return [np.concatenate(arrays) for arrays in zip(*[each for each in chosen if each is not None], strict=True)]

    def export(self, bucket: int) -> list[Answered]:
        """What writers may ask for again of one bucket, as far as it can be told apart."""
        bit, found = 1 << bucket, list[Answered]()
        with self._lock:
            for writer, latest in self._latest.items():
                parts = [_chosen(arrays, bit) for mask, arrays in latest.parts.items() if mask & bit]
                group, number = (0, writer) if isinstance(writer, int) else writer
                found += [(group, number, latest.stamp, part) for part in parts if part is not None]
        return found

    def forget(self, writer: int) -> None:
        """A session will ask no more."""
        with self._lock:
            self._latest.pop(writer, None)

    def forget_group(self, group: int) -> None:
        """Ranks of a group will ask no more."""
        with self._lock:
            for writer in [each for each in self._latest if isinstance(each, tuple) and each[0] == group]:
                del self._latest[writer]
