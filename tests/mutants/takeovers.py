"""Mutants of what is taken over: leads, placements, a coordinator's journal, checkpoints by those who restore them."""

from __future__ import annotations

from tests.mutants.mutant import CLOSING, FOLLOWER, HANDOVER, Mutant

_COORDINATOR = "sparkps/driver_bridge/coordinator"
_RESTORING = f"{_COORDINATOR}/handlers/restoring.py"
_MOVES = f"{_COORDINATOR}/moves.py"
_PLACING = f"{_COORDINATOR}/placing.py"
_RECOVERY = f"{_COORDINATOR}/recovery.py"
_RESUMING = "sparkps/driver_bridge/groups/resuming.py"
_CHECKPOINTING = "sparkps/driver_bridge/checkpointing.py"
_LOADING = "sparkps/ps_nodes/checkpointing/loading.py"

TAKEOVERS = (
    Mutant(
        "a restore counts though a node has died that was to load",
        _RESTORING,
        "        if cause is not None or core.nodes.epoch != epoch:\n",
        "        if cause is not None:\n",
    ),
    Mutant(
        "a copy that nobody keeps current stays where a lead moves",
        _MOVES,
        "                rows[bucket] = [change.row[0], row[0]]",
        "                rows[bucket] = [change.row[0], *(node for node in row if node != change.row[0])]",
    ),
    Mutant(
        "two nodes that exchange leads wait for each other",
        _MOVES,
        "            elif row[0] not in takers and change.row[0] not in givers:",
        "            elif True:",
    ),
    Mutant(
        "copies that were interrupted are not planned again",
        _MOVES,
        "        self.is_stale = True\n        ",
        "        ",
    ),
    Mutant(
        "a node that refuses is taken for a leader of the rest",
        _PLACING,
        "{*self._taken.pop(node, ()), *lacking}",
        "{*lacking}",
    ),
    Mutant(
        "a group that has trained for long ends with its coordinator",
        _RECOVERY,
        "        group.heard_at = now\n",
        "        pass\n",
    ),
    Mutant(
        "commands are late when a coordinator is started again",
        _RECOVERY,
        "    core.commands.renew(now)\n",
        "",
    ),
    Mutant(
        "scaling is late when a coordinator is started again",
        _RECOVERY,
        "        core.scaling.deadline = now + core.scaling.limit\n",
        "        pass\n",
    ),
    Mutant(
        "a roll-back may begin at the beginning",
        _RESUMING,
        "self._is_own, must_be=True)",
        "self._is_own)",
    ),
    Mutant(
        "a checkpoint is tried again without end",
        _CHECKPOINTING,
        " or time.monotonic() > deadline or unless():",
        " or unless():",
    ),
    Mutant(
        "a checkpoint is tried again though nobody wants it",
        _CHECKPOINTING,
        " or time.monotonic() > deadline or unless():",
        " or time.monotonic() > deadline:",
    ),
    Mutant(
        "a checkpoint that turns out damaged ends the restore",
        _CHECKPOINTING,
        "            store.skip(manifest.id, error, skipped)\n",
        "            raise\n",
    ),
    Mutant(
        "what is loaded does not reach the copies",
        _LOADING,
        "            places.extend(state.copies.reserve(bit))\n",
        "",
    ),
    Mutant(
        "what is loaded counts before the copies have it",
        _LOADING,
        "            state.copies.when_kept(places, self._one_done)\n",
        "            self._one_done()\n",
    ),
    Mutant(
        "a bucket that cannot be loaded counts as loaded",
        _LOADING,
        "                self._one_done(error)\n",
        "                self._one_done()\n",
    ),
    Mutant(
        "marks go with the lead for ever",
        FOLLOWER,
        "        self.marks.adopt(bucket, marks)\n",
        "",
    ),
    Mutant(
        "an older placement is taken over",
        HANDOVER,
        "        if self._epoch <= state.epoch:",
        "        if self._epoch == state.epoch:",
    ),
    Mutant(
        "a placement waits for a hand-over that cannot be",
        HANDOVER,
        "        state.placing[0].hurry()\n",
        "        pass\n",
    ),
    Mutant(
        "marks that came with a lead stay for ever",
        HANDOVER,
        "            state.sessions.remember([mark.session for mark in marks], state.now())\n",
        "",
    ),
    Mutant(
        "a clock that was due when its primary died stays open",
        HANDOVER,
        "                    self._follow.append(follow)\n",
        "                    pass\n",
    ),
    Mutant(
        "pulls wait where nobody leads any more",
        HANDOVER,
        "            group.refuse_parked()\n",
        "            pass\n",
    ),
    Mutant(
        "states of ranks pile up after a checkpoint",
        CLOSING,
        "            self._clock.unpin()\n",
        "",
    ),
    Mutant(
        "copies keep what a failed group had buffered",
        CLOSING,
        "            self._ends = self._copies.reserve_everywhere()\n",
        "            self._ends = ()\n",
    ),
)

__all__ = ["TAKEOVERS"]
