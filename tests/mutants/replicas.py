"""Mutants of copies: what lies at a replica when its primary acknowledges it, and what becomes of it there."""

from __future__ import annotations

from tests.mutants.mutant import (
    CLOSING,
    COPIES,
    ENTRIES,
    FOLLOWER,
    FOLLOWERS,
    GROUPS,
    HANDOVER,
    MOVING,
    SENT_LOG,
    SNAPSHOTS,
    Mutant,
)

#: What lies at a replica when its primary acknowledges it, and what becomes of it there.
REPLICAS = (
    Mutant(
        "acknowledged before the replica has it",
        COPIES,
        "        missing = [place for place in places if place.awaited]\n",
        "        missing: list[Place] = []\n",
    ),
    Mutant(
        "a repetition is acknowledged before what it repeats",
        COPIES,
        "        return NOWHERE if self.asynchronous else self.all_so_far(buckets)",
        "        return NOWHERE",
    ),
    Mutant(
        "a log goes on past an entry that is missing",
        FOLLOWER,
        "number != self.taken + 1:",
        "number <= self.taken:",
    ),
    Mutant(
        "what is not acknowledged is not sent again",
        SENT_LOG,
        "if self._sent > self.acked and now >= self._resend_at:",
        "if False:",
    ),
    Mutant(
        "entries of a node that was declared dead count",
        FOLLOWERS,
        'if info.state != "up":',
        "if False:",
    ),
    Mutant(
        "a replica keeps no marks",
        ENTRIES,
        "            follower.marks.take(writer, stamp, table, buckets)\n        return change",
        "            pass\n        return change",
    ),
    Mutant(
        "closes are not shipped",
        CLOSING,
        "            if entry.places:\n                self._ship_close(entry, close)\n",
        "            if entry.places:\n                self._ship_close(entry, Close(-5, 0))\n",
    ),
    Mutant(
        "ticks are not shipped",
        GROUPS,
        "self._ship(places, lambda: entries.ShipTick(member, state, finish))",
        "self._ship(places, lambda: entries.ShipForget(0))",
    ),
    Mutant(
        "a new primary does not wait for what was shipped to it",
        FOLLOWER,
        "            self._waiting.append((_Pause(then), [], 0))",
        "            self._waiting.appendleft((_Pause(then), [], 0))",
    ),
    Mutant(
        "a lead is given up before all of it is handed over",
        HANDOVER,
        "        self._when_all_is_there(over)\n",
        "        over()\n",
    ),
    Mutant(
        "a node leads what it has no copy of",
        HANDOVER,
        "        if missing:\n",
        "        if False:\n",
    ),
    Mutant(
        "what sessions write to a former primary counts for the buckets that it gave up",
        ENTRIES,
        "    follower.marks.set_apart(unpacked(message.buckets) & follower.held)\n",
        "    pass\n",
    ),
    Mutant(
        "a copy of an earlier placement is taken",
        SNAPSHOTS,
        "    if not follower.is_at(message.epoch):\n",
        "    if False:\n",
    ),
    Mutant(
        "buffers do not move with a bucket",
        SNAPSHOTS,
        "            kept += _kept(tables, bucket, write, its)\n",
        "",
    ),
    Mutant(
        "a copy that is not caught up counts",
        SNAPSHOTS,
        "        state.copies.begin(target, bit)\n",
        "        state.copies.begin(target, bit)\n        state.copies.caught_up(target, bit)\n",
    ),
    Mutant(
        "who else had a copy is taken to have all of it after a failover",
        MOVING,
        "    return [row if row[0] == had[0] else row[:1] for had, row in zip(before, after, strict=True)]",
        "    return after",
    ),
)
