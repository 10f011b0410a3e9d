"""Mutants of checkpoints: one moment, all of it, and nothing else."""

from __future__ import annotations

from tests.mutants.mutant import ROWS, Mutant

_WRITING = "sparkps/ps_nodes/checkpointing/writing.py"
_CUTS = "sparkps/ps_nodes/checkpointing/cuts.py"
_IMAGES = "sparkps/ps_nodes/tables/images.py"
_WATCHING = "sparkps/ps_nodes/tables/watching.py"
_CHANGES = "sparkps/ps_nodes/tables/changes.py"
_PLAN = "sparkps/checkpoints/plan.py"
_SPARSE = "sparkps/ps_nodes/tables/sparse.py"
_DENSE = "sparkps/ps_nodes/tables/dense.py"
_RETENTION = "sparkps/checkpoints/retention.py"

CHECKPOINTS = (
    Mutant(
        "rows that change before they are copied are not kept aside",
        _SPARSE,
        "            self.changing_rows(slots, runs)\n            hyper",
        "            hyper",
    ),
    Mutant(
        "elements that change before they are copied are not kept aside",
        _DENSE,
        "        self.changing(runs[0])\n        hyper",
        "        hyper",
    ),
    Mutant(
        "rows that come later are in the image",
        _IMAGES,
        "        count = int(self.counts[bucket])\n        return",
        "        count = int(self.table.lock_heads[bucket, layout.COUNT])\n        return",
    ),
    Mutant(
        "rows that change are not marked",
        _WATCHING,
        "        self.rows.mark(slots, runs)\n",
        "",
    ),
    Mutant(
        "rows that change without being named are not marked",
        _WATCHING,
        "        self.rows.forget(buckets)\n",
        "",
    ),
    Mutant(
        "a bucket that comes anew is taken for what it was with some changes",
        _WATCHING,
        "            self.watcher.rows.forget(np.array([bucket]))\n",
        "",
    ),
    Mutant(
        "rows that change while a checkpoint takes the changes before are not in the next one",
        _CHANGES,
        "cut.bits | cut.after[: len(cut.bits)]",
        "cut.bits",
    ),
    Mutant(
        "keys that have come anew are taken for more of those before",
        _CHANGES,
        "            self._taken[bucket] = (0, 0)\n",
        "            pass\n",
    ),
    Mutant(
        "changed rows are taken as they are, not as they were",
        _IMAGES,
        "                plane[places[found]] = own[first + found]\n",
        "                pass\n",
    ),
    Mutant(
        "changes are laid over other content than that since which they are known",
        _PLAN,
        "whole.version == (since or {}).get(name)",
        "(since or {}).get(name)",
    ),
    Mutant(
        "an image that could not keep rows counts",
        _IMAGES,
        "        if any(image.is_torn for image in images.values()):\n",
        "        if False:\n",
    ),
    Mutant(
        "a bucket that has changed keeps its version",
        _CHANGES,
        "        if self.changed[bucket] or self._rows[bucket] != rows:\n",
        "        if self._rows[bucket] != rows:\n",
    ),
    Mutant(
        "a bucket that another table's keys have come to keeps its version",
        _CHANGES,
        "        if self.changed[bucket] or self._rows[bucket] != rows:\n",
        "        if self.changed[bucket]:\n",
    ),
    Mutant(
        "a checkpoint goes on though clocks have",
        _WRITING,
        "        if not self._cut.holds:\n",
        "        if False:\n",
    ),
    Mutant(
        "a checkpoint goes on under another placement",
        _WRITING,
        "        if self._state.epoch != self._message.epoch:\n",
        "        if False:\n",
    ),
    Mutant(
        "clocks wait until all is copied",
        _WRITING,
        "            now = state.shards.order_at_once(entries, lambda: self._look(groups))\n        self._release()\n",
        "            now = state.shards.order_at_once(entries, lambda: self._look(groups))\n",
    ),
    Mutant(
        "a cut that was released holds",
        _CUTS,
        "        self._is_released = True  # before any of them does\n",
        "",
    ),
    Mutant(
        "files that a kept checkpoint rests on go",
        _RETENTION,
        "        if checkpoint is None or entry.name in needed or",
        "        if checkpoint is None or",
    ),
    Mutant(
        "a checkpoint that is asked for again is begun again",
        _WRITING,
        "    if state.writing is not None and state.writing.is_for(message):\n",
        "    if False:\n",
    ),
    Mutant(
        "two checkpoints are written at once",
        _WRITING,
        "    if state.writing is not None:\n        state.writing.give_up",
        "    if False:\n        state.writing.give_up",
    ),
    Mutant(
        "a checkpoint waits for its files though its placement has gone",
        _WRITING,
        "        try:\n            self._check_epoch()\n        except CheckpointError as error:\n            self.give_up(error)\n",
        "",
    ),
    Mutant(
        "an older cut lets the clocks of a newer one go on",
        _CUTS,
        "            if self._is_released:\n                return\n",
        "",
    ),
    Mutant(
        "rows are kept aside without bound",
        _IMAGES,
        "            if not self._has_room(0):\n                self._tear()\n",
        "",
    ),
    Mutant(
        "rows that were lost read as if nobody had written them",
        ROWS,
        "        if state.serving.missing:\n",
        "        if False:\n",
    ),
)

__all__ = ["CHECKPOINTS"]
