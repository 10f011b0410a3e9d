"""Random schedules of a scenario, by seed: a network that delays, repeats and loses messages, workers that die or linger.

Nodes keep the de-duplication rule of `sparkps.wire.messages`: the requests of one session run in the order of their
numbers, each once, and a request that comes again gets the same answer. Clients send again until they are answered. A lost
worker is killed or becomes a *zombie*, which goes on for as long as the nodes let it, side by side with its successor.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sparkps.errors import Fenced
from tests.harness.simulation import PARKED, Request, Scenario, Server, Worker, World

#: Answer of a node to a request of a lost incarnation.
FENCED = object()


@dataclass(frozen=True)
class Faults:
    """How bad it gets."""

    #: Probability that a message is lost, and that it comes twice.
    loss: float = 0.1
    repeat: float = 0.1
    #: Mean delay of a message, and the time after which a client sends again (simulated seconds).
    delay: float = 1.0
    patience: float = 6.0
    #: Workers lost, each at a random time in [0, crash_until).
    crashes: int = 2
    crash_until: float = 60.0
    #: Probability that a lost worker lingers.
    zombie: float = 0.5


@dataclass
class _Session:
    """What a node keeps about one client."""

    expected: int = 1
    #: Requests that came ahead of their turn.
    early: dict[int, Request] = field(default_factory=dict)
    answers: dict[int, Any] = field(default_factory=dict)
    parked: dict[int, Request] = field(default_factory=dict)


@dataclass(eq=False)
class _Client:
    """One incarnation at work."""

    worker: Worker
    alive: bool = True
    #: Number of the last request to each node.
    sent: dict[int, int] = field(default_factory=dict)
    #: Requests without an answer, by node and number.
    open: dict[tuple[int, int], Request] = field(default_factory=dict)


class Simulation:
    """One random schedule.

    Parameters
    ----------
    scenario : Scenario
    faults : Faults
    seed : int
        Chooses everything that is random.
    """

    def __init__(self, scenario: Scenario, faults: Faults, seed: int) -> None:
        self.world = World.of(scenario)
        self.faults = faults
        self.random = random.Random(seed)
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        #: By node, then (rank, incarnation).
        self._sessions: list[dict[tuple[int, int], _Session]] = [{} for _ in scenario.nodes]
        #: Current incarnation of each rank.
        self.clients = [self._start(Worker(scenario, rank, 1)) for rank in range(scenario.ranks)]
        for _ in range(faults.crashes):
            self._at(self.random.uniform(0, faults.crash_until), self._crash)

    def run(self, most_events: int = 20_000) -> None:
        """Runs until every message is in; checks the promises on the way and at the end."""
        for _ in range(most_events):
            if not self._events:
                break
            self.now, _, event = heapq.heappop(self._events)
            event()
        stuck = [client.worker.key for client in self.clients if not client.worker.done]
        assert not stuck, f"never finished: {stuck}"
        self.world.check_end()

    def _at(self, time: float, event: Callable[[], None]) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (time, self._numbers, event))

    def _transmit(self, event: Callable[[], None]) -> None:
        """A message: delivered later, perhaps twice, perhaps never."""
        copies = 0 if self.random.random() < self.faults.loss else 1 + (self.random.random() < self.faults.repeat)
        for _ in range(copies):
            self._at(self.now + self.random.expovariate(1 / self.faults.delay), event)

    # ---- workers -------------------------------------------------------------------------------------------------------

    def _start(self, worker: Worker) -> _Client:
        worker, requests = worker.start()
        client = _Client(worker)
        self._send(client, requests)
        return client

    def _send(self, client: _Client, requests: list[tuple[int, Request]]) -> None:
        for node, request in requests:
            seq = client.sent[node] = client.sent.get(node, 0) + 1
            client.open[node, seq] = request
            self._try(client, node, seq)

    def _try(self, client: _Client, node: int, seq: int) -> None:
        """Sends a request, now and again until it is answered."""
        request = client.open.get((node, seq))
        if request is not None and client.alive:
            self._transmit(lambda: self._arrive(client, node, seq, request))
            self._at(
                self.now + self.faults.patience * self.random.uniform(0.5, 1.5), lambda: self._try(client, node, seq)
            )

    def _answered(self, client: _Client, node: int, seq: int, answer: Any) -> None:
        request = client.open.pop((node, seq), None)
        if request is None or not client.alive:
            return
        if answer is FENCED:
            assert client not in self.clients, f"{request} of the current incarnation was fenced"
            client.alive = False
            return
        client.worker, requests = client.worker.answered(node, request, answer)
        self._send(client, requests)

    def _crash(self) -> None:
        running = [rank for rank, client in enumerate(self.clients) if not client.worker.done]
        if running:
            rank = self.random.choice(running)
            lost = self.clients[rank]
            lost.alive = self.random.random() < self.faults.zombie
            successor = Worker(lost.worker.scenario, rank, lost.worker.incarnation + 1)
            self.clients[rank] = self._start(successor)

    # ---- nodes ---------------------------------------------------------------------------------------------------------

    def _arrive(self, client: _Client, node: int, seq: int, request: Request) -> None:
        sessions = self._sessions[node]
        session = sessions.setdefault((request.member.rank, request.member.incarnation), _Session())
        if seq < session.expected:
            if seq in session.answers:
                self._transmit(lambda: self._answered(client, node, seq, session.answers[seq]))
            return
        session.early[seq] = request
        while session.expected in session.early:
            number = session.expected
            session.expected += 1
            self._carry_out(client, node, session, number, session.early.pop(number))

    def _carry_out(self, client: _Client, node: int, session: _Session, seq: int, request: Request) -> None:
        server = self.world.servers[node]
        answer = _handled(server, request)
        if answer is PARKED:
            session.parked[seq] = request
            return
        session.answers[seq] = answer
        self._transmit(lambda: self._answered(client, node, seq, answer))
        if server.released:
            server.released = False
            self._resume(node)

    def _resume(self, node: int) -> None:
        """Parked pulls are looked at again; their answers go out when the client asks again."""
        for session in self._sessions[node].values():
            for seq, request in list(session.parked.items()):
                answer = _handled(self.world.servers[node], request)
                if answer is not PARKED:
                    del session.parked[seq]
                    session.answers[seq] = answer


def _handled(server: Server, request: Request) -> Any:
    try:
        return server.handle(request)
    except Fenced:
        return FENCED
