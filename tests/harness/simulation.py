"""Nodes and workers of a group as pure values around the real `GroupClock`: what schedules, exhaustive or random, are run on.

A `Scenario` says how large; a `Server` is a node with its shards, which checks the promises at every step; a `Worker` is one
incarnation of a rank, which says what it sends next. Who delivers what when is up to `tests.harness.search`.

A worker's program, for each clock: pull all shards, push to all shards (twice, the pieces of one push cut differently by each
incarnation), and once all pushes are acknowledged tick, with the next clock's pulls right behind.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparkps.errors import Fenced
from sparkps.specs import UNBOUNDED, GroupSpec
from sparkps.wire.buckets import buckets_in, mask_of
from sparkps.wire.clock import GroupClock
from sparkps.wire.effects import Buffer, Close, DropAbove, Duplicate, Effect, Release, Standing
from sparkps.wire.messages.data import Member

#: Pushes of a rank to each shard in each clock.
PUSHES = 2

#: Id of the simulated table.
TABLE = 5


@dataclass(frozen=True)
class Scenario:
    """A group and the nodes that it runs on."""

    staleness: int
    #: Clocks in which each rank pushes; ranks may have different numbers.
    clocks: tuple[int, ...]
    #: Buckets of each node.
    nodes: tuple[tuple[int, ...], ...]
    #: Per rank: whether it ticks its last clock before it finishes, or finishes with it.
    ticks_last: tuple[bool, ...]

    @property
    def ranks(self) -> int:
        """Members of the group."""
        return len(self.clocks)

    @property
    def buckets(self) -> list[int]:
        """All buckets, ascending."""
        return sorted(bucket for mine in self.nodes for bucket in mine)

    def pushes(self, below: int) -> Iterator[tuple[int, int, int]]:
        """(rank, clock, ordinal) of all pushes with a clock < `below` that a shard must get."""
        for rank, clocks in enumerate(self.clocks):
            for clock in range(min(clocks, max(0, below))):
                for ordinal in range(PUSHES):
                    yield rank, clock, ordinal


def gradient(rank: int, clock: int, ordinal: int, bucket: int, pulled: tuple[float, ...]) -> float:
    """What a rank pushes to one shard: depends on every bit that it has pulled."""
    return math.cos(math.fsum(pulled) * (rank + 1) + clock + 0.5 * ordinal + 0.1 * bucket)


def reference(scenario: Scenario) -> dict[int, float]:
    """The shards' values after a synchronous run without faults, computed the obvious way."""
    values = dict.fromkeys(scenario.buckets, 0.0)
    for clock in range(max(scenario.clocks)):
        pulled = tuple(values[bucket] for bucket in scenario.buckets)
        for bucket in scenario.buckets:
            total = 0.0
            for rank, clocks in enumerate(scenario.clocks):
                for ordinal in range(PUSHES if clock < clocks else 0):
                    total += gradient(rank, clock, ordinal, bucket, pulled)
            values[bucket] -= 0.1 * total
    return values


@dataclass(frozen=True, slots=True)
class Request:
    """What a worker sends to one node."""

    kind: str
    member: Member
    buckets: tuple[int, ...] = ()
    #: Of a push: one number per bucket.
    values: tuple[float, ...] = ()
    state: bytes | None = None
    finish: bool = False


#: Answer to a pull that has to wait.
PARKED = object()

#: The number that stands for each state that a server was seen in.
_KEYS: dict[Any, int] = {}


class Server:
    """A node: the group's clock, and shards that remember every push that was applied to them."""

    def __init__(self, scenario: Scenario, buckets: tuple[int, ...]) -> None:
        self.scenario = scenario
        self.buckets = buckets
        spec = GroupSpec(
            group=1, name="g", num_ranks=scenario.ranks, num_workers=scenario.ranks, staleness=scenario.staleness
        )
        self.clock = GroupClock(spec, buckets)
        self.values = dict.fromkeys(buckets, 0.0)
        #: Pushes applied to each shard.
        self.applied: dict[int, frozenset[tuple[int, int, int]]] = dict.fromkeys(buckets, frozenset())
        #: BSP: (clock, rank, ordinal, bucket, value), not yet closed.
        self.buffered: tuple[tuple[int, int, int, int, float], ...] = ()
        self.last_close = -1
        #: Whether parked pulls are to be looked at again; whoever does so sets it back.
        self.released = False
        self._key: int | None = None

    def clone(self) -> Server:
        """An independent copy."""
        other = copy.copy(self)
        other.clock = _copied(self.clock)
        other.values, other.applied, other._key = dict(self.values), dict(self.applied), None
        return other

    def key(self) -> int:
        """Equal for servers that will behave alike; small, as it is a number for what it stands for."""
        if self._key is None:
            shards = tuple((self.values[b], self.applied[b]) for b in self.buckets)
            whole = (self.scenario, self.buckets, _frozen(self.clock), shards, tuple(sorted(self.buffered)))
            self._key = _KEYS.setdefault(whole, len(_KEYS))
        return self._key

    def handle(self, request: Request) -> Any:
        """Carries out a request; returns the answer, or `PARKED`. Raises what the clock raises."""
        answer = getattr(self, f"_{request.kind}")(request)
        self.clock.validate()
        return answer

    def _takeover(self, request: Request) -> Standing:
        return self.clock.takeover(request.member)

    def _settle(self, request: Request) -> None:
        self._follow(self.clock.settle(request.member, request.state))

    def _tick(self, request: Request) -> None:
        self._follow(self.clock.tick(request.member, request.state, request.finish))

    def _pull(self, request: Request) -> Any:
        waiting = self.clock.ready(request.member, _array(request.buckets))
        if waiting:
            assert self.scenario.staleness != UNBOUNDED
            return PARKED
        self._check_pull(request)
        return tuple(self.values[bucket] for bucket in request.buckets)

    def _check_pull(self, request: Request) -> None:
        """The staleness bound: everything up to clock - s - 1 is in, and in BSP nothing else."""
        if self.scenario.staleness == UNBOUNDED:
            return
        due = set(self.scenario.pushes(request.member.clock - self.scenario.staleness))
        for bucket in request.buckets:
            missing = due - self.applied[bucket]
            assert not missing, f"{request} was answered without {sorted(missing)} on shard {bucket}"
            early = self.applied[bucket] - due
            assert self.scenario.staleness or not early, (
                f"{request} was answered with {sorted(early)} on shard {bucket}"
            )

    def _push(self, request: Request) -> None:
        member = request.member
        verdict = self.clock.write(member, TABLE, mask_of(_array(request.buckets)))
        if isinstance(verdict, Duplicate):
            return
        values = dict(zip(request.buckets, request.values, strict=True))
        parts = [(bucket, values[bucket]) for bucket in buckets_in(verdict.buckets)]
        if isinstance(verdict, Buffer):
            assert verdict.clock == member.clock
            self.buffered += tuple((member.clock, member.rank, member.ordinal, *part) for part in parts)
            return
        for bucket, value in parts:
            self._apply(bucket, member.rank, member.clock, member.ordinal)
            self.values[bucket] += value

    def _apply(self, bucket: int, rank: int, clock: int, ordinal: int) -> None:
        push = (rank, clock, ordinal)
        assert push not in self.applied[bucket], f"push {push} was applied twice to shard {bucket}"
        self.applied[bucket] |= {push}

    def _follow(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, DropAbove):
                self.buffered = tuple(p for p in self.buffered if p[1] != effect.rank or p[0] <= effect.clock)
            elif isinstance(effect, Close):
                assert effect.clock > self.last_close, "clocks close in order"
                assert effect.buckets == mask_of(_array(self.buckets))
                self.last_close = effect.clock
                self._close(effect.clock)
            elif isinstance(effect, Release):
                self.released = True

    def _close(self, clock: int) -> None:
        totals = dict.fromkeys(self.buckets, 0.0)
        for at, rank, ordinal, bucket, value in sorted(self.buffered):
            if at == clock:
                self._apply(bucket, rank, clock, ordinal)
                totals[bucket] += value
        self.buffered = tuple(part for part in self.buffered if part[0] != clock)
        for bucket, total in totals.items():
            self.values[bucket] -= 0.1 * total

    def check_end(self) -> None:
        """Every push of every rank is on every shard (once: `_apply` sees to that), and nothing is left over."""
        wanted = frozenset(self.scenario.pushes(max(self.scenario.clocks)))
        assert all(self.applied[bucket] == wanted for bucket in self.buckets), (self.applied, wanted)
        assert not self.buffered
        assert all(self.clock.finished)


@dataclass(frozen=True)
class Worker:
    """One incarnation of a rank: where its program stands. A value; steps make new ones."""

    scenario: Scenario
    rank: int
    incarnation: int
    phase: str = "takeover"
    clock: int = -1
    #: Answers of this phase still missing.
    missing: int = 0
    #: (node, answer) of this phase.
    answers: tuple[tuple[int, Any], ...] = ()

    @property
    def done(self) -> bool:
        """Whether the rank's function has returned and all nodes know."""
        return self.phase == "done"

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for workers that will behave alike."""
        return self.rank, self.incarnation, self.phase, self.clock, self.missing, self.answers

    def start(self) -> tuple[Worker, list[tuple[int, Request]]]:
        """The first requests, by node."""
        return self._send("takeover", -1, [(node, Request("takeover", self._member(-1))) for node in self._nodes])

    def answered(self, node: int, request: Request, answer: Any) -> tuple[Worker, list[tuple[int, Request]]]:
        """An answer has come: the worker after it, and what it sends now."""
        kept = self.answers
        if request.kind in ("takeover", "pull"):  # the others only say that they are done
            kept = tuple(sorted([*kept, (node, answer)]))
        after = Worker(self.scenario, self.rank, self.incarnation, self.phase, self.clock, self.missing - 1, kept)
        return (after, []) if after.missing else getattr(after, f"_after_{self.phase}")()

    @property
    def _nodes(self) -> range:
        return range(len(self.scenario.nodes))

    def _member(self, clock: int, ordinal: int = 0) -> Member:
        return Member(1, self.rank, self.incarnation, clock, ordinal)

    def _send(
        self, phase: str, clock: int, requests: list[tuple[int, Request]]
    ) -> tuple[Worker, list[tuple[int, Request]]]:
        return Worker(self.scenario, self.rank, self.incarnation, phase, clock, len(requests)), requests

    def _after_takeover(self) -> tuple[Worker, list[tuple[int, Request]]]:
        best = max((answer for _, answer in self.answers), key=lambda answer: answer.clock)
        assert best.state == (None if best.clock < 0 else self._state(best.clock)), best
        phase = "settle_finished" if any(answer.finished for _, answer in self.answers) else "settle"
        requests = [(node, Request("settle", self._member(best.clock), state=best.state)) for node in self._nodes]
        return self._send(phase, best.clock, requests)

    def _after_settle(self) -> tuple[Worker, list[tuple[int, Request]]]:
        return self._next([], self.clock + 1)

    def _after_settle_finished(self) -> tuple[Worker, list[tuple[int, Request]]]:
        return self._finish([], self.clock)

    def _next(self, ticks: list[tuple[int, Request]], clock: int) -> tuple[Worker, list[tuple[int, Request]]]:
        if clock == self.scenario.clocks[self.rank]:
            return self._finish(ticks, clock)
        pulls = [(node, Request("pull", self._member(clock), self.scenario.nodes[node])) for node in self._nodes]
        return self._send("pull", clock, ticks + pulls)

    def _after_pull(self) -> tuple[Worker, list[tuple[int, Request]]]:
        pulled = tuple(value for _, values in self.answers for value in values) if self.scenario.staleness == 0 else ()
        requests = []
        for ordinal in range(PUSHES):
            member = self._member(self.clock, ordinal)
            for node in self._nodes:
                for piece in self._pieces(self.scenario.nodes[node]):
                    values = tuple(
                        gradient(self.rank, self.clock, ordinal, b, pulled) if pulled else 1.0 for b in piece
                    )
                    requests.append((node, Request("push", member, piece, values)))
        return self._send("push", self.clock, requests)

    def _pieces(self, buckets: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Odd incarnations cut a push at every bucket, even ones not at all."""
        return [(bucket,) for bucket in buckets] if self.incarnation % 2 else [buckets]

    def _after_push(self) -> tuple[Worker, list[tuple[int, Request]]]:
        last = self.clock + 1 == self.scenario.clocks[self.rank]
        if last and not self.scenario.ticks_last[self.rank]:
            return self._finish([], self.clock)
        tick = Request("tick", self._member(self.clock), state=self._state(self.clock))
        return self._next([(node, tick) for node in self._nodes], self.clock + 1)

    def _finish(self, ticks: list[tuple[int, Request]], clock: int) -> tuple[Worker, list[tuple[int, Request]]]:
        finish = Request("tick", self._member(clock), state=self._state(clock), finish=True)
        return self._send("finish", clock, ticks + [(node, finish) for node in self._nodes])

    def _after_finish(self) -> tuple[Worker, list[tuple[int, Request]]]:
        return self._send("done", self.clock, [])

    def _state(self, clock: int) -> bytes:
        return b"rank %d clock %d" % (self.rank, clock)


@dataclass
class World:
    """All nodes and workers at one moment, with what they checked in common."""

    scenario: Scenario
    servers: list[Server]
    workers: list[Worker] = field(default_factory=list)

    @classmethod
    def of(cls, scenario: Scenario) -> World:
        """Nodes without any rank yet."""
        return cls(scenario, [Server(scenario, buckets) for buckets in scenario.nodes])

    def check_end(self) -> None:
        """All done: exactly once everywhere, and in BSP the bits of the run without faults."""
        for server in self.servers:
            server.check_end()
        if self.scenario.staleness == 0:
            values = {bucket: value for server in self.servers for bucket, value in server.values.items()}
            assert values == reference(self.scenario)


def expect_fenced(server: Server, request: Request) -> None:
    """A request of a lost incarnation changes nothing and says so."""
    before = server.key()
    try:
        server.handle(request)
    except Fenced:
        server._key = None
        assert server.key() == before
        return
    raise AssertionError(f"{request} of a lost incarnation was carried out")


def _array(buckets: tuple[int, ...]) -> np.ndarray:
    return np.array(buckets, np.int32)


#: Attributes that never change, or that only count.
_CONSTANT = frozenset({"spec", "_spec", "buckets", "_row", "_held", "_histogram", "_max_staleness"})


def _copied(value: Any) -> Any:
    """A copy of a clock, or of a part of one."""
    if isinstance(value, (int, str, bytes, tuple, type(None))):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_copied(part) for part in value]
    if isinstance(value, set):
        return value.copy()
    other = copy.copy(value)
    for name, part in vars(value).items():
        if name not in _CONSTANT:
            setattr(other, name, _copied(part))
    return other


def _frozen(value: Any) -> Any:
    """A hashable form of a clock, or of a part of one."""
    if isinstance(value, (int, str, bytes, type(None))):
        return value
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return tuple((name, _frozen(value[name])) for name in sorted(value))
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(part) for part in value)
    if isinstance(value, set):
        return tuple(sorted(value))
    return tuple(_frozen(part) for name, part in vars(value).items() if name not in _CONSTANT)
