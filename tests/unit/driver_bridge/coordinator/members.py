"""A tier among nodes that hold copies: who leads and who ships to whom is simulated, and checked after every step.

Of the rows there is only a version a bucket: a write adds one at the primary, which ships it to its replicas; it is *acknowledged* when
all of them have it. Every message is delivered on its own, in the order that the test chooses; each connection keeps its order.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from msgspec.structs import replace

from sparkps.config import NodeSettings, Settings
from sparkps.driver_bridge.coordinator.states import TierState
from sparkps.driver_bridge.coordinator.tier import Tier
from sparkps.wire.messages import control as c

#: Seconds between two steps of a schedule; far below the deadlines of commands.
STEP = 0.01


class Member:
    """A node: copies and leads."""

    def __init__(self, tier: Members, number: int) -> None:
        self.tier = tier
        self.connection = b"m%d" % number
        self.endpoint = f"ipc://m{number}"
        self.node = -1
        self.hello: Any = None
        self.is_alive = True
        self.epoch = 0
        #: Version of every bucket of which there is a copy here.
        self.versions: dict[int, int] = {}
        #: Buckets led here, with the nodes that they are shipped to.
        self.leads: dict[int, set[int]] = {}
        #: Nodes whose entries are refused.
        self.not_up: set[int] = set()
        #: Messages of the coordinator that were not taken yet, and answers that it has not got yet.
        self.inbox: deque[Any] = deque()
        self.outbox: deque[Any] = deque()
        #: Copies that its primaries have given up when the next placement comes.
        self.loses_copies: set[int] = set()
        #: Buckets of which it has no copy since, though it is told to lead them.
        self.lacks: set[int] = set()
        #: Nodes that it cannot reach.
        self.cut: set[int] = set()
        #: All messages that it has taken.
        self.heard: list[Any] = []
        #: Why it can neither write nor verify; why it cannot load; why it cannot make tables; None: it can.
        self.refuses: c.Cause | None = None
        #: Its file system is slow: what it writes or reads is done, and told, when a test says so.
        self.is_slow = False
        #: Its part of a checkpoint; empty: its number.
        self.part = b""
        self.files: deque[Any] = deque()
        self.refuses_to_load: c.Cause | None = None
        self.refuses_tables: c.Cause | None = None
        #: Whether it carries requests out, and why it never will by this placement.
        self.is_open, self.torn = True, ""
        #: Buckets that have begun empty, and were not loaded.
        self.hollow: set[int] = set()

    def take(self) -> None:
        """Carry out the next message."""
        message = self.inbox.popleft()
        self.heard.append(message)
        report: dict[str, Any] = {}
        match message:
            case c.Welcome():
                self.node, self.epoch = message.node, message.epoch
                self.not_up = {info.node for info in message.nodes if info.state != "up"}
                return
            case c.Alive():
                self.is_alive &= message.known
                return
            case c.SetPlacement():
                cause = self.place(message)
            case c.CopyBuckets():
                cause = self.copy(message)
            case c.StopNode():
                assert not self.leads, "a node is told to stop when it leads nothing"
                self.is_alive, cause = False, None
            case c.HoldClocks():
                cause, report = None, {"clocks": {"1": self.node}}
            case c.WriteCheckpoint():
                cause, report = self.refuses, {"part": self.part or b"%d" % self.node}
                assert cause is not None or message.epoch == self.epoch, "all nodes write under one placement"
            case c.CreateTable():
                cause = self.refuses_tables
            case c.VerifyCheckpoint():
                cause = self.refuses
            case c.LoadCheckpoint():
                cause = self.load(message)
            case _:
                cause = None
        done = c.CommandDone(message.seq, self.node, cause, report)
        is_late = self.is_slow and isinstance(message, c.WriteCheckpoint | c.VerifyCheckpoint)
        (self.files if is_late else self.outbox).append(done)

    def load(self, message: c.LoadCheckpoint) -> c.Cause | None:
        if message.epoch != self.epoch:
            return c.Cause("CheckpointError", "another placement", {"again": True})
        assert not self.is_open, "nobody reads while it is loaded"
        if self.refuses_to_load is None:
            self.hollow.clear()
        return self.refuses_to_load

    def place(self, message: c.SetPlacement) -> c.Cause | None:
        assert message.epoch >= self.epoch
        if message.epoch == self.epoch:  # once more: a copy that was made meanwhile must stay
            return None
        if not self.epoch:  # the first placement of an empty tier
            self.versions = {bucket: 0 for bucket, row in enumerate(message.placement) if self.node in row}
        begun = {bucket for bucket in message.anew if message.placement[bucket][0] == self.node and bucket not in self.leads}
        self.versions.update(dict.fromkeys(begun, 0))
        self.is_open, self.torn = not (message.is_restoring or message.torn), message.torn
        # Under a placement that is open they begin because there is no table any more: nothing is missing in them.
        awaited = set() if self.is_open else begun
        self.hollow = {bucket for bucket in self.hollow | awaited if message.placement[bucket][0] == self.node}
        assert not (self.is_open and self.hollow), "what was lost is not served"
        given = {b: to for b, to in self.leads.items() if message.placement[b][0] != self.node}
        lost, self.loses_copies = self.loses_copies - self.leads.keys(), set()
        self.versions = {bucket: version for bucket, version in self.versions.items() if bucket not in lost}
        self.lacks = {bucket for bucket in self.lacks | lost if self.node in message.placement[bucket]} - self.versions.keys()
        missing = sorted(bucket for bucket in self.lacks if message.placement[bucket][0] == self.node)
        if missing:
            where = {"node": self.node, "bucket": missing[0], "buckets": missing}
            return c.Cause("TierError", "A node must hold a copy of a bucket that it is to lead.", where)
        for bucket in given:
            new = self.tier.by_id(message.placement[bucket][0])
            if new is None or new.node in self.cut:
                return c.Cause("TierError", f"bucket {bucket} cannot be handed over")
        self.epoch = message.epoch
        self.not_up = {info.node for info in message.nodes if info.state != "up"}
        self.leads = {b: to for b, to in self.leads.items() if b not in given}
        for bucket, row in enumerate(message.placement):
            if row[0] == self.node:
                if bucket not in self.leads:
                    self.tier.promoted(self, bucket)
                for node in self.leads.get(bucket, set()) - set(row):  # a copy that was made, and no placement names
                    self.tier.forget(node, bucket)
                self.leads[bucket] = set(row[1:])
            elif self.node not in row:
                self.versions.pop(bucket, None)
        return None

    def copy(self, message: c.CopyBuckets) -> c.Cause | None:
        target = self.tier.by_id(message.target)
        if target is None or not target.is_alive or message.target in self.cut or self.tier.failing(message):
            return c.Cause("TierError", f"node {message.target} cannot be reached")
        for bucket in message.buckets:
            assert bucket in self.leads, "who copies leads"
            target.versions[bucket] = self.versions[bucket]
            self.leads[bucket].add(message.target)
        return None

    def write(self, bucket: int) -> bool:
        """One more write; whether it is acknowledged."""
        version = self.versions[bucket] = self.versions[bucket] + 1
        has_all = True
        for node in self.leads[bucket]:
            replica = self.tier.by_id(node)
            if replica is None or not replica.is_alive or node in self.cut or bucket not in replica.versions or self.node in replica.not_up:
                has_all = False
            else:
                replica.versions[bucket] = version
        if has_all:
            self.tier.acknowledged[bucket] = version
        return has_all


class Members:
    """A tier and its nodes."""

    def __init__(self, num_nodes: int, replication: int, seed: int = 0, **settings: Any) -> None:
        node = NodeSettings(heartbeat_interval=1.0, heartbeat_deadline=5.0)
        self.tier = Tier("t1", Settings(num_nodes=num_nodes, replication=replication, node=node, **settings))
        self.rng = random.Random(seed)
        self.now = 0.0
        self.members: list[Member] = []
        #: Of each bucket, the version that was acknowledged last.
        self.acknowledged: dict[int, int] = {}
        #: How many of the copies that are asked for fail, of 1.
        self.failures = 0.0
        #: What the coordinator has journaled.
        self.journal: list[bytes] = []
        #: Whether the journal is made shorter whenever it can be.
        self.compacts = False
        self.replies: dict[tuple[bytes, int], Any] = {}
        #: Of each bucket, the bytes of its rows; nodes report those that they lead.
        self.bytes: dict[int, int] = {}
        self._seq = self._turn = 0
        #: Nodes are started for those that are missing, as a launcher does.
        self.restarts = False
        for _ in range(num_nodes):
            self.deliver((self.join(), False))
        self.settle()
        assert self.tier.state is TierState.READY

    # ---- what a test does ----------------------------------------------------------------------------------------------

    def join(self) -> Member:
        member = Member(self, len(self.members))
        self.members.append(member)
        member.hello = c.NodeHello(1, member.endpoint, f"host{len(self.members) % 3}", 100 + len(self.members))
        member.outbox.append(member.hello)
        return member

    def grow(self) -> Member:
        """There shall be one node more, and it joins."""
        self.ask(b"driver", c.ScaleTier(0, self.tier.wanted_nodes + 1, 600.0))
        return self.join()

    def kill(self, member: Member, seen: bool = True) -> None:
        """A node dies; seen: by the launcher."""
        member.is_alive = False
        member.inbox.clear()
        member.outbox.clear()
        if seen:
            self.ask(b"launcher", c.NodeGone(0, member.endpoint, "killed"))

    def declare_dead(self, member: Member) -> None:
        """The coordinator believes that a node is dead, which goes on."""
        self.ask(b"launcher", c.NodeGone(0, member.endpoint, "not heard"))

    def restart(self) -> None:
        """The coordinator is killed, and started again: what it has sent may be lost, what it has journaled is not."""
        old, journal = self.tier, self.journal
        self.tier = Tier("t1", old.settings)
        self.tier.replay(journal)
        self.tier.validate()
        assert durable(self.tier) == durable(old)
        for member in self.members:
            for box in (member.inbox, member.outbox):
                for _ in range(self.rng.randrange(len(box) + 1)):
                    lost = box.pop()
                    if isinstance(lost, (c.NodeHello, c.Welcome)):  # a node says hello until it is welcomed
                        box.append(lost)
                        break
        self.route(self.tier.recover(self.now))

    def ask(self, sender: bytes, message: Any) -> Any:
        self._seq += 1
        self.route(self.tier.receive(sender, replace(message, seq=self._seq), self.now))
        return self.replies.get((sender, self._seq))

    # ---- steps ---------------------------------------------------------------------------------------------------------

    def choices(self) -> list[tuple[Member, bool]]:
        """Deliveries that can happen now: (node, whether it takes a message; else the coordinator takes one of it)."""
        found = []
        for member in self.members:
            found += [(member, True)] * bool(member.inbox and member.is_alive) + [(member, False)] * bool(member.outbox)
        return found

    def deliver(self, choice: tuple[Member, bool]) -> None:
        member, takes = choice
        if takes:
            member.take()
        else:
            self.route(self.tier.receive(member.connection, member.outbox.popleft(), self.now))
        self.check()

    def step(self, anyhow: bool = False) -> bool:
        """One delivery, by turns or any; whether there was one to make."""
        found = self.choices()
        if found:
            self._turn += 1
            self.deliver(self.rng.choice(found) if anyhow else found[self._turn % len(found)])
        return bool(found)

    def tick(self, seconds: float = 0.25) -> None:
        """Time passes; nodes that live are heard."""
        self.now += seconds
        for member in self.members:
            if member.is_alive and member.node >= 0:
                silent = sorted(member.cut.intersection(*[set().union(*member.leads.values())] if member.leads else [set()]))
                report: dict[str, Any] = {"silent_replicas": silent} if silent else {}
                if self.bytes:
                    led = sorted(member.leads)
                    report["load"] = {"buckets": led, "bytes": [self.bytes.get(b, 0) for b in led], "requests": [0] * len(led)}
                self.route(self.tier.receive(member.connection, c.Heartbeat(1, member.node, report), self.now))
        self.route(self.tier.tick(self.now))
        self.check()
        for member in self.members:
            if member.is_alive and member.node < 0 and not member.outbox and not member.inbox:
                member.outbox.append(member.hello)
        members = set(self.tier.nodes.up()).difference(self.tier.going())
        joining = [member for member in self.members if member.is_alive and member.node < 0]
        if self.restarts and not joining and len(members) < self.tier.wanted_nodes:
            self.join()

    def settle(self, seconds: float = 60.0) -> None:
        """Until nothing is under way any more."""
        until = self.now + seconds
        while self.now < until:
            while self.step():
                pass
            tier, up = self.tier, self.tier.nodes.up()
            is_known = all(member.is_alive for member in self.members if member.node in up)
            if is_known and tier.moves.is_done and tier.placing.is_settled(up) and not tier.scaling and not self.choices():
                return
            self.tick()
        raise AssertionError(
            f"it does not come to an end: {vars(self.tier.moves)}, {self.tier.scaling}, {self.choices()}, {self.tier.nodes.infos()}"
        )

    def write(self) -> None:
        """One write, at whoever leads the bucket."""
        bucket = self.rng.randrange(len(self.tier.nodes.placement))
        leaders = [member for member in self.members if member.is_alive and bucket in member.leads]
        if leaders:
            self.rng.choice(leaders).write(bucket)

    # ---- inside --------------------------------------------------------------------------------------------------------

    def route(self, outgoing: list[tuple[bytes, Any]]) -> None:
        self.journal += self.tier.take_events()
        if self.compacts and (snapshot := self.tier.snapshot()) is not None:
            self.journal = [snapshot]
        for receiver, message in outgoing:
            member = next((each for each in self.members if each.connection == receiver), None)
            if member is None:
                self.replies[receiver, message.seq] = message
            elif member.is_alive:
                member.inbox.append(message)
        self.tier.validate()

    def by_id(self, node: int) -> Member | None:
        return next((member for member in self.members if member.node == node), None)

    def forget(self, node: int, bucket: int) -> None:
        """A primary lets go of a copy."""
        member = self.by_id(node)
        if member is not None:
            member.versions.pop(bucket, None)

    def failing(self, message: c.CopyBuckets) -> bool:
        return self.rng.random() < self.failures

    def promoted(self, member: Member, bucket: int) -> None:
        """A node takes a lead: it must have all that was acknowledged."""
        assert bucket in member.versions, f"node {member.node} has no copy of bucket {bucket}"
        assert member.versions[bucket] >= self.acknowledged.get(bucket, 0), f"node {member.node} is behind in bucket {bucket}"

    def check(self) -> None:
        """No bucket has two leaders whose writes could be acknowledged."""
        up = set(self.tier.nodes.up())
        for bucket in range(len(self.tier.nodes.placement)):
            leaders = [m.node for m in self.members if m.is_alive and m.node in up and bucket in m.leads]
            assert len(leaders) <= 1, f"bucket {bucket} is led by nodes {leaders}"

    def check_end(self) -> None:
        """Replication and balance are restored; every copy is caught up, and every bucket can be written."""
        nodes, draining = self.tier.nodes, self.tier.draining
        members = [node for node in nodes.up() if node not in draining]
        lost = set(nodes.lost_buckets())
        copies = min(nodes.replication, len(members))
        for bucket, row in enumerate(nodes.placement):
            if bucket in lost:
                continue
            assert len(row) == copies, f"bucket {bucket} is on {row}"
            leader = self.by_id(row[0])
            assert leader is not None
            assert leader.leads[bucket] == set(row[1:])
            assert leader.write(bucket), f"a write to bucket {bucket} on {row} is not acknowledged"
        if not lost and not self.tier.weights:
            leads = [nodes.buckets()[node] for node in members]
            assert max(leads) - min(leads) <= 1
        for member in self.members:
            if member.is_alive and member.node in nodes.up():
                held = {bucket for bucket, row in enumerate(nodes.placement) if member.node in row}
                assert set(member.versions) == held, "nobody keeps what is not in the placement"


def durable(tier: Tier) -> dict[str, Any]:
    """What of a coordinator outlives it."""
    groups = tier.groups
    return {
        "state": tier.state,
        "nodes": (tier.nodes.epoch, tier.nodes.placement, tier.nodes.infos(), dict(tier.node_at)),
        "placing": (tier.placing.leaders, tier.placing.told, tier.placing.confirmed),
        "moves": (tier.moves.changes, tier.moves.queued, tier.moves.ready, tier.moves.is_stale, tier.moves.resume_at is None),
        "weights": tier.weights,
        "copying": sorted((copy.source, copy.target, copy.buckets) for copy in tier.moves.copying),
        "scaling": (tier.wanted_nodes, tier.retiring, tier.draining, tier.leaving, tier.scaling and tier.scaling.what),
        "tables": (tier.catalog.tables, tier.catalog.ready, tier.catalog.next_table, tier.catalog.next_index),
        "missing": tier.catalog.missing,
        "rows": (tier.is_restoring, tier.torn, tier.hollow, tier.anew, tier.lacking, tier.bereft),
        "functions": tier.catalog.functions,
        "groups": [(group.spec, group.tag, group.cause) for group in groups.running.values()],
        "ranks": [(r.attempt, r.incarnation, r.finished, r.result) for group in groups.running.values() for r in group.ranks],
        "next group": groups.next_group,
        "commands": {
            number: (command.what, command.waiting, command.message, command.cause)
            for number, command in tier.commands.under_way.items()
            if not isinstance(command.message, c.ReportNow)
        },
    }
