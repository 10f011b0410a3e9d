"""A tier of plain processes for tests, as ``sparkps tier start`` makes one, and tables on it for whoever wants some."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sparkps import Connection, DenseTable, SparseTable, connect
from sparkps.client.attaching import url_of
from sparkps.config import Settings
from sparkps.driver_bridge.launchers.processes import ProcessTier
from sparkps.secret import TierSecret, forget
from sparkps.secret_files import write_secret_file
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import CreateTable


@dataclass
class SharedTier:
    """A tier that runs, and where it is."""

    running: ProcessTier
    url: str
    secret_file: pathlib.Path

    def connect(self, owner: str = "ann", **more: Any) -> Connection:
        """A connection as that owner."""
        return connect(self.url, self.secret_file, owner=owner, **more)


@contextlib.contextmanager
def shared_tier(directory: pathlib.Path, secret: TierSecret | None = None, **settings: Any) -> Iterator[SharedTier]:
    """A tier of two nodes on this machine, with its secret in a file of the directory; by default it has a new one."""
    secret, secret_file = secret or TierSecret.new(), directory / "secret"
    write_secret_file(secret_file, secret)
    running = ProcessTier(Settings(**{"num_nodes": 2, **settings}), secret).start()
    forget(running.address.tier_id)  # tests shall get it from the file
    try:
        yield SharedTier(running, url_of(running.address.coordinator), secret_file)
    finally:
        running.stop()


def sparse(tier: Connection, name: str, dim: int = 1, **spec: Any) -> SparseTable:
    """Make a sparse table of the connection's owner, or find it."""
    tier.request(CreateTable(0, TableSpec(f"{tier.owner}/{name}", "sparse", dim, **spec)))
    found = tier.table(name)
    assert isinstance(found, SparseTable)
    return found


def dense(tier: Connection, name: str, shape: tuple[int, ...], **spec: Any) -> DenseTable:
    """Make a dense table of the connection's owner, or find it."""
    tier.request(CreateTable(0, TableSpec(f"{tier.owner}/{name}", "dense", 1, shape=shape, **spec)))
    found = tier.table(name)
    assert isinstance(found, DenseTable)
    return found


__all__ = ["SharedTier", "dense", "shared_tier", "sparse"]
