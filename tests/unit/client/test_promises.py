"""Promises of the client that no other test would miss: refusals, dead nodes, forks, repeated answers."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest
import zmq

from sparkps.client import links
from sparkps.client.control import ControlClient
from sparkps.client.inflight import Lane, RetryPolicy
from sparkps.client.order import Refusals, RefusedPiece
from sparkps.client.presence import Peer, Presence
from sparkps.errors import ProtocolError, ShardLost, TierError
from sparkps.wire.codec import decode, encode
from sparkps.wire.messages import control as c
from sparkps.wire.messages import data as m
from tests.unit.client.fake_tier import FakeTier, always, once, silence, wrong_epoch


def ranked(tier, staleness=0):
    session = tier.session()
    for node in tier.nodes:
        node.script.insert(0, always(lambda t: [(0.0, m.TakenOver(t.seq, -1, staleness=staleness), [])], kind=m.Takeover))
    session.takeover(5, 1, 1)
    return session


def test_a_call_that_waited_for_room_is_not_sent_to_a_node_that_died_meanwhile():
    tier = FakeTier(push_credit_bytes=4096, chunk_bytes=4096)
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [always(silence)]
    w.push_async(np.arange(250), np.ones((250, 1)))
    tier.dead = {0: "it was killed"}
    with pytest.raises(ShardLost):
        w.push(np.arange(250), np.ones((250, 1)))
    assert {step.call for step in tier.nodes[0].of(m.Step)} == {1}


def test_what_a_dead_node_would_have_to_be_sent_again_fails_at_once():
    tier = FakeTier(nodes=2)
    session = tier.session()
    w = tier.sparse(session)
    session._dead, session._next_hope = {1: "it was killed"}, 1e9
    tier.nodes[0].script = [always(wrong_epoch(2, [[1]] * 256))]
    began = tier.network.time
    keys = list(range(50))
    from sparkps.wire.hashing import buckets_of
    on_0 = [key for key in keys if tier.placement[int(buckets_of(np.array([key]))[0])][0] == 0]
    with pytest.raises(ShardLost):
        w.pull(on_0)
    assert tier.network.time == began


def test_a_wrong_answer_ends_the_call_by_name_and_not_the_session():
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [once(lambda step: [(0.0, m.Done(step.seq), [])])]  # a pull without rows
    with pytest.raises(TierError, match="must fit its request"):
        w.pull([5])
    assert w.pull([5]).tolist() == [[0.0]]


def test_time_in_which_nobody_looked_is_no_silence_of_the_node():
    from types import SimpleNamespace
    lane = Lane(0, push_credit=100, pull_credit=100, policy=RetryPolicy())
    lane.add(1, [b""], SimpleNamespace(what="pull", up=0, down=8, write=False), now=0.0, deadline=100.0)
    assert lane.is_silent(0.25)
    lane.unseen(0.3, 50.0)
    assert not lane.is_silent(50.0)
    assert lane.is_silent(50.45)


def test_no_tick_follows_a_push_of_which_nothing_could_be_sent():
    tier = FakeTier()
    session = ranked(tier)
    w = tier.sparse(session)
    session._dead, session._next_hope = {0: "it was killed"}, 1e9
    with pytest.raises(ShardLost):
        w.push([1], [[1.0]])
    session._dead = {}
    with pytest.raises(ShardLost, match="Every write of rank 1 must be acknowledged"):
        session.tick()
    assert not tier.nodes[0].of(m.Tick)


def test_no_tick_follows_a_writing_function_that_was_half_made():
    tier = FakeTier(nodes=2)
    session = ranked(tier)
    d = tier.dense(session)
    session._dead, session._next_hope = {1: "it was killed"}, 1e9
    with pytest.raises(ShardLost):
        d.call("scale", alpha=2.0)
    session._dead = {}
    with pytest.raises(ShardLost, match="Every write of rank 1 must be acknowledged"):
        session.tick()
    assert not tier.nodes[0].of(m.Tick)


def test_an_answer_of_a_function_that_speaks_for_other_buckets_is_refused():
    tier = FakeTier(nodes=2)
    session = tier.session()
    both = [np.arange(256, dtype=np.int32), np.ones(256)]
    tier.nodes[0].script = [once(lambda call: [(0.0, m.Done(call.seq), both)], kind=m.Call)]
    with pytest.raises(ProtocolError, match="buckets that were asked for"):
        tier.dense(session).call("sum")


def test_a_key_set_that_is_dropped_is_dropped_at_the_nodes():
    tier = FakeTier(nodes=2)
    session = tier.session()
    keyset = tier.sparse(session).register(np.arange(50))
    keyset.add(np.ones((50, 1)))
    keyset.drop()
    sent = [message.keyset for node in tier.nodes for message in node.of(m.Unregister)]
    registered = {message.keyset for node in tier.nodes for message in node.of(m.Register)}
    assert sent == [*registered] * 2


def test_a_call_that_is_interrupted_while_its_answer_is_taken_in_has_ended():
    tier = FakeTier()
    session = tier.session()

    def interrupted(*_):
        raise KeyboardInterrupt

    future = session.broadcast("status", m.Status(), interrupted)
    began = tier.network.time
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert tier.network.time == began


def test_time_in_which_nobody_looked_ends_no_call_that_a_node_has_refused():
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    tier.nodes[0].script = [
        once(lambda step: [(0.0, m.WrongEpoch(step.seq, 0, tier.placement), [])],
             lambda step: [(1.0, m.Done(step.seq), [np.zeros((1, 1))])]),
    ]
    future = w.pull_async([5])
    session.poll()
    tier.network.time += 10_000.0
    assert future.result().tolist() == [[0.0]]


def test_refusals_that_come_in_any_order_are_all_waited_for():
    from types import SimpleNamespace
    refusals = Refusals()
    for seq in (5, 3):
        piece = SimpleNamespace(write=True, place=(seq, 0))
        refusals.add(RefusedPiece(piece, m.WrongEpoch(seq, 2, []), False, 0.0, 100.0), 0, seq)
    assert refusals.ready(1.0, writing=False, acked=lambda node: 4) == []
    assert len(refusals.ready(1.0, writing=False, acked=lambda node: 5)) == 2


def test_a_forked_child_does_not_close_its_parents_connections():
    tier = FakeTier()
    channel = tier.network.connect("fake://0")
    links._release({0: channel}, [], 7, os.getpid() + 1)
    assert not channel.closed
    assert not tier.nodes[0].of(m.Bye)


def test_a_forked_child_makes_connections_of_its_own(tmp_path):
    client = ControlClient(f"ipc://{tmp_path}/none")
    taken = client._take()
    client._give_back(taken)
    client._pid += 1  # as in a child
    made = client._take()
    assert made is not taken
    taken.close()
    made.close()


def test_a_repeated_answer_is_not_that_of_the_next_request(tmp_path):
    endpoint = f"ipc://{tmp_path}/c"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.bind(endpoint)

        def serve():
            for number in range(2):
                identity, *frames = router.recv_multipart()
                message, _ = decode(frames)
                for _ in range(2):  # as after a repetition of the request
                    router.send_multipart([identity, *encode(c.TierReport(message.seq, {"number": number}))])

        server = threading.Thread(target=serve)
        server.start()
        client = ControlClient(endpoint, timeout=10.0)
        assert [client.request(c.TierStatus(0)).report["number"] for _ in range(2)] == [0, 1]
        server.join()
        client.close()


@pytest.mark.parametrize("code", [errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ENETUNREACH])
def test_only_a_refusal_says_that_a_process_is_gone(code):
    presence = Presence("tcp://127.0.0.1:9")
    presence._heard(code)
    assert presence.peer is Peer.UNKNOWN
    presence._heard(errno.ECONNREFUSED)
    assert presence.peer is Peer.GONE


def test_arrays_are_read_only_whatever_their_frames_are():
    frames = [bytearray(memoryview(frame).cast("B")) for frame in encode(m.Done(7), [np.arange(3)])]
    (array,) = decode(frames)[1]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_rank_that_left_leaves_nothing_to_the_next_membership_of_its_session():
    tier = FakeTier()
    session = ranked(tier)
    w = tier.sparse(session)
    tier.nodes[0].script.insert(0, once(silence))
    w.push_async([1], [[1.0]])
    session.leave()
    session.takeover(6, 0, 1)
    began = tier.network.time
    session.tick()
    session.flush()
    assert tier.network.time == began


def test_items_cut_by_two_placements_go_under_the_older_one():

    from sparkps.client.futures import Future
    tier = FakeTier()
    session = tier.session()
    made = []
    session.send = made.append
    tier.sparse(session).pull_async([1])
    (piece,) = made
    cells = dict(zip(piece.again.__code__.co_freevars, (cell.cell_contents for cell in piece.again.__closure__), strict=True))
    (item,) = cells["batch"]
    import copy
    newer = copy.copy(item)
    newer.epoch = item.epoch + 1
    both = session._step(Future(session, "pull", lambda: None), 0, [newer, item], None, (1, 0))
    assert both.epoch == item.epoch


def test_a_forked_child_has_a_session_of_its_own(monkeypatch):
    from sparkps.client import session as module

    class Opened:
        closed = False
        over = None

        def __init__(self, *_):
            self.pid = os.getpid()

    monkeypatch.setattr(module, "Session", Opened)
    address = c.TierAddress("forked", "inproc://none")
    parents = module.connect(address)
    assert module.connect(address) is parents
    parents.pid += 1
    assert module.connect(address) is not parents
    module._local.sessions.pop(address)
