"""Where the workers of a group are to run: how many, in which profile, and what the cluster can run at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparkps.driver_bridge.groups.devices import DriverGpus, gpus_of_driver
from sparkps.driver_bridge.resources import build, describe_workers, worker_profile
from sparkps.driver_bridge.spark.master import Master
from sparkps.driver_bridge.spark.slots import Slots, check_platform, choose_num_workers, count_slots, observe

if TYPE_CHECKING:
    from sparkps.driver_bridge.context import PSContext


@dataclass(frozen=True)
class WorkersPlan:
    """What a group goes by; of the cluster as it was when it was made."""

    num_workers: int
    #: What the cluster can run at once: admission and messages go by it.
    slots: Slots
    #: The ResourceProfile of their tasks; None: Spark's default.
    profile: Any
    #: What is asked of Spark, in words.
    asked: str
    #: GPUs of the driver's that they share out; None: each has its own.
    gpus: DriverGpus | None
    #: How often Spark's job may be submitted again.
    most_failures: int


def plan_workers(ps: PSContext, num_workers: int | None, gpus_per_worker: float | None = None) -> WorkersPlan:
    """The plan for a group of so many workers; None: as many as the cluster can run at once.

    Each has so many GPUs, or such a share of one; None: as `spark.sparkps.worker.gpus` says.

    Raises
    ------
    InvalidInput
    ConfigError
        The cluster cannot run such a group, or not so many.
    """
    master, conf, observed = observe(ps.spark)
    check_platform(conf)
    gpus = ps.settings.workers.gpus if gpus_per_worker is None else gpus_per_worker
    slots = count_slots(master, conf, observed, gpus=gpus, held=ps.held_by_nodes)
    number = choose_num_workers(num_workers, slots)
    profile = worker_profile(master, conf, gpus)
    # A local master fails a job at the first lost task, so the job is submitted again instead, as often as the task may fail.
    failures = int(conf.get("spark.task.maxFailures", "4")) if Master(master).in_driver else 1
    return WorkersPlan(
        number,
        slots,
        None if profile is None else build(profile),
        describe_workers(master, conf, profile, number),
        gpus_of_driver(ps.spark, gpus),
        failures,
    )


__all__ = ["WorkersPlan", "plan_workers"]
