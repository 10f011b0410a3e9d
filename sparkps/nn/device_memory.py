"""Memory of GPUs: how what a step needs gets there, and how errors say that there is too little of it."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device.

    To a GPU it goes from pinned memory, on a stream for copies alone: what is asked for before a kernel that runs has ended gets there
    meanwhile, as the rows of the next part of a batch. What the calling thread computes from then on waits for it.

    Parameters
    ----------
    tensor : Tensor
    device : torch.device

    Examples
    --------
    >>> copied(torch.ones(2), torch.device("cpu"))
    tensor([1., 1.])
    """
    if device.type != "cuda":
        return tensor.to(device)
    copies, computing = _stream_of_copies(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(copies):
        there = tensor.pin_memory().to(device, non_blocking=True)
    computing.wait_stream(copies)
    # It belongs to the stream of copies: its memory must not be given away while what computes uses it.
    there.record_stream(computing)
    return there


@functools.cache
def _stream_of_copies(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU has too little memory; those of NCCL and cuBLAS have no type of their own.

    Examples
    --------
    >>> is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory.")), is_out_of_memory(RuntimeError("Connection closed by peer"))
    (True, False)
    >>> is_out_of_memory(RuntimeError("NCCL error: unhandled cuda error ... Failed to CUDA calloc async: out of memory"))
    True
    """
    if isinstance(error, torch.OutOfMemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in said or "CUBLAS_STATUS_ALLOC_FAILED" in said)


__all__ = ["copied", "is_out_of_memory"]
