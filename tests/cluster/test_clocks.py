"""BSP, SSP and ASP on real nodes: sessions of several ranks in one process, no Spark."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from sparkps.client.session import Session
from sparkps.client.tables import pull_together
from sparkps.errors import Fenced, GroupError
from sparkps.optim import SGD
from sparkps.specs import UNBOUNDED
from tests.cluster.conftest import Tier


def together(tier: Tier, group: int, ranks: int, work: Callable[[int, Session], None]) -> None:
    """Run `work` for every rank in a thread of its own, bound to its rank."""
    failures: list[BaseException] = []

    def run(rank: int) -> None:
        session = tier.session()
        try:
            session.takeover(group, rank, 1)
            work(rank, session)
            session.finish()
        except BaseException as error:
            failures.append(error)
        finally:
            session.close()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


#: Their float64 sum is another one in every order.
CANCELLING = np.array([1e16, 1.0, -1e16, 0.1])


def bsp_run(tier: Tier, name: str) -> np.ndarray:
    """Four ranks push gradients that do not add up the same in every order."""
    w = tier.sparse(name, dim=2, dtype="float64", optimizer=SGD(0.5))
    with tier.group(4, 0) as group:

        def work(rank: int, session: Session) -> None:
            rng = np.random.default_rng(rank)
            mine = w.bind(session)
            for _ in range(5):
                keys = rng.integers(0, 500, 300)
                rows = mine.pull(keys)
                mine.push_async(keys, rng.choice(CANCELLING, (300, 2)) + rows)
                session.tick()

        together(tier, group, 4, work)
    return w.pull(np.arange(500))


def test_bsp_two_runs_give_bit_equal_tables(tier: Tier) -> None:
    assert np.array_equal(bsp_run(tier, "bsp_1"), bsp_run(tier, "bsp_2"))


def test_bsp_everyone_sees_the_sum_of_the_last_clock(tier: Tier) -> None:
    w = tier.sparse("sum", dim=1, dtype="float64")
    d = tier.dense("dense_sum", shape=(3,))
    with tier.group(3, 0) as group:

        def work(rank: int, session: Session) -> None:
            ks = w.bind(session).register([1, 2, 3])
            mine = d.bind(session)
            for clock in range(6):
                rows, values = pull_together(session, [ks, mine])
                assert np.array_equal(rows, np.full((3, 1), 3.0 * clock)), (
                    "updates of a clock are seen at once, when it closes"
                )
                assert np.array_equal(values, np.full(3, 3.0 * clock))
                ks.add(np.ones((3, 1)))
                mine.add(np.ones(3))
                session.tick()

        together(tier, group, 3, work)
    assert w.pull([1])[0, 0] == 18.0


@pytest.mark.parametrize("staleness", [1, 3, UNBOUNDED])
def test_staleness_stays_within_its_bound(tier: Tier, staleness: int) -> None:
    w = tier.sparse(f"ssp_{staleness}", dim=1, dtype="float64")
    with tier.group(3, staleness) as group:

        def work(rank: int, session: Session) -> None:
            mine = w.bind(session)
            for clock in range(12):
                seen = mine.pull([0, 1, 2]).ravel()
                assert seen[rank] == clock, "a rank sees its own pushes"
                if staleness != UNBOUNDED:
                    assert (seen >= clock - staleness).all()
                mine.add([rank], [[1.0]])
                session.tick()

        together(tier, group, 3, work)
        reports = tier.group_reports(group)
        if staleness != UNBOUNDED:
            assert all(rank["staleness"] <= staleness for report in reports for rank in report.values())
    assert np.array_equal(w.pull([0, 1, 2]), np.full((3, 1), 12.0))


def test_ranks_that_push_nothing_and_end_early_hold_up_nobody(tier: Tier) -> None:
    w = tier.sparse("uneven", dim=1, dtype="float64")
    with tier.group(3, 0) as group:

        def work(rank: int, session: Session) -> None:
            mine = w.bind(session)
            for _ in range([0, 2, 7][rank]):
                mine.pull([0])
                mine.add([0], [[1.0]])
                session.tick()

        together(tier, group, 3, work)
    assert w.pull([0])[0, 0] == 9.0


def test_a_successor_goes_on_after_the_last_tick_and_the_old_incarnation_is_fenced(tier: Tier) -> None:
    w = tier.sparse("takeover", dim=1, dtype="float64")
    with tier.group(1, 0) as group:
        first, second = tier.session(), tier.session()
        first.takeover(group, 0, 1)
        mine = w.bind(first)
        mine.add([0], [[1.0]])
        first.tick(b"one")
        mine.add([0], [[100.0]])  # of a clock that is never ticked
        assert second.takeover(group, 0, 2) == (1, b"one")
        with pytest.raises(Fenced):
            mine.add([0], [[100.0]])
        with pytest.raises(Fenced, match="add of table 'takeover' was not"):
            first.tick()  # its push was not acknowledged, though the caller has caught the error
        successor = w.bind(second)
        assert successor.pull([0])[0, 0] == 1.0
        successor.add([0], [[1.0]])
        second.finish()
        first.close()
        second.close()
    assert w.pull([0])[0, 0] == 2.0


def test_a_failed_group_ends_every_wait_with_the_first_cause(tier: Tier) -> None:
    w = tier.sparse("failing", dim=1)
    with tier.group(2, 0) as group:
        waiting = tier.session()
        waiting.takeover(group, 0, 1)
        w.bind(waiting).add([0], [[1.0]])
        waiting.tick()
        pull = w.bind(waiting).pull_async([0])
        assert not pull.done()
        tier.fail_group(group, GroupError("rank 1 said no"))
        with pytest.raises(GroupError, match="rank 1 said no"):
            pull.result(timeout=90)
        waiting.close()
    assert w.pull([0])[0, 0] == 0.0


def test_a_pull_that_waits_too_long_names_the_ranks(tier: Tier) -> None:
    w = tier.sparse("late", dim=1)
    with tier.group(2, 0) as group:
        session = tier.session()
        session.takeover(group, 0, 1)
        session.tick()
        with pytest.raises(TimeoutError, match=r"rank\(s\) 1"):
            w.bind(session).pull_async([0]).result(timeout=3)
        session.close()


def test_pieces_that_wait_side_by_side_count_once(tier: Tier) -> None:
    w = tier.sparse("pieces", dim=1)
    keys = np.arange(400_000)  # several requests
    w.push(keys, np.ones((len(keys), 1), np.float32))
    waited, took = [], []
    answered = threading.Event()
    with tier.group(2, 0) as group:

        def work(rank: int, session: Session) -> None:
            if rank == 1:
                assert not answered.wait(0.5), "a pull must wait for the tick of the other rank"
            session.tick()
            if rank == 0:
                began = time.monotonic()
                w.bind(session).pull(keys)
                took.append(time.monotonic() - began)
                answered.set()
                reports = session.node_reports().values()
                waited.extend(report["groups"][str(group)]["0"]["waited_seconds"] for report in reports)

        together(tier, group, 2, work)
    assert waited
    assert all(0.2 < seconds <= took[0] for seconds in waited), "not once for each request"
