"""How the secret of a tier comes to a process from outside: in a file that its owner alone can read, or through a pipe from its parent."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from sparkps.errors import ConfigError, InvalidInput
from sparkps.secret import SECRET_BYTES, TierSecret


def write_secret_file(path: str | os.PathLike[str], secret: TierSecret) -> None:
    """Write a file that its owner alone can read; one that is there already is replaced.

    Raises
    ------
    ConfigError
        It cannot be written.
    """
    target = Path(path)
    beside = _written_beside(target, secret)
    try:
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _not_writable(target, error) from None


def new_secret_file(path: str | os.PathLike[str]) -> bool:
    """Write a file with a secret that nobody else has, unless there is a file; of several that do so at once, one does.

    Returns
    -------
    bool
        Whether it was written here. Read it in any case.

    Raises
    ------
    ConfigError
        It cannot be written.
    """
    target = Path(path)
    beside = _written_beside(target, TierSecret.new())
    try:
        os.link(beside, target)  # whole, or not at all
    except FileExistsError:
        return False
    except OSError as error:
        raise _not_writable(target, error) from None
    finally:
        beside.unlink(missing_ok=True)
    return True


def _written_beside(target: Path, secret: TierSecret) -> Path:
    """A file beside `target` that holds what that shall hold."""
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.text + "\n")
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _not_writable(target, error) from None
    return beside


def _not_writable(target: Path, error: OSError) -> ConfigError:
    return ConfigError(f"The secret file must be writable. Got {error.strerror!r} for {str(target)!r}.")


def read_secret_file(path: str | os.PathLike[str]) -> TierSecret:
    """The secret in a file of this user, which nobody else may read or write; ``~`` is a home, as in a shell.

    Raises
    ------
    ConfigError
        It cannot be read, belongs to somebody else, others have a right to it, or it holds something else.
    """
    with contextlib.suppress(RuntimeError):  # there is no such home: it is not found below
        path = Path(path).expanduser()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe of that name would never have anything to read
        try:
            _check_private(path, os.fstat(descriptor))
            content = os.read(descriptor, 4 * SECRET_BYTES)
        finally:
            os.close(descriptor)
        return TierSecret.parse(content.decode("ascii"))
    except (OSError, UnicodeDecodeError, InvalidInput) as error:
        why = error.strerror if isinstance(error, OSError) else "what is in it is no secret of a tier"
        raise ConfigError(f"The secret file must be one that `sparkps tier start` has written. Got {str(path)!r}: {why}.") from None


def _check_private(path: str | os.PathLike[str], about: os.stat_result) -> None:
    """A secret file is a file, and this user's alone."""
    if not stat.S_ISREG(about.st_mode):
        raise ConfigError(f"A secret file must be a regular file. Got {str(path)!r}, which is none.")
    if about.st_uid not in (os.geteuid(), 0) or about.st_mode & 0o077:
        raise ConfigError(
            f"A secret file must be readable by its owner alone, the user of this process. Got {str(path)!r}, which belongs to"
            f" user {about.st_uid} with mode {stat.S_IMODE(about.st_mode):04o}: `chmod 600` it, and if others could read it, make"
            " a new tier."
        )


# ---- pipes -------------------------------------------------------------------------------------------------------------


def secret_on_stdin(descriptor: int = 0) -> TierSecret:
    """The secret in the first line of standard input, and not a byte more of it (see `lifeline.watch_stdin`).

    Raises
    ------
    InvalidInput
        It ends before, or holds something else.
    """
    line = b""
    while not line.endswith(b"\n") and len(line) <= 2 * SECRET_BYTES:
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return TierSecret.parse(line.decode("ascii", errors="replace"))


def for_stdin(secret: TierSecret | None) -> bytes:
    """What a parent writes to the standard input of a process with ``--secret-on-stdin``; nothing where there is no secret."""
    return b"" if secret is None else secret.text.encode() + b"\n"


__all__ = ["for_stdin", "new_secret_file", "read_secret_file", "secret_on_stdin", "write_secret_file"]
