"""What a master's name says of where tasks run: asked here, and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Master:
    """A master, as ``spark.master`` names it.

    Examples
    --------
    >>> [Master(name).in_driver for name in ("local[2]", "local-cluster[1,1,1024]", "yarn")]
    [True, False, False]
    >>> [Master(name).on_this_host for name in ("local[2]", "local-cluster[1,1,1024]", "yarn")]
    [True, True, False]
    """

    name: str

    @property
    def in_driver(self) -> bool:
        """Whether tasks run in the driver's own process, and a job fails with its first lost task."""
        return re.fullmatch(r"local(\[.*\])?", self.name) is not None

    @property
    def on_this_host(self) -> bool:
        """Whether every task sees the driver's files and sockets."""
        return self.in_driver or self.name.startswith("local-cluster[")

    @property
    def is_yarn(self) -> bool:
        """Whether executors are containers of YARN."""
        return self.name == "yarn"

    @property
    def is_kubernetes(self) -> bool:
        """Whether executors are pods."""
        return self.name.startswith("k8s://")

    @property
    def is_standalone(self) -> bool:
        """Whether executors are started by Workers of a standalone cluster, of which local-cluster is none."""
        return self.name.startswith("spark://")

    @property
    def accounts_memory(self) -> bool:
        """Whether an executor that takes more memory than it has asked for, its children included, is killed."""
        return self.is_yarn or self.is_kubernetes

    @property
    def workers_have_gpus(self) -> bool:
        """Whether Workers of Spark's own tell an executor which GPUs it has, so that it needs no discovery script."""
        return self.is_standalone or self.cores_of_worker > 0

    def cores(self, of_host: int) -> int | None:
        """Tasks that a local master runs at once, on a host of so many cores; None for a cluster."""
        if self.name == "local":
            return 1
        if match := re.fullmatch(r"local\[\s*([0-9]+|\*)\s*(?:,\s*[0-9]+\s*)?\]", self.name):
            return of_host if match[1] == "*" else int(match[1])
        if match := re.fullmatch(r"local-cluster\[\s*([0-9]+)\s*,\s*([0-9]+)\s*,\s*[0-9]+\s*\]", self.name):
            return int(match[1]) * int(match[2])
        return None

    @property
    def cores_of_worker(self) -> int:
        """Cores of each Worker of a local-cluster master; 0 for any other."""
        return self._worker[0]

    @property
    def memory_of_worker(self) -> int:
        """Bytes of each Worker of a local-cluster master; 0 for any other."""
        return self._worker[1] << 20

    @property
    def _worker(self) -> tuple[int, int]:
        match = re.fullmatch(r"local-cluster\[\s*[0-9]+\s*,\s*([0-9]+)\s*,\s*([0-9]+)\s*\]", self.name)
        return (int(match[1]), int(match[2])) if match else (0, 0)


__all__ = ["Master"]
