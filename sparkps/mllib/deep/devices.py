"""Where a worker computes: on the GPU that Spark has given it, or on the CPU where that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from sparkps.errors import InvalidInput, OutOfDeviceMemory
from sparkps.nn.device_memory import is_out_of_memory

if TYPE_CHECKING:
    from sparkps.mllib.deep.job import DeepJob

R = TypeVar("R")

#: What `device` may be.
DEVICES = ("auto", "cpu", "cuda")

#: What gives workers GPUs, in the words of messages.
_SET = "`gpusPerWorker` (or `spark.sparkps.worker.gpus`)"


def device_of(worker: Any, wanted: str, gpus: float = 0.0) -> torch.device:
    """The device of a worker; a GPU becomes the current one of the calling thread.

    It is the first of those that Spark gave to the task, as `TaskContext.resources()` has them. A Python worker that is reused may have
    imported torch, and have used another GPU, for a task before: so nothing depends on ``CUDA_VISIBLE_DEVICES``, which torch reads once.

    Parameters
    ----------
    worker : Worker
    wanted : {"auto", "cpu", "cuda"}
        "auto": the GPU that the task was given; the CPU where it was given none, and none was asked for.
    gpus : float
        What was asked for, for each worker.

    Raises
    ------
    InvalidInput
        A GPU was asked for, and there is none; or it was given, and this process cannot use it.

    Examples
    --------
    >>> device_of(worker, "auto", 0.5)                  # doctest: +SKIP
    device(type='cuda', index=1)
    """
    address = worker.device
    if wanted == "cpu" or (wanted == "auto" and address is None and not gpus):
        return torch.device("cpu")
    if address is None:
        asked = "With device='cuda'" if wanted == "cuda" else f"With {gpus:g} GPUs for each worker"
        raise InvalidInput(
            f"{asked} every worker must have a GPU. Rank {worker.rank} was given none: set {_SET} to 1 (or to a share of one), and let"
            " executors have GPUs (conf/gpu.conf); or set device='cpu'.",
            rank=worker.rank,
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not address.isdigit() or int(address) >= count:
        raise InvalidInput(
            f"The GPU of a worker must be one that torch can use. Rank {worker.rank} was given {address!r}, and torch sees {count} here:"
            " install a torch with CUDA and a driver for it on every executor, whose addresses are those of conf/discover-gpu.sh, and leave"
            " CUDA_VISIBLE_DEVICES unset there; or set device='cpu'.",
            rank=worker.rank,
        )
    torch.cuda.set_device(int(address))
    return torch.device("cuda", int(address))


def within_memory(device: torch.device, worker: Any, job: DeepJob, act: Callable[[], R]) -> R:
    """What `act` gives. A Python worker that waits for its next task leaves the memory of its GPU to others.

    Raises
    ------
    OutOfDeviceMemory
        In the place of torch's error, and says what to set. It does not keep what that one refers to, the tensors of the step.
    """
    told = ""
    try:
        return act()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        told = str(error)[:500]
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    raise OutOfDeviceMemory(
        f"What a worker computes at once must fit in the memory of its device. It does not on {device} of rank {worker.rank}, at clock"
        f" {worker.clock}, with batchSize={job.batch_size}, accumulationSteps={job.accumulation} and amp={job.amp}: {told} Set a larger"
        " `accumulationSteps` (parts of a batch that are computed one after the other), a smaller `batchSize`, amp=True, or a larger"
        " `gpusPerWorker` where workers share a GPU.",
        rank=worker.rank,
        clock=worker.clock,
    )


__all__ = ["DEVICES", "device_of", "within_memory"]
