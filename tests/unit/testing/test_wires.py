"""The simulated network: what is sent between named processes, cut from each other, stopped and killed."""

from __future__ import annotations

from typing import Any

import pytest

from sparkps.testing.simulation.clockwork import Clockwork, Process
from sparkps.testing.simulation.fates import LATENCY, Scripted
from sparkps.testing.simulation.hosts import Host
from sparkps.testing.simulation.wires import ClientNetwork, Wires
from sparkps.wire.codec import encode
from sparkps.wire.messages.data import Bye, Hello


class Two:
    """Two nodes that keep what they get; the first one answers with the same. A trace is kept."""

    def __init__(self) -> None:
        self.clockwork = Clockwork()
        self.wires = Wires(self.clockwork, Scripted({}), lambda process, loss: None)
        self.wires.trace = []
        self.hosts = [Host(self.clockwork, f"node {number}") for number in range(2)]
        self.taken: list[list[Any]] = [[], []]
        self.endpoints = [self.wires.listen(host, self._receiver(number)) for number, host in enumerate(self.hosts)]

    def _receiver(self, number: int) -> Any:
        def receive(identity: bytes, frames: list[bytes]) -> None:
            self.taken[number].append(frames)
            self.wires.answer(identity, frames)

        return receive


HELLO, BYE = encode(Hello(1, 1)), encode(Bye(1))


def sent(message: list[Any]) -> list[bytes]:
    """A message as it arrives."""
    return [bytes(frame) for frame in message]


def test_a_node_connects_to_a_node_and_is_woken_by_its_answer():
    two, heard = Two(), []
    channel = two.wires.connect(two.hosts[1], two.endpoints[0])
    two.hosts[1].on_wake = lambda: heard.append(channel.receive())
    channel.send(HELLO)
    two.clockwork.run(until=10.0)
    assert two.taken == [[sent(HELLO)], []]
    assert heard == [sent(HELLO)]
    assert "node 1 -> node 0" in two.wires.trace[0]


def test_what_is_sent_across_a_cut_is_lost_and_what_was_under_way_too():
    two = Two()
    channel = two.wires.connect(two.hosts[1], two.endpoints[0])
    channel.send(HELLO)
    cut = two.wires.partition({"node 1"})
    channel.send(HELLO)
    assert two.wires.is_cut("node 0", "node 1")
    assert not two.wires.is_cut("node 0", "a client that nobody names")
    two.clockwork.run(until=1.0)
    two.wires.heal(cut)
    channel.send(BYE)
    two.clockwork.run(until=2.0)
    assert two.taken[0] == [sent(BYE)]


def test_what_a_cut_holds_arrives_in_order_when_it_is_healed():
    two = Two()
    channel = two.wires.connect(two.hosts[1], two.endpoints[0])
    two.wires.partition({"node 0"}, {"node 1"}, holds=True)
    channel.send(HELLO)
    channel.send(BYE)
    two.clockwork.run(until=1.0)
    assert two.taken[0] == []
    two.wires.heal()
    channel.send(HELLO)
    two.clockwork.run(until=2.0)
    assert two.taken[0] == [sent(HELLO), sent(BYE), sent(HELLO)]
    assert len(channel.inbox) == 3


def test_a_cut_that_has_ended_is_healed_once():
    two = Two()
    first, second = two.wires.partition({"node 0"}), two.wires.partition({"node 1"})
    two.wires.heal(first)
    two.wires.heal(first)
    assert two.wires.partitions == [second]


def test_nothing_reaches_a_killed_node_and_nothing_leaves_it():
    two = Two()
    up, down = two.wires.connect(two.hosts[0], two.endpoints[1]), two.wires.connect(two.hosts[1], two.endpoints[0])
    down.send(HELLO)
    two.clockwork.run(until=LATENCY)  # taken by node 0, whose answer is under way
    up.send(HELLO)
    two.hosts[1].kill()
    down.send(BYE)
    two.wires.answer(up.identity, BYE)
    two.clockwork.run(until=1.0)
    assert two.taken == [[sent(HELLO)], []]
    assert not up.inbox
    assert not down.inbox


def test_a_stopped_node_takes_when_it_goes_on_what_came_meanwhile():
    two = Two()
    channel = two.wires.connect(two.hosts[1], two.endpoints[0])
    two.hosts[0].stop()
    for message in (HELLO, BYE):
        channel.send(message)
    two.clockwork.run(until=1.0)
    assert two.taken[0] == []
    two.hosts[0].go_on()
    two.clockwork.run(until=2.0)
    assert two.taken[0] == [sent(HELLO), sent(BYE)]


def test_a_client_hears_no_node_across_a_cut():
    two, heard = Two(), []

    def body(process: Process) -> None:
        network = ClientNetwork(two.wires, process)
        channel = network.connect(two.endpoints[0])
        channel.send(HELLO)
        process.pause(1.5 * LATENCY)
        two.wires.partition({process.name})
        network.wait([channel], 1.0)
        heard.append(channel.receive())

    Process(two.clockwork, "client", body)
    two.clockwork.run(until=10.0)
    assert heard == [None]
    assert two.taken[0] == [sent(HELLO)]


@pytest.mark.parametrize("stopped_before", [0.0, 0.5, 1.5])
def test_a_stopped_process_goes_on_where_it_stood(stopped_before):
    clockwork, steps = Clockwork(), []

    def body(process: Process) -> None:
        for _ in range(2):
            process.pause(1.0)
            steps.append(clockwork.now)

    process = Process(clockwork, "client", body)
    clockwork.after(stopped_before, process.stop)
    clockwork.after(5.0, process.go_on)
    clockwork.run(until=20.0)
    assert steps == ([1.0, 5.0] if stopped_before > 1.0 else [5.0, 6.0])


def test_a_process_that_is_killed_while_it_stands_still_ends():
    clockwork, ended = Clockwork(), []
    process = Process(clockwork, "client", lambda process: process.pause(1.0), ended.append, delay=0.5)
    process.stop()
    clockwork.run(until=0.6)
    process.kill()
    clockwork.run(until=1.0)
    assert ended == [process]
    assert process.error is None
