"""Placements that change while work goes on: how nodes learn of them, what becomes of one whose nodes die, and moves of buckets."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from sparkps.driver_bridge.coordinator.core import Core, node_lost
from sparkps.driver_bridge.coordinator.handlers import groups, lifecycle
from sparkps.driver_bridge.coordinator.moves import BucketCopy, NewPlacement, View
from sparkps.driver_bridge.coordinator.plan import promote
from sparkps.driver_bridge.coordinator.states import Own, TierState
from sparkps.wire.buckets import packed
from sparkps.wire.messages import control as c
from sparkps.wire.placement import Placement

log = logging.getLogger(__name__)

#: Seconds that a node has to confirm a placement, which for one that gives up leads includes what is still to be sent.
PLACE_LIMIT = 10.0
#: Seconds that a primary has to copy some buckets.
COPY_LIMIT = 120.0

#: States in which buckets move, in which nodes are told of placements, and in which nothing matters any more.
_MOVING = (TierState.READY, TierState.DEGRADED)
_PLACING = (TierState.STARTING, *_MOVING)
_ENDING = (TierState.STOPPING, TierState.STOPPED)

# ---- a new placement ---------------------------------------------------------------------------------------------------


def publish(core: Core, placement: Placement) -> None:
    """A new placement holds; the nodes are told of it."""
    core.unplaced.clear()
    core.lacking.clear()
    core.nodes.place(placement)
    core.placing.change(core.nodes.epoch, placement)
    tell(core)


def tell(core: Core) -> None:
    """Send the newest placement to every node that may know of it now."""
    nodes, placing = core.nodes, core.placing
    missing = {table: packed(buckets) for table, buckets in core.catalog.missing.items()}
    for node in placing.next(nodes.up()):
        _forget_older(core, node)
        placing.sent(node)
        core.command(
            f"Placing buckets on node {node}",
            lambda seq: c.SetPlacement(
                seq, nodes.epoch, nodes.placement, nodes.infos(), sorted(core.anew), core.is_restoring or core.is_closed, core.torn, missing
            ),
            lambda cause, _, node=node, epoch=nodes.epoch: _told(core, node, epoch, cause),  # type: ignore[misc]
            PLACE_LIMIT,
            [node],
        )


def _forget_older(core: Core, node: int) -> None:
    """A node that is told of a newer placement is not waited for to confirm the last one."""
    for number, command in list(core.commands.under_way.items()):
        if isinstance(command.message, c.SetPlacement) and command.waiting == {node}:
            core.commands.drop(number)


def _told(core: Core, node: int, epoch: int, cause: c.Cause | None) -> None:
    """A node has confirmed a placement, or has not."""
    if node not in core.nodes.up():
        return
    if cause is not None:
        _refused(core, node, epoch, cause)
        return
    core.placing.confirm(node, epoch)
    tell(core)


def _refused(core: Core, node: int, epoch: int, cause: c.Cause) -> None:
    """A node has not taken a placement, or not given up its leads in time: it is told again after a pause."""
    log.error("node %d has not taken placement %d: %s", node, epoch, cause.message)
    core.moves.fail(f"node {node} has not taken placement {epoch}: {cause.message}")
    core.moves.rest(core.clock.now)
    core.unplaced.add(node)
    if cause.attributes.get("node") == node and "buckets" in cause.attributes:
        core.lacking[node] = core.placing.refused(node, cause.attributes["buckets"])


def tell_again(core: Core) -> None:
    """What nodes have not taken is not forced on them: leads that nobody has given up stay where they are, under a new epoch.

    Nor shall a node lead that says it has no copy, as where a primary went on without it at the same moment: other copies do. Where
    there is none, since the node was the only one that was left when a primary died, buckets are lost.
    """
    if not core.unplaced or core.moves.resume_at is not None or core.state not in _PLACING:
        return
    late = core.unplaced & set(core.placing.awaited(core.nodes.up()))
    core.unplaced.clear()
    if not late:
        core.lacking.clear()
        return
    core.moves.interrupt()
    lost_before = set(core.nodes.lost_buckets())
    publish(core, _without_lacking(core, core.placing.given_back()))
    _tell_of_lost(core, lost_before)


def _without_lacking(core: Core, placement: Placement) -> Placement:
    """The next copy leads what a node has no copy of; without one the bucket is lost with the node that had the last."""
    for node, buckets in core.lacking.items():
        for bucket in buckets:
            row = placement[bucket]
            if row[0] != node:
                continue
            if len(row) > 1:
                placement[bucket] = row[1:]
            elif bucket in core.bereft:
                placement[bucket] = [core.bereft[bucket]]
    return placement


def _tell_of_lost(core: Core, lost_before: set[int]) -> None:
    """If more buckets are lost than before the tier is degraded, and no group can go on."""
    lost = sorted(set(core.nodes.lost_buckets()) - lost_before)
    if lost and core.state not in _ENDING:
        log.error("%d buckets are lost: nobody has a copy", len(lost))
        core.enter(Own.LOST)
        dead = core.nodes.nodes[core.nodes.placement[lost[0]][0]].info
        groups.fail_all(core, c.Cause.of(node_lost(dead)))


# ---- nodes that die ----------------------------------------------------------------------------------------------------


def fail_over(core: Core, node: int, reason: str) -> c.NodeInfo:
    """A node is dead: its replicas are promoted. Where it had the last copy of a bucket, the tier is degraded, and no group can go on."""
    lost_before = set(core.nodes.lost_buckets())
    info = core.nodes.die(node, reason)
    core.placing.gone(node)
    core.draining.discard(node)
    core.retiring.discard(node)
    if not core.nodes.epoch:
        return info
    gone = [each.node for each in core.nodes.infos() if each.state != "up"]
    had = with_copies(core.placing.given_back(gone), core.moves.interrupt())
    core.moves.members_changed(f"node {node} is dead")
    core.bereft.update((bucket, node) for bucket, row in enumerate(had) if node in row)
    publish(core, _alone(had, promote(had, gone).placement))
    _tell_of_lost(core, lost_before)
    return info


def _alone(before: Placement, after: Placement) -> Placement:
    """A new primary leads alone at first: what the dead one has shipped last may have reached it and no other copy, or the other way."""
    return [row if row[0] == had[0] else row[:1] for had, row in zip(before, after, strict=True)]


def with_copies(placement: Placement, ready: Iterable[tuple[int, int]]) -> Placement:
    """Copies that have caught up count, though no placement names them yet: whatever was acknowledged lies there, too."""
    for bucket, node in ready:
        placement[bucket].append(node)
    return placement


# ---- replicas that cannot be reached -----------------------------------------------------------------------------------


def cut_off(core: Core, primary: int, silent: Iterable[int]) -> bool:
    """A primary cannot reach nodes that the coordinator hears: it goes on without their copies, which are made anew after a pause.

    False: it has none of theirs.
    """
    without = set(silent) & set(core.nodes.up()) - {primary}
    # Who has not confirmed that it gives a lead up leads, between these two at least: it has the rows, and keeps them.
    placement = core.placing.given_back({primary, *without})
    if core.state not in _MOVING or not without or not _shares(placement, primary, without):
        return False
    log.warning("node %d cannot reach nodes %s: it goes on without their copies of its buckets", primary, sorted(without))
    held = with_copies(placement, core.moves.interrupt())
    core.moves.fail(f"node {primary} could not reach nodes {sorted(without)}")
    core.moves.rest(core.clock.now)
    publish(core, [[node for node in row if node not in without] if row[0] == primary else row for row in held])
    return True


def _shares(placement: Placement, primary: int, others: set[int]) -> bool:
    """Whether one of `others` has copies of what `primary` leads."""
    return any(row[0] == primary and others.intersection(row) for row in placement)


# ---- moves -------------------------------------------------------------------------------------------------------------


def go_on(core: Core) -> None:
    """Let the plan go on as far as it can now; called after every event."""
    tell_again(core)
    up = core.nodes.up()
    is_settled = core.placing.is_settled(up)
    if core.state is TierState.STARTING and core.nodes.epoch and is_settled:
        _placed(core)
    if core.state not in _MOVING or core.moves.is_done or core.checkpointing is not None:
        return
    hosts = {node: host for node, host in core.nodes.hosts().items() if node not in core.draining}
    view = View(core.nodes.placement, hosts, up, core.settings.replication, is_settled, core.weights)
    for effect in core.moves.go_on(view, core.clock.now):
        _carry_out(core, effect)


def _carry_out(core: Core, effect: BucketCopy | NewPlacement) -> None:
    if isinstance(effect, NewPlacement):
        publish(core, effect.placement)
        return
    core.command(
        f"Copying buckets {list(effect.buckets)} from node {effect.source} to node {effect.target}",
        lambda seq: c.CopyBuckets(seq, list(effect.buckets), effect.target, core.nodes.infos()),
        partial(_copied, core, effect),
        COPY_LIMIT,
        [effect.source],
    )


def _copied(core: Core, copy: BucketCopy, cause: c.Cause | None, _: object) -> None:
    if cause is not None and copy in core.moves.copying:
        log.warning("buckets %s were not copied to node %d: %s", list(copy.buckets), copy.target, cause.message)
    core.moves.copied(copy, "" if cause is None else cause.message)


def _placed(core: Core) -> None:
    """Every node knows the first placement: the tier is ready."""
    core.enter(Own.PLACED)
    if core.nodes.lost():  # a node after it had answered, and before the last one did
        core.enter(Own.LOST)
    lifecycle.answer_attaching(core)


__all__ = ["cut_off", "fail_over", "go_on", "publish", "tell", "with_copies"]
