"""How often what has ended is started again."""

from __future__ import annotations

import pytest

from sparkps.driver_bridge.launchers.restarts import Restarts


def test_three_in_a_minute_and_then_as_the_minute_passes() -> None:
    restarts = Restarts()
    assert [restarts.take(now) for now in (0.0, 10.0, 20.0, 30.0, 59.9)] == [True, True, True, False, False]
    assert [restarts.take(now) for now in (60.0, 60.1, 70.0)] == [True, False, True]
    assert restarts.number == 5


@pytest.mark.parametrize("now", [0.0, 1e6])
def test_none_where_none_may_be(now: float) -> None:
    assert not Restarts(0).take(now)
