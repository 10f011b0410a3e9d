"""Files under a URL: a local directory, or any file system that pyarrow or fsspec knows.

Checkpoints need five verbs only, and none that file systems disagree on: a file is written once, as a whole, under a name that
nobody has used; nothing is renamed, appended or overwritten (a rename over an existing file silently fails on webhdfs).

Names are paths below the URL, with ``/`` between folders.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sparkps.errors import ConfigError
from sparkps.filesystems.opening import open_filesystem, path_of

#: What has the buffer protocol.
Buffer = Any

#: Bytes read at a time where a file is looked through.
_BLOCK = 1 << 20

#: Chunks written at a time; Linux takes 1,024 at most.
_AT_ONCE = 512

#: Schemes of file systems that live within a process.
_OWN = frozenset({"memory", "mock"})

#: Name before the ``+`` of a URL such as ``failing+file:///tmp/x`` -> module whose ``wrap(url)`` opens it.
WRAPPERS = {"failing": "sparkps.testing.failing_files"}


@dataclass(frozen=True)
class FileInfo:
    """A file below a URL."""

    name: str
    nbytes: int
    #: Seconds since 1970 of its last change, by the file system's clock; 0 where it does not say.
    changed: float


class Files(Protocol):
    """Files below a URL. Methods raise OSError, and may be called from several threads."""

    url: str

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """Make a file of `chunks`, one after the other, on the disk when this returns; `FileExistsError` if there is one."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """`length` bytes at `offset`, or to the end; fewer where the file ends before."""

    def blocks(self, name: str) -> Iterator[Buffer]:
        """All of a file, in blocks; each is good until the next one is asked for."""

    def size(self, name: str) -> int:
        """Bytes of a file; `FileNotFoundError` if there is none."""

    def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
        """Files in `folder`, with `deep` also those in folders below; none if it does not exist."""

    def delete(self, name: str) -> None:
        """Remove a file; nothing happens if there is none."""


class LocalFiles:
    """Files in a directory of this machine; the directory is made by the first write.

    Parameters
    ----------
    path : str
    """

    def __init__(self, path: str) -> None:
        self._root = Path(path).absolute()
        self.url = f"file://{self._root}"

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """See `Files`."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            for start in range(0, len(chunks), _AT_ONCE):
                _write_all(descriptor, chunks[start : start + _AT_ONCE])
            # With its content Linux brings a new file's name to the disk; a name that got lost all the same is noticed as a damage.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Files`."""
        with (self._root / name).open("rb", buffering=0) as file:
            if length is None:
                length = max(0, os.fstat(file.fileno()).st_size - offset)
            data = os.pread(file.fileno(), length, offset)
            while len(data) < length and (more := os.pread(file.fileno(), length - len(data), offset + len(data))):
                data += more  # one call of the system reads 2 GiB at most
            return data

    def blocks(self, name: str) -> Iterator[Buffer]:
        """See `Files`."""
        block = bytearray(_BLOCK)
        with (self._root / name).open("rb", buffering=0) as file:
            while got := file.readinto(block):
                yield memoryview(block)[:got]

    def size(self, name: str) -> int:
        """See `Files`."""
        return (self._root / name).stat().st_size

    def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
        """See `Files`."""
        return list(self._walk(self._root / folder, deep))

    def _walk(self, folder: Path, deep: bool) -> Iterator[FileInfo]:
        try:
            with os.scandir(folder) as found:
                inside = list(found)
        except FileNotFoundError:
            return
        for entry in inside:
            try:
                if entry.is_file():
                    stat = entry.stat()
                    yield FileInfo(str(Path(entry.path).relative_to(self._root)), stat.st_size, stat.st_mtime)
                elif deep and entry.is_dir():
                    yield from self._walk(Path(entry.path), deep)
            except FileNotFoundError:  # somebody has just removed it
                continue

    def delete(self, name: str) -> None:
        """See `Files`; a folder goes with its last file."""
        path = self._root / name
        path.unlink(missing_ok=True)
        try:
            if path.parent != self._root:
                path.parent.rmdir()
        except OSError:
            return  # not empty, or gone


def _write_all(descriptor: int, chunks: Sequence[Buffer]) -> None:
    """Write chunks in one call of the system, and what that leaves over one by one."""
    written = os.writev(descriptor, chunks)
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        passed = min(written, len(view))
        view, written = view[passed:], written - passed
        while view:
            view = view[os.write(descriptor, view) :]


class ArrowFiles:
    """Files of a pyarrow file system, below a path.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
    path : str
        As the file system spells it.
    url : str
        As users spell it.
    """

    def __init__(self, filesystem: Any, path: str, url: str) -> None:
        self._filesystem = filesystem
        self._root = path.rstrip("/")
        self.url = url

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def write(self, name: str, chunks: Sequence[Buffer]) -> None:
        """See `Files`."""
        path = self._path(name)
        if self._info(path) is not None:
            raise FileExistsError(errno.EEXIST, "There is such a file", path)
        try:
            stream = self._filesystem.open_output_stream(path)
        except FileNotFoundError:  # object stores have no folders to be made, others have
            self._filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
            stream = self._filesystem.open_output_stream(path)
        with stream:
            for chunk in chunks:
                stream.write(chunk)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Files`."""
        with self._filesystem.open_input_file(self._path(name)) as file:
            if length is None:
                length = max(0, file.size() - offset)
            data: bytes = file.read_at(length, offset)
            return data

    def blocks(self, name: str) -> Iterator[Buffer]:
        """See `Files`."""
        with self._filesystem.open_input_stream(self._path(name)) as file:
            while block := file.read(_BLOCK):
                yield block

    def size(self, name: str) -> int:
        """See `Files`."""
        info = self._info(self._path(name))
        if info is None:
            raise FileNotFoundError(errno.ENOENT, "There is no such file", self._path(name))
        return int(info.size)

    def _info(self, path: str) -> Any:
        from pyarrow.fs import FileType

        info = self._filesystem.get_file_info(path)
        return info if info.type == FileType.File else None

    def entries(self, folder: str = "", deep: bool = False) -> list[FileInfo]:
        """See `Files`."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._path(folder), recursive=deep, allow_not_found=True)
        found = [info for info in self._filesystem.get_file_info(selector) if info.type == FileType.File]
        return [FileInfo(self._name(info.path), int(info.size or 0), (info.mtime_ns or 0) / 1e9) for info in found]

    def _name(self, path: str) -> str:
        # Some file systems list paths without the slash that they were asked with.
        return path.lstrip("/").removeprefix(self._root.lstrip("/")).lstrip("/")

    def delete(self, name: str) -> None:
        """See `Files`."""
        try:
            self._filesystem.delete_file(self._path(name))
        except FileNotFoundError:
            return


def open_files(url: str) -> Files:
    """The files below a URL, or a path of this machine.

    Raises
    ------
    ConfigError
        Nobody knows such a URL, or what it needs is not installed or not set.

    Examples
    --------
    >>> open_files("/tmp/checkpoints").url
    'file:///tmp/checkpoints'
    """
    url = _with_slashes(url_of(url))
    scheme = url.partition("://")[0] if "://" in url else ""
    wrapper, plus, rest = url.partition("+")
    if plus and "://" in rest and wrapper in WRAPPERS:
        files: Files = importlib.import_module(WRAPPERS[wrapper]).wrap(rest)
        return files
    if not scheme:
        return LocalFiles(url)
    if scheme == "file":
        return LocalFiles(path_of(url))
    filesystem, path = open_filesystem(url, "The URL of checkpoints")
    return ArrowFiles(filesystem, path, url)


def url_of(place: str | os.PathLike[str]) -> str:
    """A path, or a URL, as a str.

    Raises
    ------
    ConfigError
        It cannot name a directory.

    Examples
    --------
    >>> url_of(Path("/tmp/x")), url_of("s3://bucket/x")
    ('/tmp/x', 's3://bucket/x')
    """
    url = os.fspath(place) if isinstance(place, os.PathLike) else place
    if not isinstance(url, str) or not url:
        raise ConfigError(
            f"The URL of checkpoints must name a directory, as '/data/checkpoints' or 's3://bucket/path'. Got {place!r}."
        )
    if "\0" in url or not _is_text(url):
        raise ConfigError(f"The URL of checkpoints must be of characters that names of files can have, in UTF-8. Got {place!r}.")
    return url


def _is_text(url: str) -> bool:
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_shared(url: str) -> None:
    """See that different processes can have the same files at a URL.

    Raises
    ------
    ConfigError
        Each has its own.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme.rpartition("+")[2] in _OWN:
        raise ConfigError(
            f"Checkpoints must be written to a file system that the driver and all nodes share. Got {url!r}, of which every process has"
            " one of its own: give a directory, or an object store, that all of them reach.",
            url=url,
        )


def absolute_url(url: str) -> str:
    """`url` as every process of the tier understands it, whatever its working directory.

    Examples
    --------
    >>> absolute_url("/tmp/x"), absolute_url("file:/tmp/x"), absolute_url("s3://bucket/x")
    ('file:///tmp/x', 'file:///tmp/x', 's3://bucket/x')
    """
    url = _with_slashes(url)
    return url if "://" in url else open_files(url).url


def _with_slashes(url: str) -> str:
    """``file:///x`` for ``file:/x``, which is the same."""
    return f"file://{url.removeprefix('file:')}" if re.match("file:/(?!/)", url) else url


__all__ = ["ArrowFiles", "FileInfo", "Files", "LocalFiles", "absolute_url", "check_shared", "open_files", "url_of"]
