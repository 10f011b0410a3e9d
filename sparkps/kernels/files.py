"""Files of compiled kernels: what they hold is executed, so nothing of a file is used before all of it was checked.

A file is 17 bytes that say what it is, 8 bytes with the length of the code, 32 bytes of checksum (BLAKE2b, over the file's
name and the code), and the code. The name says what the code was compiled from and for. The checksum is against damage;
against other users, a file must belong to this user or to root, and nobody else may be able to write it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

_MAGIC = b"sparkps kernel 1\n"
_LENGTH_BYTES = 8
_DIGEST_BYTES = 32
_HEADER = len(_MAGIC) + _LENGTH_BYTES + _DIGEST_BYTES

#: Of a kernel's file, in bytes: the largest has 170 kB.
MOST_BYTES = 64 << 20


class UnfitFileError(Exception):
    """A file that is not to be executed, with the reason."""


def read(path: Path) -> bytes:
    """The code in a file.

    Raises
    ------
    FileNotFoundError
    UnfitFileError
        It is damaged, or someone else's, or cannot be read.
    """
    try:
        # A pipe by this name must not hold up who opens it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            trust(file)
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise UnfitFileError("it is damaged: it is far larger than any compiled kernel")
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(str(path)) from None
    except OSError as error:
        raise UnfitFileError(error.strerror or str(error)) from None
    return _unpacked(path.name, data)


def write(path: Path, code: bytes) -> None:
    """Put `code` into a file: whoever reads it meanwhile finds the old one or all of the new one.

    Raises
    ------
    OSError
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(_packed(path.name, code))
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink(missing_ok=True)
        raise


def trust(file: IO[bytes]) -> None:
    """Check that nobody but this user and root can have written an open file, or can still write it.

    Raises
    ------
    UnfitFileError
    """
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        raise UnfitFileError("it is no regular file")
    if found.st_uid not in (os.geteuid(), 0):
        raise UnfitFileError(f"it belongs to user {found.st_uid}: its code could be anything")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnfitFileError(f"users other than its owner can write it (mode {stat.S_IMODE(found.st_mode):o})")


def _digest(name: str, code: bytes) -> bytes:
    digest = hashlib.blake2b(os.fsencode(name) + b"\0", digest_size=_DIGEST_BYTES)
    digest.update(code)
    return digest.digest()


def _packed(name: str, code: bytes) -> bytes:
    return _MAGIC + len(code).to_bytes(_LENGTH_BYTES, "little") + _digest(name, code) + code


def _unpacked(name: str, data: bytes) -> bytes:
    if not data.startswith(_MAGIC) or len(data) < _HEADER:
        raise UnfitFileError("it is damaged: it does not start as a file of a compiled kernel does")
    length = int.from_bytes(data[len(_MAGIC) :][:_LENGTH_BYTES], "little")
    code = data[_HEADER:]
    if length != len(code):
        raise UnfitFileError(f"it is damaged: it should hold {length} bytes of code, and holds {len(code)}")
    if data[_HEADER - _DIGEST_BYTES : _HEADER] != _digest(name, code):
        raise UnfitFileError("it is damaged: its checksum is not the one of its code")
    return code


__all__ = ["UnfitFileError", "read", "trust", "write"]
