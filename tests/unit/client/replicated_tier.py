"""Fake nodes that hold copies of each other's buckets: what a shard has is in one place, and its primary alone may change it.

They check what real shards rely on: stamps that rise, ticks without gaps, nothing before its epoch. A node dies, or gives leads away,
just before it takes a message or just after it has carried it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from sparkps.client.session import Session
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.functions import spec_of
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import data as m
from sparkps.wire.placement import dense_range
from tests.harness.requests import is_a
from tests.unit.client.fake_tier import DENSE, SPARSE, Answer, FakeNode, FakeTier

#: Seconds that an answer takes, that it takes until a node's end is known, and that the last node hears of a placement later.
ANSWER, SEEN, LAG = 0.001, 0.02, 0.03

NODES = 3


class Shards:
    """All buckets, whoever is their primary."""

    def __init__(self) -> None:
        self.rows: Counter[int] = Counter()
        self.elements = np.zeros(DENSE.size)
        #: Writes of sessions as they were applied to each shard: (bucket, table) -> calls.
        self.calls: dict[tuple[int, int], list[int]] = {}
        #: Of the one rank: what each bucket has of it, writes as (clock, ordinal).
        self.ticks = [-1] * NUM_BUCKETS
        self.settled = [-2] * NUM_BUCKETS
        self.scaled: Counter[int] = Counter()

    def is_new(self, bucket: int, table: int, stamp: int) -> bool:
        """Whether a write is new to a shard; asserts that no later one is there without it."""
        calls = self.calls.setdefault((bucket, table), [])
        if stamp in calls:
            return False
        assert not calls or calls[-1] < stamp, f"write {stamp} was overtaken by {calls[-1]} in bucket {bucket}"
        calls.append(stamp)
        return True

    def tick(self, bucket: int, clock: int) -> None:
        """The rank's clock is done."""
        assert clock <= self.ticks[bucket] + 1, f"tick {clock} of bucket {bucket} after {self.ticks[bucket]}"
        self.ticks[bucket] = max(clock, self.ticks[bucket])


class ReplicaNode(FakeNode):
    """One of them."""

    def __init__(self, tier: ReplicatedTier, number: int) -> None:
        super().__init__(number, 0)
        self.tier = tier
        self.epoch, self.placement = tier.epoch, tier.placement
        self.dead = False
        #: Seconds that its answers take.
        self.takes = ANSWER
        self.keysets: dict[tuple[int, int], np.ndarray] = {}
        #: Seq of the last refused write, until the session knows of it.
        self.barred = 0
        self.answered: dict[int, list[Answer]] = {}

    def take(self, message: Any, arrays: list[Any]) -> list[Answer]:
        if self.dead or is_a(message, m.Bye):
            return []
        self.got.append(message)
        if is_a(message, m.Hello):
            return [(ANSWER, m.Ready(self.number, self.epoch), [])]
        event = self.tier.next_event()
        if event == "before":
            self.tier.happen()
        if self.dead:
            return []
        if message.seq not in self.answered:
            self.answered[message.seq] = [(self.takes, *self.outcome(message, arrays))]
        answer = self.answered[message.seq]
        if event == "after":
            self.tier.happen()
        return [] if self.dead else answer

    def outcome(self, message: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
        """What becomes of a request."""
        write = is_a(message, m.Step) and message.ops[0].code != m.OpCode.PULL
        write = write or (is_a(message, m.Call) and any(spec_of(call.function).writes for call in message.calls))
        if getattr(message.message, "epoch", self.epoch) != self.epoch or (write and message.acked < self.barred):
            if write:
                self.barred = message.seq
            return m.WrongEpoch(message.seq, self.epoch, self.placement), []
        named = [op for op in getattr(message.message, "ops", ()) if op.keyset != m.NO_KEYSET]
        missing = [op.keyset for op in named if (op.keyset, op.start) not in self.keysets]
        if missing:
            return m.UnknownKeySet(message.seq, missing[0]), []
        handler: Callable[..., Any] = getattr(self, type(message.message).__name__.lower())
        rows = handler(message, arrays)
        if is_a(message, m.Takeover):
            return m.TakenOver(message.seq, rows, b"state" if rows >= 0 else None), []
        if is_a(message, m.Status):
            return m.StatusReport(message.seq, {"node": self.number}), []
        return m.Done(message.seq), rows or []

    @property
    def led(self) -> list[int]:
        """The buckets of which it is the primary, as far as it knows."""
        return [bucket for bucket, row in enumerate(self.placement) if row[0] == self.number]

    def status(self, message: Any, arrays: list[Any]) -> None:
        """Nothing but that it is there."""

    def unregister(self, message: Any, arrays: list[Any]) -> None:
        """Nobody asks again."""

    def register(self, message: Any, arrays: list[Any]) -> None:
        self.keysets[message.keyset, message.start] = arrays[0]

    def step(self, message: Any, arrays: list[Any]) -> list[Any]:
        left, answers, shards = iter(arrays), [], self.tier.shards
        for op in message.ops:
            sparse = op.table == SPARSE.table
            if sparse:
                keys = self.keysets[op.keyset, op.start] if op.keyset != m.NO_KEYSET else next(left)
                buckets = buckets_of(keys).tolist()
            else:
                buckets = range(op.start, op.stop)
            assert {self.placement[bucket][0] for bucket in buckets} <= {self.number}, "it has what it is asked for"
            first, last = dense_range(DENSE.size, op.start)[0], dense_range(DENSE.size, max(op.stop, 1) - 1)[1]
            if op.code == m.OpCode.PULL:
                answers.append(np.array([[shards.rows[k]] for k in keys.tolist()], float) if sparse else shards.elements[first:last].copy())
                continue
            values = next(left)
            stamp = self.stamp(message, buckets)
            fresh = {bucket for bucket in set(buckets) if shards.is_new(bucket, op.table, stamp)}
            if sparse:
                for key, bucket, value in zip(keys.tolist(), buckets, values.ravel().tolist(), strict=True):
                    shards.rows[key] += value if bucket in fresh else 0.0
            else:
                for bucket in fresh:
                    a, b = dense_range(DENSE.size, bucket)
                    shards.elements[a:b] += values.ravel()[a - first : b - first]
        return answers

    def stamp(self, message: Any, buckets: Any) -> int:
        """What a shard knows a write by."""
        member = message.member
        if member is None:
            return int(message.call)
        for bucket in buckets:
            assert member.clock > self.tier.shards.ticks[bucket], "a write is for a clock after the last tick"
        return int(member.clock * 1000 + member.ordinal)

    def call(self, message: Any, arrays: list[Any]) -> list[Any]:
        bits, answers = int.from_bytes(message.buckets, "little"), []
        mine = [bucket for bucket in range(NUM_BUCKETS) if bits >> bucket & 1]
        assert mine, "a call names its buckets"
        assert set(mine) <= set(self.led)
        for call in message.calls:
            if call.function == "scale":
                for bucket in mine:
                    self.tier.shards.scaled[bucket] += self.tier.shards.is_new(bucket, call.tables[0], self.stamp(message, [bucket]))
            answers.append(np.array(mine, np.int32))
            if call.function == "sum":
                answers.append(np.ones(len(mine)))
        return answers

    def tick(self, message: Any, arrays: list[Any]) -> None:
        for bucket in self.led:
            self.tier.shards.tick(bucket, message.member.clock)

    def takeover(self, message: Any, arrays: list[Any]) -> int:
        return max((self.tier.shards.ticks[bucket] for bucket in self.led), default=-1)

    def settle(self, message: Any, arrays: list[Any]) -> None:
        for bucket in self.led:
            assert message.member.clock >= self.tier.shards.ticks[bucket]
            above = (message.member.clock + 1) * 1000
            late = [calls for (where, _), calls in self.tier.shards.calls.items() if where == bucket and calls[-1] >= above]
            assert not late, "to settle would drop what this incarnation has written"
            self.tier.shards.ticks[bucket] = self.tier.shards.settled[bucket] = message.member.clock

    def export(self, message: Any, arrays: list[Any]) -> list[Any]:
        assert self.placement[message.bucket][0] == self.number
        keys = np.array(sorted(self.tier.shards.rows), np.int64)
        keys = keys[buckets_of(keys) == message.bucket] if len(keys) else keys
        keys = keys[message.start : message.start + message.limit]
        return [keys, np.array([[self.tier.shards.rows[key]] for key in keys.tolist()], float).reshape(-1, 1)]


class ReplicatedTier(FakeTier):
    """Three nodes, two copies of each bucket.

    Parameters
    ----------
    at : int
        The number of the message at which something happens, among those that nodes take; -1: never.
    event : str
        "dies" or "moves": node 1 dies; or node 0 gives half of its leads to node 2, which hears of it last.
    after : bool
        After the message was carried out; else before it was taken.
    told : bool
        Whether nodes tell their sessions; else only the coordinator can say.
    """

    def __init__(self, at: int = -1, event: str = "dies", *, after: bool = False, told: bool = True, **settings: Any) -> None:
        self.shards, self.at, self.event, self.after, self.told = Shards(), at, event, after, told
        self.messages = 0
        super().__init__(NODES, **settings)
        halves = [(2 * NODES * bucket // NUM_BUCKETS) for bucket in range(NUM_BUCKETS)]
        self.placement = [[half // 2, (half // 2 + 1 + half % 2) % NODES] for half in halves]
        for node in self.nodes:
            node.placement = self.placement  # type: ignore[attr-defined]

    def add_node(self) -> FakeNode:
        node = ReplicaNode(self, len(self.nodes))
        self.nodes.append(node)
        self.network.nodes[f"fake://{node.number}"] = node
        return node

    def next_event(self) -> str:
        """A node takes the next message: when something happens, if it happens now."""
        self.messages += 1
        return ("after" if self.after else "before") if self.messages - 1 == self.at else ""

    def happen(self) -> None:
        """It happens."""
        if self.event == "dies":
            self.nodes[1].dead = True  # type: ignore[attr-defined]
            self.network.at(SEEN, self.promote)
            return
        self.epoch += 1
        self.placement = [[2, 0] if row == [0, 2] else row for row in self.placement]
        for node, after in ((0, 0.0), (1, LAG / 2), (2, LAG)):
            self.network.at(after, lambda node=node: self.hear(node))

    def promote(self) -> None:
        """The coordinator has seen that node 1 is gone."""
        self.epoch += 1
        self.dead = {1: "killed by signal 9"}
        self.placement = [[node for node in row if node != 1] for row in self.placement]
        self.hear(2)
        self.network.at(LAG, lambda: self.hear(0))

    def hear(self, number: int) -> None:
        """A node hears of the placement."""
        node = self.nodes[number]
        assert isinstance(node, ReplicaNode)
        node.epoch, node.placement = self.epoch, self.placement
        if self.told:
            self.network.tell(number, self.placed())


def play(program: Callable[[ReplicatedTier, Session], None], **how: Any) -> ReplicatedTier:
    """Run a program on a tier of its own."""
    tier = ReplicatedTier(**how)
    session = tier.session()
    program(tier, session)
    return tier
