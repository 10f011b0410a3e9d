"""Several nodes in one process: what they ship to each other waits in queues that the test delivers, loses, or cuts."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from sparkps.config import NodeSettings
from sparkps.ps_nodes.handlers import commands
from sparkps.ps_nodes.service import Service
from sparkps.specs import GroupSpec, TableSpec
from sparkps.wire.codec import decode
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from sparkps.wire.placement import Placement
from tests.unit.ps_nodes.lone_node import GROUP, TABLE, Pool


class Nodes:
    """Nodes with a placement; node 0 is answered to clients as `lone_node.LoneNode` is.

    Parameters
    ----------
    placement : Placement
    count : int
    """

    def __init__(self, placement: Placement, count: int, **settings: Any) -> None:
        self.time = 0.0
        self.epoch, self.placement = 1, placement
        self.dead: set[int] = set()
        self.pools = [Pool() for _ in range(count)]
        self.answers: list[dict[bytes, list[tuple[Any, list[np.ndarray]]]]] = [{} for _ in range(count)]
        #: What was shipped and not delivered: (from, to, frames); and answers to it.
        self.shipped: deque[tuple[int, int, list[bytes]]] = deque()
        self.heard: deque[tuple[int, int, list[bytes]]] = deque()
        self.services = [self._service(number) for number in range(count)]
        for number, service in enumerate(self.services):
            node = NodeSettings(**settings)
            welcome = c.Welcome(1, number, "tier", 1, placement, [], [], [], node, self.infos())
            commands.welcome(service.state, welcome)

    def _service(self, number: int) -> Service:
        def send(identity: bytes, frames: list[Any]) -> None:
            copied = [memoryview(frame).tobytes() for frame in frames]
            if identity.startswith(b"node "):
                self.heard.append((number, int(identity[5:]), copied))
            else:
                message, arrays = decode(copied)
                if not isinstance(message, m.Placed):
                    self.answers[number].setdefault(identity, []).append((message, arrays))

        def ship(target: int, endpoint: str, frames: list[Any]) -> None:
            self.shipped.append((number, target, [memoryview(frame).tobytes() for frame in frames]))

        service = Service(send, self.pools[number], lambda: self.time, send_to_node=ship)
        self.pools[number].service = service
        return service

    def infos(self) -> list[c.NodeInfo]:
        return [
            c.NodeInfo(number, f"n{number}", "here", 1, "dead" if number in self.dead else "up")
            for number in range(len(self.services))
        ]

    # ---- messages between nodes ----------------------------------------------------------------------------------------

    def deliver(self, most: int = 1 << 30) -> None:
        """Deliver what nodes have sent to each other, at most so many messages; threads run in between."""
        while most > 0 and self._one():
            most -= 1

    def _one(self) -> bool:
        for pool in self.pools:
            pool.run()
        if self.shipped:
            source, target, frames = self.shipped.popleft()
            if not self.dead & {source, target}:
                self.services[target].receive(b"node %d" % source, frames)
        elif self.heard:
            source, target, frames = self.heard.popleft()
            if not self.dead & {source, target}:
                self.services[target].hear_node(source, frames)
        else:
            return False
        return True

    # ---- what the coordinator does -------------------------------------------------------------------------------------

    def command(self, node: int, message: Any) -> list[BaseException | None]:
        """What a node has answered so far to a command."""
        told: list[BaseException | None] = []
        commands.command(self.services[node].state, message, told.append)
        return told

    def everywhere(self, message: Any) -> None:
        for number in range(len(self.services)):
            if number not in self.dead:
                assert self.command(number, message) == [None]

    def place(self, placement: Placement, first: tuple[int, ...] = ()) -> None:
        """A new placement, told to some nodes before the others."""
        self.epoch, self.placement = self.epoch + 1, placement
        message = c.SetPlacement(0, self.epoch, placement, self.infos())
        living = [number for number in range(len(self.services)) if number not in self.dead]
        for number in (*first, *(each for each in living if each not in first)):
            told = self.command(number, message)
            self.deliver()
            assert told == [None], told

    def kill(self, node: int) -> None:
        self.dead.add(node)

    def copy(self, buckets: list[int], source: int, target: int) -> list[BaseException | None]:
        return self.command(source, c.CopyBuckets(0, buckets, target, self.infos()))

    def table(self, number: int = TABLE, **spec: Any) -> TableSpec:
        made = TableSpec(
            f"t{number}", "sparse", 1, "float64", table=number, index=spec.pop("index", number), **spec
        )
        self.everywhere(c.CreateTable(0, made))
        return made

    def group(self, ranks: int, staleness: int) -> None:
        self.everywhere(c.OpenGroup(0, GroupSpec(GROUP, "g", ranks, ranks, staleness)))

    # ---- what nodes hold -----------------------------------------------------------------------------------------------

    def rows(self, node: int, bucket: int, number: int = TABLE) -> dict[int, float]:
        table: Any = self.services[node].state.tables.by_id[number]
        return dict(zip(table.keys_of(bucket).tolist(), table.rows_of(bucket)[:, 0].tolist(), strict=True))


class At:
    """A node among `Nodes`, as `lone_node.Client` wants one."""

    def __init__(self, nodes: Nodes, number: int) -> None:
        self.nodes = nodes
        self.service, self.pool, self.answers = nodes.services[number], nodes.pools[number], nodes.answers[number]
