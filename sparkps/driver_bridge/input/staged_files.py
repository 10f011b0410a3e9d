"""The files of staged rows, in a directory or below a URL: made, read, and removed for good though attempts may still be writing.

A directory of this host is renamed before it is emptied. Below a URL nothing is renamed (webhdfs and object stores do it badly, or not
at all): a marker says that the files are wanted. It goes first, and an attempt that does not find it after it has opened a file, or
after it has closed its last one, takes everything away again. So only an attempt that is killed in that very moment leaves a file.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from sparkps.errors import ConfigError
from sparkps.filesystems.opening import can_be_shared, open_filesystem

#: File in a URL's root that is there as long as the others are wanted.
_MARKER = "in-use"

_WHAT = "`spark.sparkps.stagingDir`"


def make_root(root: str) -> None:
    """Make the root of one group's files, below a URL.

    Raises
    ------
    OSError, ConfigError
        It cannot be made; every process would have another one.
    """
    if not can_be_shared(root) and not root.startswith("file:"):
        raise ConfigError(f"{_WHAT} must name files that all executors share. Got {root!r}, of which every process has its own.", url=root)
    filesystem, path = open_filesystem(root, _WHAT)
    filesystem.create_dir(path)
    with filesystem.open_output_stream(f"{path}/{_MARKER}") as marker:
        marker.write(b"rows of a worker group; its driver removes them\n")


def open_output(path: str) -> Any:
    """A stream to a new file in an attempt's own folder of a root; `FileNotFoundError` where the root is gone."""
    if "://" not in path:
        # Not its parents: a root that is gone, or that this host does not see, must not be made anew where nobody looks.
        Path(path).parent.mkdir(exist_ok=True)
        return pa.OSFile(path, "wb")
    filesystem, inner = open_filesystem(path, _WHAT)
    folder = inner.rpartition("/")[0]
    _check_wanted(filesystem, folder.rpartition("/")[0])
    filesystem.create_dir(folder)
    stream = filesystem.open_output_stream(inner)
    try:
        _check_wanted(filesystem, folder.rpartition("/")[0])
    except BaseException:
        stream.close()
        remove_all(path.rsplit("/", 2)[0])
        raise
    return stream


def check_kept(folder: str) -> None:
    """See that what an attempt has written is still wanted, after its last file is closed; `FileNotFoundError` where it is not."""
    if "://" in folder:
        root = folder.rpartition("/")[0]
        filesystem, path = open_filesystem(root, _WHAT)
        try:
            _check_wanted(filesystem, path)
        except FileNotFoundError:
            remove_all(root)
            raise


def _check_wanted(filesystem: Any, root: str) -> None:
    from pyarrow.fs import FileType

    if filesystem.get_file_info(f"{root}/{_MARKER}").type != FileType.File:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)


def open_input(path: str) -> Any:
    """A stream from a file."""
    if "://" not in path:
        return pa.OSFile(path, "rb")
    filesystem, inner = open_filesystem(path, _WHAT)
    return filesystem.open_input_stream(inner)


def remove_all(root: str) -> None:
    """Remove `root` for good; `FileNotFoundError` if there is none."""
    if "://" not in root:
        # Under another name nothing is added to it while it is emptied; what they open from now on has no place to be.
        aside = f"{root}-removed"
        Path(root).rename(aside)
        remove(aside)
        return
    filesystem, path = open_filesystem(root, _WHAT)
    with suppress(FileNotFoundError):  # another attempt was first, or it is all gone
        filesystem.delete_file(f"{path}/{_MARKER}")
    filesystem.delete_dir(path)


def remove(folder: str) -> None:
    """Remove a folder and all in it."""
    if "://" in folder:
        filesystem, path = open_filesystem(folder, _WHAT)
        filesystem.delete_dir(path)
    else:
        shutil.rmtree(folder)


__all__ = ["check_kept", "make_root", "open_input", "open_output", "remove", "remove_all"]
