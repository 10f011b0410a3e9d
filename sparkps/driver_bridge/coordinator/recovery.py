"""A coordinator that goes on from a journal: whoever was waited for has all of its time again, since nobody was heard meanwhile. Pure."""

from __future__ import annotations

from sparkps.driver_bridge.coordinator.core import Core


def go_on_at(core: Core, now: float) -> None:
    """It is `now`, and no time limit has begun before.

    Every lease is renewed for one term, every node has one deadline to be heard, every command has its time again. Places in the queue
    are taken anew by those who ask for them again and again; so are questions.
    """
    core.clock.set(now)
    for node in core.nodes.nodes.values():
        node.heard_at = now
    core.groups.queue.clear()
    for group in core.groups.running.values():
        group.heard_at = now
        for rank in group.ranks:
            if rank.expires_at is not None:
                rank.hold(now + core.groups.ttl)
    core.commands.renew(now)
    core.usage.renew(now)
    core.connections.hear_all(now)
    if core.scaling is not None:
        core.scaling.deadline = now + core.scaling.limit
    if core.moves.resume_at is not None:
        core.moves.resume_at = now


__all__ = ["go_on_at"]
