"""Dense parameters of which every rank has its own copy, kept equal by adding up the gradients of all ranks.

A version of them is what they are after so many steps. Each rank keeps the last two: the sum of a step's gradients may have come to its end
at some ranks and not at others when one is lost. The rules that let a successor take its place, and all end with the same bits:

- A rank ticks the clock of a step when all have come to its end: a barrier stands before the tick. So whatever a lost rank has ticked,
  the others have the version after it.
- When a rank is lost, what the others do together ends with an error; they meet, with its successor, and say which versions they have and
  which step they are in. Whoever has the newest gives it, and the one before, to those who lack it.
- A rank that is given the version after the step that it is in does not add up that step's gradients again; it still pushes what its rows
  say of embeddings, which the nodes count once.
- What layers add up over all ranks within a step, `summed`, is kept and given to those who lack it, too (see `step_sums`).
- Nobody waits for the tier while others wait for a meeting with it: who waits looks whether one is called.

Ranks of a local Spark are lost together. So there each also writes its versions into a file of its own, where its successor finds them; and
a fit with checkpoints writes them to the tier at every step, so that a checkpoint has them.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparkps.errors import DeadlineExceeded, GroupError
from sparkps.mllib.deep.dense import FlatParameters
from sparkps.mllib.deep.step_sums import StepSums
from sparkps.nn.flat_optimizer import first_state, planes_of, stepped
from sparkps.nn.process_group import Collective, PeersLost
from sparkps.optim import Optimizer

Array = NDArray[Any]

log = logging.getLogger(__name__)

#: Versions that a rank keeps.
_KEPT = 2


class DenseReplicas:
    """One rank's copy.

    Parameters
    ----------
    flat : FlatParameters
    optimizer : Optimizer
    peers : Collective
    saved : DenseTable or None
        Where versions go for checkpoints: parameters, state, buffers, and last the version's number.
    final : tuple of DenseTable or None
        Where parameters and buffers go at the end of each epoch.
    directory : pathlib.Path or None
        Where this host's ranks leave their versions; None: they are not lost together.
    """

    def __init__(
        self, flat: FlatParameters, optimizer: Optimizer, peers: Collective, device: torch.device, saved: Any, final: tuple[Any, Any],
        directory: Path | None,
    ) -> None:  # fmt: skip
        self.flat, self._optimizer, self._peers, self._device = flat, optimizer, peers, device
        self._saved, self._final, self._directory = saved, final, directory
        #: By version: parameters with state, float32 (1 + planes, n), and buffers, float64 (buffers,).
        self.versions: dict[int, tuple[Tensor, Tensor]] = {}
        #: The step that this rank is in: all are known to have come to the end of those before. And the newest that any rank is in.
        self.step = self._newest_step = 0
        self._loaded: int | None = None
        #: Of this step, and of the one before for a successor who takes it again.
        self._sums = StepSums(device)

    @property
    def wanted(self) -> list[Any]:
        """A step pulls nothing of it."""
        return []

    # ---- a step --------------------------------------------------------------------------------------------------------

    def start(self, step: int) -> None:
        """This rank begins at a step: at the first one, or in the place of another, whose versions may lie on this host."""
        self.step = self._newest_step = step
        if step == 0:
            self.versions[0] = self._first()
        found = self._in_files()
        for version in (step, step + 1):
            if version in found:
                self.versions[version] = self._unpacked(self._sums.unpack(version - 1, found[version]))
        if not self._peers.is_formed:
            # Before anything else is waited for: others may wait for the rank that was lost, and see by this that it is.
            self.meet()
        elif step not in self.versions:  # a single rank has nobody to ask
            self._restore(step)

    def begin(self, step: int, pulled: list[Array]) -> None:
        """Have the module as it is before a step."""
        assert step == self.step, "steps are taken in their order"
        self._sums.begin(step)
        if not self._peers.is_formed:
            self.meet()
        if step not in self.versions:
            raise GroupError(
                "The dense parameters of a training must be held by one of its workers, or lie in a checkpoint. All workers that had"
                f" those of step {step} are gone (the newest at hand are of step {max(self.versions, default=-1)}): fit with"
                " `checkpointDir`, or dense='ps'."
            )
        self._load(step)

    def pushes(self, scale: float) -> list[tuple[Any, Array]]:
        """None."""
        return []

    def summed(self, mine: Tensor) -> Tensor:
        """The sum of a vector over all ranks, each of which asks for it in the same place of its step: of float64, not to be written to."""
        place, known = self._sums.next(), self._sums.known
        while len(known) <= place:
            found = mine.clone()
            try:
                self._peers.add(found)
            except PeersLost as lost:
                self._met_after(lost)
                known = self._sums.known
                continue
            known.append(found)
        return known[place]

    def end(self, scale: float) -> None:
        """Add the gradients of all ranks up, and take the step; 0: this rank has none."""
        step, after = self.step, self.step + 1
        size = self.flat.size
        dtype = torch.float64 if self.flat.buffer_size else torch.float32
        mine = torch.zeros(size + self.flat.buffer_size, dtype=dtype, device=self._device)
        if scale:
            mine[:size] = torch.from_numpy(self.flat.gradient(scale)).to(mine)
            mine[size:] = (torch.from_numpy(self.flat.buffers()).to(mine) - self.versions[step][1]) / len(self._peers.members)
        while after not in self.versions:
            summed = mine.clone()
            try:
                self._peers.add(summed)
            except PeersLost as lost:
                self._met_after(lost)
                continue
            state, buffers = self.versions[step]
            self._keep(after, stepped(self._optimizer, state, summed[:size].float(), step), buffers + summed[size:].double())

    def commit(self, *, ends_epoch: bool) -> None:
        """All ranks have taken the step: only then may its clock be ticked."""
        self._leave_in_file()
        while self._newest_step <= self.step:
            try:
                self._peers.barrier()
                break
            except PeersLost as lost:
                self._met_after(lost)
        self._load(self.step + 1)
        if self._peers.members[0] == self._peers.rank:
            self._tell_tier(ends_epoch=ends_epoch)
        self.step += 1

    def close(self) -> None:
        """Leave the group."""
        self._peers.close()

    # ---- versions ------------------------------------------------------------------------------------------------------

    def _first(self) -> tuple[Tensor, Tensor]:
        """Version 0: the module as it came."""
        parameters, buffers = (torch.from_numpy(each).to(self._device) for each in (self.flat.values(), self.flat.buffers()))
        return first_state(self._optimizer, parameters), buffers

    def _keep(self, version: int, state: Tensor, buffers: Tensor) -> None:
        self.versions[version] = state, buffers
        for old in sorted(self.versions)[:-_KEPT]:
            del self.versions[old]

    def _load(self, version: int) -> None:
        if self._loaded != version:
            state, buffers = self.versions[version]
            self.flat.load(state[0].cpu().numpy())
            self.flat.load_buffers(buffers.cpu().numpy())
            self._loaded = version

    def _unpacked(self, values: Array) -> tuple[Tensor, Tensor]:
        count = (1 + planes_of(self._optimizer)) * self.flat.size
        state = torch.from_numpy(values[:count].astype(np.float32)).reshape(-1, self.flat.size)
        return state.to(self._device), torch.from_numpy(np.array(values[count:], np.float64)).to(self._device)

    def _packed(self, version: int) -> Array:
        state, buffers = self.versions[version]
        found: Array = np.concatenate([state.double().cpu().numpy().ravel(), buffers.cpu().numpy()])
        return found

    def _tell_tier(self, *, ends_epoch: bool) -> None:
        """What others find on the tier when this clock has closed."""
        if self._saved is not None:
            self._saved.assign(np.append(self._packed(self.step + 1), float(self.step + 1)))
        if ends_epoch:
            state, buffers = self.versions[self.step + 1]
            for table, values in zip(self._final, (state[0], buffers), strict=True):
                if table is not None:
                    table.assign(values.cpu().numpy())

    # ---- files ---------------------------------------------------------------------------------------------------------

    def _leave_in_file(self) -> None:
        """Write the newest version over the one before the last."""
        if self._directory is None:
            return
        version = max(self.versions)
        values = np.concatenate([self._sums.packed(version - 1), self._packed(version)])
        head = np.array([version, zlib.crc32(values.tobytes()), len(values)], np.int64)
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{self._peers.rank}.{version % _KEPT}"
        path.write_bytes(head.tobytes() + values.tobytes())

    def _in_files(self) -> dict[int, Array]:
        """All whole versions that ranks of this host have left, the newest two, with the sums of the steps that made them."""
        found: dict[int, Array] = {}
        for path in sorted(self._directory.iterdir()) if self._directory is not None and self._directory.is_dir() else ():
            with contextlib.suppress(OSError):
                raw = path.read_bytes()
                version, checksum, length = np.frombuffer(raw[:24], np.int64) if len(raw) >= 24 else (-1, 0, 0)
                values = np.frombuffer(raw[24:], np.float64) if len(raw) % 8 == 0 else np.empty(0)
                if version >= 0 and len(values) == length and zlib.crc32(values.tobytes()) == checksum:
                    found[int(version)] = values
        return {version: found[version] for version in sorted(found)[-_KEPT:]}

    # ---- meetings ------------------------------------------------------------------------------------------------------

    def _met_after(self, lost: PeersLost) -> None:
        log.info("rank %d in step %d: %s", self._peers.rank, self.step, lost.message)
        self.meet()

    def meet(self) -> None:
        """Form the group with all that there are, and have what the newest of them has; again until that was done."""
        while True:
            said = self._peers.form({"step": self.step, "versions": sorted(self.versions), "sums": self._sums.counts()})
            self._newest_step = max(self._newest_step, *(each["step"] for each in said.values()))
            try:
                self._share({rank: each["versions"] for rank, each in said.items()}, max(each["step"] for each in said.values()))
                self._share_sums({rank: each["sums"] for rank, each in said.items()}, min(each["step"] for each in said.values()))
                return
            except PeersLost as lost:
                log.info("rank %d in step %d: %s", self._peers.rank, self.step, lost.message)

    def _share(self, held: dict[int, list[int]], newest_step: int) -> None:
        """Give everybody the newest version, and the one before, unless all have what they need."""
        newest = max((version for versions in held.values() for version in versions), default=-1)
        if newest < newest_step:  # who needs it to go on says so; a rank that has come to the end does not
            self._restore(newest_step)
            return
        if all(newest in versions and (newest - 1 in versions or newest == 0) for versions in held.values()):
            return
        for version in (newest - 1, newest):
            givers = [rank for rank, versions in sorted(held.items()) if version in versions]
            if version < 0 or not givers:
                continue
            state, buffers = self.versions.get(version) or self._room()
            for tensor in (state, buffers):
                if tensor.numel():
                    self._peers.give(tensor, givers[0])
            self._keep(version, state, buffers)

    def _share_sums(self, held: dict[int, dict[str, int]], oldest_step: int) -> None:
        """Give everybody the sums that the furthest have, of the oldest step that a rank is in: of the next one nobody has any yet."""
        known = {rank: each.get(str(oldest_step), 0) for rank, each in sorted(held.items())}
        giver = max(known, key=lambda rank: known[rank])
        if all(each == known[giver] for each in known.values()):
            return
        own = giver == self._peers.rank
        told = self._sums.lengths(oldest_step) if own else [0] * known[giver]
        lengths = torch.tensor(told, dtype=torch.int64, device=self._device)
        self._peers.give(lengths, giver)
        flat = self._sums.flat(oldest_step) if own else self._sums.room(lengths.tolist())
        self._peers.give(flat, giver)
        self._sums.learn(oldest_step, flat, lengths.tolist())

    def _restore(self, step: int) -> None:
        """Have the version before a step if it lies in the checkpoint that all ranks go on from."""
        values = self._saved.pull() if self._saved is not None else np.zeros(1)
        if len(values) > 1 and int(values[-1]) == step:
            self._keep(step, *self._unpacked(values[:-1]))

    def _room(self) -> tuple[Tensor, Tensor]:
        shape = 1 + planes_of(self._optimizer), self.flat.size
        return torch.zeros(shape, device=self._device), torch.zeros(self.flat.buffer_size, dtype=torch.float64, device=self._device)


def waiting(worker: Any, meet: Callable[[], None], future: Any, patience: float = 0.25) -> Any:
    """The result of a future; whoever waits for it comes to a meeting that is called meanwhile."""
    waited = 0.0
    while True:
        try:
            return future.result(timeout=patience)
        except DeadlineExceeded:
            waited += patience
            if worker.meeting_called:
                meet()
                waited = 0.0
            elif waited > worker.session.limit:
                raise


__all__ = ["DenseReplicas", "waiting"]
