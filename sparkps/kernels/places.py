"""Where compiled kernels are kept: the directory that was asked for, or the first of these that can be written.

1. ``sparkps/kernels`` in the user's cache directory.
2. ``sparkps-kernels-<uid>`` in the system's temporary directory, where home is read-only, full or missing. It must be this
   user's, and nobody else's to write: what it holds is executed.

Kernels are looked for in all of them, so that a read-only home that holds them is good enough, and in ``share/sparkps/kernels`` of the
Python environment, which `ahead.ship` fills: there they travel with the environment to other hosts. Without numba: whoever only asks
where kernels are need not import it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sparkps.environment import kernel_cache_dir, user_cache_dir
from sparkps.kernels.files import UnfitFileError, trust
from sparkps.storage import reason, set_aside

#: All compiled kernels take 4 MB.
ROOM = 8 << 20


@dataclass(frozen=True)
class Places:
    """Directories for compiled kernels, as they were found."""

    #: Where new ones are written; None: nowhere.
    kept_in: Path | None
    #: Directories that were tried before it, each with the reason why it is not the one.
    refused: tuple[str, ...]

    @property
    def why_not(self) -> str:
        """Why kernels are not kept in a better place."""
        return "; ".join(self.refused)


#: What `use` was given; None: the environment is asked.
_given: Path | None = None
#: What `look_first_in` was given.
_told: Path | None = None
_found: Places | None = None


def use(directory: str | os.PathLike[str] | None) -> None:
    """Keep compiled kernels in this directory alone, and look for them there and in those of the environment.

    None: where ``SPARKPS_KERNEL_CACHE_DIR`` says, else in the usual directories.
    """
    global _given, _told, _found
    _given, _told, _found = Path(directory).absolute() if directory else None, None, None


def look_first_in(directory: str | os.PathLike[str]) -> None:
    """A tier keeps its kernels in this directory; where it is not to be had, the usual ones serve."""
    global _told, _found
    _told, _found = Path(directory).absolute(), None


def given() -> Path | None:
    """The directory that was asked for, by `use` or ``SPARKPS_KERNEL_CACHE_DIR``; None: none was."""
    if _given is not None:
        return _given
    named = kernel_cache_dir()
    return Path(named).absolute() if named else None


def searched() -> list[Path]:
    """Directories in which kernels are looked for, in this order."""
    asked = given()
    usual = [asked] if asked is not None else [path for path, _ in _usual()]
    return list(dict.fromkeys([*([_told] if _told is not None else []), *usual, shipped()]))


def shipped() -> Path:
    """Where kernels are that belong to the Python environment, wherever that was unpacked; only read, but by `ahead.ship`.

    They are trusted as the Python code beside them: what belongs to this user or to root, and nobody else can write (see `files`).
    """
    return Path(sys.prefix) / "share" / "sparkps" / "kernels"


def found() -> Places:
    """Where new kernels are kept; looked for once."""
    global _found
    if _found is None:
        _found = choose()
    return _found


def choose() -> Places:
    """Take the first directory that holds what this user writes, and make it if need be."""
    asked = given()
    candidates = [(asked, False)] if asked is not None else _usual()
    if _told is not None and _told.is_dir():
        candidates = [(_told, False), *candidates]
    refused = [] if asked is not None or user_cache_dir() is not None else ["this user has no home directory"]
    for path, private in candidates:
        why = _why_not(path, private)
        if not why:
            return Places(path, tuple(refused))
        refused.append(f"{str(path)!r}: {why}")
    return Places(None, tuple(refused))


def _usual() -> list[tuple[Path, bool]]:
    """The usual directories, and whether each lies where other users can make directories, too."""
    home = user_cache_dir()
    usual = [(home / "sparkps" / "kernels", False)] if home is not None else []
    with contextlib.suppress(OSError):  # there is none
        usual.append((Path(tempfile.gettempdir()).absolute() / f"sparkps-kernels-{os.geteuid()}", True))
    return usual


def _why_not(path: Path, private: bool) -> str:
    """Why kernels cannot be kept in a directory; empty if they can."""
    try:
        if private:
            _make_private(path)
        else:
            path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path, prefix="room-", buffering=0) as file:
            os.fchmod(file.fileno(), 0o644)
            trust(file)
            set_aside(file, ROOM)
    except OSError as error:
        return reason(error)
    except UnfitFileError as error:
        return f"a new file there: {error}"
    return ""


def _make_private(path: Path) -> None:
    """Make a directory of this user alone, or check that one is."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    made = path.lstat()
    if not stat.S_ISDIR(made.st_mode):
        raise OSError("it is no directory")
    if made.st_uid != os.geteuid():
        raise OSError(f"it belongs to user {made.st_uid}, whose code must not be executed")
    if made.st_mode & 0o077:
        raise OSError(f"it must be this user's alone (mode 700); its mode is {stat.S_IMODE(made.st_mode):o}")


__all__ = ["Places", "choose", "found", "given", "look_first_in", "searched", "shipped", "use"]
