"""The simulated network: connections between processes that lose, repeat, delay and reorder messages, break, and are cut.

A connection has two ends, each a named process: the one that connects, and the one that listens. A client connects to a node, and
so may a node. What becomes of each message is decided by *fates* (`fates`): at random from a seed, or as a script says. Messages
of one connection arrive in the order in which they were sent, as on a socket, but for those that their fate lets go out of line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from sparkps.testing.simulation.clockwork import Clockwork, Process
from sparkps.wire.codec import decode_request


class End(Protocol):
    """A process, as its connections see it: `clockwork.Process` and `hosts.Host` are such."""

    @property
    def name(self) -> str:
        """Its name, for traces and partitions."""

    @property
    def dead(self) -> bool:
        """Was killed: it sends nothing, and nothing reaches it."""

    @property
    def ended(self) -> bool:
        """Has come to its end: it sends nothing."""

    def do(self, event: Callable[..., None], *args: Any) -> None:
        """Let something happen in the process: now, when it goes on after a stop, or never once it is dead."""

    def wake(self) -> None:
        """One of its connections has a message for it."""


class Post(NamedTuple):
    """One message as it is sent."""

    #: Number of the message in its schedule, from 0.
    number: int
    #: Names of the processes that send it and that it is sent to.
    source: str
    target: str
    #: Whether the process sends it that has connected, rather than the one that listens.
    up: bool
    frames: list[bytes]

    @property
    def client(self) -> str:
        """Name of the process that has connected."""
        return self.source if self.up else self.target

    def __str__(self) -> str:
        return f"#{self.number} {self.source} -> {self.target}: {described(self.frames)}"


class Copy(NamedTuple):
    """One arrival of a message."""

    #: Seconds after it was sent.
    delay: float
    #: Past others on the same connection; else it waits for those that were sent before it.
    stray: bool = False


class ProcessLoss(Enum):
    """How a process is lost."""

    #: It does nothing any more.
    DIES = "dies"
    #: It is taken to be lost, but goes on beside its successor.
    LINGERS = "lingers"


class Fates(Protocol):
    """Decides what happens to messages."""

    def loses(self, post: Post) -> ProcessLoss | None:
        """Whether, and how, the process that has connected is lost just before it sends this."""
        ...

    def copies(self, post: Post) -> list[Copy]:
        """The arrivals of a message: none, one, or several."""
        ...


#: The way into a process that listens: identity of the connection, frames.
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


class _Listener(NamedTuple):
    """A process that others connect to."""

    process: End
    receive: Receive


class NetworkCut:
    """A cut between groups of processes.

    Parameters
    ----------
    groups : sequence of collections of str
        Names of processes. Those that no group names are one more group, also those that begin later.
    holds : bool
        Messages across the cut wait until it is healed; else they are lost.
    """

    def __init__(self, groups: Collection[Collection[str]], holds: bool) -> None:
        self.holds = holds
        #: Messages that wait, in the order in which they came to the cut, as (what delivers them, its arguments).
        self.waiting: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._sides = {name: side for side, names in enumerate(groups) for name in names}

    def cuts(self, source: str, target: str) -> bool:
        """Whether two processes are on different sides."""
        return self._sides.get(source) != self._sides.get(target)


class Wires:
    """All connections of a simulated tier.

    Parameters
    ----------
    clockwork : Clockwork
    fates : Fates
    lose : callable
        Told of the process that is lost just before it sends a message, and how.
    """

    def __init__(self, clockwork: Clockwork, fates: Fates, lose: Callable[[Any, ProcessLoss], None]) -> None:
        self.clockwork = clockwork
        self.fates = fates
        self.lose = lose
        #: Messages so far.
        self.posts = 0
        #: What happened, line by line, if anybody wants to know.
        self.trace: list[str] | None = None
        self.connections: list[SimulatedChannel] = []
        #: The cuts that there are.
        self.partitions: list[NetworkCut] = []
        self._listeners: list[_Listener] = []
        self._by_identity: dict[bytes, SimulatedChannel] = {}

    # ---- connections ---------------------------------------------------------------------------------------------------

    def listen(self, process: End, receive: Receive) -> str:
        """Let a process be connected to, which then gets each message by `receive`; returns its endpoint."""
        self._listeners.append(_Listener(process, receive))
        return str(len(self._listeners) - 1)

    def connect(self, process: End, endpoint: str) -> SimulatedChannel:
        """Connect a process to the one that listens at an endpoint. It is woken when there is something to `receive`."""
        connection = SimulatedChannel(self, process, len(self.connections), self._listeners[int(endpoint)])
        self.connections.append(connection)
        self._identify(connection)
        return connection

    def reconnect(self, connection: SimulatedChannel, closed_for: float) -> None:
        """A connection breaks, and is there again, under another identity, after a time: what was under way is lost."""
        ends = f"{connection.process.name} and {connection.listener.process.name}"
        self.note(f"the connection of {ends} breaks for {closed_for:.4f}")
        connection.closed_until = self.clockwork.now + closed_for
        connection.up, connection.down = _Line(connection.closed_until), _Line(connection.closed_until)
        self._identify(connection)

    def close(self, connection: SimulatedChannel) -> None:
        """Who had connected has hung up: answers reach nobody; what it has sent arrives."""
        self._by_identity.pop(connection.identity, None)

    def _identify(self, connection: SimulatedChannel) -> None:
        self._by_identity.pop(connection.identity, None)
        connection.breaks += 1
        connection.identity = b"%d.%d" % (connection.number, connection.breaks)
        self._by_identity[connection.identity] = connection

    # ---- messages ------------------------------------------------------------------------------------------------------

    def answer(self, identity: bytes, frames: list[Any]) -> None:
        """A process that listens sends: to the connection that has the identity now, if there is one."""
        connection = self._by_identity.get(identity)
        if connection is not None:
            self._carry(connection, False, connection.down, frames, connection.deliver, identity)

    def post(self, connection: SimulatedChannel, frames: list[Any]) -> None:
        """A process that has connected sends."""
        self._carry(connection, True, connection.up, frames, self._arrive, connection.identity)

    def _carry(
        self,
        connection: SimulatedChannel,
        up: bool,
        line: _Line,
        frames: list[Any],
        deliver: Callable[[SimulatedChannel, bytes, Post], None],
        identity: bytes,
    ) -> None:
        process, listener, clockwork = connection.process, connection.listener.process, self.clockwork
        source, target = (process.name, listener.name) if up else (listener.name, process.name)
        post = Post(self.posts, source, target, up, list(map(bytes, frames)))
        loss = self.fates.loses(post) if up else None
        if loss is not None:
            self.note(f"before {post}:")
            self.lose(process, loss)
        if process.dead or (listener.dead and not up):
            return
        self.posts += 1
        leaves = max(clockwork.now, connection.closed_until) if up else clockwork.now
        arrivals = [line.arrival(leaves, copy) for copy in self.fates.copies(post)]
        if self.partitions and any(not cut.holds for cut in self.partitions if cut.cuts(source, target)):
            arrivals = []
        if self.trace is not None:
            when = " and ".join(f"{arrival:.4f}" for arrival in arrivals)
            self.note(f"{post}{f', arrives {when}' if when else ', is lost'}")
        for arrival in arrivals:
            clockwork.at(arrival, deliver, connection, identity, post)

    def _arrive(self, connection: SimulatedChannel, identity: bytes, post: Post) -> None:
        """A message is there for the process that listens."""
        if connection.identity != identity:  # the connection broke under it
            return
        if self.partitions and self._is_kept(post, self._arrive, connection, identity):
            return
        listener = connection.listener
        if self.trace is not None and not listener.process.dead:
            self.note(f"    {post.target} takes #{post.number}")
        listener.process.do(listener.receive, identity, post.frames)

    # ---- cuts ----------------------------------------------------------------------------------------------------------

    def partition(self, *groups: Collection[str], holds: bool = False) -> NetworkCut:
        """Cut the network between groups of processes, until `heal`.

        Parameters
        ----------
        *groups : collection of str
            Names of processes; one group alone is cut from all others.
        holds : bool
            Messages across the cut wait for its end. Else they are lost, also those that were under way.
        """
        partition = NetworkCut(groups, holds)
        self.partitions.append(partition)
        sides = " | ".join(", ".join(sorted(names)) for names in groups)
        self.note(f"the network is cut: {sides} | all others, messages across it {'wait' if holds else 'are lost'}")
        return partition

    def heal(self, partition: NetworkCut | None = None) -> None:
        """End a cut, or all of them; one that has ended is left alone."""
        for cut in [partition] if partition else list(self.partitions):
            if cut in self.partitions:
                self.partitions.remove(cut)
                self.note("the network is whole" if not self.partitions else "a cut of the network ends")
                for deliver, args in cut.waiting:
                    self.clockwork.at(self.clockwork.now, deliver, *args)

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets from one process to another now."""
        return any(cut.cuts(source, target) for cut in self.partitions)

    def _is_kept(self, post: Post, deliver: Callable[..., None], connection: SimulatedChannel, identity: bytes) -> bool:
        """Whether a cut keeps a message that would arrive now."""
        for cut in self.partitions:
            if cut.cuts(post.source, post.target):
                self.note(f"    #{post.number} {'waits for the network' if cut.holds else 'is lost with the network'}")
                if cut.holds:
                    cut.waiting.append((deliver, (connection, identity, post)))
                return True
        return False

    def note(self, line: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.clockwork.now:10.4f}  {line}")


class SimulatedChannel:
    """The end of a connection that has connected: what `Session` calls a channel."""

    def __init__(self, wires: Wires, process: End, number: int, listener: _Listener) -> None:
        self._wires = wires
        self.process = process
        self.number = number
        self.listener = listener
        self.endpoint = f"simulated {listener.process.name}"
        #: How the other end knows it; another one after each break.
        self.identity = b""
        self.breaks = 0
        #: Until then nothing gets through: what is sent waits.
        self.closed_until = 0.0
        self.up, self.down = _Line(), _Line()
        #: Answers that nobody has taken yet.
        self.inbox: deque[list[bytes]] = deque()

    def send(self, frames: list[Any]) -> None:
        """Send one message to the process that listens."""
        if not (self.process.dead or self.process.ended):
            self._wires.post(self, frames)

    def receive(self) -> list[bytes] | None:
        """The next message, or None."""
        return self.inbox.popleft() if self.inbox else None

    def close(self, linger: int = 0) -> None:
        """Hang up."""
        self._wires.close(self)

    def deliver(self, connection: SimulatedChannel, identity: bytes, post: Post) -> None:
        """A message of the process that listens is here."""
        wires = self._wires
        if self.identity != identity or self.process.dead:
            return
        if wires.partitions and wires._is_kept(post, self.deliver, connection, identity):
            return
        if wires.trace is not None:
            wires.note(f"    {post.target} gets #{post.number}")
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

    def connect(self, endpoint: str) -> SimulatedChannel:
        """A connection to the node at an endpoint."""
        return self._wires.connect(self._process, endpoint)

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
