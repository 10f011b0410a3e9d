"""`WebHdfs` as a file system of pyarrow."""

from __future__ import annotations

import errno
import io
from typing import Any

import pyarrow as pa
from pyarrow.fs import FileInfo, FileSelector, FileSystemHandler, FileType, PyFileSystem

from sparkps.filesystems.webhdfs import HdfsStatus, WebHdfs
from sparkps.filesystems.webhdfs_http import Answer, Upload


def as_arrow(client: WebHdfs) -> PyFileSystem:
    """A pyarrow file system whose requests `client` sends."""
    return PyFileSystem(_Handler(client))


class _Handler(FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """See `pyarrow.fs.FileSystemHandler`. Files are written once: none is replaced, renamed or appended to."""

    def __init__(self, client: WebHdfs) -> None:
        self.client = client

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler) and other.client.addresses == self.client.addresses

    def __ne__(self, other: object) -> bool:
        return not self == other

    def get_type_name(self) -> str:
        return "webhdfs"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return [_info(path, self.client.status(path)) for path in paths]

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        try:
            waiting = [self.client.listing(selector.base_dir)]
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise
        found = []
        while waiting:
            for one in waiting.pop():
                found.append(_info(one.path, one))
                if one.is_folder and selector.recursive:
                    try:
                        waiting.append(self.client.listing(one.path))
                    except FileNotFoundError:  # somebody has just removed it
                        continue
        return found

    def create_dir(self, path: str, recursive: bool) -> None:
        self.client.make_folder(path)

    def delete_dir(self, path: str) -> None:
        if not self.client.delete(path, recursive=True):
            raise FileNotFoundError(errno.ENOENT, "There is no such directory", path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        try:
            for one in self.client.listing(path):
                self.client.delete(one.path, recursive=True)
        except FileNotFoundError:
            if not missing_dir_ok:
                raise

    def delete_root_dir_contents(self) -> None:
        raise PermissionError(errno.EPERM, "All of an HDFS is not removed")

    def delete_file(self, path: str) -> None:
        if not self.client.delete(path):
            raise FileNotFoundError(errno.ENOENT, "There is no such file", path)

    def move(self, src: str, dest: str) -> None:
        raise NotImplementedError("files are written once, and never renamed")

    def copy_file(self, src: str, dest: str) -> None:
        with self.open_input_stream(src) as source, self.open_output_stream(dest, None) as target:
            while block := source.read(1 << 20):
                target.write(block)

    def open_input_stream(self, path: str) -> pa.PythonFile:
        return pa.PythonFile(io.BufferedReader(_Stream(self.client.stream(path)), 1 << 20), mode="r")

    def open_input_file(self, path: str) -> pa.PythonFile:
        status = self.client.status(path)
        if status is None or status.is_folder:
            raise FileNotFoundError(errno.ENOENT, "There is no such file", path)
        return pa.PythonFile(_Ranges(self.client, path, status.nbytes), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> pa.PythonFile:
        return pa.PythonFile(_Written(self.client.create(path)), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> pa.PythonFile:
        raise NotImplementedError("files are written once, and never appended to")


def _info(path: str, status: HdfsStatus | None) -> FileInfo:
    if status is None:
        return FileInfo(path, FileType.NotFound)
    kind = FileType.Directory if status.is_folder else FileType.File
    return FileInfo(path, kind, size=None if status.is_folder else status.nbytes, mtime=status.changed)


class _Stream(io.RawIOBase):
    """An answer, as it comes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._answer.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._answer.close()
        super().close()


class _Ranges(io.RawIOBase):
    """A file of known length, of which each read is one request: whoever reads asks for much at once."""

    def __init__(self, client: WebHdfs, path: str, nbytes: int) -> None:
        self._client, self._path, self._nbytes = client, path, nbytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        return self._nbytes

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._nbytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._nbytes - self._at
        if size is not None and 0 <= size < wanted:
            wanted = size
        if wanted <= 0:
            return b""
        data = self._client.read(self._path, self._at, wanted)
        if len(data) != wanted:
            message = f"The file must have {wanted:,} bytes at {self._at:,}, and has {len(data):,}: it was changed while it was read"
            raise OSError(errno.EIO, message, self._path)
        self._at += wanted
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Written(io.RawIOBase):
    """A new file. It is not there before `close` returns; an error in between leaves none, or a part of one."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._upload.position

    def write(self, data: Any) -> int:
        return self._upload.write(data)

    def close(self) -> None:
        if not self.closed:
            try:
                self._upload.close()
            finally:
                super().close()


__all__ = ["as_arrow"]
