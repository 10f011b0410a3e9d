"""A tier of real processes without Spark, and short ways to use it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sparkps.client.control import ControlClient
from sparkps.client.session import Session, connect, disconnect
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.config import Settings
from sparkps.driver_bridge.launchers import local
from sparkps.errors import SparkPSError
from sparkps.specs import TableSpec
from sparkps.wire.hashing import buckets_of
from sparkps.wire.messages.control import AdmitGroup, Attach, Cause, CreateTable, EndGroup, FailRank, TierStatus


class Tier:
    """A running tier."""

    def __init__(self, running: local.LocalTier) -> None:
        self.address = running.address
        self.control = ControlClient.of(self.address)

    def sparse(self, name: str, dim: int = 1, **spec: Any) -> SparseTable:
        """Create a sparse table, or find it."""
        return SparseTable(
            self.address, self.control.request(CreateTable(0, TableSpec(name, "sparse", dim, **spec))).spec
        )

    def dense(self, name: str, shape: tuple[int, ...], **spec: Any) -> DenseTable:
        """Create a dense table, or find it."""
        return DenseTable(
            self.address, self.control.request(CreateTable(0, TableSpec(name, "dense", 1, shape=shape, **spec))).spec
        )

    def session(self) -> Session:
        """A session of its own."""
        return Session(self.address, self.control)

    def session_settings(self) -> Session:
        """This thread's session, to look at."""
        return connect(self.address)

    def disconnect(self) -> None:
        """End this thread's session."""
        disconnect(self.address)

    @contextlib.contextmanager
    def group(self, ranks: int, staleness: int) -> Iterator[int]:
        """An admitted group; yields its id."""
        name = f"group-{secrets.token_hex(4)}"
        spec = self.control.request(AdmitGroup(0, name, ranks, ranks, staleness, 0, name)).spec
        try:
            yield spec.group
        finally:
            self.control.request(EndGroup(0, spec.group))

    def fail_group(self, group: int, error: SparkPSError) -> None:
        """End a group with a cause."""
        self.control.request(FailRank(0, group, -1, -1, Cause.of(error)))

    def endpoints(self) -> list[str]:
        """Where the nodes answer."""
        return [node.endpoint for node in self.control.request(Attach(0)).nodes]

    def reports(self) -> list[dict[str, Any]]:
        """What the nodes say of themselves."""
        return list(connect(self.address).node_reports().values())

    def group_reports(self, group: int) -> list[dict[str, Any]]:
        """What each node says of a group, by rank."""
        return [report["groups"][str(group)] for report in self.reports()]

    def rows(self, name: str) -> int:
        """Rows of a table on all nodes."""
        table = str(self.control.request(CreateTable(0, self.spec_of(name))).spec.table)
        return sum(report["tables"][table]["rows"] for report in self.reports())

    def spec_of(self, name: str) -> TableSpec:
        """A table's specification."""
        from sparkps.wire.messages.control import FindTable

        spec: TableSpec = self.control.request(FindTable(0, name)).spec
        return spec

    def dropped(self) -> int:
        """Messages that the nodes have dropped."""
        return sum(report["dropped_messages"] for report in self.reports())

    def status(self) -> dict[str, Any]:
        """The coordinator's view."""
        report: dict[str, Any] = self.control.request(TierStatus(0)).report
        return report

    @staticmethod
    def bucket(key: int) -> int:
        """Bucket of a key."""
        return int(buckets_of(np.array([key]))[0])


@pytest.fixture(scope="package")
def tier() -> Iterator[Tier]:
    """Two nodes, shared by all tests of this directory: let them name their tables apart."""
    running = local.launch(Settings(num_nodes=2))
    try:
        made = Tier(running)
        yield made
        made.disconnect()
    finally:
        running.stop()
