"""Mutants of what holds while buckets move."""

from __future__ import annotations

from tests.mutants.mutant import CLOSING, COPIES, ENTRIES, FOLLOWER, HANDOVER, MOVING, SENDING, SNAPSHOTS, Mutant

MOVES = (
    Mutant(
        "a write that has waited for room goes to where its rows were",
        SENDING,
        "        if piece.again is None or not (piece.write and 0 < piece.epoch < self.routing.epoch):\n",
        "        if True:\n",
    ),
    Mutant(
        "who gives a lead up may lose its rows before it has confirmed that",
        MOVING,
        "given_back({primary, *without})",
        "given_back(without)",
    ),
    Mutant(
        "a table that is created while a copy is made is copied, too",
        SNAPSHOTS,
        "state.tables.copy_bucket(bucket, entry.shards)",
        "state.tables.copy_bucket(bucket)",
    ),
    Mutant(
        "a copy does not know of a group that is opened while it is made",
        SNAPSHOTS,
        "any(group not in groups for group in state.groups.values()) or ",
        "",
    ),
    Mutant(
        "a bucket comes into a group that has ended where it comes from, without being there",
        FOLLOWER,
        "            self.groups[number].clock.hold(bucket)\n",
        "            pass\n",
    ),
    Mutant(
        "what is due in a bucket that was given up ends with the group of who gave it",
        ENTRIES,
        "follower.end_group(message.group, message.failed)",
        "follower.end_group(message.group, True)",
    ),
    Mutant(
        "what is due is thrown away where the group was closed before",
        HANDOVER,
        "            self._reopen()\n",
        "",
    ),
    Mutant(
        "a group that is being closed takes requests",
        CLOSING,
        "            self._over = self._over or fenced\n",
        "            pass\n",
    ),
    Mutant(
        "a node that has taken a placement over in part goes on",
        HANDOVER,
        "            state.must_end = f\"the placement",
        "            _ = f\"the placement",
    ),
    Mutant(
        "a node that copies nothing any more is sent what it has not acknowledged",
        COPIES,
        "            over = target not in self._shipped\n",
        "            over = target not in self._shipped and target in self._broken\n",
    ),
)

__all__ = ["MOVES"]
