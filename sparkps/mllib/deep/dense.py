"""Dense parameters of a module as one flat vector, and on the tier: pulled before a step, their gradient pushed after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[Any]


class FlatParameters:
    """The parameters that are trained, and the buffers, of a module as flat vectors.

    Parameters
    ----------
    module : torch.nn.Module

    Examples
    --------
    >>> flat = FlatParameters(nn.Linear(2, 1))
    >>> flat.load(np.array([1.0, 2.0, 0.5], np.float32))
    >>> flat.values().tolist(), flat.size, flat.buffer_size
    ([1.0, 2.0, 0.5], 3, 0)
    """

    def __init__(self, module: nn.Module) -> None:
        self._take(
            [each for each in module.parameters() if each.requires_grad],
            _moving(module),
        )

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Self:
        """Those of a part of a module, without buffers."""
        made = cls.__new__(cls)
        made._take(tensors, [])
        return made

    def _take(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor]) -> None:
        self._parameters, self._buffers = parameters, buffers
        #: Numbers of all parameters, and of all buffers.
        self.size = sum(each.numel() for each in self._parameters)
        self.buffer_size = sum(each.numel() for each in self._buffers)

    def load(self, values: Array) -> None:
        """Let parameters be these, (size,)."""
        _load(self._parameters, values)

    def load_buffers(self, values: Array) -> None:
        """Let buffers be these, (buffer_size,)."""
        _load(self._buffers, values)

    def values(self) -> Array:
        """The parameters, float32 (size,)."""
        return _flat(self._parameters, torch.float32, np.float32)

    def buffers(self) -> Array:
        """The buffers, float64 (buffer_size,): whole numbers, too."""
        return _flat(self._buffers, torch.float64, np.float64)

    def gradient(self, scale: float) -> Array:
        """The gradient times `scale`, float32 (size,); zeros of parameters that no loss depends on."""
        parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in self._parameters]
        found = _flat(parts, torch.float32, np.float32)
        found *= np.float32(scale)
        return found


def _moving(module: nn.Module) -> list[Tensor]:
    """Buffers that training may change, as running means: persistent, and real and finite numbers, or one that counts.

    All others are constants, as masks and indices are, and stay as they are at each worker.
    """
    found: dict[int, Tensor] = {}
    for each in module.modules():
        for name, buffer in each.named_buffers(recurse=False):
            counts = not buffer.is_floating_point() and not buffer.is_complex() and buffer.numel() == 1
            moves = buffer.is_floating_point() and buffer.numel() > 0 and bool(torch.isfinite(buffer).all())
            if name not in each._non_persistent_buffers_set and (counts or moves):
                found[id(buffer)] = buffer
    return list(found.values())


class FlatShard(FlatParameters):
    """The rows that one rank has of the parameters of a module that is sharded by torch, and the module's buffers."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.size = sum(each.numel() for each in self._own)

    @property
    def _own(self) -> list[Tensor]:
        """What this rank has of each parameter: torch may move it as the module is first called."""
        return [each.detach().to_local() for each in self._parameters]

    def load(self, values: Array) -> None:
        """See `FlatParameters`."""
        _load(self._own, values)

    def values(self) -> Array:
        """See `FlatParameters`."""
        return _flat(self._own, torch.float32, np.float32)

    def gradient(self, scale: float) -> Array:
        """See `FlatParameters`."""
        parts = [
            torch.zeros_like(own) if each.grad is None else each.grad.to_local()
            for own, each in zip(self._own, self._parameters, strict=True)
        ]
        found = _flat(parts, torch.float32, np.float32)
        found *= np.float32(scale)
        return found


def _load(tensors: Sequence[Tensor], values: Array) -> None:
    flat = torch.from_numpy(np.ascontiguousarray(values) if values.flags.writeable else values.copy())
    first = 0
    with torch.no_grad():
        for each in tensors:
            part = flat[first : first + each.numel()].view_as(each)
            each.copy_(part.round() if not each.is_floating_point() else part)
            first += each.numel()


def _flat(tensors: Sequence[Tensor], kind: torch.dtype, dtype: Any) -> Array:
    if not tensors:
        return np.empty(0, dtype)
    found: Array = torch.cat([each.detach().to(kind).reshape(-1) for each in tensors]).cpu().numpy()
    return found


class Dense(Protocol):
    """How dense parameters are kept together, as one rank sees it. In a step its methods are called in their order."""

    flat: FlatParameters

    def start(self, step: int) -> None:
        """This rank begins at a step, the first one or a later one."""

    @property
    def wanted(self) -> list[Any]:
        """What a step pulls of it."""

    def begin(self, step: int, pulled: list[Array]) -> None:
        """What was `wanted` is there: have the module as it is before a step of that number."""

    def pushes(self, scale: float) -> list[tuple[Any, Array]]:
        """What to push together with embeddings: of the gradient, times `scale`."""

    def end(self, scale: float) -> None:
        """What is left of the step, when that is under way; 0: this rank has no rows in it."""

    def commit(self, *, ends_epoch: bool) -> None:
        """The step is to be ticked, and maybe the epoch with it."""

    def close(self) -> None:
        """This rank takes no more steps."""


class DenseOnTier:
    """A module's parameters and buffers on the tier, which applies the optimizer.

    Parameters
    ----------
    flat : FlatParameters
    tables : tuple of DenseTable or None
        Of parameters and of buffers; None where there are none.
    num_workers : int
        Buffers become the mean of what all ranks make of them.
    """

    def __init__(self, flat: FlatParameters, tables: tuple[Any, Any], num_workers: int) -> None:
        self.flat = flat
        self._dense, self._buffers = tables
        self._num_workers = num_workers
        #: Buffers as they were pulled.
        self._before: Array = np.empty(0)

    def start(self, step: int) -> None:
        """Nothing is needed."""

    @property
    def wanted(self) -> list[Any]:
        """See `Dense`."""
        return [each for each in (self._dense, self._buffers) if each is not None]

    def begin(self, step: int, pulled: list[Array]) -> None:
        """See `Dense`."""
        found = iter(pulled)
        if self._dense is not None:
            self.flat.load(next(found).reshape(-1))
        if self._buffers is not None:
            self._before = next(found).reshape(-1)
            self.flat.load_buffers(self._before)

    def pushes(self, scale: float) -> list[tuple[Any, Array]]:
        """See `Dense`."""
        if self._buffers is not None:
            change = (self.flat.buffers() - self._before) / self._num_workers
            if np.isfinite(change).all():  # else the loss says so, in words of its own
                self._buffers.add_async(change)
        return [] if self._dense is None else [(self._dense, self.flat.gradient(scale))]

    def end(self, scale: float) -> None:
        """Nothing is left to do."""

    def commit(self, *, ends_epoch: bool) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is left to do."""


__all__ = ["Dense", "DenseOnTier", "FlatParameters", "FlatShard"]
