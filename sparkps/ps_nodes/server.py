"""The node process's I/O shell: sockets, threads and time around `service.Service`. One thread owns all sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq
from zmq.utils.garbage import gc as message_collector

from sparkps import sockets
from sparkps.admission import Admission
from sparkps.config import NodeSettings
from sparkps.descriptors import ConnectionCap
from sparkps.host_memory import memory_at_hand, resident_bytes
from sparkps.outgoing import MOST_BYTES_OF_ALL, Unsent
from sparkps.peer_limits import PeerLimits
from sparkps.ps_nodes.coordinator_link import CoordinatorLink, Origin
from sparkps.ps_nodes.memory_budget import ANSWERS, REQUESTS, MemoryBudget
from sparkps.ps_nodes.peers import Peers
from sparkps.ps_nodes.service import Service
from sparkps.ps_nodes.tables.directory import load_ahead
from sparkps.secret import TierSecret
from sparkps.wire.messages import data as m

log = logging.getLogger(__name__)

#: The data socket is not read while so many bytes of requests wait for their turn.
MOST_QUEUED_BYTES = 512 << 20
#: Answers below this size are copied into the socket's own memory.
ZERO_COPY_BYTES = 1 << 16
#: Small answers that wait for one client to read them; more are dropped, and asked for again.
MOST_UNSENT = 10_000
#: Messages taken from the data socket before other sockets are looked at.
BURST = 64
#: After a request of so few bytes outside a worker group the next one is looked for without sleeping, for so long: a client that
#: waits for each answer sends it at once.
SMALL_BYTES, SPIN_SECONDS = 1 << 17, 500e-6
#: Longest wait for something to happen (milliseconds).
IDLE_MS = 500

_ORPHANED = "the process that started it is gone"


class Threads:
    """The threads of a node's pool, all started ahead: later there may be no memory for one.

    Parameters
    ----------
    threads : int
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="sparkps-node")
        started = threading.Barrier(threads + 1)
        for _ in range(threads):
            self._pool.submit(started.wait)
        started.wait()
        # pyzmq's own thread, which lets go of arrays that have been sent.
        message_collector.start()

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` on one of the threads."""
        self._pool.submit(_logged, function, *args)

    def close(self) -> None:
        """Finish what runs; what is queued is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _logged(function: Callable[..., Any], *args: Any) -> None:
    try:
        function(*args)
    except Exception:
        log.exception("work on the pool failed")


class Node:
    """One parameter-server node.

    Parameters
    ----------
    coordinator : str
        Endpoint of the coordinator.
    bind : str
        Endpoint to bind for clients; ``tcp://host:0`` takes a free port.
    threads : int
        Threads for large requests.
    parent : int
        Process to live with: the node exits when it is gone. 0: none.
    origin : Origin
        Who has started the node, and where.
    advertise : str
        Name or address by which others reach a TCP endpoint; empty: that of `bind`.
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    limits : PeerLimits, optional
        How many connections a host may have.
    max_message_bytes : int
        As in the settings, which the coordinator sends later.
    """

    def __init__(
        self,
        coordinator: str,
        bind: str,
        threads: int,
        parent: int = 0,
        origin: Origin = Origin(),  # noqa: B008
        advertise: str = "",
        secret: TierSecret | None = None,
        limits: PeerLimits | None = None,
        max_message_bytes: int = NodeSettings.max_message_bytes,
    ) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._data = self._context.socket(zmq.ROUTER)
        self._data.setsockopt(zmq.LINGER, 500)
        self._data.setsockopt(zmq.SNDHWM, MOST_UNSENT)
        self._data.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._data.copy_threshold = ZERO_COPY_BYTES
        self._admission = None if secret is None else Admission(self._context, secret)
        endpoint = sockets.bind(self._data, bind, secret, max_message_bytes)
        self._cap = ConnectionCap(self._data, endpoint, limits=limits, is_secured=secret is not None)
        if advertise:
            endpoint = f"tcp://{advertise}:{endpoint.rpartition(':')[2]}"
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._parent = parent
        self._stopping = False
        #: Why it ends, where nobody of the tier has told it to.
        self._why = "it ended"
        #: How long to look for the next request before going to sleep, in seconds.
        self._patience = 0.0
        #: Sockets to other nodes that are waited for.
        self._watched: list[zmq.Socket[bytes]] = []
        #: The process that started the node is gone, and that is why the node ends.
        self.orphaned = False
        self._threads = Threads(threads)
        self._unsent = Unsent(self._data, ZERO_COPY_BYTES)
        self._peers = Peers(self._context, secret)
        memory = MemoryBudget(resident_bytes, memory_at_hand)
        memory.queues.append(lambda: self._unsent.total)
        self.service = Service(self._unsent.send, self._threads, time.monotonic, self._wake_up, self._peers.send, memory)
        self.service.state.figures = self._figures
        self._memory = memory
        self.service.state.secret = secret
        self.control = CoordinatorLink(self._context, coordinator, endpoint, self.service, origin, secret)

    # ---- the loop ------------------------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Run until told to stop; returns the exit status."""
        self.service.io.take_over()
        aside = zmq.Poller()
        aside.register(self.control.socket, zmq.POLLIN)
        aside.register(self._wake, zmq.POLLIN)
        everything = zmq.Poller()
        for socket, events in aside.sockets:
            everything.register(socket, events)
        everything.register(self._data, zmq.POLLIN)
        self.control.hello()
        threading.Thread(target=load_ahead, name="sparkps-kernels", daemon=True).start()
        looked_at = 0.0
        while not self._stopping and not self.control.over and not self.service.state.must_end:
            full = self.service.dispatcher.queued_bytes > self._memory.most(REQUESTS, MOST_QUEUED_BYTES)
            self._watch_peers(aside, everything)
            ready = dict(aside.poll(20) if full else everything.poll(IDLE_MS))
            if self._data in ready:
                self._receive()
            for node, frames in self._peers.readable():
                self.service.hear_node(node, frames)
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):  # nobody woke us
                    os.eventfd_read(self._wake)
            self.service.io.run_posted()
            if self.control.socket in ready:
                self.control.receive()
            now = self.control.seen_at = time.monotonic()
            if now - looked_at > IDLE_MS / 1000:
                looked_at = now
                try:
                    self._look_around(now)
                except Exception:  # rows are worth more than a figure that could not be reported
                    log.exception("a look around failed")
        if self.service.state.must_end:
            self._why = self.service.state.must_end
            log.error("exit: %s", self._why)
            self.control.status = 1
        self.control.say_goodbye(self._why)
        self._close()
        return self.control.status

    def _figures(self) -> dict[str, int]:
        refused = 0 if self._admission is None else self._admission.refused
        return {**self._unsent.report(), **self._cap.report(), "refused_peers": refused}

    def _watch_peers(self, *pollers: zmq.Poller) -> None:
        """Wait for answers of nodes that are new, too, and of those that are gone no more."""
        for node, info in list(self.service.state.nodes.items()):
            if info.state != "up":
                self._peers.forget(node)
        now = self._peers.sockets
        if now == self._watched:
            return
        for poller in pollers:
            for socket in self._watched:
                if socket in poller:
                    poller.unregister(socket)
            for socket in now:
                poller.register(socket, zmq.POLLIN)
        self._watched = now

    def stop(self, orphaned: bool = False, why: str = "it was told to end") -> None:
        """End the loop; callable from any thread and from a signal handler. The coordinator is told `why` it ends."""
        # A driver that stops its tier hangs up on nodes that were told to exit before.
        self.orphaned |= orphaned and not self.control.over
        self._why = why
        self._stopping = True
        self._wake_up()

    def _wake_up(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _look_around(self, now: float) -> None:
        self._unsent.most = self._memory.most(ANSWERS, MOST_BYTES_OF_ALL)
        self.service.look_around()
        self.control.heartbeat(now)
        if self._parent and os.getppid() != self._parent:
            log.info("the process that started this node is gone: exit")
            self.stop(orphaned=True, why=_ORPHANED)

    def _close(self) -> None:
        self.service.close()
        self._threads.close()
        self.service.io.run_posted()
        self._cap.close()
        self._peers.close()
        self._data.close()
        self.control.close()
        if self._admission is not None:
            self._admission.close()
        self._context.term()

    # ---- requests ------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        posted: deque[Any] = self.service.io.posted
        for _ in range(BURST):
            identity, *frames = sockets.receive(self._data)
            message = self.service.receive(identity.bytes, frames)
            quick = type(message) is m.Step and message.member is None and sum(map(len, frames)) <= SMALL_BYTES
            patience = self._patience = SPIN_SECONDS if quick else 0.0
            if not sockets.is_readable(self._data) and not (
                patience and sockets.spin((self._data,), patience, unless=posted)
            ):
                return
