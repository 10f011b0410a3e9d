"""Marks that move, locks of copies, names of processes and the cap of connections: what no other test would miss."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import zmq

from sparkps import descriptors, lifeline
from sparkps.ps_nodes import shard_copies
from sparkps.specs import TableSpec
from sparkps.wire.marks import Layers, SessionMarks, WriterMark
from sparkps.wire.messages import control as c
from tests.harness.waiting import wait_until
from tests.unit.ps_nodes.lone_node import LoneNode


def test_a_session_that_is_forgotten_leaves_no_mark_on_buckets_that_moved_here():
    marks = SessionMarks()
    marks.adopt(3, [WriterMark(7, 5, [1])])
    marks.forget(7)
    assert marks.export(3) == []


def test_a_bucket_that_comes_has_the_mark_that_it_comes_with():
    layers = Layers()
    layers.take(7, 0b1)
    layers.adopt(5, 0)
    layers.validate()
    assert layers.layers == [(5, 0b1)]


def test_locks_of_several_tables_are_taken_in_one_order_whatever_the_order_of_the_tables(monkeypatch):
    node = LoneNode()
    for number in (8, 9):
        spec = TableSpec(f"d{number}", "dense", 1, "float64", shape=(256,), table=number)
        assert node.command(c.CreateTable(0, spec)) == [None]
    tables = [node.service.state.tables.by_id[number] for number in (8, 9)]
    taken = []
    copy = shard_copies.vectors.copy_bucket
    monkeypatch.setattr(
        shard_copies.vectors, "copy_bucket", lambda described, locks, *more: taken.append(locks.tolist()) or copy(described, locks, *more)
    )
    shard_copies.copy_rows(3, tables)
    shard_copies.copy_rows(3, tables[::-1])
    assert taken[0] == taken[1]
    assert len(taken[0]) == 2


def test_a_process_whose_first_thread_has_ended_is_not_gone():
    """Its other threads may still write."""
    code = (
        "import ctypes, threading, time\n"
        "from sparkps.lifeline import this_process\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print(this_process(), flush=True)\n"
        "ctypes.CDLL(None).syscall(60, 0)  # exit of one thread, on x86-64\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            name = process.stdout.readline().strip()
            stat = pathlib.Path(f"/proc/{process.pid}/stat")
            assert wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
            assert not lifeline.is_gone(name)
        finally:
            process.kill()


def test_where_proc_is_that_of_another_namespace_nothing_is_known(monkeypatch):
    monkeypatch.setattr(lifeline.os, "getpid", lambda: 2)  # /proc/self says another number
    assert lifeline.this_process() == ""


class Door:
    def __init__(self):
        self.did = []

    def shut(self):
        self.did.append("shut")

    def open(self):
        self.did.append("open")


def cap(monkeypatch, opened, **fields):
    made = object.__new__(descriptors.ConnectionCap)
    made.endpoint, made.limit, made.reserve, made._door, made._limits = "e", 100, 20, Door(), None
    made.__dict__.update(fields)
    monkeypatch.setattr(descriptors, "open_descriptors", lambda: opened)
    return made


@pytest.mark.parametrize(("opened", "did"), [(75, []), (70, ["open"])])
def test_a_door_that_is_shut_opens_when_half_as_much_again_is_free(monkeypatch, opened, did):
    made = cap(monkeypatch, opened, _is_shut=True, _free=0)
    made._take([])
    assert made._door.did == did


def test_a_connection_that_could_not_be_taken_has_the_descriptors_counted(monkeypatch):
    made = cap(monkeypatch, 95, _is_shut=False, _free=90)  # others have taken them, unseen
    made._take([(zmq.EVENT_ACCEPT_FAILED, 0)])
    assert made._door.did == ["shut"]


def test_the_watch_over_connections_outlives_what_goes_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(descriptors, "_LOOK_MS", 10)
    looks = []

    def take(self, events):
        looks.append(events)
        raise OSError("no descriptor to look with")

    monkeypatch.setattr(descriptors.ConnectionCap, "_take", take)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(f"ipc://{tmp_path}/r")
        made = descriptors.ConnectionCap(socket, f"ipc://{tmp_path}/r")
        assert wait_until(lambda: len(looks) > 3)
        made.close()


def test_a_write_of_many_tables_that_comes_again_is_known_on_each():
    marks = SessionMarks()
    assert [marks.take(7, 1, table, 0b11) for table in (1, 2, 3, 4)] == [0b11] * 4
    assert [marks.take(7, 1, table, 0b11) for table in (1, 2, 3, 4)] == [0] * 4
