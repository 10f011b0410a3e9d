"""A node killed in the middle of a fit: the coefficients are, bit by bit, those of a fit without a fault."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pyspark.sql import DataFrame

from sparkps import PSContext
from sparkps.mllib.classification import LogisticRegression
from sparkps.testing.processes import kill_node, nodes_up, wait_until
from tests.harness.cases import cases
from tests.harness.node_faults import NODES, wait_whole

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(300)]

#: Solver -> parameters of a fit that takes some seconds.
FITS: dict[str, dict[str, Any]] = {
    "lbfgs": {"maxIter": 40, "tol": 0.0, "standardization": False},
    "adagrad": {"maxIter": 4, "batchSize": 50, "deterministic": True},
}


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """Nodes that have taken the place of others stay until the tier of this module ends."""


def clock(ps: PSContext) -> int:
    """How far the ranks of the group that runs are."""
    return max((int(rank["clock"]) for group in ps.status()["groups"] for rank in group["ranks"]), default=-1)


@pytest.mark.parametrize("after", cases([4], long=[9]))
@pytest.mark.parametrize("solver", FITS)
def test_node_killed_in_a_fit_changes_no_coefficient(ps: PSContext, rows: DataFrame, solver: str, after: int) -> None:
    estimator = LogisticRegression(solver=solver, numWorkers=2, **FITS[solver])
    wait_whole(ps, NODES)
    undisturbed = estimator.fit(rows)
    with ThreadPoolExecutor(1) as pool:
        fit = pool.submit(estimator.fit, rows)
        wait_until(lambda: clock(ps) >= after or fit.done(), 120.0, 0.005, f"clock {after}")
        assert not fit.done(), "the fit is under way"
        kill_node(ps, nodes_up(ps)[after % NODES])
        disturbed = fit.result(timeout=90)
    assert disturbed.coefficients == undisturbed.coefficients
    assert disturbed.intercept == undisturbed.intercept
    assert disturbed.summary.objectiveHistory == undisturbed.summary.objectiveHistory
