"""Worker groups: admitted, opened on every node, leased rank by rank, failed, ended."""

from __future__ import annotations

import logging

from sparkps.driver_bridge.coordinator.commands import Then
from sparkps.driver_bridge.coordinator.core import Core, Handlers, nothing, refused
from sparkps.driver_bridge.coordinator.leases import GroupRecord, HasFinished, HeldByOther, Holds
from sparkps.errors import GroupError
from sparkps.specs import GroupSpec
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

# ---- admission and end -------------------------------------------------------------------------------------------------


def admit(core: Core, sender: bytes, message: c.AdmitGroup) -> c.ControlMessage | None:
    """Admit a group, or say what it waits for."""
    spec, new = core.groups.admit(message, core.clock.now, core.restores)
    if spec is None:
        running = [group.spec.name for group in core.groups.running.values() if group.application == message.application]
        running += ["a restore of a checkpoint"] if core.restores else []
        return c.Queued(message.seq, core.groups.position(message.tag), running)
    if new:
        log.info("group %d (%s) of %d ranks is admitted", spec.group, spec.name, spec.num_ranks)
    core.command(
        f"Opening group {spec.name!r}",
        lambda seq: c.OpenGroup(seq, spec),
        lambda cause, _: _opened(core, sender, message.seq, spec, cause),
    )
    return None


def _opened(core: Core, sender: bytes, seq: int, spec: GroupSpec, cause: c.Cause | None) -> None:
    if cause is None:
        core.reply(sender, c.Admitted(seq, spec))
        return
    core.groups.end(spec.group)
    core.command("Undoing a group", lambda number: c.CloseGroup(number, spec.group), nothing)
    core.reply(sender, refused(seq, cause.exception()))


def end(core: Core, sender: bytes, message: c.EndGroup) -> c.ControlMessage | None:
    """End a group, by its id, or by the tag of a request that may have led to one."""
    group = message.group or (core.groups.withdraw(message.tag) if message.tag else 0)
    # A dead node has nothing left to forget.
    if not _close(core, group, lambda cause, _: core.accept(sender, message.seq, None)):
        return c.Accepted(message.seq)
    return None


def _close(core: Core, group: int, then: Then) -> bool:
    """End a group, here and on the nodes; whether it was there."""
    if not core.groups.end(group):
        return False
    log.info("group %d has ended", group)
    core.command("Closing a group", lambda seq: c.CloseGroup(seq, group), then)
    return True


def end_unheard(core: Core) -> None:
    """Groups of which nobody has been heard for long give their slots to others."""
    for group in core.groups.unheard(core.clock.now):
        _abandon(core, group)


def _abandon(core: Core, group: GroupRecord) -> None:
    spec, silent = group.spec, core.clock.now - group.heard_at
    log.warning("group %d (%s) is ended: nobody was heard of it for %.0f s", spec.group, spec.name, silent)
    if group.state == "running":
        why = f"Somebody must be heard of worker group {spec.name!r}. Neither its driver nor a rank was for {silent:.0f} s."
        _fail(core, spec.group, c.Cause.of(GroupError(why, group=spec.name)))
    _close(core, spec.group, nothing)


# ---- ranks -------------------------------------------------------------------------------------------------------------


def lease(core: Core, sender: bytes, message: c.Lease) -> c.ControlMessage:
    """Give a rank to an attempt, if it can have it."""
    answer = core.groups.lease(
        message.group, message.rank, message.attempt, core.clock.now, process=message.process, gone=message.gone
    )
    match answer:
        case Holds(incarnation, started):
            return c.Leased(message.seq, incarnation, started)
        case HeldByOther(reason, process):
            return c.Wait(message.seq, reason, process)
        case HasFinished(result):
            return c.Recorded(message.seq, result)


def renew(core: Core, sender: bytes, message: c.Renew) -> c.ControlMessage:
    """Let an attempt keep its rank."""
    group = core.groups.renew(message.group, message.rank, message.attempt, message.counters, core.clock.now)
    return c.Renewed(message.seq, group.all_started, group.cause, group.meetings.called(core.clock.now))


def meet(core: Core, sender: bytes, message: c.Meet) -> c.ControlMessage:
    """Let workers of a group find each other."""
    found = core.groups.meet(message.group, message.rank, message.attempt, message.after, message.said, core.clock.now)
    return c.Wait(message.seq, "not all workers are there") if found is None else c.Met(message.seq, *found)


def release(core: Core, sender: bytes, message: c.ReleaseRank) -> c.ControlMessage:
    """Take a rank back from an attempt that gives it up."""
    core.groups.release(message.group, message.rank, message.attempt)
    return c.Accepted(message.seq)


def finish(core: Core, sender: bytes, message: c.FinishRank) -> c.ControlMessage:
    """Record the result of a rank."""
    core.groups.finish(message.group, message.rank, message.attempt, message.result, message.counters)
    return c.Accepted(message.seq)


# ---- failure -----------------------------------------------------------------------------------------------------------


def fail(core: Core, sender: bytes, message: c.FailRank) -> c.ControlMessage:
    """Fail a group for what one of its ranks, or its driver, has met."""
    _fail(core, message.group, c.Cause.of(message.cause.exception()))  # as large as a cause may be
    return c.Accepted(message.seq)


def fail_all(core: Core, cause: c.Cause) -> None:
    """Fail every group."""
    for group in list(core.groups.running):
        _fail(core, group, cause)


def _fail(core: Core, group: int, cause: c.Cause) -> None:
    """The first cause counts, and nodes are told of it, so that nobody waits there for ranks that will not come."""
    if core.groups.fail(group, cause):
        log.info("group %d failed: %s", group, cause.message)
        core.command("Failing a group", lambda seq: c.FailGroup(seq, group, cause), nothing)


def state(core: Core, sender: bytes, message: c.GroupState) -> c.ControlMessage:
    """Tell the driver how its group is doing."""
    group = core.groups.hear(message.group, core.clock.now)
    ranks = [record.report(rank, core.clock.now) for rank, record in enumerate(group.ranks)]
    return c.GroupReport(message.seq, message.group, group.state, group.cause, group.all_started, ranks)


HANDLERS: Handlers = {
    c.AdmitGroup: admit,
    c.EndGroup: end,
    c.Lease: lease,
    c.Renew: renew,
    c.Meet: meet,
    c.ReleaseRank: release,
    c.FinishRank: finish,
    c.FailRank: fail,
    c.GroupState: state,
}

__all__ = ["HANDLERS", "end_unheard", "fail_all"]
