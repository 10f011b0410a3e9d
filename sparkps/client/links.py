"""The nodes of a tier as one session sees them: where they are, who is dead, which buckets they hold, and a connection to each.

The coordinator is asked when a session opens. Later nodes say by themselves that the placement has changed (`Placed`), and who is
gone; the coordinator is asked about nodes that are silent, or new and unknown, without waiting for its answer.
"""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sparkps.client.everywhere import Everywhere
from sparkps.client.inflight import Lane, PendingRequest, RetryPolicy
from sparkps.client.network import Channel, Network, ZmqNetwork
from sparkps.client.order import GONE, Refusals, RefusedPiece
from sparkps.client.presence import LOOK_EVERY, Peer, Presence, is_removed, why_gone
from sparkps.client.routing import Routing
from sparkps.errors import NodeUnreachable, ShardLost, SparkPSError, TierError
from sparkps.secret import secret_of
from sparkps.wire.codec import encode
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import Attach, Attached, TierAddress
from sparkps.wire.messages.control.values import NodeInfo
from sparkps.wire.placement import Placement, check_placement

if TYPE_CHECKING:
    from sparkps.client.control import ControlClient, Inquiry


class Links:
    """Connections to all nodes of a tier, for one thread; see `transport.Transport`."""

    def __init__(self, address: TierAddress, control: ControlClient, network: Network | None = None) -> None:
        self.address = address
        self.control = control
        attached = control.request(Attach(0, address.tier_id))
        self.settings = attached.settings
        if self.settings.kernel_cache_dir:
            from sparkps.kernels import places

            places.look_first_in(self.settings.kernel_cache_dir)
        #: Random, so that no two sessions of a tier are alike.
        self.id = secrets.randbits(62) + 1
        self.pid = os.getpid()
        self.closed = False
        #: Seconds that calls spent waiting for answers.
        self.waited_seconds = 0.0
        self.network: Network = network or ZmqNetwork(secret_of(address))
        #: Owner of all below: `_lock`.
        self._lock = threading.RLock()
        self._channels: dict[int, Channel] = {}
        self._lanes: dict[int, Lane] = {}
        #: Where each node is, as the coordinator said.
        self._endpoints: dict[int, str] = {}
        #: Nodes that do not answer any more, with the reason: those of `_told`, and those that this process has seen to be gone
        #: while there was no coordinator to ask.
        self._dead: dict[int, str] = {}
        #: Nodes that the coordinator has declared dead, or told to stop, with the reason; none of them comes back.
        self._told: dict[int, str] = {}
        #: The placement that new calls are cut by. It changes only while no write is in flight.
        self.routing = Routing.of(attached.epoch, _checked(attached))
        #: The newest placement that is known: refused pieces are cut anew by it.
        self._newest = self.routing
        #: A node has spoken of the placement of this epoch, which names nodes that nobody has said the place of.
        self._ahead = 0
        #: What nodes have refused for now.
        self._refusals = Refusals()
        #: Requests to all nodes that are not done.
        self._everywhere: list[Everywhere] = []
        #: When to look for the sockets of nodes again (seconds, the network's clock).
        self._next_look = 0.0
        #: When the coordinator is asked next whether lost buckets were restored.
        self._next_hope = 0.0
        #: At most one: the question to the coordinator that is open.
        self._inquiries: list[Inquiry] = []
        self._finalizer = weakref.finalize(self, _release, self._channels, self._inquiries, self.id, self.pid)
        self._heed(attached)

    # ---- placement -----------------------------------------------------------------------------------------------------

    def _heed(self, attached: Attached) -> None:
        """What the coordinator says of nodes and placement."""
        self._dead = dict(self._told)
        self._take_in_placement(attached.epoch, _checked(attached), attached.nodes)

    def _placed(self, node: int, placed: m.Placed) -> None:
        """What a node says, unasked, of nodes and placement; older news than what is known is none."""
        if placed.epoch >= self._newest.epoch:
            nodes = [info.node for info in placed.nodes]
            self._take_in_placement(placed.epoch, check_placement(placed.placement, nodes), placed.nodes)
            self._refusals.caught_up(node, placed.epoch, self.network.now())

    def _learn(self, refusal: m.WrongEpoch) -> None:
        """A node has another placement than a request was made by."""
        if refusal.epoch > self._newest.epoch:
            self._take_in_placement(refusal.epoch, check_placement(refusal.placement), ())

    def _take_in_placement(self, epoch: int, placement: Placement, nodes: Iterable[NodeInfo]) -> None:
        for info in nodes:
            self._endpoints[info.node] = info.endpoint
            if info.state != "up":
                self._told[info.node] = self._dead[info.node] = info.reason
        if epoch > self._newest.epoch:
            routing = Routing.of(epoch, placement)
            if self._endpoints.keys() >= set(routing.nodes):
                self._newest = routing
                self._refusals.placed(self.network.now())
            else:
                self._ahead = max(self._ahead, epoch)
        self._open_new()
        for node in self._told.keys() & self._lanes.keys():
            self._let_go(node)
        self._renew()

    def _is_lost(self, node: int) -> bool:
        """Whether a node is gone and no placement can bring back what it is the primary of."""
        return self._newest.is_lost(node, self._dead)

    def _is_stuck(self) -> bool:
        """Whether requests wait for a placement that nobody has told yet: without nodes that are gone, or with known ones alone."""
        if self._ahead > self._newest.epoch:
            return True
        return bool(self._dead) and any(node in self._dead and not self._is_lost(node) for node in self._newest.nodes)

    def _open_new(self) -> None:
        """Connect to the nodes that are new."""
        for node in self._newest.nodes:
            if node not in self._channels and node not in self._told:
                self._channels[node] = self.network.connect(self._endpoints[node])
                self._lanes[node] = Lane(
                    node,
                    push_credit=self.settings.push_credit_bytes,
                    pull_credit=self.settings.pull_credit_bytes,
                    policy=RetryPolicy(self.settings.retry_initial, self.settings.retry_max),
                )
                self._hello(node)

    def _let_go(self, node: int) -> None:
        """A node is gone for good: what it has not answered counts as refused, and is told others when it is known whom."""
        lane = self._lanes.pop(node)
        self._channels.pop(node).close(linger=0)
        self._refusals.gone(node)
        now = self.network.now()
        for request in lane.abandon():
            if request.piece.again is None:
                request.piece.fail(self._gone(request.piece.what, node))
            else:
                self._refusals.add(RefusedPiece(request.piece, GONE, False, now, request.deadline))

    def _renew(self) -> None:
        """What goes to all nodes goes to those of the newest placement; see `sending.Sender`."""

    def _hello(self, node: int) -> None:
        lane = self._lanes[node]
        lane.opening = True
        self._channels[node].send(encode(m.Hello(self.id, lane.acked, self.address.tier_id)))

    # ---- sessions that a node has forgotten ------------------------------------------------------------------------------

    def _reopen(self, node: int, lane: Lane) -> None:
        """The node has forgotten this session: open it again, and give it again what is in flight.

        Shards know a write that they have already for as long as the node had remembered the session; an older one must not
        be sent again.
        """
        now = self.network.now()
        for request in list(lane.requests.values()):
            late = now - request.sent_at > self.settings.session_ttl
            if late and request.piece.write and not request.piece.lasting:
                lane.give_up(request.seq, self._nothing(request.seq), now)
                request.piece.fail(self._uncertain(request, node, now))
        for seq in lane.holes():
            lane.fill(seq, self._nothing(seq), now)
        self._hello(node)
        for request in lane.restart(now):
            self._channels[node].send(request.frames)

    def _nothing(self, seq: int) -> list[Any]:
        """A request that does nothing, to take a number at a node."""
        return encode(m.Unregister(m.NO_KEYSET), (), (self.id, seq, 0))

    def _uncertain(self, request: PendingRequest, node: int, now: float) -> TierError:
        ttl = self.settings.session_ttl
        return TierError(
            f"The {request.piece.what} must be answered within {ttl:.0f} s of its first sending. It was not: {now - request.sent_at:.0f} s"
            f" have passed, and node {node} has forgotten what this client sent (`spark.sparkps.sessionTtl`). It may or may not"
            " have been applied; to send it again could apply it twice.",
            node=node,
        )

    # ---- silent nodes --------------------------------------------------------------------------------------------------

    def _look_for_sockets(self, lanes: Iterable[Lane], now: float) -> None:
        """Nodes that answers are awaited of may have gone with their tier: then nobody is left to declare them dead."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        if any(is_removed(self._endpoints[lane.node]) for lane in lanes):
            self._ask_coordinator()

    def _look_at_nodes(self) -> None:
        """The coordinator is gone. Nodes outlive it for as long as the driver does; those that are gone, too, may be lost.

        Not so where there are copies: a coordinator that comes back will say which of them is the primary now.
        """
        gone = dict(self._dead)
        for node in self._lanes.keys() - gone.keys():
            endpoint = self._endpoints[node]
            with closing(Presence(endpoint)) as presence:
                if presence.look(0.0) is Peer.GONE:
                    gone[node] = f"at {endpoint} {why_gone(endpoint)}"
        lost = {node: gone[node] for node in gone if node not in self._dead and self._newest.is_lost(node, gone)}
        self._dead |= lost
        for node in lost:
            _end(self._lanes[node], self.lost(node))
        if lost:
            self._renew()

    def _ask_coordinator(self) -> None:
        """A node is silent: start to ask whether it is dead, unless that is being asked already."""
        if not self._inquiries:
            self._inquiries.append(self.control.ask(Attach(0, self.address.tier_id)))

    def _hear_coordinator(self) -> None:
        """Take the answer about nodes that are silent, if it has come."""
        inquiry = self._inquiries[0]
        try:
            attached = inquiry.answer()
        except (NodeUnreachable, TimeoutError) as error:
            attached = None  # the coordinator is control plane only: training goes on without it
            if isinstance(error, NodeUnreachable):
                self._look_at_nodes()
        except SparkPSError as error:
            self._fail_all(error)
            attached = None
        else:
            if attached is None:
                return
        self._inquiries.clear()
        inquiry.close()
        if attached is not None:
            self._heed(attached)

    def _fail_all(self, error: SparkPSError) -> None:
        """Nothing will be answered any more: the coordinator knows this tier no more, or the session was closed."""
        for lane in self._lanes.values():
            _end(lane, error)
        for refused in self._refusals.drain():
            refused.piece.fail(error)
        for each in self._everywhere:
            each.fail(error)
        self._everywhere.clear()

    def _gone(self, what: str, node: int) -> SparkPSError:
        """What a caller is told who asked a node that is gone, and no other could answer."""
        if self._is_lost(node):
            return self.lost(node)
        reason = self._dead.get(node) or "no heartbeat"
        return NodeUnreachable(f"The {what} must be answered by node {node}. It is gone ({reason}).", node=node)

    def lost(self, node: int) -> ShardLost:
        """What a caller is told when a node is gone."""
        return ShardLost(
            f"Every bucket must have a live node. Node {node} is gone ({self._dead.get(node) or 'no heartbeat'}) and held the only"
            " replica of its buckets: its rows are lost. Restore a checkpoint (`PSContext.restore`), or start the tier again and train"
            " anew.",
            node=node,
        )

    def close(self) -> None:
        """Say good-bye and close the connections. Requests in flight are given up."""
        with self._lock:
            self.closed = True
            self._finalizer()
            self._fail_all(TierError("A session must be open until its calls are answered. It was closed before."))
            self._lanes.clear()


def _checked(attached: Attached) -> Placement:
    """The placement that the coordinator tells, if it names nodes that it tells of."""
    return check_placement(attached.placement, [info.node for info in attached.nodes])


def _release(channels: dict[int, Channel], inquiries: list[Inquiry], session: int, pid: int) -> None:
    """Close the connections; also when the transport's thread has ended without `Transport.close`."""
    if pid == os.getpid():  # a forked child has no right to its parent's sockets
        for channel in channels.values():
            channel.send(encode(m.Bye(session)))
            channel.close(linger=200)
        for inquiry in inquiries:
            inquiry.close()
    channels.clear()
    inquiries.clear()


def _end(lane: Lane, error: SparkPSError) -> None:
    """No request to a node will be answered any more."""
    for seq in list(lane.requests):
        request = lane.take(seq)
        if request is not None:
            request.piece.fail(error)


__all__ = ["Links"]
