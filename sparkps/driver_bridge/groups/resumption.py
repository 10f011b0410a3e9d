"""Groups that go on where a checkpoint has them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from msgspec.structs import replace

from sparkps.checkpoints.manifest import GroupCut, Manifest
from sparkps.checkpoints.parts import consistency_of, starts
from sparkps.checkpoints.store import CheckpointStore, Skipped
from sparkps.client.control import ControlClient
from sparkps.driver_bridge import checkpointing
from sparkps.driver_bridge.groups.checkpoints import base_of
from sparkps.errors import CheckpointDamaged, CheckpointError, NoCheckpoint
from sparkps.specs import GroupSpec, RankStart

log = logging.getLogger(__name__)

#: Attribute of `NoCheckpoint`: there is none of a run of this name, not even a damaged one.
_NONE_YET = "none_yet"


@dataclass(frozen=True)
class Source:
    """The checkpoints that a group may go on from."""

    store: CheckpointStore
    #: Whether one of them is taken.
    accepts: Callable[[Manifest], bool] = lambda _: True
    #: By its name, whether a table of it is restored.
    restores: Callable[[str], bool] = lambda _: True
    #: Whether there must be one: tables that a run has changed are no beginning.
    must_be: bool = False


class Resumption:
    """A group that goes on from the newest sound checkpoint of one like it.

    Parameters
    ----------
    control : ControlClient
    source : Source
    name : str
        Of the run, without the part that makes a group's name unique. Checkpoints of runs of other names are not looked at.
    num_workers, num_ranks, staleness : int
        Of the group that goes on.
    """

    def __init__(
        self,
        control: ControlClient,
        source: Source,
        name: str,
        num_workers: int,
        num_ranks: int,
        staleness: int,
    ) -> None:
        self._control = control
        self._source = source
        self._store = source.store
        self._name = name
        self._shape = (num_workers, num_ranks, staleness)
        #: What was restored, with the tables that were.
        self.manifest: Manifest | None = None
        self._cut: GroupCut | None = None

    def restore(self) -> tuple[RankStart, ...]:
        """Restore the tables; where the ranks go on. Empty: there is no checkpoint of a run of this name, and none must be.

        Raises
        ------
        CheckpointError
            There are such checkpoints, and none is of such a group, or none is sound.
        """
        try:
            self.manifest = checkpointing.restored(self._control, self._store, self._mine())
        except NoCheckpoint as error:
            if self._source.must_be or not error.attributes.get(_NONE_YET):
                raise
            return ()
        self._cut = self._cut_in(self.manifest)
        assert self._cut is not None, "as `_mine` has seen"
        where = f"goes on after clock {self._cut.clock}" if self._cut.clock >= 0 else "begins at the beginning"
        log.warning("worker group %s %s, from checkpoint %s", self._name, where, self.manifest.id)
        return starts(self._cut)

    def mark(self, spec: GroupSpec) -> None:
        """SSP and ASP: what ranks had written beyond their ticks is known again. Before the group's ranks begin."""
        if self.manifest is None or self._cut is None or spec.staleness == 0:
            return
        deadline = time.monotonic() + checkpointing.LIMIT
        checkpointing.load(self._control, self._store, self.manifest, deadline, spec.group, self._cut.spec.group)

    def _mine(self) -> Generator[Manifest]:
        """Sound checkpoints with such a group, the newest first."""
        skipped: list[Skipped] = []
        found = checkpointing.candidates(self._store, skipped=skipped)
        others: list[str] = []
        try:
            manifest = next(found)
            while True:
                if self._cut_in(manifest) is None:
                    others += [_shown(cut.spec) for cut in self._cuts(manifest)]
                    manifest = next(found)
                    continue
                try:
                    yield self._narrowed(manifest)
                except CheckpointDamaged as error:
                    manifest = found.throw(error)
                else:
                    manifest = next(found)
        except NoCheckpoint as error:
            if others:
                raise self._of_others(others) from error
            if not any(self._may_be_mine(each.checkpoint) for each in skipped):
                error.attributes[_NONE_YET] = True
            raise

    def _of_others(self, others: list[str]) -> CheckpointError:
        workers, _, staleness = self._shape
        return CheckpointError(
            f"A run that resumes needs a checkpoint of a run {self._name!r} of {workers} workers in {consistency_of(staleness)}."
            f" Those at {self._store.url} are of {', '.join(sorted(set(others)))}: run it as it was, say resume=False, or give another"
            " `checkpoint_dir` or `name`."
        )

    def _may_be_mine(self, checkpoint: str) -> bool:
        """Of a damaged one: whether it is of a run of this name, or cannot say of which."""
        try:
            return bool(self._cuts(self._store.read(checkpoint)))
        except NoCheckpoint:
            return False  # gone
        except CheckpointDamaged:
            return True

    def _narrowed(self, manifest: Manifest) -> Manifest:
        """With the tables that are restored."""
        return replace(manifest, tables=tuple(spec for spec in manifest.tables if self._source.restores(spec.name)))

    def _cuts(self, manifest: Manifest) -> list[GroupCut]:
        """Where runs of this name were; none in checkpoints that a run of another name has taken, or that are not asked for."""
        if not self._source.accepts(manifest) or (manifest.owner is not None and manifest.owner.name != self._name):
            return []
        return [cut for cut in manifest.groups if base_of(cut.spec.name) == self._name]

    def _cut_in(self, manifest: Manifest) -> GroupCut | None:
        for cut in self._cuts(manifest):
            if (cut.spec.num_workers, cut.spec.num_ranks, cut.spec.staleness) == self._shape:
                return cut
        return None


def _shown(spec: GroupSpec) -> str:
    return f"{base_of(spec.name)!r} of {spec.num_workers} workers in {consistency_of(spec.staleness)}"


__all__ = ["Resumption", "Source"]
