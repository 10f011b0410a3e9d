"""A tier without its socket among fake nodes and clients, in a time of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from sparkps.config import NodeSettings, Settings, WorkerSettings
from sparkps.driver_bridge.coordinator.clock import LONGEST_STEP
from sparkps.driver_bridge.coordinator.tier import Tier
from sparkps.errors import from_wire
from sparkps.specs import TableSpec
from sparkps.wire.messages import control as c

W = TableSpec("w", "sparse", 2)
DRIVER, WORKER = b"driver", b"worker"

COMMANDS = (
    c.CreateTable, c.DropTable, c.RegisterFunction, c.OpenGroup, c.FailGroup, c.CloseGroup, c.SetPlacement, c.ReportNow, c.StopNode,
    c.TakeTokens,
)  # fmt: skip


class World:
    """A tier, fake nodes that obey at once unless told otherwise, and clients; time moves when `now` does."""

    def __init__(self, num_nodes: int = 2, **workers: float) -> None:
        node = NodeSettings(heartbeat_interval=1.0, heartbeat_deadline=5.0)
        self.tier = Tier("t1", Settings(num_nodes=num_nodes, node=node, workers=WorkerSettings(**workers)))
        self.now = 0.0
        #: Replies by (connection, seq), commands that each node got.
        self.replies: dict[tuple[bytes, int], Any] = {}
        self.commands: dict[bytes, list[Any]] = {}
        #: Node connections that answer no command now.
        self.deaf: set[bytes] = set()
        #: What nodes refuse, by class of the command.
        self.refuse: dict[type, c.Cause] = {}
        self._seq: dict[bytes, int] = {}

    def deliver(self, sender: bytes, message: Any) -> None:
        self.route(self.tier.receive(sender, message, self.now))

    def route(self, outgoing: list[tuple[bytes, Any]]) -> None:
        for receiver, message in outgoing:
            if isinstance(message, COMMANDS):
                self.commands.setdefault(receiver, []).append(message)
                if receiver not in self.deaf:
                    self.obey(receiver, message)
            else:
                self.replies[receiver, message.seq] = message
        self.tier.validate()

    def obey(self, receiver: bytes, message: Any) -> None:
        number = next(node for node, at in self.tier.node_at.items() if at == receiver)
        report = (
            {"rows": 5, "bytes": 50, "tables": {"1": {"rows": 5, "bytes": 50}}}
            if isinstance(message, c.ReportNow)
            else {}
        )
        self.deliver(receiver, c.CommandDone(message.seq, number, self.refuse.get(type(message)), report))

    def ask(self, sender: bytes, message: Any) -> Any:
        """The reply, an error raised, or None while there is none."""
        seq = self._seq[sender] = self._seq.get(sender, 0) + 1
        self.deliver(sender, msgspec.structs.replace(message, seq=seq))
        return self.reply(sender)

    def reply(self, sender: bytes) -> Any:
        reply = self.replies.get((sender, self._seq[sender]))
        if isinstance(reply, c.Refused):
            raise from_wire(reply.error, reply.message, reply.attributes)
        return reply

    def join(self, number: int) -> Any:
        return self.ask(b"n%d" % number, c.NodeHello(0, f"ipc://n{number}", "host", 100 + number))

    def later(self, seconds: float) -> None:
        """Time passes, in steps of a coordinator that runs; nodes that are not deaf send heartbeats."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + LONGEST_STEP)
            for number in range(self.tier.settings.num_nodes):
                if b"n%d" % number not in self.deaf:
                    self.deliver(b"n%d" % number, c.Heartbeat(10_000, number))
            self.route(self.tier.tick(self.now))


def ready() -> World:
    """A tier of two nodes that is ready."""
    made = World()
    made.join(0)
    made.join(1)
    return made


def kinds(commands: list[Any]) -> list[type]:
    """What commands are."""
    return [type(command) for command in commands]


def admit(world: World, tag: str, workers: int = 1) -> Any:
    """A driver asks for a group, or asks again by the same tag."""
    return world.ask(b"d" + tag.encode(), c.AdmitGroup(0, f"run-{tag}", workers, workers, 0, 1, tag))
