"""Tables that are dropped while others write to them, create more, train and read."""

from __future__ import annotations

from tests.harness.churn import Churn


def test_tables_dropped_under_load_kill_no_process_and_lose_no_sum() -> None:
    added = Churn(seconds=12.0).run()
    assert all(total > 0 for total in added.values())
