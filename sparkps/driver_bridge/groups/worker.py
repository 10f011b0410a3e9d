"""What a train function knows of its rank, and what it does in the name of the rank: tables, ticks, reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from sparkps.client.session import Session
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.driver_bridge.groups.rank_lease import RankLease
from sparkps.driver_bridge.input.batches import Batches
from sparkps.errors import DeadlineExceeded, InvalidInput
from sparkps.plain import INT_RANGE, LONGEST_NAME, cut, fit, shown
from sparkps.wire.messages.control import MAX_PROGRESS, MAX_PROGRESS_BYTES, FindTable, Meet, Met

#: Of a text that a train function reports, beginning and end are kept.
_PROGRESS_CHARACTERS = 500

#: Seconds between two questions to the coordinator whether all are there.
_MEETING_PAUSE = 0.03

#: First byte of a worker's own state, as it is stored with a tick; `rank_task` stores other things with the last one.
STATE = b"s"

Train = Callable[["Worker", Batches], Any]


class Worker:
    """What a train function knows of its rank. Made by sparkps.

    Attributes
    ----------
    rank : int
        0 .. num_workers - 1.
    num_workers : int
    device : str or None
        Address of the GPU that this worker has (`spark.sparkps.worker.gpus`), as the discovery script names it: its index for
        ``torch.device(f"cuda:{worker.device}")``. Of several the first; None: it has none. Several workers have the same one
        where each has but a share.
    devices : tuple of str
        Addresses of all GPUs that this worker has.
    """

    def __init__(self, session: Session, lease: RankLease, state: bytes | None, devices: tuple[str, ...]) -> None:
        self.rank = lease.rank
        self.num_workers = lease.group.num_workers
        self.devices = devices
        self.device = devices[0] if devices else None
        self._session = session
        self._lease = lease
        self._state = state
        self._tables: dict[str, SparseTable | DenseTable] = {}
        #: Number of the last meeting that this worker has been to.
        self.meetings = 0
        #: What `report` was told, all calls together. Read by the renewing thread; replaced, never changed.
        self._progress: dict[str, Any] = {}
        lease.counters = self.counters

    def __repr__(self) -> str:
        return f"Worker(rank={self.rank}, num_workers={self.num_workers}, clock={self.clock})"

    @property
    def session(self) -> Session:
        """The session that speaks for this rank."""
        return self._session

    @property
    def clock(self) -> int:
        """Logical time: number of ticks so far, those of earlier attempts at this rank included.

        A rank whose task was lost starts again at its successor with the clock after the last tick, so a train function that
        counts its steps by the clock goes on where the lost one stopped.
        """
        member = self._session.member
        return member.clock if member is not None else -1

    @property
    def state(self) -> bytes | None:
        """What the last `tick(state)` stored, by this attempt or an earlier one."""
        return self._state

    def table(self, name: str) -> SparseTable | DenseTable:
        """The table `name`, under this rank's clock.

        Raises
        ------
        UnknownTable
        """
        if name not in self._tables:
            spec = self._session.control.request(FindTable(0, self._session.address.full_name(name))).spec
            handle = (SparseTable if spec.kind == "sparse" else DenseTable)(self._session.address, spec)
            self._tables[name] = handle.bind(self._session)  # type: ignore[assignment]
        return self._tables[name]

    def tick(self, state: bytes | None = None) -> None:
        """The clock is done: its pushes are acknowledged, other ranks may go on, and the clock advances.

        Parameters
        ----------
        state : bytes, optional
            Kept with the tick; a successor of this rank finds it in `state`. Without it the last one is kept no longer.
        """
        if state is not None and not isinstance(state, (bytes, bytearray, memoryview)):
            raise InvalidInput(
                f"The `state` of tick() must be bytes. Got {type(state).__name__} instead; pickle it.", rank=self.rank
            )
        self._lease.check()
        self._session.tick(None if state is None else STATE + bytes(state))
        self._state = None if state is None else bytes(state)

    def meet(self, said: bytes = b"", timeout: float = 600.0) -> list[bytes | None]:
        """Meet all workers of the group: each hears what each has said. Waits until all are there.

        Workers that do something without the tier find each other so: for a process group of torch, for one. Where one of them is
        replaced, what they did ends with an error, and they meet again; its successor comes as to a first meeting.

        Parameters
        ----------
        said : bytes
            At most 4096.
        timeout : float
            Seconds.

        Returns
        -------
        list of bytes or None
            By rank; None: the worker has finished.

        Raises
        ------
        DeadlineExceeded
            Not all came in time.
        SparkPSError
            The group has failed, or another attempt has this rank.

        Examples
        --------
        >>> worker.meet(socket.gethostname().encode())    # doctest: +SKIP
        [b'host-a', b'host-b']
        """
        lease, deadline = self._lease, time.monotonic() + timeout
        asking = Meet(0, lease.group.group, lease.rank, lease.attempt, self.meetings, bytes(said))
        while True:
            lease.check()
            answer = lease.control.request(asking)
            if isinstance(answer, Met):
                self.meetings = answer.number
                return [answer.said.get(rank) for rank in range(self.num_workers)]
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"All workers must come to a meeting within {timeout:g} s. They have not: {self.num_workers} are in worker group"
                    f" {lease.group.name!r}.",
                    rank=self.rank,
                )
            threading.Event().wait(_MEETING_PAUSE)

    @property
    def meeting_called(self) -> bool:
        """Whether another worker waits for a meeting: what this one does with the others will not come to its end.

        Raises
        ------
        SparkPSError
            The group has failed, or another attempt has this rank.
        """
        self._lease.check()
        return self._lease.meeting > self.meetings

    def report(self, progress: Mapping[str, Any] | None = None, **values: Any) -> None:
        """Tell the driver how training goes; the last value of each name counts.

        Parameters
        ----------
        progress, **values
            Numbers, strings or booleans by name, `MAX_PROGRESS` in all. ``epoch``, ``epochs`` and ``loss`` drive the progress bar.
            Long text is cut.

        Raises
        ------
        InvalidInput
            A value of another type, an int beyond 64 bits, or too many values.

        Examples
        --------
        >>> worker.report(epoch=3, epochs=10, loss=0.41)    # doctest: +SKIP
        """
        given = {cut(str(name), LONGEST_NAME): value for name, value in {**(progress or {}), **values}.items()}
        told = {**self._progress, **{name: _plain(name, value, self.rank) for name, value in given.items()}}
        if len(told) > MAX_PROGRESS or sum(map(_length, told.items())) > MAX_PROGRESS_BYTES:
            raise InvalidInput(
                f"A rank may report at most {MAX_PROGRESS} values of {MAX_PROGRESS_BYTES} bytes together, names included. Got"
                f" {len(told)} values of {sum(map(_length, told.items()))} bytes with {shown(list(given))}: results go into tables, or"
                " are returned.",
                rank=self.rank,
            )
        self._progress = told

    def counters(self) -> dict[str, Any]:
        """What the coordinator is told of this rank."""
        return {"clock": self.clock, "waited_seconds": round(self._session.waited_seconds, 6), **self._progress}

    def keep_clock(self) -> None:
        """Let `counters` have the clock as it is now for good: the session forgets it when the rank finishes."""
        self._progress = {**self._progress, "clock": self.clock}


def _plain(name: str, value: Any, rank: int) -> Any:
    """`value` as a type that every message carries; text that is too long is cut."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, str):
        return cut(value, _PROGRESS_CHARACTERS)
    if isinstance(value, int) and not INT_RANGE[0] <= value < INT_RANGE[1]:
        raise InvalidInput(
            f"report() takes ints of at most 64 bits. Got one of {value.bit_length()} bits for {name!r}: report it as a float, or as"
            " text.",
            rank=rank,
        )
    if value is None or isinstance(value, (bool, int, float)):
        return fit(value)
    raise InvalidInput(
        f"report() takes numbers, strings and booleans. Got {type(value).__name__} for {name!r}.", rank=rank
    )


def _length(told: tuple[str, Any]) -> int:
    """Bytes that a name and its value take in a message, about."""
    name, value = told
    return len(name.encode()) + (len(value.encode()) if isinstance(value, str) else 8) + 4


__all__ = ["STATE", "Train", "Worker"]
