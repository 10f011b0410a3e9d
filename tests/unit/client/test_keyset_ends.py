"""Key sets end with their last handle."""

from __future__ import annotations

import gc
import threading

import numpy as np

from sparkps.wire.messages import data as m
from tests.unit.client.fake_tier import FakeTier


def test_a_key_set_that_nobody_holds_is_forgotten_and_the_nodes_are_told_with_the_next_call() -> None:
    tier = FakeTier(nodes=2)
    session = tier.session()
    w = tier.sparse(session)
    ks = w.register(np.arange(50))
    (keyset,) = session.registered
    del ks
    gc.collect()
    assert not session.registered
    assert not any(node.of(m.Unregister) for node in tier.nodes), "a finalizer sends nothing"
    w.push([1], [[1.0]])
    for node in tier.nodes:
        assert [message.keyset for message in node.of(m.Unregister)] == [keyset]
    w.push([1], [[1.0]])
    assert len(tier.nodes[0].of(m.Unregister)) == 1


def test_handles_of_other_tables_keep_a_key_set_alive() -> None:
    tier = FakeTier()
    session = tier.session()
    ks = tier.sparse(session).register([1, 2])
    other = ks.on(tier.sparse(session))
    del ks
    gc.collect()
    other.push(np.ones((2, 1)))
    assert len(session.registered) == 1
    assert len(tier.nodes[0].of(m.Register)) == 1
    del other
    gc.collect()
    assert not session.registered


def test_every_session_that_registered_it_forgets_it_whatever_thread_let_it_go() -> None:
    tier = FakeTier()
    sessions = [tier.session(), tier.session()]
    ks = tier.sparse(sessions[0]).register([1, 2])
    ks.on(tier.sparse(sessions[1])).push(np.ones((2, 1)))
    assert [len(session.registered) for session in sessions] == [1, 1]
    held = [ks]
    del ks
    thread = threading.Thread(target=held.clear)
    with sessions[0]._lock:  # its owner is in the middle of a call
        thread.start()
        thread.join(10)
        assert not thread.is_alive(), "a finalizer waits for nobody"
    gc.collect()
    assert [len(session.registered) for session in sessions] == [0, 0]
    for session in sessions:
        tier.dense(session).call("sum")
    assert {message.session for message in tier.nodes[0].of(m.Unregister)} == {session.id for session in sessions}


def test_memory_does_not_grow_with_key_sets_that_were_let_go() -> None:
    tier = FakeTier()
    session = tier.session()
    w = tier.sparse(session)
    for first in range(200):
        w.register(np.arange(first, first + 10)).push(np.ones((10, 1)))
    gc.collect()
    assert len(session.registered) <= 1
    w.pull([1])
    assert len(tier.nodes[0].of(m.Unregister)) == 200
    assert not session.dropped
