"""Processes that run simulated schedules."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.harness.schedules import ready_pool


@pytest.fixture(scope="package")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Two of them, ready."""
    with ready_pool(2) as started:
        yield started
