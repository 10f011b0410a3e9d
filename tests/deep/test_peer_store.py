"""The store by which process groups are formed: what torch asks of one, from several threads, and what nobody answers."""

from __future__ import annotations

import datetime
import threading
import time

import psutil
import pytest
import torch
import torch.distributed as dist
import zmq

from sparkps.nn.peer_store import PeerStore, StoreServer
from sparkps.nn.process_group import interface
from sparkps.secret import TierSecret


@pytest.fixture
def server():
    made = StoreServer("127.0.0.1")
    yield made
    made.close()


@pytest.fixture
def store(server):
    made = PeerStore(server.endpoint, wait=5.0)
    yield made
    made.close()


def test_it_does_what_torch_asks_of_a_store(store):
    store.set("a", "one")
    assert (store.get("a"), store.check(["a"]), store.check(["a", "b"]), store.num_keys()) == (b"one", True, False, 1)
    assert [store.add("n", 2), store.add("n", -3), store.get("n")] == [2, -1, b"-1"]
    assert (store.compare_set("a", b"two", b"x"), store.compare_set("a", b"one", b"two")) == (b"one", b"two")
    assert store.compare_set("new", b"", b"first") == b"first"
    store.append("a", b"!")
    store.multi_set(["b", "c"], [b"2", b"3"])
    assert store.multi_get(["c", "a"]) == [b"3", b"two!"]
    assert (store.delete_key("c"), store.delete_key("c"), store.check(["c"])) == (True, False, False)


def test_whoever_waits_for_a_key_gets_it_when_another_sets_it(server, store):
    got = []

    def wait() -> None:
        other = PeerStore(server.endpoint, wait=20.0)
        other.wait(["late", "later"])
        got.append(other.get("later"))
        other.close()

    thread = threading.Thread(target=wait)
    thread.start()
    store.set("late", b"1")
    thread.join(0.3)
    assert thread.is_alive(), "one of two is not there"
    store.set("later", b"2")
    thread.join(20)
    assert got == [b"2"]


def test_a_key_that_nobody_sets_is_an_error_in_time_and_the_store_goes_on(store):
    began = time.monotonic()
    with pytest.raises(dist.DistStoreError, match="'wait' of never"):
        store.wait(["never"], datetime.timedelta(seconds=0.3))
    assert 0.2 < time.monotonic() - began < 4.0
    store.set("never", b"came")  # what was given up is answered now, and is nobody's
    assert store.get("never") == b"came"


def test_a_server_that_is_gone_is_an_error_in_time():
    server = StoreServer("127.0.0.1")
    store = PeerStore(server.endpoint, wait=0.5)
    store.set("a", b"1")
    server.close()
    with pytest.raises(dist.DistStoreError, match="'get' of a"):
        store.get("a")
    store.close()


def test_it_listens_on_its_own_interface_alone(server):
    port = int(server.endpoint.rsplit(":", 1)[1])
    held = [each.laddr.ip for each in psutil.Process().net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port]
    assert held == ["127.0.0.1"]


def test_what_is_no_request_harms_nobody(server, store):
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(server.endpoint)
    for content in (b"", b"\xc1", b"\x93\xa3set\x91\xa1a\x90", b"\x93\xa7compare\x90\x90", b"\x93\xa3add\x91\xa1a\x91\xc4\x01x"):
        socket.send_multipart([b"1", content])
    store.set("a", b"1")
    assert store.get("a") == b"1"
    socket.close(0)
    context.term()


def test_groups_are_formed_by_it(server):
    sums: dict[int, list[float]] = {}

    def run(rank: int) -> None:
        store = PeerStore(server.endpoint)
        options = dist.ProcessGroupGloo._Options()
        options._devices = [dist.ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        group = dist.ProcessGroupGloo(dist.PrefixStore("one", store), rank, 3, options)
        mine = torch.full((2,), float(rank + 1))
        group.allreduce([mine]).wait()
        sums[rank] = mine.tolist()
        store.close()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert sums == {rank: [6.0, 6.0] for rank in range(3)}


def test_process_groups_are_bound_to_the_interface_that_leads_to_the_tier(monkeypatch):
    class Probe:
        def __init__(self, *kind):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def connect(self, address):
            assert address == ("10.1.2.3", 7000)

        def getsockname(self):
            return "10.1.2.99", 40000

    monkeypatch.setattr("sparkps.nn.process_group.socket.socket", Probe)
    assert interface("tcp://10.1.2.3:7000") == "10.1.2.99"


def test_only_ranks_of_the_tier_are_answered():
    secret = TierSecret.new()
    server = StoreServer("127.0.0.1", secret)
    of_us, strangers = PeerStore(server.endpoint, 5.0, secret), [PeerStore(server.endpoint, 0.5, each) for each in (None, TierSecret.new())]
    try:
        of_us.set("key", b"value")
        assert of_us.get("key") == b"value"
        for stranger in strangers:
            with pytest.raises(dist.DistStoreError):
                stranger.get("key")
    finally:
        for store in (of_us, *strangers):
            store.close()
        server.close()
