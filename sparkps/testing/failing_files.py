"""A file system that fails on demand: at a call that is named, or at random by a seed.

By a URL, in any process::

    failing+file:///tmp/checkpoints?fault=torn&at=7
    failing+s3://bucket/path?fault=error&chance=0.01&seed=3

or around other files: ``FailingFiles(open_files(url), [FileFault("dropped", at=3)])``. Calls are counted from 1, each verb being one.
"""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from sparkps.checkpoints.files import Buffer, FileInfo, Files, open_files
from sparkps.errors import ConfigError

#: What can be wrong with a call.
FAULTS = {
    "error": "an OSError, and nothing else happens",
    "torn": "a write leaves a part of the file and raises an OSError; other verbs do their work and raise",
    "truncated": "a write leaves a part, a read gives a part, and nobody says so",
    "dropped": "a write or a deletion does nothing, and nobody says so",
    "flipped": "one bit of what is written or read is another, and nobody says so",
    "slow": "the call takes `seconds` more",
    "killed": "a write leaves a part; it and every later call raises, as if the process had ended there",
}

VERBS = ("write", "read", "blocks", "size", "entries", "delete")


@dataclass(frozen=True)
class FileFault:
    """One thing that goes wrong."""

    fault: str
    #: Number of the call it begins with; 0: at random.
    at: int = 0
    #: How many calls from there on fail; 0: all.
    times: int = 1
    #: Where `at` is 0: probability for each call.
    chance: float = 0.0
    #: Only this verb goes wrong (and is counted), where one is named.
    verb: str = ""
    #: Of "slow".
    seconds: float = 0.0

    def __post_init__(self) -> None:
        legal = self.fault in FAULTS and self.verb in ("", *VERBS) and self.at >= 0 and self.times >= 0
        if not legal or not 0 <= self.chance <= 1 or not (self.at or self.chance):
            raise ConfigError(
                f"A fault of files must be one of {sorted(FAULTS)}, `at` a call or with a `chance` in (0, 1], of one of {VERBS} or all."
                f" Got {self} instead."
            )


class FailingFiles:
    """`files`, some calls of which fail.

    Parameters
    ----------
    files : Files
    faults : sequence of FileFault
    seed : int
        Of random faults, and of where files are torn and bits flipped.
    sleep : callable, optional
        Takes seconds.

    Examples
    --------
    >>> files = FailingFiles(open_files("/tmp"), [FileFault("error", at=2)])
    >>> files.entries("no such folder")
    []
    >>> files.entries("no such folder")
    Traceback (most recent call last):
    OSError: [Errno 5] A fault on demand: error at call 2 (entries)
    """

    def __init__(
        self, files: Files, faults: Sequence[FileFault], seed: int = 0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.files = files
        self.url = files.url
        self.faults = list(faults)
        self._random = random.Random(seed)
        self._sleep = sleep
        self._lock = threading.Lock()
        #: Calls so far, of each verb and ("") of all.
        self.calls = dict.fromkeys(("", *VERBS), 0)
        #: What went wrong: (number of the call, verb, fault).
        self.failed: list[tuple[int, str, str]] = []
        self._dead = False

    # ---- verbs -------------------------------------------------------------------------------------------------------------

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """See `Files`."""
        fault = self._next("write")
        data = b"".join(bytes(memoryview(chunk)) for chunk in chunks) if fault else b""
        if fault in ("torn", "truncated", "killed"):
            self.files.write(name, [data[: self._below(len(data))]])
        elif fault == "flipped":
            self.files.write(name, [self._flip(data)])
        elif fault != "dropped":
            self.files.write(name, chunks)
        self._raise_after(fault, "write")

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Files`."""
        fault = self._next("read")
        data = self.files.read(name, offset, length)
        self._raise_after(fault, "read")
        return self._spoilt(fault, data)

    def blocks(self, name: str) -> Iterator[Buffer]:
        """See `Files`."""
        fault = self._next("blocks")
        if not fault:
            yield from self.files.blocks(name)
            return
        data = b"".join(bytes(block) for block in self.files.blocks(name))
        self._raise_after(fault, "blocks")
        yield self._spoilt(fault, data)

    def size(self, name: str) -> int:
        """See `Files`."""
        fault, size = self._next("size"), self.files.size(name)
        self._raise_after(fault, "size")
        return size

    def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
        """See `Files`."""
        fault, found = self._next("entries"), self.files.entries(folder, deep)
        self._raise_after(fault, "entries")
        return found

    def delete(self, name: str) -> None:
        """See `Files`."""
        fault = self._next("delete")
        if fault != "dropped":
            self.files.delete(name)
        self._raise_after(fault, "delete")

    # ---- faults ------------------------------------------------------------------------------------------------------------

    def _next(self, verb: str) -> str:
        """Count a call; the fault that it meets, "" for none."""
        with self._lock:
            self.calls[""] += 1
            self.calls[verb] += 1
            if self._dead:
                raise self._error("killed", verb)
            found = next((each for each in self.faults if self._meets(each, verb)), None)
            if found is None:
                return ""
            self.failed.append((self.calls[""], verb, found.fault))
            self._dead = found.fault == "killed"
        if found.fault == "error" or (found.fault == "killed" and verb != "write"):
            raise self._error(found.fault, verb)
        if found.fault == "slow":
            self._sleep(found.seconds)
        return found.fault if found.fault != "slow" else ""

    def _meets(self, fault: FileFault, verb: str) -> bool:
        if fault.verb not in ("", verb):
            return False
        if not fault.at:
            return self._random.random() < fault.chance
        number = self.calls[fault.verb]
        return number >= fault.at and (not fault.times or number < fault.at + fault.times)

    def _raise_after(self, fault: str, verb: str) -> None:
        if fault in ("torn", "killed"):
            raise self._error(fault, verb)

    def _error(self, fault: str, verb: str) -> OSError:
        return OSError(errno.EIO, f"A fault on demand: {fault} at call {self.calls['']} ({verb})")

    def _below(self, limit: int) -> int:
        with self._lock:
            return self._random.randrange(limit) if limit else 0

    def _spoilt(self, fault: str, data: bytes) -> bytes:
        if fault == "truncated":
            return data[: self._below(len(data))]
        return self._flip(data) if fault == "flipped" else data

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        bit = self._below(8 * len(data))
        return data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :]


def wrap(url: str) -> FailingFiles:
    """The files that a URL after ``failing+`` names; its query is a `FileFault` and the seed.

    Examples
    --------
    >>> wrap("file:///tmp/x?fault=slow&at=3&times=0&seconds=0.5").faults
    [FileFault(fault='slow', at=3, times=0, chance=0.0, verb='', seconds=0.5)]
    """
    parts = urlsplit(url)
    given: dict[str, Any] = dict(parse_qsl(parts.query))
    kinds = {"fault": str, "verb": str, "at": int, "times": int, "seed": int, "chance": float, "seconds": float}
    if not given.keys() <= kinds.keys() or "fault" not in given:
        raise ConfigError(f"The query of a failing URL must give `fault`, and may give {sorted(kinds)}. Got {url!r} instead.")
    values = {name: kinds[name](value) for name, value in given.items()}
    seed = values.pop("seed", 0)
    inner = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    files = FailingFiles(open_files(inner), [FileFault(**values)], seed)
    files.url = f"failing+{url}"
    return files


__all__ = ["FAULTS", "FailingFiles", "FileFault", "wrap"]
