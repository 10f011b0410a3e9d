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
