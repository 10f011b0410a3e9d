"""Clients of `nodes.Nodes`: who writes what, and how it is sent again to whoever leads by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np

from sparkps.ps_nodes import functions
from sparkps.wire.buckets import packed
from sparkps.wire.codec import decode
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages import data as m
from sparkps.wire.messages import log
from sparkps.wire.placement import Placement
from tests.harness.requests import Numbered
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Client
from tests.unit.ps_nodes.replication.nodes import At, Nodes

#: Node 0 leads everything, node 1 has copies; the other way round; nobody has copies; only node 1 is left.
PAIR: Placement = [[0, 1]] * 256
SWAPPED: Placement = [[1, 0]] * 256
ALONE: Placement = [[0]] * 256
SURVIVOR: Placement = [[1]] * 256

#: All buckets, as messages carry them.
ALL = packed((1 << 256) - 1)


def keys_in(bucket: int, count: int) -> list[int]:
    """The first keys of a bucket."""
    keys = np.arange(100_000)
    return keys[buckets_of(keys) == bucket][:count].tolist()


#: Keys of bucket 3.
SOME = keys_in(3, 4)


def client_of(nodes: Nodes, number: int, node: int = 0) -> Client:
    """A session with one of the nodes."""
    return Client(At(nodes, node), number)  # type: ignore[arg-type]


def two_nodes(placement: Placement = PAIR, **settings: Any) -> tuple[Nodes, Client]:
    """Two nodes with a table, and a client of node 0."""
    nodes = Nodes(placement, 2, **settings)
    nodes.table()
    return nodes, client_of(nodes, 5)


def rank_of(nodes: Nodes, rank: int) -> Client:
    """A rank at clock 0 that has settled."""
    client = client_of(nodes, 100 + rank)
    at = m.Member(GROUP, rank, 1, -1)
    for message in (m.Takeover(at), m.Settle(at)):
        client.send(Numbered(client.number, client.next(), client.acked, message))
        nodes.deliver()
    client.member = m.Member(GROUP, rank, 1, 0)
    return client


def add(client: Client, keys: list[int] = SOME) -> tuple[Numbered, list[Any]]:
    """Send an add of ones; what was sent."""
    message, arrays = client.add(keys)
    client.send(message, arrays)
    return message, arrays


def scale_and_sum(client: Client) -> Numbered:
    """A call that doubles the table, and reads the sum."""
    calls = [m.FunctionCall("scale", [TABLE], {"alpha": 2.0}), m.FunctionCall("sum", [TABLE], {})]
    return Numbered(client.number, client.next(), 0, m.Call(1, calls, None, 9, buckets=ALL))


def done(client: Client, message: Any) -> bool:
    """Whether a message was acknowledged."""
    return any(isinstance(answer, m.Done) for answer in client.answers(message.seq))


def at_epoch(message: Numbered, epoch: int) -> Numbered:
    """The same by a newer placement."""
    fields = {name: getattr(message.message, name) for name in message.message.__struct_fields__}
    return Numbered(message.session, message.seq, message.acked, type(message.message)(**{**fields, "epoch": epoch}))


def lose_the_close(nodes: Nodes) -> None:
    """Node 0 closes a clock, and node 1 gets all that is shipped but for that."""
    for pool in nodes.pools:
        pool.run()
    kept = [each for each in nodes.shipped if not isinstance(decode(each[2])[0], log.ShipClose)]
    assert len(kept) == len(nodes.shipped) - 1
    nodes.shipped.clear()
    nodes.shipped.extend(kept)
    nodes.deliver()


def fail_over(nodes: Nodes) -> None:
    """Node 0 dies, and node 1 leads."""
    nodes.kill(0)
    nodes.place(SURVIVOR)


def done_after_failover(nodes: Nodes, message: Numbered, arrays: list[Any]) -> bool:
    """Node 0 dies before it has answered; whether node 1, which leads then, acknowledges the same."""
    fail_over(nodes)
    again, same = client_of(nodes, 5, 1), at_epoch(message, 2)
    again.send(same, arrays)
    return done(again, same)


# ---- users' functions --------------------------------------------------------------------------------------------------


def double(shard: Any) -> float:
    """Doubles the rows of a bucket, and gives their sum."""
    rows = shard.rows()
    rows *= 2.0
    return float(rows.sum())


def with_double(nodes: Nodes, start: Callable[..., None]) -> None:
    """All nodes know the function `double`, and begin users' functions by `start`."""
    functions.register("double", cloudpickle.dumps(double))
    for service in nodes.services:
        service.state.users.start = start  # type: ignore[method-assign]


def at_once(job: Any, seconds: float, then: Any, ended: Any, *, name: str = "") -> None:
    """A way to begin users' functions."""
    then(job(), None)
    ended()


class Held:
    """The other way: those that nodes begin wait until a test says so."""

    def __init__(self) -> None:
        self._begun: list[tuple[Any, Any, Any]] = []

    def start(self, job: Any, seconds: float, then: Any, ended: Any, *, name: str = "") -> None:
        """A node begins one."""
        self._begun.append((job, then, ended))

    def run(self) -> None:
        """Run those that were begun."""
        for job, then, ended in self._begun:
            at_once(job, 0.0, then, ended)
