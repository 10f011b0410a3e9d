"""Seeds of the drawn schedules that broke a promise once."""

from __future__ import annotations

import pytest

from tests.harness import schedules


@pytest.mark.parametrize(
    "seed",
    [
        701163,  # a Hello of long ago opened a forgotten session anew, behind what its client had: the node waited for ever
    ],
)
def test_a_seed_that_broke_a_promise_breaks_none_now(seed: int) -> None:
    found = schedules.first_failure([seed])
    assert found is None, schedules.told(*found)


@pytest.mark.parametrize(
    "seed",
    [
        5012,  # a node that had given up its last copy, and left, was sent what it had not acknowledged for ever
        5350,  # a copy whose former primary knew of a rank's successor refused what its new primary took of the rank itself
        6520,  # buckets were dropped at the node that gave them up, for their new primary could not reach it, and led them not yet: lost
        9875,  # a piece of a push that waited for room went to where its rows had been, and came to where they are behind the next push
        21399,  # a table that was created while a bucket was copied was copied with writes that its copy got once more
    ],
)
def test_a_seed_with_replicas_that_broke_a_promise_breaks_none_now(seed: int) -> None:
    found = schedules.first_failure(range(seed, seed + 1), replicas=True)
    assert found is None, schedules.told(*found, replicas=True)
