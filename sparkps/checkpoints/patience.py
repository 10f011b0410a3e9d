"""Files that fail now and then: tried again up to a deadline, verified, and told by name when it is over.

A call that does not return is left behind on a thread of its own, so that nothing waits without a deadline. What it may still
write has a name that nobody reads: every attempt to write a file has its own.
"""

from __future__ import annotations

import errno
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sparkps.checkpoints.files import Buffer, FileInfo, Files
from sparkps.errors import CheckpointDamaged, CheckpointError

T = TypeVar("T")

#: Errors that no second attempt mends.
_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
_LASTING_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EFBIG})


@dataclass(frozen=True)
class Patience:
    """How long one operation on files is tried."""

    #: Of all attempts together.
    seconds: float = 120.0
    #: Of one attempt.
    attempt_seconds: float = 60.0
    attempts: int = 6
    #: Seconds before the second attempt; doubled before each later one.
    pause: float = 0.1

    def within(self, seconds: float) -> Patience:
        """The same, for whoever waits for at most so many seconds."""
        return replace(self, seconds=min(self.seconds, seconds), attempt_seconds=min(self.attempt_seconds, seconds))


#: What is not told otherwise.
PATIENCE = Patience()


class PatientFiles:
    """`files`, with patience.

    Parameters
    ----------
    files : Files
    patience : Patience, optional
    sleep : callable, optional
        Takes seconds.
    """

    def __init__(self, files: Files, patience: Patience = PATIENCE, sleep: Callable[[float], None] = time.sleep) -> None:
        self.files = files
        self.url = files.url
        self.patience = patience
        self._sleep = sleep

    def write(self, name: str, chunks: Sequence[Buffer], expected: Sequence[tuple[int, int]] = ()) -> str:
        """Make a file and look whether it is there as it was written.

        Parameters
        ----------
        name : str
            Nobody else's.
        chunks : sequence of buffers
        expected : sequence of (int, int)
            Length and checksum of parts of the file, from its beginning, which are read back; of what they leave out, and if there
            are none, the size is compared.

        Returns
        -------
        str
            The file's name: `name`, or after a failed attempt one made of it.
        """
        nbytes = sum(memoryview(chunk).nbytes for chunk in chunks)

        def attempt(number: int) -> str:
            own = attempt_name(name, number)
            try:
                self.files.write(own, chunks)
            except FileExistsError as error:
                raise OSError(errno.EEXIST, "There is a file of that name already") from error
            self._look_at(own, nbytes, expected)
            return own

        return self._again(f"write {nbytes:,} bytes to", name, attempt)

    def _look_at(self, name: str, nbytes: int, expected: Sequence[tuple[int, int]]) -> None:
        try:
            got = self.files.size(name)
        except FileNotFoundError:
            raise OSError(errno.EIO, "The file is not there after it was written") from None
        if got != nbytes:
            raise OSError(errno.EIO, f"The file has {got:,} bytes after {nbytes:,} were written")
        if expected and not same_parts(self.files.blocks(name), expected):
            raise OSError(errno.EIO, "The file reads otherwise than it was written")

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """`length` bytes at `offset`, or to the end."""
        return self._again("read", name, lambda _: self.files.read(name, offset, length))

    def read_checked(self, name: str, offset: int, length: int, accept: Callable[[bytes], str]) -> bytes:
        """Exactly `length` bytes of which `accept` says nothing bad; read twice before they are called damaged.

        Raises
        ------
        CheckpointDamaged
            The file is missing, too short, or `accept` has said why not.
        """
        why = ""
        for _ in range(2):
            try:
                data = self.read(name, offset, length)
            except CheckpointError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    raise damaged(self.url, name, "it is missing") from None
                raise
            why = accept(data) if len(data) == length else f"it ends at byte {offset + len(data):,} instead of {offset + length:,}"
            if not why:
                return data
        raise damaged(self.url, name, why)

    def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
        """See `Files`."""
        return self._again("list", folder, lambda _: self.files.entries(folder, deep))

    def delete(self, name: str) -> None:
        """See `Files`."""
        self._again("delete", name, lambda _: self.files.delete(name))

    def _again(self, what: str, name: str, call: Callable[[int], T]) -> T:
        """`call(attempt)` until it works."""
        end, pause = time.monotonic() + self.patience.seconds, self.patience.pause
        for number in range(self.patience.attempts):
            try:
                left = max(0.001, end - time.monotonic())
                return within(min(left, self.patience.attempt_seconds), partial(call, number))
            except OSError as error:
                last = number + 1 == self.patience.attempts or time.monotonic() + pause >= end
                if last or isinstance(error, _LASTING) or error.errno in _LASTING_CODES:
                    raise self._error(what, name, error, number + 1) from error
                self._sleep(pause)
                pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _error(self, what: str, name: str, error: OSError, attempts: int) -> CheckpointError:
        said = error.strerror or str(error) or type(error).__name__
        return CheckpointError(
            f"A checkpoint's file system must {what} {name or 'its files'!r} within {self.patience.seconds:g} s. Got {said!r} from"
            f" {self.url} at attempt {attempts}. See that it is reachable, has room and lets this process read and write, or give"
            " another URL.",
            url=self.url,
            file=name,
        )


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of `call`, or a TimeoutError after `seconds`; it is then left behind."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="sparkps-checkpoint-file", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(errno.ETIMEDOUT, f"No answer within {seconds:.3g} s")
    return results[0]


def attempt_name(name: str, number: int) -> str:
    """The name of a file's second, third ... attempt.

    Examples
    --------
    >>> attempt_name("data/0-1.data", 0), attempt_name("data/0-1.data", 2)
    ('data/0-1.data', 'data/0-1.again2.data')
    """
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.again{number}{dot}{suffix}" if number else name


def checksum(*chunks: Buffer) -> int:
    """CRC-32 of `chunks`, one after the other."""
    value = 0
    for chunk in chunks:
        value = zlib.crc32(chunk, value)
    return value


def same_parts(blocks: Iterable[Buffer], expected: Iterable[tuple[int, int]]) -> bool:
    """Whether a file begins with parts of these lengths and checksums.

    Examples
    --------
    >>> same_parts([b"ab", b"cd"], [(3, checksum(b"abc")), (1, checksum(b"d"))])
    True
    """
    parts = iter(expected)
    left, crc, value = 0, 0, 0
    for block in blocks:
        view = memoryview(block)
        while view:
            if not left:
                left, crc = next(parts, (0, 0))
                value = 0
                if not left:
                    return True
            taken = view[:left]
            value, left, view = zlib.crc32(taken, value), left - len(taken), view[len(taken) :]
            if not left and value != crc:
                return False
    return not left and next(parts, None) is None


def damaged(url: str, name: str, why: str) -> CheckpointDamaged:
    """The error for a file that is not what was written."""
    return CheckpointDamaged(
        f"The files of a checkpoint must be as they were written. Got a damaged {name!r} in {url}: {why}. Restore an older checkpoint.",
        url=url,
        file=name,
        why=why,
    )


__all__ = ["PATIENCE", "Patience", "PatientFiles", "attempt_name", "checksum", "damaged", "within"]
