"""Mutants of the way of a write: each once, and in order."""

from __future__ import annotations

from tests.mutants.mutant import (
    DISPATCH,
    GROUPS,
    MARKS,
    ORDER,
    ROWS,
    SENDING,
    SERVICE,
    SESSIONS,
    SHARDS,
    TABLES,
    TURNS,
    WORK,
    Mutant,
)

#: Each write once, and in order.
WRITES = (
    Mutant(
        "de-duplication of ranks' writes removed",
        MARKS,
        "            fresh = buckets & ~_union(self.layers, stamp)",
        "            fresh = buckets",
    ),
    Mutant(
        "de-duplication of sessions' writes removed",
        MARKS,
        "        return buckets & ~have",
        "        return buckets",
    ),
    Mutant(
        "older writes of sessions are taken again",
        MARKS,
        "        if stamp < self.stamp:\n            return 0",
        "        if stamp < self.stamp:\n            return buckets",
    ),
    Mutant(
        "de-duplication of answered requests removed",
        SESSIONS,
        "        if seq in self.answers:\n            return Verdict.ANSWERED\n",
        "",
    ),
    Mutant(
        "a request that is under way is begun again",
        SESSIONS,
        "        if seq in self.pending:\n            return Verdict.PENDING\n",
        "",
    ),
    Mutant(
        "requests run as they arrive",
        SERVICE,
        "                session.hold(seq, work, nbytes)\n",
        "                session.next = max(session.next, seq + 1)\n                self.dispatcher.submit(work)\n",
    ),
    Mutant(
        "requests of one session side by side",
        DISPATCH,
        "        if session.running:\n            session.queue = deque()",
        "        if False:\n            session.queue = deque()",
    ),
    Mutant(
        "a parked pull keeps its session's later requests back",
        ROWS,
        "work.park(member.clock, waiting, passes=passes)",
        "work.park(member.clock, waiting, passes=False)",
    ),
    Mutant(
        "a write that is held back lets later ones pass",
        ROWS,
        "behind, passes=False)",
        "behind, passes=True)",
    ),
    Mutant(
        "refused writes not barred",
        WORK,
        "record=write, bar=write)",
        "record=write, bar=False)",
    ),
    Mutant(
        "what the client has said since a write was made counts for it",
        SESSIONS,
        "self.refused[before - 1] > acked\n",
        "self.refused[before - 1] > max(acked, self.acked)\n",
    ),
    Mutant(
        "a small write overtakes others that change the same rows",
        SHARDS,
        "            if not self._turns.is_idle:\n                return None\n",
        "",
    ),
    Mutant(
        "refused writes go again while others are in flight",
        ORDER,
        "        if not writing and self._writes and",
        "        if self._writes and",
    ),
    Mutant(
        "refused writes go again in any order",
        ORDER,
        "sorted(self._writes, key=lambda refused: refused.piece.place)",
        "self._writes[::-1]",
    ),
    Mutant(
        "new writes overtake refused ones",
        SENDING,
        "and not (piece.write and self._refusals.writes)",
        "",
    ),
    Mutant(
        "a duplicate of a rank is acknowledged before what it repeats is done",
        GROUPS,
        "entry = Entry(write.shards, lambda: write_all(parts), finished, fresh",
        "entry = Entry(write.shards if parts else {}, lambda: write_all(parts), finished, fresh",
    ),
    Mutant(
        "a duplicate of a session is acknowledged before what it repeats is done",
        ROWS,
        "return Entry(change.shards, lambda: write_all(parts), changed)",
        "return Entry(change.shards if parts else {}, lambda: write_all(parts), changed)",
    ),
    Mutant(
        "writes overtake those that wait for their turn",
        TURNS,
        " or (self._wanted and _meet(shards, self._wanted)):",
        ":",
    ),
    Mutant(
        "writes do not wait for their turn",
        TURNS,
        "        if (self._busy and _meet(shards, self._busy)) or",
        "        if",
    ),
    Mutant(
        "a dropped table is freed under a running request",
        TABLES,
        "                used = table_id in self._users\n",
        "                used = False\n",
    ),
)
