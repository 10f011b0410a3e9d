"""What does not fit in memory, in files without a name: rows of ranks, as train functions and as estimators keep them."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from sparkps.errors import GroupError
from sparkps.storage import cannot_keep, write_all


class SpillFile:
    """Bytes in a file without a name: it goes with the process, however that ends.

    Parameters
    ----------
    directory : str
        Made if it does not exist. Empty: the system's temporary directory.
    """

    def __init__(self, directory: str = "") -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        #: Bytes of all that was appended.
        self.size = 0

    def append(self, data: Any) -> int:
        """Write `data`, all of it or, for whoever reads, nothing; its offset.

        Parameters
        ----------
        data : buffer

        Raises
        ------
        GroupError
            It cannot be written.
        """
        view = memoryview(data).cast("B")
        try:
            file = self._opened()
            write_all(file.fileno(), view, self.size)
        except OSError as error:
            raise self._error(error, view.nbytes) from None
        offset = self.size
        self.size += view.nbytes
        return offset

    def read(self, offset: int, length: int) -> bytearray:
        """Exactly `length` bytes at `offset`."""
        assert self._file is not None, "something was appended"
        data = bytearray(length)
        view = memoryview(data)
        try:
            while view:
                got = os.preadv(self._file.fileno(), [view], offset)
                if not got:
                    raise OSError(errno.EIO, "The end of the file comes too early")
                view, offset = view[got:], offset + got
        except OSError as error:
            raise self._error(error, 0) from None
        return data

    def close(self) -> None:
        """Give the room back; any number of times."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            if self._directory:
                Path(self._directory).mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(prefix="sparkps-rows-", dir=self._directory or None, buffering=0)  # noqa: SIM115 - closed by close()
        return self._file

    def _error(self, error: OSError, more: int) -> GroupError:
        needs = f"the rows of a worker beyond `spark.sparkps.workerMemoryBudget`: {self.size:,} bytes so far, {more:,} more now"
        setting = "`spark.sparkps.localDir`" if self._directory else "`spark.sparkps.localDir` or TMPDIR"
        return cannot_keep("Rows that do not fit in memory", self._directory or _temporary(), error, needs, setting)


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:
        return "the system's temporary directory"


class SpilledBatches:
    """Arrow record batches in a file without a name, read back one by one: a window of known size.

    Never a mapped file, whose pages would count as resident.

    Parameters
    ----------
    directory : str
        As for `SpillFile`.

    Examples
    --------
    >>> batches = SpilledBatches()
    >>> batches.append(pa.RecordBatch.from_pydict({"x": [1, 2]}))
    >>> len(batches), batches[0].to_pydict()
    (1, {'x': [1, 2]})
    >>> batches.close()
    """

    def __init__(self, directory: str = "") -> None:
        self._file = SpillFile(directory)
        #: (offset, length, schema) in the file of each batch, in order. Schemas are kept here, and written nowhere.
        self._places: list[tuple[int, int, pa.Schema]] = []

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> pa.RecordBatch:
        offset, length, schema = self._places[position]
        return pa.ipc.read_record_batch(pa.py_buffer(self._file.read(offset, length)), schema)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self._file.size if self._places else 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a batch behind the others.

        Raises
        ------
        GroupError
            It cannot be written; the others are as they were.
        """
        data = batch.serialize()
        self._places.append((self._file.append(data), data.size, batch.schema))

    def close(self) -> None:
        """Give the room back; any number of times."""
        self._places.clear()
        self._file.close()


__all__ = ["SpillFile", "SpilledBatches"]
