"""Where a worker group is in its life at the driver, and what may happen to it there: one table. Pure data.

A group's life::

    planned ──> preparing ──> queued ──> admitted ──> running ──> finished
                    └───────────┴───────────┴────────────┴──────> ended
"""

from __future__ import annotations

from enum import Enum, StrEnum


class GroupStage(StrEnum):
    """A worker group at its driver."""

    #: Its arguments are right; nothing was done yet.
    PLANNED = "planned"
    #: Its rows are looked at, and staged if they must be.
    PREPARING = "preparing"
    #: It has asked for admission. It may have been granted though no answer came.
    QUEUED = "queued"
    #: Coordinator and nodes know it; its Spark job starts, and its solver joins.
    ADMITTED = "admitted"
    RUNNING = "running"
    #: Every rank has ended with a result, and nothing of the group is left.
    FINISHED = "finished"
    #: It has failed, or was left without its results, and nothing of it is left.
    ENDED = "ended"


class Event(Enum):
    """What may happen to a group; the value says what it must be for that."""

    START = "new to be started"
    PREPARED = "preparing its rows to ask for admission"
    ADMITTED = "queued to be admitted"
    STARTED = "admitted to run"
    WAIT = "running to be waited for"
    FINISHED = "running to finish"
    END = "there to end"


#: State -> event -> the state that follows. What is not here must not happen.
TRANSITIONS: dict[GroupStage, dict[Event, GroupStage]] = {
    GroupStage.PLANNED: {Event.START: GroupStage.PREPARING, Event.END: GroupStage.ENDED},
    GroupStage.PREPARING: {Event.PREPARED: GroupStage.QUEUED, Event.END: GroupStage.ENDED},
    GroupStage.QUEUED: {Event.ADMITTED: GroupStage.ADMITTED, Event.END: GroupStage.ENDED},
    GroupStage.ADMITTED: {Event.STARTED: GroupStage.RUNNING, Event.END: GroupStage.ENDED},
    GroupStage.RUNNING: {Event.WAIT: GroupStage.RUNNING, Event.FINISHED: GroupStage.FINISHED, Event.END: GroupStage.ENDED},
    # Results can be asked for again, and a `with` block ends after it has waited.
    GroupStage.FINISHED: {Event.WAIT: GroupStage.FINISHED, Event.FINISHED: GroupStage.FINISHED, Event.END: GroupStage.FINISHED},
    GroupStage.ENDED: {Event.END: GroupStage.ENDED},
}

__all__ = ["TRANSITIONS", "Event", "GroupStage"]
