"""Buckets whose last copies went with their nodes: what restores, and drops of tables, make of them."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.driver_bridge import checkpointing
from sparkps.errors import CheckpointDamaged, ShardLost
from tests.cluster.conftest import Tier
from tests.cluster.test_checkpoints import MANY, damage, is_degraded, kill, tier_of
from tests.harness.waiting import wait_until


@pytest.mark.parametrize("replication", [1, 2])
def test_a_tier_that_has_lost_buckets_has_lost_nothing_when_its_last_table_is_dropped(replication: int) -> None:
    """Without a checkpoint; tables that are made then are like any others."""
    with tier_of(3, replication=replication) as tier:
        tables = [tier.sparse("t", dim=4, dtype="float64"), tier.sparse("u", dim=1, dtype="float64")]
        for table in tables:
            table.add(MANY, np.ones((len(MANY), table.spec.dim)))
        for node in range(replication):
            kill(tier, node)
        assert wait_until(lambda: is_degraded(tier), 120.0)
        tables[0].drop()
        assert is_degraded(tier), "another one has lost rows"
        tables[1].drop()
        assert wait_until(lambda: tier.status()["state"] == "ready", 120.0)
        assert tier.status()["lost_buckets"] == 0
        again = tier.sparse("t", dim=2, dtype="float64")
        again.add(MANY, np.ones((len(MANY), 2)))
        assert np.unique(again.pull(MANY)).tolist() == [1.0]


def test_what_is_lost_stays_lost_after_a_restore_that_is_refused(tmp_path):
    url, ones = str(tmp_path), np.ones((len(MANY), 4))
    with tier_of(2) as tier:
        table, other = tier.sparse("t", dim=4, dtype="float64"), tier.sparse("dropped", dim=1)
        table.add(MANY, ones)
        sound = checkpointing.take(tier.control, url)
        table.add(MANY, ones)
        made = checkpointing.take(tier.control, url)
        damage(url, made.id)
        other.drop()
        kill(tier, 1)
        assert wait_until(lambda: is_degraded(tier), 120.0)
        lost = tier.status()["lost_buckets"]
        with pytest.raises(CheckpointDamaged):
            checkpointing.restore(tier.control, url, made.id)
        for _ in ("a session that was there", "one that was not"):
            assert (tier.status()["state"], tier.status()["lost_buckets"]) == ("degraded", lost)
            with pytest.raises(ShardLost):
                table.pull(MANY)
            with pytest.raises(ShardLost):
                table.add(MANY, ones)
            tier.disconnect()
        assert checkpointing.restore(tier.control, url).id == sound.id, "also where a table is not there any more"
        assert np.unique(table.pull(MANY)).tolist() == [1.0]
        assert tier.status()["state"] == "ready"


def test_tables_that_the_checkpoint_lacks_are_not_empty_where_buckets_were_lost(tmp_path):
    """They raise `ShardLost` there, until they are made anew; all others work, and the next checkpoint has these."""
    url, ones, keys = str(tmp_path), np.ones((1000, 1)), np.arange(1000)

    def made_later(tier: Tier):
        return tier.sparse("later", dim=1), tier.sparse("sharing", dim=1, group="g"), tier.dense("bias", (5000,))

    with tier_of(3) as tier:
        old = tier.sparse("old", dim=1, group="g")
        old.add(keys, ones)
        checkpointing.take(tier.control, url)
        later, sharing, bias = made_later(tier)
        for table in (later, sharing):
            table.add(keys, 5 * ones)
        bias.add(np.ones(5000))
        kill(tier, 1)
        wait_until(lambda: is_degraded(tier), 120.0)
        checkpointing.restore(tier.control, url)
        assert tier.status()["state"] == "ready"
        assert (old.pull(keys) == 1).all()
        for table in (later, sharing):
            for refused in (lambda t=table: t.pull(keys), lambda t=table: t.add(keys, ones), lambda t=table: t.call("sum")):
                with pytest.raises(ShardLost, match=f"'{table.spec.name}'.*anew") as error:
                    refused()
                assert error.value.attributes["table"] == table.spec.name
        with pytest.raises(ShardLost, match="'bias'"):
            bias.pull()
        read = [value for key in keys[:100] for value in read_or_lost(later, key)]
        assert set(read) == {5.0}
        assert 20 < len(read) < 95, "what is there is served"
        second = checkpointing.take(tier.control, url)
        for table in (later, sharing, bias):
            table.drop()
        for table in made_later(tier)[:2]:
            assert (table.pull(keys) == 0).all()
            table.add(keys, ones)
        third = checkpointing.take(tier.control, url)
        checkpointing.restore(tier.control, url, second.id)
        assert (old.pull(keys) == 1).all()
        checkpointing.restore(tier.control, url, third.id)
        assert all((table.pull(keys) == 1).all() for table in (old, *made_later(tier)[:2]))


def read_or_lost(table, key: int) -> list[float]:
    try:
        return table.pull([key])[0].tolist()
    except ShardLost:
        return []
