"""A tier for tests of the client: time, connections, nodes and coordinator are objects, and a test says what they answer."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparkps.client.session import Session
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import ClientSettings
from sparkps.errors import NodeUnreachable, SparkPSError
from sparkps.specs import TableSpec
from sparkps.wire.codec import encode
from sparkps.wire.functions import spec_of
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import Message
from sparkps.wire.placement import dense_range
from tests.harness.placements import initial
from tests.harness.requests import Numbered, arrived, is_a

ADDRESS = c.TierAddress("t1", "fake://coordinator")
SPARSE = TableSpec("w", "sparse", 1, dtype="float64", table=1, index=1)
DENSE = TableSpec("d", "dense", 1, dtype="float64", shape=(512,), table=2)

#: What a node answers: messages with arrays, with the seconds that each takes.
Answer = tuple[float, Message, list[Any]]


class FakeChannel:
    """A connection to one node; what was sent arrives at once, answers when they are due."""

    def __init__(self, network: FakeNetwork, node: FakeNode) -> None:
        self.network, self.node = network, node
        #: When each message arrives, and its frames.
        self.inbox: deque[tuple[float, list[Any]]] = deque()
        self.closed = False

    def send(self, frames: list[Any]) -> None:
        message, arrays = arrived([bytes(f) if not isinstance(f, np.ndarray) else f.tobytes() for f in frames])
        for after, answer, rows in self.node.take(message, arrays):
            self.inbox.append((self.network.time + after, encode(answer, rows)))
        self.inbox = deque(sorted(self.inbox, key=lambda entry: entry[0]))

    def receive(self) -> list[Any] | None:
        if self.inbox and self.inbox[0][0] <= self.network.time:
            return [bytes(frame) for frame in self.inbox.popleft()[1]]
        return None

    def close(self, linger: int) -> None:
        self.closed = True


class FakeNetwork:
    """Time passes while somebody waits, and when a test says so."""

    def __init__(self) -> None:
        self.time = 100.0
        self.nodes: dict[str, FakeNode] = {}
        self.channels: list[FakeChannel] = []
        #: Called when time passes: when, and what.
        self.events: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def connect(self, endpoint: str) -> FakeChannel:
        self.channels.append(FakeChannel(self, self.nodes[endpoint]))
        return self.channels[-1]

    def tell(self, node: int, message: Message) -> None:
        """Let a node say something unasked to everybody."""
        for channel in self.channels:
            if channel.node.number == node and not channel.closed:
                channel.inbox.append((self.time, encode(message)))

    def at(self, after: float, event: Callable[[], None]) -> None:
        """Let something happen later."""
        self.events.append((self.time + after, event))

    def wait(self, channels: Sequence[FakeChannel], seconds: float, patience: float = 0.0) -> None:
        end = self.time + seconds
        while True:
            arrivals = [channel.inbox[0][0] for channel in channels if channel.inbox]
            if any(arrival <= self.time for arrival in arrivals):
                return
            due = sorted(self.events, key=lambda entry: entry[0])
            soonest = min([end, *arrivals, *(when for when, _ in due)])
            self.time = max(self.time, soonest)
            for entry in [entry for entry in due if entry[0] <= self.time]:
                self.events.remove(entry)
                entry[1]()
            if self.time >= end:
                return


class FakeNode:
    """One node. It remembers what it was sent, and answers at once unless `script` says otherwise.

    `script` holds functions (message, arrays) -> list of answers or None, tried in order; the first that gives a list counts.
    """

    def __init__(self, number: int, buckets: int) -> None:
        self.number, self.buckets = number, buckets
        self.got: list[Numbered] = []
        self.arrays: list[list[Any]] = []
        self.script: list[Callable[[Any, list[Any]], list[Answer] | None]] = []

    def take(self, message: Numbered, arrays: list[Any]) -> list[Answer]:
        self.got.append(message)
        self.arrays.append(arrays)
        for line in self.script:
            answers = line(message, arrays)
            if answers is not None:
                return answers
        return self.usual(message, arrays)

    def usual(self, message: Any, arrays: list[Any]) -> list[Answer]:
        """What a node without troubles says."""
        if is_a(message, m.Hello):
            return [(0.0, m.Ready(self.number, 1), [])]
        if is_a(message, m.Bye):
            return []
        if is_a(message, m.Takeover):
            return [(0.0, m.TakenOver(message.seq, -1), [])]
        if is_a(message, m.Status):
            return [(0.0, m.StatusReport(message.seq, {"node": self.number}), [])]
        rows: list[Any] = []
        if is_a(message, m.Step):
            keys = iter([array for array in arrays if array.dtype == np.int64])
            for op in message.ops:
                if op.code == m.OpCode.PULL and op.table == SPARSE.table:
                    rows.append(np.zeros((len(next(keys)) if op.keyset == m.NO_KEYSET else 0, 1)))
                elif op.code == m.OpCode.PULL:
                    size = dense_range(DENSE.size, op.stop - 1)[1] - dense_range(DENSE.size, op.start)[0]
                    rows.append(np.zeros(size))
        if is_a(message, m.Call):
            for call in message.calls:
                rows += [np.zeros(0, np.int32), *[np.zeros(0) for _ in range(spec_of(call.function).arrays)]]
        return [(0.0, m.Done(message.seq), rows)]

    def of(self, kind: type[Any]) -> list[Any]:
        """What it was sent of one kind."""
        return [message for message in self.got if is_a(message, kind)]


class FakeInquiry:
    """A question to the coordinator that nobody waits for."""

    def __init__(self, control: FakeControl, message: Any) -> None:
        self.control, self.message = control, message
        self.closed = False

    def answer(self) -> Any:
        return self.control.answer(self.message) if self.control.answers else None

    def close(self) -> None:
        self.closed = True


class FakeControl:
    """The coordinator, as far as a session uses it."""

    def __init__(self, tier: FakeTier) -> None:
        self.tier = tier
        #: What was asked for, and whether the session waited for the answer.
        self.asked: list[tuple[Any, bool]] = []
        #: A coordinator that does not answer leaves inquiries open and refuses what is waited for.
        self.answers = True
        self.inquiries: list[FakeInquiry] = []
        self.tables = {SPARSE.name: SPARSE, DENSE.name: DENSE}

    def request(self, message: Any, timeout: float | None = None) -> Any:
        self.asked.append((message, True))
        if not self.answers:
            raise NodeUnreachable("The coordinator is gone.")
        return self.answer(message)

    def ask(self, message: Any) -> FakeInquiry:
        self.asked.append((message, False))
        self.inquiries.append(FakeInquiry(self, message))
        return self.inquiries[-1]

    def answer(self, message: Any) -> Any:
        if isinstance(message, c.FindTable):
            if message.name not in self.tables:
                raise SparkPSError(f"no table {message.name}")
            return c.TableCreated(0, self.tables[message.name])
        assert isinstance(message, c.Attach)
        return self.tier.attached()


class FakeTier:
    """Nodes, coordinator and network; `session()` opens real sessions on them."""

    def __init__(self, nodes: int = 1, **settings: Any) -> None:
        self.network = FakeNetwork()
        self.settings = dataclasses.replace(ClientSettings(), **settings)
        self.epoch = 1
        self.placement = initial(range(nodes))
        self.dead: dict[int, str] = {}
        self.nodes: list[FakeNode] = []
        for _ in range(nodes):
            self.add_node()
        self.control = FakeControl(self)

    def add_node(self) -> FakeNode:
        number = len(self.nodes)
        node = FakeNode(number, len([row for row in self.placement if row[0] == number]))
        self.nodes.append(node)
        self.network.nodes[f"fake://{number}"] = node
        return node

    def attached(self) -> c.Attached:
        return c.Attached(0, "t1", self.epoch, self.placement, self.infos(), self.settings)

    def infos(self) -> list[c.NodeInfo]:
        """What the coordinator knows of the nodes."""
        return [
            c.NodeInfo(n, f"fake://{n}", "host", 1, "dead" if n in self.dead else "up", self.dead.get(n, ""))
            for n in range(len(self.nodes))
        ]

    def placed(self) -> m.Placed:
        """What a node tells its sessions that has heard of the placement."""
        return m.Placed(self.epoch, self.placement, self.infos())

    def session(self) -> Session:
        return Session(ADDRESS, self.control, self.network)  # type: ignore[arg-type]

    def sparse(self, session: Session) -> SparseTable:
        bound = SparseTable(ADDRESS, SPARSE).bind(session)
        assert isinstance(bound, SparseTable)
        return bound

    def dense(self, session: Session) -> DenseTable:
        bound = DenseTable(ADDRESS, DENSE).bind(session)
        assert isinstance(bound, DenseTable)
        return bound


def once(*answers: Callable[[Any], list[Answer] | None], kind: type[Any] = m.Step) -> Callable[[Any, Any], Any]:
    """A script line: the first requests of a kind get these answers, one each; later ones the usual."""
    left = iter(answers)

    def line(message: Any, arrays: list[Any]) -> list[Answer] | None:
        if not is_a(message, kind):
            return None
        answer = next(left, None)
        return None if answer is None else answer(message)

    return line


def always(answer: Callable[[Any], list[Answer] | None], kind: type[Any] = m.Step) -> Callable[[Any, Any], Any]:
    """A script line: all requests of a kind get this answer."""
    return lambda message, arrays: answer(message) if is_a(message, kind) else None


def silence(message: Any) -> list[Answer]:
    """No answer."""
    return []


def after(seconds: float) -> Callable[[Any], list[Answer]]:
    """Done, in so many seconds."""
    return lambda message: [(seconds, m.Done(message.seq), [])]


def wrong_epoch(epoch: int, placement: list[list[int]]) -> Callable[[Any], list[Answer]]:
    """Refused for the placement."""
    return lambda message: [(0.0, m.WrongEpoch(message.seq, epoch, placement), [])]


def failed(error: str, text: str) -> Callable[[Any], list[Answer]]:
    """Refused for good."""
    return lambda message: [(0.0, m.Failed(message.seq, error, text), [])]


def forgotten() -> Callable[[Any, Any], Any]:
    """A script line: the node knows no session until it is opened again."""
    state = {"open": False}

    def line(message: Any, arrays: list[Any]) -> list[Answer] | None:
        if is_a(message, m.Hello):
            state["open"] = True
        elif not state["open"]:
            return [(0.0, m.UnknownSession(message.seq), [])]
        return None

    return line


def ranked(tier: FakeTier, staleness: int = 0) -> Session:
    """A session that speaks for rank 1 of group 5."""
    session = tier.session()
    for node in tier.nodes:
        node.script.insert(
            0, always(lambda t: [(0.0, m.TakenOver(t.seq, -1, staleness=staleness), [])], kind=m.Takeover)
        )
    session.takeover(5, 1, 1)
    return session
