"""What nodes, workers and the coordinator itself have logged lately, for the driver to fetch. Pure; bounded; not in the journal."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from sparkps.wire.messages.control import KeptLine, LogLine

#: Records that are kept, and characters of them together: a driver that does not fetch them loses the oldest.
MOST_LINES, MOST_CHARACTERS = 10_000, 4 << 20
#: Characters of one answer.
ANSWER_SIZE = 256 << 10

#: Characters of the name of a process or of a logger, and the highest level: `logging` has 50.
_NAME_CHARACTERS, _HIGHEST = 300, 100


def _size(kept: KeptLine) -> int:
    return len(kept.origin) + len(kept.line.logger) + len(kept.line.text)


class LogBook:
    """Records, numbered from 1 in the order of their arrival. Owner: the coordinator's thread."""

    def __init__(self) -> None:
        self._kept: deque[KeptLine] = deque()
        #: Number of the newest; the oldest that is kept has ``last - len(kept) + 1``.
        self._last = 0
        self._characters = 0

    def add(self, origin: str, lines: Sequence[LogLine], dropped: int = 0) -> None:
        """A process has logged these, and `dropped` others that it could not send."""
        origin = origin[:_NAME_CHARACTERS]
        for line in lines:
            level = min(max(0, line.level), _HIGHEST)
            self._add(KeptLine(origin, LogLine(level, line.logger[:_NAME_CHARACTERS], line.text)))
        if dropped > 0:
            said = f"{dropped} more records were dropped: too many at once, or nobody took them"
            self._add(KeptLine(origin, LogLine(logging.WARNING, __name__, said)))

    def _add(self, kept: KeptLine) -> None:
        self._kept.append(kept)
        self._last += 1
        self._characters += _size(kept)
        while len(self._kept) > MOST_LINES or self._characters > MOST_CHARACTERS:
            self._characters -= _size(self._kept.popleft())

    def after(self, number: int) -> tuple[int, list[KeptLine], int]:
        """What came after a record: number of the last one given, the records, and how many before these are not kept any more.

        Whoever knows of more records than there ever were has asked another coordinator before: all are new to it.
        """
        if number > self._last or number < 0:
            number = 0
        first = self._last - len(self._kept) + 1
        dropped = max(0, first - 1 - number)
        begin = max(0, number + 1 - first)
        given: list[KeptLine] = []
        room = ANSWER_SIZE
        for position in range(begin, len(self._kept)):
            given.append(self._kept[position])
            room -= _size(given[-1])
            if room <= 0:
                break
        return (first + begin + len(given) - 1 if given else self._last), given, dropped


__all__ = ["LogBook"]
