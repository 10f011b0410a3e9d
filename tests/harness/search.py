"""All schedules of a small scenario: every order of deliveries, with crashes of workers between any two of their messages.

A worker sends what it can at once; a request then waits at the end of its connection until the search delivers it.
Connections are first in, first out; different ones are not ordered. A worker may crash in every state: what it has under
way stays, and may still reach a node until that node has heard of the successor. (A message that is lost is one that is
delivered too late, so that losses need no schedules of their own.) States that were seen are not searched again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tests.harness.simulation import PARKED, Request, Scenario, Server, Worker, World, expect_fenced

#: Name of a connection: node, rank, incarnation.
Connection = tuple[int, int, int]


@dataclass(frozen=True)
class State:
    """A moment of a search; parts are shared between states and never changed."""

    servers: tuple[Server, ...]
    workers: tuple[Worker, ...]
    #: Requests under way.
    connections: dict[Connection, tuple[Request, ...]]
    crashes_left: int

    def key(self) -> Any:
        """Equal for states with the same future."""
        servers = tuple(server.key() for server in self.servers)
        workers = tuple(worker.key for worker in self.workers)
        ways = [(way, tuple((r.kind, r.member.clock) for r in requests)) for way, requests in self.connections.items()]
        return servers, workers, tuple(sorted(ways)), self.crashes_left

    @property
    def done(self) -> bool:
        """Whether all ranks have finished."""
        return all(worker.done for worker in self.workers)


@dataclass
class Tally:
    """What a search has seen."""

    states: int = 0
    #: States in which all ranks had finished.
    ends: int = 0
    #: Requests that nodes carried out, each counted once per state of the node.
    handled: int = 0
    #: Requests of lost incarnations that were refused, counted in the same way.
    fenced: int = 0


class _Nodes:
    """What a request does to a node in a given state: worked out once, for it is the same in every schedule."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._known: dict[tuple[int, Request], tuple[Server, Any]] = {}
        self._fenced: set[tuple[int, Request]] = set()

    def handle(self, server: Server, request: Request) -> tuple[Server, Any]:
        """The node afterwards, and its answer."""
        event = (server.key(), request)
        if event not in self._known:
            after = server.clone()
            answer = after.handle(request)
            self._known[event] = (server if answer is PARKED else after, answer)
            self._tally.handled += 1
        return self._known[event]

    def refuse(self, server: Server, request: Request) -> None:
        """The node refuses a request of a lost incarnation."""
        event = (server.key(), request)
        if event not in self._fenced:
            expect_fenced(server, request)
            self._fenced.add(event)
            self._tally.fenced += 1


def search(scenario: Scenario, crashes: int, mortal: Collection[int] | None = None, started: bool = False) -> Tally:
    """Checks every schedule; an AssertionError names the promise that broke.

    Parameters
    ----------
    scenario : Scenario
    crashes : int
        At most so many crashes, in each schedule, of all workers together.
    mortal : collection of int, optional
        Ranks that may crash; all of them if not given.
    started : bool
        Begin when all ranks have taken over and settled; else those messages are part of the schedules.
    """
    tally = Tally()
    nodes = _Nodes(tally)
    world = World.of(scenario)
    state = State(tuple(world.servers), (), {}, crashes)
    for rank in range(scenario.ranks):
        state = _started(state, Worker(scenario, rank, 1))
    if started:
        state = _all_started(state, nodes)
    seen, stack = {state.key()}, [state]
    while stack:
        state = stack.pop()
        tally.states += 1
        if state.done:
            tally.ends += 1
            World(scenario, list(state.servers)).check_end()
            continue
        delivered = list(_deliveries(state, nodes))
        assert delivered, f"deadlock: {[worker.key for worker in state.workers]}, under way {state.connections}"
        for after in (*delivered, *_crashes(state, range(scenario.ranks) if mortal is None else mortal)):
            key = after.key()
            if key not in seen:
                seen.add(key)
                stack.append(after)
    return tally


def _started(state: State, worker: Worker) -> State:
    """A new incarnation of a rank takes the place of the one before."""
    started, requests = worker.start()
    workers = (*state.workers[: worker.rank], started, *state.workers[worker.rank + 1 :])
    return State(state.servers, workers, _sent(state.connections, started, requests), state.crashes_left)


def _sent(
    connections: dict[Connection, tuple[Request, ...]], worker: Worker, requests: list[tuple[int, Request]]
) -> dict[Connection, tuple[Request, ...]]:
    connections = dict(connections)
    for node, request in requests:
        way = (node, worker.rank, worker.incarnation)
        connections[way] = (*connections.get(way, ()), request)
    return connections


def _crashes(state: State, mortal: Collection[int]) -> Iterator[State]:
    if state.crashes_left:
        for worker in state.workers:
            if worker.rank in mortal and not worker.done:
                fewer = State(state.servers, state.workers, state.connections, state.crashes_left - 1)
                yield _started(fewer, Worker(worker.scenario, worker.rank, worker.incarnation + 1))


def _deliveries(state: State, nodes: _Nodes) -> Iterator[State]:
    """The states after each request that can be carried out now."""
    for way in state.connections:
        after = _delivered(state, way, nodes)
        if after is not None:
            yield after


def _delivered(state: State, way: Connection, nodes: _Nodes) -> State | None:
    """The state after the first request of a connection; None if it has to wait."""
    node, rank, incarnation = way
    request, *rest = state.connections[way]
    server, answer = nodes.handle(state.servers[node], request)
    if answer is PARKED:
        return None
    connections = dict(state.connections)
    connections[way] = tuple(rest)
    if request.kind == "takeover":
        for other in [w for w in connections if w[0] == node and w[1] == rank and w[2] < incarnation]:
            for late in connections.pop(other):
                nodes.refuse(server, late)
    if not rest:
        del connections[way]
    servers = (*state.servers[:node], server, *state.servers[node + 1 :])
    worker = state.workers[rank]
    if worker.incarnation == incarnation:
        worker, requests = worker.answered(node, request, answer)
        connections = _sent(connections, worker, requests)
    workers = (*state.workers[:rank], worker, *state.workers[rank + 1 :])
    return State(servers, workers, connections, state.crashes_left)


def _all_started(state: State, nodes: _Nodes) -> State:
    """The state after every rank's takeover and settle, in some order."""
    while ways := [way for way, (first, *_) in state.connections.items() if first.kind in ("takeover", "settle")]:
        after = _delivered(state, ways[0], nodes)
        assert after is not None
        state = after
    return state
