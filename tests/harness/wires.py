"""The simulated network: connections between processes and nodes that lose, repeat, delay and reorder messages, and break.

What becomes of each message is decided by *fates* (`fates`): at random from a seed, or as a script says. Messages of one connection
arrive in the order in which they were sent, as on a socket, but for those that their fate lets go out of line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from sparkps.wire.codec import decode_request
from tests.harness.clockwork import Clockwork, Process


class Post(NamedTuple):
    """One message as it is sent."""

    #: Number of the message in its schedule, from 0.
    number: int
    #: Name of the client process, and number of the node.
    client: str
    node: int
    #: Whether it goes to the node.
    up: bool
    frames: list[bytes]

    def __str__(self) -> str:
        way = f"{self.client} -> node {self.node}" if self.up else f"node {self.node} -> {self.client}"
        return f"#{self.number} {way}: {described(self.frames)}"


class Copy(NamedTuple):
    """One arrival of a message."""

    #: Seconds after it was sent.
    delay: float
    #: Past others on the same connection; else it waits for those that were sent before it.
    stray: bool = False


class Loss(Enum):
    """How a worker is lost."""

    #: It does nothing any more.
    DIES = "dies"
    #: It is taken to be lost, but goes on beside its successor.
    LINGERS = "lingers"


class Fates(Protocol):
    """Decides what happens to messages."""

    def loses(self, post: Post) -> Loss | None:
        """Whether, and how, the client is lost just before it sends this."""
        ...

    def copies(self, post: Post) -> list[Copy]:
        """The arrivals of a message: none, one, or several."""
        ...


#: A node's way in: identity of the connection, frames.
Receive = Callable[[bytes, list[bytes]], None]


@dataclass(slots=True)
class _Line:
    """One direction of a connection: when what is in line arrives."""

    last: float = 0.0

    def arrival(self, now: float, copy: Copy) -> float:
        """When a copy arrives that is sent now."""
        arrival = now + copy.delay
        if copy.stray:
            return arrival
        if arrival > self.last:
            self.last = arrival
        return self.last


class Wires:
    """All connections of a simulated tier.

    Parameters
    ----------
    clockwork : Clockwork
    fates : Fates
    lose : callable
        Told of the client process that is lost just before it sends a message, and how.
    """

    def __init__(self, clockwork: Clockwork, fates: Fates, lose: Callable[[Process, Loss], None]) -> None:
        self.clockwork = clockwork
        self.fates = fates
        self.lose = lose
        #: Messages so far.
        self.posts = 0
        #: What happened, line by line, if anybody wants to know.
        self.trace: list[str] | None = None
        self.connections: list[Connection] = []
        self._nodes: list[Receive] = []
        self._by_identity: dict[bytes, Connection] = {}

    def add_node(self, receive: Receive) -> str:
        """Attach a node; returns its endpoint."""
        self._nodes.append(receive)
        return str(len(self._nodes) - 1)

    def answer(self, node: int, identity: bytes, frames: list[Any]) -> None:
        """A node sends: to the connection that has the identity now, if there is one."""
        connection = self._by_identity.get(identity)
        if connection is not None:
            self._carry(connection, node, False, connection.down, frames, connection.deliver, identity)

    def post(self, connection: Connection, frames: list[Any]) -> None:
        """A client sends."""
        self._carry(connection, connection.node, True, connection.up, frames, self._arrive, connection.identity)

    def _carry(
        self,
        connection: Connection,
        node: int,
        up: bool,
        line: _Line,
        frames: list[Any],
        deliver: Callable[[Connection, bytes, Post], None],
        identity: bytes,
    ) -> None:
        process, clockwork = connection.process, self.clockwork
        post = Post(self.posts, process.name, node, up, list(map(bytes, frames)))
        loss = self.fates.loses(post) if up else None
        if loss is not None:
            self.note(f"before {post}:")
            self.lose(process, loss)
        if process.dead:
            return
        self.posts += 1
        leaves = max(clockwork.now, connection.closed_until) if up else clockwork.now
        arrivals = [line.arrival(leaves, copy) for copy in self.fates.copies(post)]
        if self.trace is not None:
            when = " and ".join(f"{arrival:.4f}" for arrival in arrivals)
            self.note(f"{post}{f', arrives {when}' if when else ', is lost'}")
        for arrival in arrivals:
            clockwork.at(arrival, deliver, connection, identity, post)

    def _arrive(self, connection: Connection, identity: bytes, post: Post) -> None:
        if connection.identity == identity:  # else the connection broke under it
            if self.trace is not None:
                self.note(f"    node {post.node} takes #{post.number}")
            self._nodes[post.node](identity, post.frames)

    def reconnect(self, connection: Connection, closed_for: float) -> None:
        """A connection breaks, and is there again, under another identity, after a time: what was under way is lost."""
        self.note(f"the connection of {connection.process.name} and node {connection.node} breaks for {closed_for:.4f}")
        connection.closed_until = self.clockwork.now + closed_for
        connection.up, connection.down = _Line(connection.closed_until), _Line(connection.closed_until)
        self._identify(connection)

    def _identify(self, connection: Connection) -> None:
        self._by_identity.pop(connection.identity, None)
        connection.breaks += 1
        connection.identity = b"%d.%d" % (connection.number, connection.breaks)
        self._by_identity[connection.identity] = connection

    def open(self, process: Process, endpoint: str) -> Connection:
        """Connect a process to a node."""
        connection = Connection(self, process, len(self.connections), int(endpoint))
        self.connections.append(connection)
        self._identify(connection)
        return connection

    def close(self, connection: Connection) -> None:
        """The client has hung up: answers reach nobody; what it has sent arrives."""
        self._by_identity.pop(connection.identity, None)

    def note(self, line: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.clockwork.now:10.4f}  {line}")


class Connection:
    """A client's end of a connection to one node: what `Session` calls a channel."""

    def __init__(self, wires: Wires, process: Process, number: int, node: int) -> None:
        self._wires = wires
        self.process = process
        self.number = number
        self.node = node
        self.endpoint = f"simulated node {node}"
        #: How the node knows it; another one after each break.
        self.identity = b""
        self.breaks = 0
        #: Until then nothing gets through: what is sent waits.
        self.closed_until = 0.0
        self.up, self.down = _Line(), _Line()
        #: Answers that nobody has taken yet.
        self.inbox: deque[list[bytes]] = deque()

    def send(self, frames: list[Any]) -> None:
        """Send one message to the node."""
        if not (self.process.dead or self.process.ended):
            self._wires.post(self, frames)

    def receive(self) -> list[bytes] | None:
        """The next message, or None."""
        return self.inbox.popleft() if self.inbox else None

    def close(self, linger: int = 0) -> None:
        """Hang up."""
        self._wires.close(self)

    def deliver(self, _: Connection, identity: bytes, post: Post) -> None:
        """A message of the node is here."""
        if self.identity == identity and not self.process.dead:
            if self._wires.trace is not None:
                self._wires.note(f"    {post.client} gets #{post.number}")
            self.inbox.append(post.frames)
            self.process.wake()


class ClientNetwork:
    """One process's view of the network: what `Session` takes as its network."""

    def __init__(self, wires: Wires, process: Process) -> None:
        self._wires = wires
        self._process = process

    def now(self) -> float:
        """Simulated seconds."""
        return self._wires.clockwork.now

    def connect(self, endpoint: str) -> Connection:
        """A connection to the node at an endpoint."""
        return self._wires.open(self._process, endpoint)

    def wait(self, channels: Any, seconds: float, patience: float = 0.0) -> None:
        """Until one of the channels has a message, the coordinator has answered, or the time is over."""
        if seconds > 0 and not any(channel.inbox for channel in channels):
            self._process.pause(seconds, light=True)


def described(frames: list[bytes]) -> str:
    """A message in words, for traces."""
    numbers, message, arrays = decode_request(frames)
    text = f"{numbers} {message}" if any(numbers) else str(message)
    if len(text) > 260:
        text = text[:200] + " ... " + text[-50:]
    if not arrays:
        return text
    return f"{text} + {[array.ravel().tolist() if array.size < 7 else f'{array.size} values' for array in arrays]}"
