"""Checkpoints of worker groups in a running tier: where they are cut, and how they go on in another one."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from sparkps.checkpoints.parts import starts
from sparkps.checkpoints.store import CheckpointStore
from sparkps.client.tables import SparseTable
from sparkps.driver_bridge import checkpointing
from sparkps.initializers import Normal
from sparkps.optim import SGD, Adam
from sparkps.specs import UNBOUNDED
from sparkps.wire.messages.control import AdmitGroup
from tests.cluster.conftest import Tier
from tests.cluster.test_checkpoints import KEYS, tier_of


def member(tier: Tier, group: int, rank: int):
    """A rank's session, and the clock and state that it goes on from."""
    session = tier.session()
    clock, state = session.takeover(group, rank, 1)
    return session, clock, state


def admitted(tier: Tier, name: str, ranks: int, staleness: int, start=()):
    return tier.control.request(AdmitGroup(0, name, ranks, ranks, staleness, 0, name, start)).spec


class Ranks:
    """Ranks as threads: at each clock they pull, push twice what depends on that and on the clock, and tick with a state."""

    def __init__(self, tier: Tier, table: str, spec, clocks: int) -> None:
        self.tier, self.table, self.spec, self.clocks = tier, table, spec, clocks
        self.began: dict[int, tuple[int, bytes | None]] = {}
        self.errors: list[BaseException] = []
        self.over = threading.Event()
        #: Until this is set, they do not go beyond the middle.
        self.may_end = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(rank,)) for rank in range(spec.num_ranks)]
        for thread in self.threads:
            thread.start()

    def _run(self, rank: int) -> None:
        session, clock, state = member(self.tier, self.spec.group, rank)
        self.began[rank] = clock, state
        try:
            spec = self.tier.spec_of(self.table)
            table = SparseTable(self.tier.address, spec).bind(session)
            while (clock := session.member.clock) < self.clocks and not self.over.is_set():
                if clock == self.clocks // 2:
                    assert self.may_end.wait(60)
                read = table.pull(KEYS)
                random = np.random.default_rng([rank, clock])
                table.push(KEYS[rank::2], random.normal(size=(len(KEYS[rank::2]), spec.dim)))
                table.push(KEYS, np.tanh(read) * 0.1 + random.normal(size=read.shape))
                session.tick(b"%d after %d" % (rank, clock))
        except BaseException as error:
            if not self.over.is_set():
                self.errors.append(error)
        finally:
            session.leave()

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors


def test_a_bsp_group_is_cut_at_a_clock_and_goes_on_from_it_bit_for_bit(tmp_path):
    url, clocks = str(tmp_path), 40
    options = {"dim": 2, "dtype": "float64", "optimizer": Adam(0.1), "init": Normal(0, 1)}
    with tier_of(3) as tier:
        table = tier.sparse("w", **options)
        ranks = Ranks(tier, "w", admitted(tier, "g", 3, 0), clocks)
        made = []
        while any(thread.is_alive() for thread in ranks.threads):
            made.append(checkpointing.take(tier.control, url))
            if made[-1].clocks.get("g", -1) >= 0:
                ranks.may_end.set()
        ranks.join()
        expected = table.pull(KEYS)
    cuts = [each.clocks.get("g", -1) for each in made]
    assert cuts == sorted(cuts)
    chosen = [each for each in made if 0 <= each.clocks.get("g", -1) < clocks - 5]
    assert chosen, "some were taken before the end"
    for each, nodes, replication in ((chosen[0], 1, 1), (chosen[-1], 2, 2)):
        store = CheckpointStore(url)
        manifest = store.read(each.id)
        (cut,) = manifest.groups
        assert [rank.clock for rank in cut.ranks] == [cut.clock] * 3
        assert [rank.state for rank in cut.ranks] == [b"%d after %d" % (rank, cut.clock) for rank in range(3)]
        with tier_of(nodes, replication=replication) as tier:
            checkpointing.restore(tier.control, url, each.id)
            again = Ranks(tier, "w", admitted(tier, "again", 3, 0, starts(cut)), clocks)
            again.may_end.set()
            again.join()
            assert again.began == {rank: (cut.clock + 1, cut.ranks[rank].state) for rank in range(3)}
            assert tier.sparse("w", **options).pull(KEYS).tobytes() == expected.tobytes()


def counting(tier: Tier, spec, rank: int, clocks: int, over: threading.Event) -> None:
    """A rank whose pushes depend on no pull."""
    session, clock, state = member(tier, spec.group, rank)
    assert state == (None if clock == 0 else b"%d" % (clock - 1))
    table = SparseTable(tier.address, tier.spec_of("c")).bind(session)
    while (clock := session.member.clock) < clocks and not over.is_set():
        for _ in range(3):
            table.push(KEYS[:500], -np.ones((500, 1)))
        session.tick(b"%d" % clock)
    session.leave()


def run_counting(tier: Tier, spec, clocks: int, over: threading.Event) -> list[threading.Thread]:
    threads = [threading.Thread(target=counting, args=(tier, spec, rank, clocks, over)) for rank in range(spec.num_ranks)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize("staleness", [3, UNBOUNDED])
def test_without_a_common_clock_each_push_counts_once_after_a_restore(tmp_path, staleness):
    url, made = str(tmp_path), []
    options = {"dim": 1, "dtype": "float64", "optimizer": SGD(1.0)}
    with tier_of(3) as tier:
        tier.sparse("c", **options)
        over = threading.Event()
        threads = run_counting(tier, admitted(tier, "g", 2, staleness), 10_000, over)
        while not made or made[-1].clocks["g"] < 5:
            made.append(checkpointing.take(tier.control, url))
        over.set()
        for thread in threads:
            thread.join()
    store = CheckpointStore(url)
    manifest = store.read(made[-1].id)
    (cut,) = manifest.groups
    clocks = max(rank.clock for rank in cut.ranks) + 20
    with tier_of(2, replication=2) as tier:
        checkpointing.restore(tier.control, url)
        spec = admitted(tier, "again", 2, staleness, starts(cut))
        checkpointing.load(tier.control, store, manifest, time.monotonic() + 30, spec.group, cut.spec.group)
        table = tier.sparse("c", **options)
        before = table.pull(KEYS[:500])
        assert (before >= 3 * sum(rank.clock + 1 for rank in cut.ranks)).all()
        for thread in run_counting(tier, spec, clocks, threading.Event()):
            thread.join()
        assert (table.pull(KEYS[:500]) == 2 * 3 * clocks).all()
