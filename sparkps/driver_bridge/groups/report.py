"""What a run measured: time by part, staleness and waiting by rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sparkps.wire.messages.control import GroupReport


@dataclass(frozen=True)
class RankFigures:
    """One rank of a run."""

    rank: int
    #: Ticks of the rank.
    clock: int
    #: Largest staleness that a pull of the rank was answered with, on any shard; None: no pull was counted.
    staleness: int | None
    #: Seconds that the rank's calls waited for answers, other ranks' ticks included.
    waited_seconds: float
    #: What the rank reported last.
    progress: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerLost:
    """Stands for the result of a rank that its group has gone on without (``on_worker_loss="continue"``).

    Examples
    --------
    >>> results = [7.0, WorkerLost(rank=1, clock=12)]
    >>> [result for result in results if not isinstance(result, WorkerLost)]
    [7.0]
    """

    rank: int
    #: Ticks of the rank: what it wrote in clocks below counts. In SSP and ASP, so does what had arrived of later ones.
    clock: int


#: Who reads the rows: Spark's scan for each rank, every rank its share of Parquet files, or every rank its staged files.
READERS = ("spark", "parquet", "staged")


@dataclass(frozen=True)
class RunReport:
    """Figures of one run; all times are seconds."""

    group: str
    num_workers: int
    consistency: str
    #: One of `READERS`.
    reader: str
    #: Why the input was staged; empty: it was not.
    staged: str
    staging_seconds: float
    #: Waiting behind other groups.
    admission_seconds: float
    #: From admission until every rank had started.
    start_seconds: float
    #: From then until the last rank had finished.
    train_seconds: float
    ranks: tuple[RankFigures, ...]
    #: Ranks that the group has gone on without.
    lost: tuple[int, ...] = ()
    #: Checkpoints that were taken.
    checkpoints: int = 0
    #: Ids of those from which the run went on: where it resumes another one, and where buckets were lost.
    resumed_from: tuple[str, ...] = ()
    #: Clocks that were done again, since buckets were lost after the last checkpoint.
    redone_clocks: int = 0

    @property
    def staleness(self) -> int:
        """Largest staleness of any rank."""
        return max((rank.staleness or 0 for rank in self.ranks), default=0)

    @property
    def waited_seconds(self) -> float:
        """Seconds waited, all ranks together."""
        return sum(rank.waited_seconds for rank in self.ranks)


class Results(list[Any]):
    """One result a rank, in the order of ranks; ``report`` is a `RunReport`."""

    def __init__(self, results: Iterable[Any], report: RunReport) -> None:
        super().__init__(results)
        self.report = report


def rank_figures(report: GroupReport, measured: Mapping[str, Any], num_workers: int) -> tuple[RankFigures, ...]:
    """Figures of every worker.

    Parameters
    ----------
    report : GroupReport
        The coordinator's; its counters are what the ranks sent last.
    measured : mapping
        The group's entry in the tier's status: what the nodes measured, by rank.
    num_workers : int
        A driver-side solver is left out.
    """
    by_rank = {rank.rank: rank.counters for rank in report.ranks}
    nodes = {int(entry["rank"]): entry for entry in measured.get("ranks", ())}
    figures = []
    for rank in range(num_workers):
        counters = dict(by_rank.get(rank, {}))
        figures.append(
            RankFigures(
                rank=rank,
                clock=int(counters.pop("clock", 0)),
                staleness=nodes.get(rank, {}).get("staleness"),
                waited_seconds=float(counters.pop("waited_seconds", 0.0)),
                progress=counters,
            )
        )
    return tuple(figures)


__all__ = ["READERS", "RankFigures", "Results", "RunReport", "WorkerLost", "rank_figures"]
