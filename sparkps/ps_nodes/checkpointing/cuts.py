"""The moment of a checkpoint at one node: BSP groups close clocks up to the cut, and go on when all buckets are copied.

First no clock is closed that is not due yet (`hold`); the coordinator takes the highest clock that any node has closed, or must close, as
the cut: every rank has ticked that, so that nobody waits for work that is still to be done. Then nodes close up to it (`reach`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sparkps.errors import CheckpointError

if TYPE_CHECKING:
    from sparkps.ps_nodes.groups import NodeGroup
    from sparkps.ps_nodes.state import ServerState

#: Seconds that clocks wait for the coordinator, and for ranks whose ticks have reached other nodes: successors may have to bring them.
HOLD_LIMIT, REACH_LIMIT = 3.0, 30.0


class Cut:
    """BSP groups of a node whose clocks wait for a checkpoint. Made by `hold`.

    Parameters
    ----------
    groups : mapping of int to NodeGroup
    epoch : int
        The placement under which it counts.
    deadline : float
        When it is given up, by the node's clock.
    """

    def __init__(self, groups: Mapping[int, NodeGroup], epoch: int, deadline: float) -> None:
        self.groups = dict(groups)
        self.epoch = epoch
        self.deadline = deadline
        #: One at a time; held while clocks are let go on.
        self._releasing = threading.RLock()
        self._is_released = False
        #: By group: the highest clock that is closed, or due.
        self.clocks = {number: group.stop_closing() for number, group in self.groups.items()}

    def reach(self, clocks: Mapping[int, int], then: Callable[[BaseException | None], None]) -> None:
        """Call `then`, once, when every group has closed its clock of `clocks`, or cannot."""
        wanted = [(group, clocks[number]) for number, group in self.groups.items() if number in clocks]
        left, told = [len(wanted) + 1], list[BaseException]()

        def one(error: BaseException | None) -> None:
            if error is not None:
                told.append(error)
            left[0] -= 1
            if not left[0]:
                then(told[0] if told else None)

        for group, clock in wanted:
            try:
                group.cut_at(clock, one)
            except CheckpointError as error:
                one(error)
        one(None)

    @property
    def is_given_up(self) -> bool:
        """Whether clocks may have gone on."""
        return self._is_released

    @property
    def holds(self) -> bool:
        """Whether no clock after the cut can have been closed. Under `still` of all groups."""
        return not self._is_released or not self.groups

    def release(self) -> None:
        """Clocks close again. Any number of times: after the first one clocks may wait for another checkpoint."""
        with self._releasing:
            if self._is_released:
                return
            self._is_released = True  # before any of them does
            for group in self.groups.values():
                group.go_on()


def hold(state: ServerState) -> Cut:
    """Let clocks wait; an older cut is given up."""
    release(state)
    # A node that leads nothing hears no ticks, and has nothing to cut.
    leads = state.groups.items() if state.bucket_bits else ()
    groups = {number: group for number, group in leads if group.spec.staleness == 0 and group.is_going_on}
    state.cut = Cut(groups, state.epoch, state.now() + HOLD_LIMIT)
    return state.cut


def release(state: ServerState) -> None:
    """Give up the checkpoint that is being taken, as far as clocks wait for it."""
    cut, state.cut = state.cut, None
    if cut is not None:
        cut.release()


def look_around(state: ServerState) -> None:
    """Time has passed, or the placement has changed: nobody waits for a checkpoint without end."""
    cut = state.cut
    if cut is not None and (state.now() > cut.deadline or state.epoch != cut.epoch):
        state.pool.submit(cut.release)  # it stays: the next one begins when it is released


def again(what: str) -> CheckpointError:
    """The error for a checkpoint that was given up, and may be tried again."""
    return CheckpointError(f"The placement must stay as it is while a checkpoint is taken or restored. {what}: try again.", again=True)


__all__ = ["HOLD_LIMIT", "REACH_LIMIT", "Cut", "again", "hold", "look_around", "release"]
