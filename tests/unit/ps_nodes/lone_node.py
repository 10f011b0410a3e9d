"""One node without sockets: its service with a pool and a time that the test moves, and clients that are just numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from sparkps.config import NodeSettings
from sparkps.ps_nodes.handlers import commands
from sparkps.ps_nodes.service import Service
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.harness.requests import Numbered

#: Key sets, tables and groups get their ids from the test.
TABLE, GROUP = 1, 1


class Pool:
    """Threads that run when they are told to. To the service they are others than the test's, its I/O thread."""

    threads = 2

    def __init__(self) -> None:
        self.waiting: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self.service: Service | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        self.waiting.append((function, args))

    def run(self, most: int = 1_000_000) -> None:
        """Run what waits, at most so many pieces of work."""
        while self.waiting and most:
            function, args = self.waiting.popleft()
            most -= 1
            if self.service is None:
                function(*args)
                continue
            self.service.io._ident = -1
            try:
                function(*args)
            finally:
                self.service.io.take_over()
            self.service.io.run_posted()


class LoneNode:
    """A node that holds all buckets."""

    def __init__(self, **settings: Any) -> None:
        self.time = 0.0
        self.pool = Pool()
        #: Answers by connection, in order.
        self.answers: dict[bytes, list[tuple[Any, list[np.ndarray]]]] = {}
        self.service = self.pool.service = Service(self._send, self.pool, lambda: self.time)
        commands.welcome(
            self.service.state, c.Welcome(1, 0, "tier", 1, [[0]] * 256, [], [], [], replace(NodeSettings(), **settings))
        )

    def _send(self, identity: bytes, frames: list[Any]) -> None:
        message, arrays = decode([memoryview(frame).tobytes() for frame in frames])
        self.answers.setdefault(identity, []).append((message, arrays))

    # ---- what the coordinator does -------------------------------------------------------------------------------------

    def command(self, command: Any) -> list[BaseException | None]:
        """Carry out a command; what it was answered with, once it is."""
        told: list[BaseException | None] = []
        commands.command(self.service.state, command, told.append)
        return told

    def table(self, number: int = TABLE, **spec: Any) -> TableSpec:
        """A sparse float64 table."""
        made = TableSpec(f"t{number}", "sparse", 1, "float64", table=number, index=spec.pop("index", number), **spec)
        assert self.command(c.CreateTable(0, made)) == [None]
        return made

    def drop(self, number: int = TABLE) -> None:
        assert self.command(c.DropTable(0, f"t{number}", number)) == [None]

    def group(self, ranks: int, staleness: int, workers: int | None = None) -> None:
        """A group whose ranks have all taken over, each with a session of its own."""
        spec = GroupSpec(GROUP, "g", ranks, ranks if workers is None else workers, staleness)
        assert self.command(c.OpenGroup(0, spec)) == [None]

    def values(self, keys: list[int], number: int = TABLE) -> list[float]:
        """Rows as they are in the table at this moment."""
        with self.service.state.tables.use([number]) as use:
            (table,) = use.tables
            found = {
                int(key): float(row[0])
                for bucket in range(256)
                for key, row in zip(table.keys_of(bucket), table.rows_of(bucket), strict=True)
            }
        return [found.get(key, 0.0) for key in keys]


class Client:
    """A session at a node: it says what it is told to say, in any order and as often as it is told."""

    def __init__(self, node: LoneNode, number: int, member: m.Member | None = None) -> None:
        self.node = node
        self.number = number
        self.identity = b"client %d" % number
        self.member = member
        self.seq = 0
        self.calls = 0
        self.acked = 0
        self.send(m.Hello(number))

    @classmethod
    def of_rank(cls, node: LoneNode, rank: int, incarnation: int = 1, number: int = 0) -> Client:
        """The session of a rank that has taken over and settled where the node says."""
        client = cls(node, number or 100 * incarnation + rank)
        at = m.Member(GROUP, rank, incarnation, -1)
        standing = client.ask(Numbered(client.number, client.next(), client.acked, m.Takeover(at)))
        settled = replace_clock(at, standing.clock)
        assert isinstance(client.ask(Numbered(client.number, client.next(), client.acked, m.Settle(settled))), m.Done)
        client.member = replace_clock(at, standing.clock + 1)
        return client

    def next(self) -> int:
        self.seq += 1
        return self.seq

    def send(self, message: Any, arrays: list[np.ndarray] | None = None) -> None:
        """Deliver a message to the node."""
        sent = message.frames(arrays or []) if isinstance(message, Numbered) else encode(message, arrays or [])
        frames = [memoryview(frame).tobytes() for frame in sent]
        self.node.service.receive(self.identity, frames)

    def answers(self, seq: int) -> list[Any]:
        """All answers to a request so far."""
        return [message for message, _ in self.node.answers.get(self.identity, []) if getattr(message, "seq", 0) == seq]

    def rows(self, seq: int) -> list[float]:
        """What a pull was answered with."""
        (arrays,) = [a for message, a in self.node.answers[self.identity] if message.seq == seq]
        return arrays[0].ravel().tolist()

    def ask(self, message: Any, arrays: list[np.ndarray] | None = None) -> Any:
        """Send a request, let the pool work, and return the answer."""
        self.send(message, arrays)
        self.node.pool.run()
        (answer,) = self.answers(message.seq)
        return answer

    def add(self, keys: list[int], value: float = 1.0, *, table: int = TABLE, ordinal: int = 0) -> tuple[Any, list[np.ndarray]]:
        """A message that adds `value` to each of some keys, not sent yet."""
        self.calls += 1
        member = None if self.member is None else replace_ordinal(self.member, ordinal)
        message = Numbered(self.number, self.next(), self.acked, m.Step(1, [m.Op(m.OpCode.ADD, table)], member, self.calls))
        return message, [in_order(keys), np.full((len(keys), 1), value)]

    def pull(self, keys: list[int], *, table: int = TABLE) -> tuple[Any, list[np.ndarray]]:
        """A message that reads keys, not sent yet."""
        self.calls += 1
        op = m.Op(m.OpCode.PULL, table)
        return Numbered(self.number, self.next(), self.acked, m.Step(1, [op], self.member, self.calls)), [in_order(keys)]

    def call(self, function: str, *, limit: float = 10.0, ordinal: int = 0, **args: Any) -> Any:
        """A message that calls a server function on the table, not sent yet."""
        self.calls += 1
        member = None if self.member is None else replace_ordinal(self.member, ordinal)
        calls = [m.FunctionCall(function, [TABLE], args)]
        return Numbered(self.number, self.next(), self.acked, m.Call(1, calls, member, self.calls, limit))

    def tick(self, finish: bool = False) -> Numbered:
        """A message that ticks the clock, not sent yet."""
        assert self.member is not None
        message = Numbered(self.number, self.next(), self.acked, m.Tick(self.member, None, finish))
        self.member = replace_clock(self.member, self.member.clock + 1)
        return message


def replace_clock(member: m.Member, clock: int) -> m.Member:
    return m.Member(member.group, member.rank, member.incarnation, clock)


def replace_ordinal(member: m.Member, ordinal: int) -> m.Member:
    return m.Member(member.group, member.rank, member.incarnation, member.clock, ordinal)


def in_order(keys: list[int]) -> np.ndarray:
    """Keys as requests carry them: grouped by ascending bucket."""
    from sparkps.wire.hashing import buckets_of

    array = np.array(keys, np.int64)
    return array[np.argsort(buckets_of(array), kind="stable")]
