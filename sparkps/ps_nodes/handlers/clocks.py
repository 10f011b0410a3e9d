"""The clocks of worker groups: ticks, and a rank's new incarnation that goes on where the last one stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sparkps.ps_nodes.groups import NodeGroup
from sparkps.ps_nodes.handlers.table import handles
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.work import Work
from sparkps.wire.messages import data as m

log = logging.getLogger(__name__)


@handles(m.Tick)
def tick(state: ServerState, work: Work) -> None:
    """A rank's clock is done, or the rank."""
    message: m.Tick = work.message
    group = state.group(message.member.group)
    follow, places = group.tick(message.member, message.state, message.finish)
    if not message.finish:
        state.copies.when_kept(places, lambda: work.done(record=True), work.pass_on)
        _follow(state, group, follow)
        return
    _follow(state, group, follow)
    # A rank that has finished may be looked at: what its finish closes is in the tables first.
    finished = work.told(lambda: None)
    group.when_applied(lambda cause: state.copies.when_kept(places, lambda: finished(cause), work.pass_on))


@handles(m.Takeover)
def takeover(state: ServerState, work: Work) -> None:
    """A new incarnation asks what its rank has done."""
    group = state.group(work.message.member.group)
    standing, places = group.takeover(work.message.member)
    answer = m.TakenOver(work.seq, standing.clock, standing.state, standing.finished, group.spec.staleness)
    state.copies.when_kept(places, lambda: work.answer(answer, record=True), work.pass_on)


@handles(m.Settle)
def settle(state: ServerState, work: Work) -> None:
    """It has heard all nodes, and says where its rank goes on."""
    group = state.group(work.message.member.group)
    follow, places = group.settle(work.message.member, work.message.state)
    state.copies.when_kept(places, lambda: work.done(record=True), work.pass_on)
    _follow(state, group, follow)


def _follow(state: ServerState, group: NodeGroup, follow: Callable[[], None] | None) -> None:
    """Close clocks and release what is parked: on the pool if it is much work."""
    if follow is None:
        return
    if group.heavy:
        state.pool.submit(follow)
        return
    try:
        follow()
    except Exception:  # the request itself was answered
        log.exception("what a tick of group %r brings about failed", group.spec.name)
