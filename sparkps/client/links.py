"""The nodes of a tier as one session sees them: where they are, who is dead, which buckets they hold, and a connection to each.

The coordinator is asked when a session opens; later only about nodes that are silent, without waiting for its answer, and about
nodes that are new.
"""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from sparkps.client.inflight import Lane, RetryPolicy
from sparkps.client.network import Channel, Network, ZmqNetwork
from sparkps.client.presence import LOOK_EVERY, Peer, Presence, is_removed, why_gone
from sparkps.client.routing import Routing
from sparkps.errors import NodeUnreachable, ShardLost, SparkPSError, TierError
from sparkps.wire.codec import encode
from sparkps.wire.messages import data as m
from sparkps.wire.messages.control import Attach, Attached, TierAddress
from sparkps.wire.placement import check_placement

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
        self.network: Network = network or ZmqNetwork()
        #: Owner of all below: `_lock`.
        self._lock = threading.RLock()
        self._channels: dict[int, Channel] = {}
        self._lanes: dict[int, Lane] = {}
        #: Where each node is, as the coordinator said.
        self._endpoints: dict[int, str] = {}
        #: Nodes that the coordinator has declared dead, with the reason.
        self._dead: dict[int, str] = {}
        #: The placement that new calls are cut by. It changes only while no write is in flight.
        self.routing = Routing.of(attached.epoch, attached.placement)
        #: The newest placement that is known: refused pieces are cut anew by it.
        self._newest = self.routing
        #: When to look for the sockets of nodes again (seconds, the network's clock).
        self._next_look = 0.0
        #: At most one: the question to the coordinator that is open.
        self._inquiries: list[Inquiry] = []
        self._finalizer = weakref.finalize(self, _release, self._channels, self._inquiries, self.id, self.pid)
        self._heed(attached)

    # ---- placement -----------------------------------------------------------------------------------------------------

    def _heed(self, attached: Attached) -> None:
        """What the coordinator says of nodes and placement; requests to dead nodes end."""
        self._endpoints.update((info.node, info.endpoint) for info in attached.nodes)
        self._dead = {info.node: info.reason for info in attached.nodes if info.state != "up"}
        if attached.epoch > self._newest.epoch:
            self._newest = Routing.of(attached.epoch, attached.placement)
        self._open_new()
        for node in self._dead.keys() & self._lanes.keys():
            _end(self._lanes[node], self.lost(node))

    def _learn(self, refusal: m.WrongEpoch) -> None:
        """A node has another placement than a request was made by. The coordinator is asked only where a node is that is new."""
        if refusal.epoch <= self._newest.epoch:
            return
        routing = Routing.of(refusal.epoch, check_placement(refusal.placement))
        if any(node not in self._endpoints for node in routing.nodes):
            self._heed(self.control.request(Attach(0, self.address.tier_id)))
        unknown = [node for node in routing.nodes if node not in self._endpoints]
        if unknown:
            raise NodeUnreachable(
                f"The coordinator must know every node of the placement of epoch {refusal.epoch}. It does not know {unknown}.",
                nodes=unknown,
            )
        if routing.epoch > self._newest.epoch:
            self._newest = routing
            self._open_new()

    def _open_new(self) -> None:
        """Connect to the nodes that are new."""
        for node in self._newest.nodes:
            if node not in self._channels:
                self._channels[node] = self.network.connect(self._endpoints[node])
                self._lanes[node] = Lane(
                    node,
                    push_credit=self.settings.push_credit_bytes,
                    pull_credit=self.settings.pull_credit_bytes,
                    policy=RetryPolicy(self.settings.retry_initial, self.settings.retry_max),
                )
                self._hello(node)

    def _hello(self, node: int) -> None:
        lane = self._lanes[node]
        lane.opening = True
        self._channels[node].send(encode(m.Hello(self.id, lane.acked)))

    # ---- silent nodes --------------------------------------------------------------------------------------------------

    def _look_for_sockets(self, lanes: Iterable[Lane], now: float) -> None:
        """Nodes that answers are awaited of may have gone with their tier: then nobody is left to declare them dead."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY
        if any(is_removed(self._endpoints[lane.node]) for lane in lanes):
            self._ask_coordinator()

    def _look_at_nodes(self) -> None:
        """The coordinator is gone. Nodes outlive it for as long as the driver does; those that are gone, too, are dead."""
        for node, lane in self._lanes.items():
            endpoint = self._endpoints[node]
            with closing(Presence(endpoint)) as presence:
                if node not in self._dead and presence.look(0.0) is Peer.GONE:
                    self._dead[node] = f"at {endpoint} {why_gone(endpoint)}"
                    _end(lane, self.lost(node))

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
        """The coordinator knows this tier no more."""
        for lane in self._lanes.values():
            _end(lane, error)

    def lost(self, node: int) -> ShardLost:
        """What a caller is told when a node is gone."""
        return ShardLost(
            f"Every bucket must have a live node. Node {node} is gone ({self._dead.get(node) or 'no heartbeat'}) and held the only"
            " replica of its buckets: its rows are lost. Start the tier again and train anew.",
            node=node,
        )

    def close(self) -> None:
        """Say good-bye and close the connections. Requests in flight are given up."""
        with self._lock:
            self.closed = True
            self._finalizer()
            for lane in self._lanes.values():
                _end(lane, TierError("A session must be open until its calls are answered. It was closed before."))
            self._lanes.clear()


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
