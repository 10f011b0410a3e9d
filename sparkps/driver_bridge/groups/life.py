"""The life of a worker group at its driver: its state, and what is left to be undone when it ends, however far it has come."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import IntEnum

from sparkps.driver_bridge.groups.states import TRANSITIONS, Event, GroupStage
from sparkps.errors import GroupError

log = logging.getLogger(__name__)


class EndStep(IntEnum):
    """What is undone at a group's end, in this order."""

    #: Ranks and nodes are told that it is over, unless it is.
    TELL = 1
    #: Its Spark job ends: tasks that were told have time to end by themselves.
    JOB = 2
    #: The driver is no member of it any more.
    SOLVER = 3
    #: Coordinator and nodes forget it, and its slots go to others.
    GROUP = 4
    #: What was staged of its rows is removed.
    ROWS = 5


#: Undoes something; called with the error that ended the group, or None.
Ending = Callable[[BaseException | None], object]


class Life:
    """Stage and endings of one group. Owner: the thread that starts the group and waits for it.

    Parameters
    ----------
    name : str
        The group's, for messages.

    Examples
    --------
    >>> life = Life("run-1")
    >>> life.enter(Event.START)
    >>> life.at_end(EndStep.ROWS, lambda error: print("rows are removed:", error))
    >>> life.at_end(EndStep.JOB, lambda error: print("the job is cancelled:", error))
    >>> life.end(KeyboardInterrupt("Ctrl-C"))
    the job is cancelled: Ctrl-C
    rows are removed: Ctrl-C
    >>> life.state.value
    'ended'
    """

    def __init__(self, name: str) -> None:
        self.name = name
        #: Changed by `enter` alone, as `states.TRANSITIONS` says.
        self.state = GroupStage.PLANNED
        #: What is still to be undone; a step is there as soon as there may be something to undo, and goes before it is taken.
        self._endings: dict[EndStep, Ending] = {}

    def enter(self, event: Event) -> None:
        """Go to the state that `event` leads to.

        Raises
        ------
        GroupError
            It must not happen in this state.
        """
        if event not in TRANSITIONS[self.state]:
            raise GroupError(f"Worker group {self.name!r} must be {event.value}. It is {self.state}.", group=self.name)
        self.state = TRANSITIONS[self.state][event]

    def at_end(self, step: EndStep, ending: Ending) -> None:
        """Do this at the group's end, in place of what was to be done at that step."""
        self._endings[step] = ending

    def finish(self) -> None:
        """All went well: nothing of the group is needed any more."""
        self.enter(Event.FINISHED)
        self._undo(None)

    def end(self, error: BaseException | None) -> None:
        """End the group, whatever state it is in; does nothing the second time. The tier lives on."""
        self.enter(Event.END)
        self._undo(error)

    def _undo(self, error: BaseException | None) -> None:
        """Take every step; one that is interrupted, by a second Ctrl-C, is over, and the interrupt is raised after the last."""
        interrupt: BaseException | None = None
        while self._endings:
            ending = self._endings.pop(min(self._endings))
            try:
                ending(error)
            except Exception as trouble:  # every step must be tried, and `error` is what counts
                log.warning("while ending worker group %s: %s: %s", self.name, type(trouble).__name__, trouble)
            except BaseException as raised:
                interrupt = raised
        if interrupt is not None:
            raise interrupt


__all__ = ["EndStep", "Ending", "Life"]
