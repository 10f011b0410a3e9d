"""What the ranks of a training add up in the midst of a step, as layers that normalise over the rows of all of them do.

The sums of a step have an order, that of the module's calls, which is the same at all ranks. Each rank keeps those of its step and of
the one before. So where a rank is lost in the midst of a step the others stay where they are: its successor is given the sums that they
have, goes through the step with these until it is where they are, and adds up the rest with them.

That is right because no rank is further ahead: a sum comes to its end at one rank only if all have given what they had to it, so ranks
of one step differ by one sum at most; and a rank ends a step only when all have, so that whoever takes it again is given all its sums.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class StepSums:
    """The sums that one rank knows; who adds them up is not its business.

    Parameters
    ----------
    device : torch.device
        Where they are.

    Examples
    --------
    >>> sums = StepSums(torch.device("cpu"))
    >>> sums.begin(3)
    >>> sums.next(), sums.known
    (0, [])
    >>> sums.known.append(torch.ones(2, dtype=torch.float64))
    >>> sums.counts(), sums.lengths(3)
    ({3: 1}, [2])
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        #: By step, float64 (n,) each, in their order: of the step at hand, and of the one before.
        self._by_step: dict[int, list[Tensor]] = {}
        self._step = 0
        #: How many of its step this rank has asked for.
        self._asked = 0

    def begin(self, step: int) -> None:
        """The rank begins a step."""
        self._step, self._asked = step, 0
        for old in [each for each in self._by_step if each < step - 1]:
            del self._by_step[old]

    @property
    def known(self) -> list[Tensor]:
        """Of the step at hand."""
        return self._by_step.setdefault(self._step, [])

    def next(self) -> int:
        """The place of the sum that the rank asks for next."""
        self._asked += 1
        return self._asked - 1

    def counts(self) -> dict[int, int]:
        """By step, how many sums are known."""
        return {step: len(sums) for step, sums in self._by_step.items() if sums}

    def lengths(self, step: int) -> list[int]:
        """How long each known sum of a step is."""
        return [len(each) for each in self._by_step.get(step, [])]

    def flat(self, step: int) -> Tensor:
        """All of a step, one behind the other, float64 (n,)."""
        return torch.cat([torch.empty(0, dtype=torch.float64, device=self._device), *self._by_step.get(step, [])])

    def learn(self, step: int, flat: Tensor, lengths: Sequence[int]) -> None:
        """Know of a step what another rank knows, if that is more."""
        if len(lengths) > len(self._by_step.get(step, [])):
            self._by_step[step] = list(flat.split(list(lengths)))

    def room(self, lengths: Sequence[int]) -> Tensor:
        """For `flat` of another rank."""
        return torch.zeros(sum(lengths), dtype=torch.float64, device=self._device)

    def packed(self, step: int) -> NDArray[np.float64]:
        """How many there are of a step, how long each is, and all of them."""
        lengths = self.lengths(step)
        return np.concatenate([np.array([len(lengths), *lengths], np.float64), self.flat(step).cpu().numpy()])

    def unpack(self, step: int, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Know what was `packed`; what lies behind it."""
        last = 1 + int(values[0])
        lengths = [int(each) for each in values[1:last]]
        end = last + sum(lengths)
        self.learn(step, torch.from_numpy(values[last:end].copy()).to(self._device), lengths)
        return values[end:]


__all__ = ["StepSums"]
