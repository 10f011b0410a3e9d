"""What most modules of faults begin with: a tier that may lose nodes, and what a run leaves that loses none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, SparkSession

from sparkps import PSContext
from tests.harness.fit_rows import fit_rows
from tests.harness.node_faults import NODES, Tables, never_tired, trained


@pytest.fixture(scope="module")
def ps(spark: SparkSession) -> Iterator[PSContext]:
    """Three nodes, two copies, and as many restarts as it takes."""
    with PSContext(spark, num_nodes=NODES, replication=2) as context:
        never_tired(context)
        yield context


@pytest.fixture(scope="module")
def undisturbed(ps: PSContext, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """What a run without a fault leaves."""
    return trained(ps, tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """2,000 rows: a fit takes some seconds."""
    return fit_rows(spark, tmp_path_factory.mktemp("rows"), 2000)
