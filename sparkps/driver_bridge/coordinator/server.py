"""``python -m sparkps.driver_bridge.coordinator.server``: the coordinator process, a thin shell around `tier.Tier`.

It holds the control plane only, never a row of a table. It starts fast (no numba, no pyspark), and never outlives the driver:
when its standard input ends or its parent is gone, it tells the nodes to exit, and follows. With a journal, another process can go on
where this one was killed: at the same endpoint, where nodes and clients find it again by themselves.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from sparkps import sockets
from sparkps.admission import Admission
from sparkps.config import Settings
from sparkps.descriptors import ConnectionCap, raise_limit
from sparkps.driver_bridge.coordinator.journal import Journal
from sparkps.driver_bridge.coordinator.tier import Outgoing, Tier
from sparkps.driver_bridge.coordinator.token_renewal import TokenRenewal
from sparkps.errors import ProtocolError, to_wire
from sparkps.lifeline import keep_fresh, watch_stdin
from sparkps.log_forwarding import Listening, Outbox
from sparkps.outgoing import Unsent
from sparkps.peer_limits import PeerLimits
from sparkps.secret import TierSecret
from sparkps.secret_files import secret_on_stdin
from sparkps.wire.codec import decode, encode, sequence_of
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: More than any message to the coordinator has: results, functions and reports are bounded each (see `wire`).
MAX_MESSAGE_BYTES = 256 << 20
#: Longest time between two looks at timers and at the parent (milliseconds).
IDLE_MS = 100
#: Messages taken from the socket before the socket is waited for again.
BURST = 256
#: Timers are looked at when the socket is empty, for what lies in it may be what they wait for; and every so many seconds.
LONGEST_READING = 1.0
#: Bytes that wait at most for peers that do not read, of all together; and those of an array that is sent from where it lies.
MOST_UNSENT_BYTES, LARGE_BYTES = 512 << 20, 1 << 16
#: Seconds between the last answer and the end of the connections.
PARTING = 0.05
#: Seconds that nodes have to exit before the scratch directory of a driver that is gone is removed.
LINGER = 5.0


class Coordinator:
    """Socket, timers and the driver's life line.

    Parameters
    ----------
    bind : str
        Endpoint; ``tcp://host:0`` takes a free port.
    tier_id : str
    settings : Settings
    parent : int
        Process to live with; 0: none.
    journal : Path, optional
        Where it writes what it does before it says so. If that is there already, it goes on from it.
    secret : TierSecret, optional
        Of the tier, where it asks for one.
    """

    def __init__(
        self, bind: str, tier_id: str, settings: Settings, parent: int = 0, journal: Path | None = None, secret: TierSecret | None = None
    ) -> None:
        self.tier = Tier(tier_id, settings)
        self._journal = None if journal is None else Journal(journal)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._admission = None if secret is None else Admission(self._context, secret)
        network = settings.network
        self.endpoint = sockets.bind(self._socket, bind, secret, MAX_MESSAGE_BYTES)
        limits = PeerLimits(network.max_peer_connections, network.max_peer_handshakes)
        self._cap = ConnectionCap(self._socket, self.endpoint, limits=limits, is_secured=secret is not None)
        self._unsent = Unsent(self._socket, LARGE_BYTES, self._is_node)
        self._unsent.most = MOST_UNSENT_BYTES
        self.tier.figures = self._figures
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._parent = parent
        #: Set by any thread or signal handler: the tier is to stop.
        self.told_to_stop = False
        #: The driver ended without stopping the tier.
        self.orphaned = False
        self._next_warning = 0.0
        #: Renews the delegation tokens of the tier, on a thread of its own.
        self._renewal = TokenRenewal()
        #: What this process itself logs, where the driver wants it.
        self._outbox: Outbox | None = None
        if settings.log_level:
            self._outbox = Outbox(settings.log_level)
            Listening(self._outbox).begin()
        self._begin()

    def _figures(self) -> dict[str, int]:
        refused = 0 if self._admission is None else self._admission.refused
        return {**self._unsent.report(), **self._cap.report(), "refused_peers": refused}

    def _is_node(self, receiver: bytes) -> bool:
        """Whether a connection is that of a node: a client asks again for what was dropped, but a command to a node does not come again."""
        return any(self.tier.node_at[node] == receiver for node in self.tier.nodes.up())

    def _begin(self) -> None:
        """Go on from the journal, if there is one with something in it."""
        records = [] if self._journal is None else self._journal.records
        self.tier.replay(records)
        self.tier.begin(time.monotonic(), os.getpid())
        if records:
            self._send(self.tier.recover(time.monotonic()))
            log.info("the coordinator goes on from a journal of %d records", len(records))
            records.clear()
        self._write()

    def _write(self) -> None:
        """Journal what has happened."""
        records = self.tier.take_events()
        if self._journal is not None:
            self._journal.append(records)
            if self._journal.is_due and (snapshot := self.tier.snapshot()) is not None:
                self._journal.replace([snapshot])

    def stop(self, orphaned: bool = False) -> None:
        """Stop the tier; callable from any thread and from a signal handler."""
        self.orphaned |= orphaned
        self.told_to_stop = True
        os.eventfd_write(self._wake, 1)

    def serve(self) -> None:
        """Run until the tier is over."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        stopping, ticked_at = False, time.monotonic()
        while not self.tier.over:
            poller.poll(IDLE_MS)
            is_empty = self._receive()
            now = time.monotonic()
            if self._outbox is not None:
                self.tier.log_book.add("coordinator", *self._outbox.take())
            self._renewal.hold(self.tier.tokens)
            self.tier.due_tokens = self._renewal.due()
            if is_empty or now - ticked_at > LONGEST_READING:
                ticked_at = now
                self._send(self.tier.tick(now))
            if self._parent and os.getppid() != self._parent:
                self.stop(orphaned=True)
            if self.told_to_stop and not stopping:
                stopping = True
                self._send(self.tier.stop(now))
        self._renewal.end()
        # A client that sees the connection end before it has read the last answer loses that answer.
        threading.Event().wait(PARTING)
        if self._journal is not None:
            self._journal.close()
        self._cap.close()
        self._socket.close()
        if self._admission is not None:
            self._admission.close()
        self._context.term()

    def _receive(self) -> bool:
        """Take what has arrived, up to a burst; whether the socket is empty."""
        for _ in range(BURST):
            try:
                sender, *frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return True
            try:
                message, _ = decode(frames)
            except ProtocolError as error:
                self._drop(sender.bytes, frames, error)
                continue
            self._send(self.tier.receive(sender.bytes, message, time.monotonic()))
        return False

    def _drop(self, sender: bytes, frames: list[Any], error: ProtocolError) -> None:
        """Count what cannot be understood; where its number can, its sender is told why."""
        self.tier.garbage += 1
        seq = sequence_of(frames)
        if seq or "version" in error.attributes:  # of another version nothing can be read but that
            self._send([(sender, c.Refused(seq, *to_wire(error)))])
        if time.monotonic() > self._next_warning:
            self._next_warning = time.monotonic() + 10.0
            log.warning("dropped frames that are no message, %d so far: %s", self.tier.garbage, error)

    def _send(self, outgoing: list[Outgoing]) -> None:
        self._write()
        for receiver, message in outgoing:
            try:
                frames = encode(message)
            except ProtocolError as error:  # too large for a message: whoever asked is told
                log.warning("cannot send a %s: %s", type(message).__name__, error)
                frames = encode(c.Refused(getattr(message, "seq", 0), *to_wire(error)))
            self._unsent.send(receiver, frames)


def main(argv: list[str] | None = None) -> int:
    """Start a coordinator and serve until the tier is over.

    Prints its endpoint as one line on standard output.

    Returns
    -------
    int
        Exit status: 0 after an orderly stop, 3 when the driver was gone.
    """
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    raise_limit()
    settings = msgspec.json.decode(arguments.settings, type=Settings)
    secret = secret_on_stdin() if arguments.secret_on_stdin else None
    journal = Path(arguments.journal) if arguments.journal else None
    coordinator = Coordinator(arguments.bind, arguments.tier, settings, arguments.parent, journal, secret)
    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:  # as whoever started it wishes
        signal.signal(signal.SIGTERM, lambda *_: coordinator.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.watch_stdin:
        watch_stdin(lambda: coordinator.stop(orphaned=True))
    if arguments.scratch:
        keep_fresh(Path(arguments.scratch))
    sys.stdout.write(coordinator.endpoint + "\n")
    sys.stdout.flush()
    coordinator.serve()
    if not coordinator.orphaned:
        return 0
    log.warning("the driver is gone: the tier has stopped")
    if arguments.scratch:
        _wait_gone([info.pid for info in coordinator.tier.nodes.infos()])
        shutil.rmtree(arguments.scratch, ignore_errors=True)
    return 3


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sparkps.driver_bridge.coordinator.server", description="The coordinator of a sparkps tier."
    )
    parser.add_argument("--bind", required=True, help="endpoint for nodes, workers and the driver")
    parser.add_argument("--tier", required=True, help="id of the tier")
    parser.add_argument("--settings", default="{}", help="all settings, as JSON")
    parser.add_argument("--parent", type=int, default=0, help="exit when this parent process is gone")
    parser.add_argument("--watch-stdin", action="store_true", help="exit when standard input ends")
    parser.add_argument("--journal", default="", help="file to write what happens to, and to go on from if it is there")
    parser.add_argument("--scratch", default="", help="directory to remove at the end if the driver is gone")
    parser.add_argument("--secret-on-stdin", action="store_true", help="read the secret of the tier as the first line of standard input")
    return parser.parse_args(argv)


def _wait_gone(pids: list[int]) -> None:
    """Wait until none of these processes runs; they write their logs to the scratch directory until then."""
    deadline, pause = time.monotonic() + LINGER, threading.Event()
    while time.monotonic() < deadline and any(_runs(pid) for pid in pids):
        pause.wait(0.05)


def _runs(pid: Any) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
