"""A process group of torch among the workers of a group: Gloo on CPUs, NCCL on GPUs, formed anew when one of them is replaced.

It is formed at a meeting of the workers (`Worker.meet`), without a barrier stage of Spark. What runs over it is neither encrypted nor
authenticated: torch's transports are not, nor is the store by which they find each other. So both are bound to the one interface by which
a worker reaches the tier.

What a rank does with the others ends with `PeersLost` when one of them is gone; then all of them form the group again, with the successor.
A rank may be gone although its connections are open: its process stands still, or has lost its rank and does not know it yet. So whoever
waits for others also looks whether somebody waits for a meeting.
"""

from __future__ import annotations

import datetime
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from sparkps.environment import leave_nccl_to_us
from sparkps.errors import SparkPSError
from sparkps.nn.connections import FormedConnections
from sparkps.nn.device_memory import is_out_of_memory
from sparkps.nn.peer_store import PeerStore, StoreServer
from sparkps.secret import secret_of

log = logging.getLogger(__name__)

#: Its names are those of the C++ library, and not all declared.
dist: Any = torch.distributed

#: Seconds in which all must have joined a group that they have met for, and in which a collective must end.
FORMED_WITHIN, DONE_WITHIN = 20.0, 300.0

#: Seconds between two looks of somebody who waits for others at whether a meeting is called; and, at most, between two at a GPU's work.
_PATIENCE, _LONGEST_LOOK = 0.1, 0.005

#: The same, where torch itself waits.
_LOOK_EVERY = 0.25

#: Groups that were left while something of theirs was under way, with that: torch would wait for it where they are dropped.
_LEFT: list[tuple[Any, Any]] = []


class PeersLost(SparkPSError):
    """A collective did not come to its end: another worker is gone, or calls for a meeting. What it was about has not happened here."""


class Collective:
    """The process group of one rank.

    Parameters
    ----------
    worker : Worker
    device : torch.device
        Where tensors are.
    done_within : float
        Seconds that a collective may take.

    Examples
    --------
    >>> peers = Collective(worker, torch.device("cpu"))        # doctest: +SKIP
    >>> peers.form({"version": 3}); peers.add(gradient)   # doctest: +SKIP
    """

    def __init__(self, worker: Any, device: torch.device, done_within: float = DONE_WITHIN) -> None:
        self._worker, self._device, self._done_within = worker, device, done_within
        self._host = interface(worker.session.address.coordinator)
        self._secret = secret_of(worker.session.address)
        self._group: Any = None
        #: The last that was begun with it.
        self._work: Any = None
        #: Serves the others where this one leads, and what this one asks; both live as long as the group.
        self._served: StoreServer | None = None
        self._store: PeerStore | None = None
        #: Ranks of the workers that are in the group, ascending.
        self.members: list[int] = [worker.rank]

    @property
    def rank(self) -> int:
        """Of this worker."""
        return int(self._worker.rank)

    @property
    def is_formed(self) -> bool:
        """Whether there is a group."""
        return self._group is not None or (self.members == [self._worker.rank] and self._worker.num_workers == 1)

    def form(self, said: dict[str, Any]) -> dict[int, dict[str, Any]]:
        """Form the group with all workers that have not finished, again and again until it holds.

        Parameters
        ----------
        said : dict
            Of what JSON can have: for the others.

        Returns
        -------
        dict
            By rank, what each has said.
        """
        while True:
            self.close()
            self._served = StoreServer(self._host, self._secret)
            mine = json.dumps({"store": self._served.endpoint, "said": said}).encode()
            heard = {rank: json.loads(each) for rank, each in enumerate(self._worker.meet(mine)) if each is not None}
            self.members = sorted(heard)
            try:
                self._join(heard[self.members[0]]["store"], self._worker.meetings)
            except (RuntimeError, PeersLost) as error:
                if is_out_of_memory(error):
                    raise
                log.info("rank %d: the process group of meeting %d was not formed: %s", self._worker.rank, self._worker.meetings, error)
                continue
            return {rank: each["said"] for rank, each in heard.items()}

    def _join(self, endpoint: str, number: int) -> None:
        place, size = self.members.index(self._worker.rank), len(self.members)
        if place and self._served is not None:
            self._served.close()  # another one leads
            self._served = None
        self._store = PeerStore(endpoint, FORMED_WITHIN, self._secret)
        self._group = self._made(dist.PrefixStore(f"meeting {number}", self._store), place, size)
        self.barrier()  # whoever comes through knows that all have joined

    def _made(self, store: Any, place: int, size: int) -> Any:
        """The group of torch over a store, in which this rank has a place."""
        if self._device.type == "cuda":
            leave_nccl_to_us()
            options = dist.ProcessGroupNCCL.Options()
            options._timeout = _seconds(self._done_within)
            return dist.ProcessGroupNCCL(store, place, size, options)
        return _gloo(store, place, size, self._host, self._done_within)

    def add(self, tensor: Tensor) -> None:
        """Let a tensor become the sum of those of all ranks, bit by bit the same at each.

        Raises
        ------
        PeersLost
            What the tensor holds then is not to be used.
        """
        if len(self.members) > 1:
            self._run(lambda group: group.allreduce([tensor]))

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        if len(self.members) > 1:
            self._run(lambda group: group.allreduce([torch.zeros(1, device=self._device)]))

    def give(self, tensor: Tensor, giver: int) -> None:
        """Let a tensor become that of the rank `giver`."""
        if len(self.members) > 1:
            options = dist.BroadcastOptions()
            options.rootRank = self.members.index(giver)
            self._run(lambda group: group.broadcast([tensor], options))

    def gather(self, data: bytes, to: int) -> list[bytes]:
        """What all ranks say, by their order, at the rank `to`; nothing at the others."""
        place = self.members.index(self._worker.rank)
        lengths = torch.zeros(len(self.members), dtype=torch.int64, device=self._device)
        lengths[place] = len(data)
        self.add(lengths)
        most = int(lengths.max())
        mine = torch.zeros(most, dtype=torch.uint8)
        mine[: len(data)] = torch.from_numpy(np.frombuffer(data, np.uint8).copy())
        rooms = [torch.empty(most, dtype=torch.uint8, device=self._device) for _ in self.members] if to == self._worker.rank else []
        if most and len(self.members) > 1:
            options = dist.GatherOptions()
            options.rootRank = self.members.index(to)
            # Not `recv`: one of Gloo ends its connection when somebody has waited for it in vain for a while.
            self._run(lambda group: group.gather([rooms] if rooms else [], [mine.to(self._device)], options))
        found = [bytes(room[:length].cpu().numpy()) for room, length in zip(rooms, lengths.tolist(), strict=False)]
        return [data if at == place else each for at, each in enumerate(found)]

    def _run(self, begin: Any) -> None:
        if self._group is None:
            raise PeersLost("There is no process group: it is to be formed first.", rank=self._worker.rank)
        try:
            # It has no name here: an error would keep it, and with it the connections that must close for peers to see that this one left.
            self._work, began = begin(self._group), time.monotonic()
            while not self._is_done(time.monotonic() - began):
                if self._worker.meeting_called:
                    raise RuntimeError("another worker waits for a meeting")
                if time.monotonic() - began > self._done_within:
                    raise RuntimeError(f"it has taken {self._done_within:g} s")
        except RuntimeError as error:
            self.close()
            if is_out_of_memory(error):  # in a group that is formed anew it would be the same again
                raise
            said = str(error)[:300]
            raise PeersLost(f"A collective of the workers must come to its end. It has not: {said}", rank=self._worker.rank) from error

    def _is_done(self, waited: float) -> bool:
        """Whether what was begun so many seconds ago has come to its end, after waiting a little.

        Raises
        ------
        RuntimeError
            It has failed.
        """
        if self._device.type == "cuda":  # NCCL does not notice that a peer is gone, and would keep the device waiting for it
            if self._work.is_completed():
                self._work.wait()
                return True
            time.sleep(min(_LONGEST_LOOK, waited / 10))
            return False
        try:
            self._work.wait(_seconds(_PATIENCE))
        except RuntimeError:
            if not self._work.is_completed():
                return False
            self._work.wait()
        return True

    def close(self) -> None:
        """Leave the group: what others do with it ends with an error."""
        (group, self._group), (work, self._work) = (self._group, None), (self._work, None)
        _LEFT[:] = [each for each in _LEFT if not each[1].is_completed()]
        if group is not None and work is not None and self._device.type != "cuda" and not work.is_completed():
            _LEFT.append((group, work))
        if group is not None and hasattr(group, "abort"):
            try:
                group.abort()
            except (RuntimeError, NotImplementedError) as error:
                log.debug("the process group was not aborted: %s", error)
        del group
        for each in (self._store, self._served):
            if each is not None:
                each.close()
        self._store = self._served = None


class DefaultGroup(Collective):
    """A collective that is torch's default process group, too: pipelines and shards of torch run over it.

    There is one in a process. What torch does over it goes into ``guarded()``, so that it ends with `PeersLost` where a peer is gone. A
    thread looks meanwhile whether a meeting is called: torch's own waiting does not.
    """

    #: Of the group that is formed now; set when it is left.
    _left: threading.Event | None = None

    def _join(self, endpoint: str, number: int) -> None:
        formed = FormedConnections(self._host)
        super()._join(endpoint, number)
        left = self._left = threading.Event()
        # One of Gloo is not kept: connections end with it.
        group = self._group if self._device.type == "cuda" else None
        threading.Thread(target=self._watch, args=(left, formed.settle(), group), name="sparkps-meetings", daemon=True).start()

    def _watch(self, left: threading.Event, formed: FormedConnections, group: Any) -> None:
        """End what is under way when a meeting is called, or this rank is no more of the worker group."""
        while not left.wait(_LOOK_EVERY):
            try:
                is_called = self._worker.meeting_called
            except SparkPSError:  # who meets next is told so
                is_called = True
            if is_called:
                if group is not None:
                    group.abort()
                formed.cut()
                return

    def _made(self, store: Any, place: int, size: int) -> Any:
        if self._device.type == "cuda":
            leave_nccl_to_us()
            name = "nccl"
        else:
            name = _BACKEND
            _bound["host"] = self._host
            if not hasattr(dist.Backend, _BACKEND.upper()):
                dist.Backend.register_backend(_BACKEND, _as_backend, extended_api=True, devices=["cpu"])
        dist.init_process_group(name, store=store, rank=place, world_size=size, timeout=_seconds(self._done_within))
        return dist.group.WORLD._get_backend(self._device)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn errors of torch's own collectives into `PeersLost`, and leave the group; all others stay as they are."""
        try:
            yield
        except RuntimeError as wrapped:
            # A schedule of torch says which stage it was, and hides why.
            error = wrapped.__cause__ if _STAGE in str(wrapped) and wrapped.__cause__ is not None else wrapped
            if is_out_of_memory(error) or not any(mark in str(error) for mark in _OF_PEERS):
                raise error from None
            self.close()
            raise PeersLost(f"What ranks do together must come to its end. It has not: {str(error)[:300]}", rank=self.rank) from error

    def close(self) -> None:
        """See `Collective`."""
        if self._left is not None:
            self._left.set()
        super().close()
        if dist.is_initialized():
            dist.destroy_process_group()


#: Name under which torch knows Gloo on the interface that a `DefaultGroup` is bound to, and that interface.
_BACKEND = "sparkps"
_bound = {"host": "127.0.0.1"}

#: What messages of a schedule's stages have.
_STAGE = "failed to run"

#: What messages of torch's collectives have, and no others: they have no type of their own.
_OF_PEERS = (
    "gloo/",
    "[Gloo]",
    "ProcessGroupGloo",
    "ProcessGroupNCCL",
    "NCCL error",
    "NCCL communicator",
    "Default process group has not",
)


def _as_backend(options: Any, _: Any) -> Any:
    return _gloo(options.store, options.group_rank, options.group_size, _bound["host"], options.timeout.total_seconds())


def _gloo(store: Any, place: int, size: int, host: str, done_within: float) -> Any:
    gloo: Any = dist.ProcessGroupGloo
    options = gloo._Options()
    is_told_later = hasattr(gloo, "set_timeout")  # older torch has it not
    # Of connecting: whoever has gone since the meeting never answers.
    options._timeout = _seconds(FORMED_WITHIN if is_told_later else done_within)
    options._devices = [gloo.create_device(hostname=host)]
    group = gloo(store, place, size, options)
    if is_told_later:
        group.set_timeout(_seconds(done_within))
    return group


def interface(endpoint: str) -> str:
    """Address of this host on the way to an endpoint of the tier.

    Examples
    --------
    >>> interface("ipc:///tmp/x"), interface("tcp://127.0.0.1:5000")
    ('127.0.0.1', '127.0.0.1')
    """
    parts = urlsplit(endpoint)
    if parts.scheme != "tcp" or parts.hostname is None:
        return "127.0.0.1"
    family, kind, protocol, _, address = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # of datagrams: nothing is sent
        return str(probe.getsockname()[0])


def _seconds(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)


__all__ = ["DONE_WITHIN", "FORMED_WITHIN", "Collective", "DefaultGroup", "PeersLost", "interface"]
