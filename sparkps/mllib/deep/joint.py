"""A rank of a training whose module is divided among the ranks: each step is taken by all of them together, and none has a rank's state.

What a rank has of the module lies on the tier between two steps: it is pulled before a step, and what the step says of it is pushed. So a
rank that was lost has nothing that its successor does not find there. But no rank can take a step alone, which gives the rules:

- A rank begins a step when all have ticked the one before. It ticks its own as soon as it has pushed, without waiting for others.
- When a rank is lost, what the others do with it ends with an error, and those who wait for the tier see that a meeting is called. All
  meet, and say which clock they are in.
- Ranks that have ticked a clock which another has not come to the end of take it once more with that one, and push nothing. They read the
  tier outside of the group's clock: as long as one rank has not ticked, the nodes have what all ranks began that clock with.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from sparkps.client.control import ControlClient
from sparkps.client.session import Session
from sparkps.mllib.deep.dense import Dense, DenseOnTier, FlatParameters
from sparkps.mllib.deep.examples import Examples
from sparkps.mllib.deep.job import DeepRankJob
from sparkps.mllib.deep.measuring import DeepMeasuring
from sparkps.mllib.deep.rank import DeepRank
from sparkps.mllib.deep.replicas import waiting
from sparkps.mllib.deep.store import ExampleStore
from sparkps.mllib.solvers.measuring import CLOCKS
from sparkps.nn.process_group import DefaultGroup, PeersLost
from sparkps.nn.tier import TierRows

Array = NDArray[Any]

R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """What a rank reads of the tier: rows of embeddings, and vectors of dense parameters."""

    rows: TierRows
    vectors: list[Any]

    def read(self, keys: Mapping[str, Array]) -> tuple[dict[str, Array], list[Array]]:
        """By table the rows of its keys, and the vectors."""
        return self.rows.pull_with(keys, self.vectors)


@dataclass(frozen=True)
class TakenStep:
    """What a step came to at one rank."""

    #: Sum of the losses that this rank has seen, and of the weights of their rows.
    loss: float
    weight: float
    #: Rows of the step over all ranks.
    size: int
    #: By table, keys and gradients of sums over rows.
    gradients: dict[str, tuple[Array, Array]] = field(default_factory=dict)


class JointMeasuring(DeepMeasuring):
    """Rows for validation of a module that is divided: all ranks measure together."""

    _rank: JointRank

    def measure(self, epoch: int) -> None:
        """See `DeepMeasuring`."""
        rank = self._rank
        rank.wait(rank.ranks.pull_async())
        loss, parts, weight = rank.jointly(lambda: self.measured(rank.bound))
        if self._measures is not None and weight:
            self._measures.add(np.array([epoch]), parts[None, :])
        self._tell(epoch, loss, weight)

    def measured(self, reader: Reader) -> tuple[float, Array, float]:
        """Of the rows that this rank sees the outputs of: sum of losses, parts of the metrics, and sum of weights."""
        rank, loss, parts, weight = self._rank, 0.0, np.zeros(self._metrics.size), 0.0
        rank.load(0, reader)
        rank.module.eval()
        mine, portions = sum(-(-length // self._at_once) for length in self._aside.lengths), iter(self._portions())
        for _ in range(int(rank.said_by_all(mine).max())):
            seen = rank.scored(next(portions, None), reader)
            if seen is not None:
                more, of_metrics = self._summed(*seen)
                loss, parts, weight = loss + more, parts + of_metrics, weight + seen[1].weight
        return loss, parts, weight


class JointRank(DeepRank):
    """One rank.

    Parameters
    ----------
    worker, rank_job, store, aside, device
        As of `DeepRank`.
    """

    _measuring_by = JointMeasuring
    measuring: JointMeasuring | None

    def __init__(self, worker: Any, rank_job: DeepRankJob, store: ExampleStore, aside: ExampleStore, device: torch.device) -> None:
        self.peers = DefaultGroup(worker, device)
        #: Reads the tier outside of the group's clock; made when it is needed.
        self._free_session: Session | None = None
        super().__init__(worker, rank_job, store, aside, device)
        #: The tier under this rank's clock.
        self.bound = Reader(self.rows, self._vectors)

    def _dense(self, rank_job: DeepRankJob) -> tuple[Dense, Callable[[Any], Any]]:
        names, worker = self.names, self.worker
        tables = [worker.table(name) if name in rank_job.has else None for name in (names.dense_part(worker.rank), names.buffers)]
        self._vectors = [each for each in tables if each is not None]
        return DenseOnTier(self._flat(), (tables[0], tables[1]), worker.num_workers), lambda future: waiting(worker, self.meet, future)

    @abstractmethod
    def _flat(self) -> FlatParameters:
        """This rank's part of the module, as far as it is there before there is a group."""

    @abstractmethod
    def _formed(self) -> None:
        """There is a new process group."""

    @abstractmethod
    def take(self, t: int, reader: Reader) -> TakenStep:
        """Step t of all epochs, with all other ranks; nothing is pushed."""

    @abstractmethod
    def scored(self, rows: Examples | None, reader: Reader) -> tuple[torch.Tensor, Examples] | None:
        """Outputs of the rows that all ranks give, as far as this rank sees them, with those rows."""

    def close(self) -> None:
        """See `DeepRank`."""
        self.peers.close()
        if self._free_session is not None:
            self._free_session.close()

    # ---- with the others -----------------------------------------------------------------------------------------------

    def _train(self, t: int) -> None:
        with self._timed("pull"):
            self.wait(self.ranks.pull_async())
        taken = self.jointly(lambda: self.take(t, self.bound))
        self._count_in(taken.loss, taken.weight)
        scale = self._scale(taken.size)
        with self._timed("push"):
            gradients = {name: (keys, grads * np.float32(scale)) for name, (keys, grads) in taken.gradients.items()}
            self.rows.push(gradients, self.dense.pushes(scale * self._ranks_in_mean))
        self.steps += 1

    @property
    def _ranks_in_mean(self) -> int:
        """Ranks that gradients of dense parameters are the mean of, and not the sum."""
        return 1

    def jointly(self, act: Callable[[], R]) -> R:
        """What `act` gives when all ranks come to its end; from its beginning again where one of them was lost."""
        while True:
            try:
                if not self.peers.is_formed:
                    self._form()
                with self.peers.guarded():
                    return act()
            except PeersLost as lost:
                log.info("rank %d at clock %d: %s", self.worker.rank, self.worker.clock, lost.message)

    def _form(self) -> int:
        """Form the group; the clock of the rank that is furthest behind."""
        while True:
            said = self.peers.form({"clock": self.worker.clock})
            try:
                with self.peers.guarded():
                    self._formed()
                return min(int(each["clock"]) for each in said.values())
            except PeersLost as lost:
                log.info("rank %d at clock %d: %s", self.worker.rank, self.worker.clock, lost.message)

    def meet(self) -> None:
        """Come to a meeting that was called while this rank waits for the tier, and take again what another has not come to the end of."""
        while True:
            behind = self._form()
            if behind >= self.worker.clock:
                return
            try:
                with self.peers.guarded():
                    self._take_again(behind)
                return
            except PeersLost as lost:
                log.info("rank %d, which has ticked clock %d: %s", self.worker.rank, behind, lost.message)

    def _take_again(self, clock: int) -> None:
        """What this rank has done with others in a clock that it has ticked."""
        if clock < 1:  # rows were counted
            return
        steps = self.schedule.steps
        epoch, step = divmod(clock - 1, steps + (CLOCKS if self.measuring else 0))
        if step < steps:
            self.take(epoch * steps + step, self._unbound())
        elif self.measuring and step == steps:
            self.measuring.measured(self._unbound())

    def _unbound(self) -> Reader:
        """The tier as it is, whatever this rank has ticked."""
        session = self._free()
        rows = TierRows(session, {name: self.worker.table(self.names.rows(name)).bind(session) for name in self.tables})
        return Reader(rows, [each.bind(session) for each in self._vectors])

    def _everyone(self) -> Array:
        if self.worker.clock < 2:
            return super()._everyone()
        # All have said it. A successor that has ticked what others have not must not wait for them: they wait for it.
        found: Array = self.ranks.bind(self._free()).pull()
        return found

    def _free(self) -> Session:
        if self._free_session is None:
            address = self.worker.session.address
            self._free_session = Session(address, ControlClient.of(address))
        return self._free_session

    # ---- parts of a step -----------------------------------------------------------------------------------------------

    def load(self, t: int, reader: Reader) -> None:
        """Have this rank's part of the module as it is on the tier."""
        self.dense.begin(t, reader.read({})[1])

    def said_by_all(self, number: int) -> Array:
        """A number of each rank, int64 (ranks,)."""
        said = torch.zeros(self.worker.num_workers, dtype=torch.int64, device=self.device)
        said[self.worker.rank] = number
        self.peers.add(said)
        found: Array = said.cpu().numpy()
        return found


__all__ = ["JointMeasuring", "JointRank", "Reader", "TakenStep"]
