"""A relay between processes that cuts, delays, throttles and drops their connections, at will.

It takes connections at an endpoint of its own and opens one to its target for each. Whatever speaks over a stream can be behind it; with
the endpoints of zmq, "tcp://host:port" and "ipc://path", it is put between clients and nodes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sparkps.errors import InvalidInput
from sparkps.testing.gate import Backlog, Gate

#: Directions: what clients send to the target, what they get of it, and both.
Direction = Literal["up", "down", "both"]

#: Bytes read at once.
_READ = 1 << 18

#: Longest wait of the relay's thread (seconds).
_IDLE = 0.5

#: Connections that wait to be taken.
_BACKLOG = 128


@dataclass(eq=False)
class _Half:
    """One direction of a connection: bytes go from `source` to `sink`."""

    source: socket.socket
    sink: socket.socket
    gate: Gate
    #: Process that has opened the connection; 0: not known.
    pid: int
    backlog: Backlog = field(default_factory=Backlog)
    #: The source has said that nothing more comes, and the sink was told.
    at_end = told = False

    def reads(self) -> bool:
        """Whether bytes are taken from the source now."""
        return not self.at_end and self.backlog.has_room and not self.gate.shuts_out(self.pid)

    def writes_at(self, now: float) -> float | None:
        """When the next bytes go to the sink; None: not before something else happens."""
        if not self.backlog.chunks or self.gate.shuts_out(self.pid):
            return None
        return max(self.backlog.chunks[0][0], self.gate.next_time(now))


@dataclass(eq=False)
class _Pair:
    """A connection: the client's socket, the target's, and both directions."""

    client: socket.socket
    target: socket.socket
    up: _Half
    down: _Half

    @property
    def halves(self) -> tuple[_Half, _Half]:
        """Both directions."""
        return self.up, self.down


class Relay:
    """Takes connections at `endpoint` and carries their bytes to `target` and back, in a thread of its own.

    Bytes are never lost on a connection that stays: those that are cut off wait until `heal`, as TCP sends again what a network has
    lost. `drop` ends connections; what was under way on them is lost.

    Parameters
    ----------
    target : str
        "tcp://host:port" or "ipc://path".
    endpoint : str, optional
        Where to listen; by default at a free port of this host, or at a path in a temporary directory.

    Examples
    --------
    >>> import socket
    >>> server = socket.create_server(("127.0.0.1", 0))
    >>> with Relay(f"tcp://127.0.0.1:{server.getsockname()[1]}") as relay:
    ...     client = socket.create_connection(relay.address)
    ...     behind, _ = server.accept()
    ...     relay.cut()
    ...     client.sendall(b"hello")
    ...     relay.heal()
    ...     behind.recv(5)
    b'hello'
    >>> client.close(), behind.close(), server.close()
    (None, None, None)
    """

    def __init__(self, target: str, endpoint: str = "") -> None:
        self.target = target
        self._family, self._target = _parsed(target)
        self._directory: Path | None = None
        self._path: Path | None = None
        self._listener = self._listen(endpoint)
        #: Owner: whoever holds the lock.
        self._gates = {"up": Gate(), "down": Gate()}
        self._pairs: list[_Pair] = []
        self._lock = threading.Lock()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._closing = False
        self._refusing = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name=f"relay-{target}", daemon=True)
        self._thread.start()

    def _listen(self, endpoint: str) -> socket.socket:
        if not endpoint and self._family == socket.AF_UNIX:
            self._directory = Path(tempfile.mkdtemp(prefix="sparkps-relay-"))
            endpoint = f"ipc://{self._directory}/relay"
        family, address = _parsed(endpoint or "tcp://127.0.0.1:0")
        listener = socket.socket(family)
        if family == socket.AF_INET:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        if isinstance(address, str):
            self._path = Path(address)
        return listener

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens, as sockets take it."""
        name = self._listener.getsockname()
        return name if isinstance(name, str) else (name[0], name[1])

    @property
    def endpoint(self) -> str:
        """Where it listens, as zmq takes it."""
        where = self.address
        return f"ipc://{where}" if isinstance(where, str) else f"tcp://{where[0]}:{where[1]}"

    # ---- what it does to connections -----------------------------------------------------------------------------------

    def cut(self, direction: Direction = "both", pid: int | None = None) -> None:
        """Let nothing pass until `heal`; connections stay, and new ones are not taken.

        Parameters
        ----------
        direction : str
            "up", "down" or "both".
        pid : int, optional
            Only of the connections that this process has opened; over unix sockets, which tell.
        """
        self._check_knows(pid)
        self._change(direction, lambda gate: gate.cut(pid))

    def heal(self, direction: Direction = "both", pid: int | None = None) -> None:
        """End what `cut` has begun: of one process, or of all."""
        self._change(direction, lambda gate: gate.heal(pid))

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Let what comes from now on arrive so much later; 0: at once."""
        self._change(direction, lambda gate: gate.set_delay(seconds))

    def throttle(self, bytes_per_second: float | None, direction: Direction = "both") -> None:
        """Let so many bytes pass a second, of all connections together; None: as many as come."""
        now = time.monotonic()
        self._change(direction, lambda gate: gate.throttle(bytes_per_second, now))

    def drop(self) -> int:
        """End all connections, as a host does that has lost them; returns how many. What was under way is lost."""
        with self._locked():
            dropped = list(self._pairs)
            for pair in dropped:
                self._end(pair, reset=True)
        return len(dropped)

    def refuse(self, refusing: bool = True) -> None:
        """End each new connection at once, or take them again."""
        with self._locked():
            self._refusing = refusing

    @property
    def connections(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._pairs)

    def passed(self, direction: Literal["up", "down"]) -> int:
        """Bytes that have passed so far."""
        with self._lock:
            return self._gates[direction].total

    def _change(self, direction: Direction, change: Callable[[Gate], None]) -> None:
        if direction not in ("up", "down", "both"):
            raise InvalidInput(f"The direction of a relay must be 'up', 'down' or 'both'. Got {direction!r} instead.")
        with self._locked():
            for name, gate in self._gates.items():
                if direction in (name, "both"):
                    change(gate)

    def _check_knows(self, pid: int | None) -> None:
        if pid is not None and self._listener.family != socket.AF_UNIX:
            raise InvalidInput("The process behind a connection must be known, as over unix sockets. This relay listens over TCP.")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Change what the thread works by; it looks again then."""
        with self._lock:
            yield
        with contextlib.suppress(BlockingIOError, OSError):  # enough wake-ups are under way, or the thread has ended
            self._waker.send(b"!")

    def close(self) -> None:
        """End all connections and the thread; does nothing the second time."""
        with self._locked():
            self._closing = True
        self._thread.join(10)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._directory is not None:
            with contextlib.suppress(OSError):
                self._directory.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- the thread ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._closing:
                    break
                wait = self._prepare(time.monotonic())
            ready = {key.fileobj: events for key, events in self._selector.select(wait)}
            with self._lock:
                self._work(ready)
        with self._lock:
            for pair in list(self._pairs):
                self._end(pair)
            self._selector.close()
            for one in (self._listener, self._woken, self._waker):
                one.close()

    def _prepare(self, now: float) -> float:
        """Register what is waited for now; for how long."""
        wait, wanted = _IDLE, dict[socket.socket, int]()
        if not all(gate.is_cut for gate in self._gates.values()):
            wanted[self._listener] = selectors.EVENT_READ
        for pair in self._pairs:
            for half in pair.halves:
                if half.reads():
                    wanted[half.source] = wanted.get(half.source, 0) | selectors.EVENT_READ
                at = half.writes_at(now)
                if at is not None and at <= now:
                    wanted[half.sink] = wanted.get(half.sink, 0) | selectors.EVENT_WRITE
                elif at is not None:
                    wait = min(wait, at - now)
        self._register(wanted)
        return wait

    def _register(self, wanted: dict[socket.socket, int]) -> None:
        watched = {key.fileobj: key.events for key in self._selector.get_map().values()}
        for one in watched:
            if one is not self._woken and one not in wanted:
                self._selector.unregister(one)
        for one, events in wanted.items():
            if one not in watched:
                self._selector.register(one, events)
            elif watched[one] != events:
                self._selector.modify(one, events)

    def _work(self, ready: Mapping[Any, int]) -> None:
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        if self._listener in ready:
            self._accept()
        for pair in list(self._pairs):
            try:
                for half in pair.halves:
                    if ready.get(half.source, 0) & selectors.EVENT_READ and half.reads():
                        self._read(half)
                    if ready.get(half.sink, 0) & selectors.EVENT_WRITE:
                        self._write(half)
                    self._tell_end(half)
            except OSError:  # one end has gone: so does the other
                self._end(pair, reset=True)
            else:
                if pair.up.told and pair.down.told:
                    self._end(pair)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if self._refusing:
            client.close()
            return
        target = socket.socket(self._family)
        for one in (client, target):
            one.setblocking(False)
            if one.family == socket.AF_INET:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.connect_ex(self._target) not in (0, errno.EINPROGRESS):
            client.close()
            target.close()
            return
        pid = _peer_pid(client)
        up, down = self._gates["up"], self._gates["down"]
        self._pairs.append(_Pair(client, target, _Half(client, target, up, pid), _Half(target, client, down, pid)))

    def _read(self, half: _Half) -> None:
        with contextlib.suppress(BlockingIOError):
            data = half.source.recv(_READ)
            if data:
                half.backlog.put(time.monotonic() + half.gate.delay, data)
            else:
                half.at_end = True

    def _write(self, half: _Half) -> None:
        now = time.monotonic()
        if half.gate.shuts_out(half.pid):
            return
        data = half.backlog.due(now, half.gate.allowance(now))
        if data:
            with contextlib.suppress(BlockingIOError):
                count = half.sink.send(data)
                half.backlog.gone(count)
                half.gate.passed(count)

    def _tell_end(self, half: _Half) -> None:
        """What has ended at one side ends at the other, when all that was sent before has gone."""
        if half.at_end and not half.told and not half.backlog.chunks and not half.gate.shuts_out(half.pid):
            half.told = True
            half.sink.shutdown(socket.SHUT_WR)

    def _end(self, pair: _Pair, reset: bool = False) -> None:
        self._pairs.remove(pair)
        for one in (pair.client, pair.target):
            if one in {key.fileobj for key in self._selector.get_map().values()}:
                self._selector.unregister(one)
            if reset and one.family == socket.AF_INET:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()


def _parsed(endpoint: str) -> tuple[int, str | tuple[str, int]]:
    """Family and address of a zmq endpoint."""
    kind, _, where = endpoint.partition("://")
    host, _, port = where.rpartition(":")
    if kind == "ipc" and where:
        return socket.AF_UNIX, where
    if kind == "tcp" and host and port.isdecimal():
        return socket.AF_INET, (socket.gethostbyname(host), int(port))
    raise InvalidInput(f"The endpoint of a relay must be 'tcp://host:port' or 'ipc://path'. Got {endpoint!r} instead.")


def _peer_pid(connection: socket.socket) -> int:
    """The process that has opened a connection; 0 where the system does not tell."""
    if connection.family != socket.AF_UNIX:
        return 0
    pid: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    return pid


def in_front_of(endpoint: str) -> Relay:
    """A relay that takes the place of a listener at a unix socket: who connects from now on connects to the relay.

    The listener's socket is moved aside, and stays reachable there. When the relay is closed, `put_back` puts it in its place.

    Parameters
    ----------
    endpoint : str
        "ipc://path", where somebody listens.
    """
    family, path = _parsed(endpoint)
    if family != socket.AF_UNIX or not isinstance(path, str):
        raise InvalidInput(f"A relay can take the place of a listener at a unix socket only, 'ipc://path'. Got {endpoint!r} instead.")
    aside = f"{path}.behind"
    os.rename(path, aside)  # noqa: PTH104 - connections go by name, the listener stays what it is
    try:
        return Relay(f"ipc://{aside}", endpoint)
    except BaseException:
        os.rename(aside, path)  # noqa: PTH104
        raise


def put_back(relays: Iterable[Relay]) -> None:
    """Close relays that were `in_front_of` listeners, and let these be reached again without them."""
    for relay in relays:
        relay.close()
        aside = Path(relay.target.removeprefix("ipc://"))
        if aside.name.endswith(".behind") and aside.exists():
            aside.rename(aside.with_suffix(""))


__all__ = ["Direction", "Relay", "in_front_of", "put_back"]
