"""GPUs of ranks: those that Spark has given to the task; on a local master, where Spark gives none, a share of the driver's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparkps.driver_bridge.profiles import GPU
from sparkps.driver_bridge.spark.master import Master


@dataclass(frozen=True)
class DriverGpus:
    """GPUs of the driver that the ranks of a local master share out by their number. Groups that run at once do not know of each other.

    Examples
    --------
    >>> gpus = DriverGpus(("0", "1", "2", "3"), 2.0)
    >>> gpus.of(0), gpus.of(1)
    (('0', '1'), ('2', '3'))
    >>> [DriverGpus(("0", "1"), 0.5).of(rank) for rank in range(4)]
    [('0',), ('0',), ('1',), ('1',)]
    """

    addresses: tuple[str, ...]
    #: GPUs of a rank, or its share of one.
    each: float

    def of(self, rank: int) -> tuple[str, ...]:
        """Addresses of those of a rank."""
        if self.each < 1:
            first = rank // int(1 / self.each + 1e-9)
            return self.addresses[first : first + 1]
        count = int(self.each)
        return self.addresses[rank * count : (rank + 1) * count]


def gpus_of_driver(spark: Any, each: float) -> DriverGpus | None:
    """What ranks on a local master share out, each `each` of them; None: Spark gives GPUs to the tasks, or nobody has any."""
    context = spark.sparkContext
    if not each or not Master(context.master).in_driver:
        return None
    found = context.resources.get(GPU)
    return DriverGpus(tuple(found.addresses) if found is not None else (), each)


def devices_of(resources: Mapping[str, Any], rank: int, of_driver: DriverGpus | None) -> tuple[str, ...]:
    """Addresses of the GPUs of a rank.

    Parameters
    ----------
    resources : mapping
        ``TaskContext.resources()``.
    rank : int
    of_driver : DriverGpus or None
        Of a local master.
    """
    if of_driver is not None:
        return of_driver.of(rank)
    given = resources.get(GPU)
    return tuple(given.addresses) if given is not None else ()


__all__ = ["DriverGpus", "devices_of", "gpus_of_driver"]
