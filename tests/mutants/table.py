"""The mutants: each breaks one stated invariant by a change of a few characters."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change that some test must catch."""

    #: What it does to an invariant, in a few words.
    name: str
    #: Path from the root of the project.
    file: str
    #: Text that occurs once in the file, and what takes its place.
    old: str
    new: str


_SESSION = "sparkps/client/session.py"
_TRANSPORT = "sparkps/client/transport.py"
_LINKS = "sparkps/client/links.py"
_SENDING = "sparkps/client/sending.py"
_INFLIGHT = "sparkps/client/inflight.py"
_ORDER = "sparkps/client/order.py"
_CLOCK = "sparkps/wire/clock.py"
_FENCES = "sparkps/wire/fences.py"
_MARKS = "sparkps/wire/marks.py"
_SERVICE = "sparkps/ps_nodes/service.py"
_SESSIONS = "sparkps/ps_nodes/sessions.py"
_DISPATCH = "sparkps/ps_nodes/dispatch.py"
_CLOCK_REQUESTS = "sparkps/ps_nodes/handlers/clocks.py"
_ROWS = "sparkps/ps_nodes/handlers/rows.py"
_WORK = "sparkps/ps_nodes/work.py"
_GROUPS = "sparkps/ps_nodes/groups.py"
_CLOSING = "sparkps/ps_nodes/closing.py"
_DUE_CLOSES = "sparkps/ps_nodes/due_closes.py"
_BUFFERS = "sparkps/ps_nodes/clock_buffers.py"
_SHARDS = "sparkps/ps_nodes/shards.py"
_TURNS = "sparkps/ps_nodes/turns.py"
_TABLES = "sparkps/ps_nodes/tables/directory.py"

_COPIES = "sparkps/ps_nodes/replication/copies.py"
_SENT_LOG = "sparkps/ps_nodes/replication/sent_log.py"
_FOLLOWER = "sparkps/ps_nodes/replication/follower.py"
_FOLLOWERS = "sparkps/ps_nodes/replication/followers.py"
_ENTRIES = "sparkps/ps_nodes/replication/entries.py"
_HANDOVER = "sparkps/ps_nodes/replication/handover.py"
_SNAPSHOTS = "sparkps/ps_nodes/replication/snapshots.py"
_MOVING = "sparkps/driver_bridge/coordinator/handlers/moving.py"

#: What a rank promises with its ticks, and how its successor goes on.
_RANKS = (
    Mutant(
        "tick without flush",
        _SESSION,
        "        self.flush()\n        member.faults.check(member.rank)  # also what",
        "        member.faults.check(member.rank)  # also what",
    ),
    Mutant(
        "tick after a write that failed",
        _SESSION,
        "        member.faults.check(member.rank)  # also what the caller was told of, and caught\n",
        "",
    ),
    Mutant(
        "tick while pulls of its clock are under way",
        _SESSION,
        "            self.await_pulls()  # in BSP",
        "            pass  # in BSP",
    ),
    Mutant(
        "minimum instead of maximum at takeover",
        _SESSION,
        "latest = max(best,",
        "latest = min(best,",
    ),
    Mutant(
        "a finish that one node knows of is missed at takeover",
        _SESSION,
        "key=lambda answer: (answer.finished, answer.clock)",
        "key=lambda answer: answer.clock",
    ),
    Mutant(
        "finish not repeated at takeover",
        _SESSION,
        "if latest.finished:  # a node",
        "if False:  # a node",
    ),
    Mutant(
        "every piece its own ordinal",
        _SESSION,
        "                    if sent == 0:\n",
        "                    if sent >= 0:\n",
    ),
    Mutant(
        "fencing removed",
        _FENCES,
        "if member.incarnation != self.incarnation[rank] or member.incarnation == 0:",
        "if member.incarnation == 0:",
    ),
)

#: Logical time on a node.
_CLOCKS = (
    Mutant(
        "staleness off by one",
        _CLOCK,
        "if staleness > bound != UNBOUNDED:",
        "if staleness > bound + 1 and bound != UNBOUNDED:",
    ),
    Mutant(
        "a pull after its tick",
        _CLOCK,
        "if bound == 0 and member.clock <= self._ticks.high[rank]:",
        "if False:",
    ),
    Mutant(
        "pushes applied on arrival in BSP",
        _GROUPS,
        "if self.spec.staleness or self.acts_at_once(member):",
        "if True:",
    ),
    Mutant(
        "closes not in rank order",
        _BUFFERS,
        "key=lambda each: each[0])",
        "key=lambda each: each[0][2])",
    ),
    Mutant(
        "closes not in order of a rank's writes",
        _BUFFERS,
        "key=lambda each: each[0])",
        "key=lambda each: (each[0][0], -each[0][1]))",
    ),
    Mutant(
        "closes not in order of clocks",
        _DUE_CLOSES,
        "return self._due.popleft()",
        "return self._due.pop()",
    ),
    Mutant(
        "pulls not held during a close",
        _GROUPS,
        "if not (waiting or self._closes.busy):",
        "if not waiting:",
    ),
    Mutant(
        "drop-above removed",
        _CLOSING,
        "                self._buffers.drop_above(effect.rank, effect.clock, effect.buckets)\n",
        "",
    ),
    Mutant(
        "marks stay when writes are dropped",
        _CLOCK,
        "self._marks.rewind(rank, ",
        "(lambda *_: None)(rank, ",
    ),
    Mutant(
        "a finish is answered before its closes",
        _CLOCK_REQUESTS,
        "    if not message.finish:\n",
        "    if True:\n",
    ),
    Mutant(
        "the drain at the end removed",
        _CLOSING,
        "        self.when_applied(over)\n",
        "        over(None)\n",
    ),
    Mutant(
        "buffers without bound",
        _GROUPS,
        "return self._clock.ahead(member) if full else []",
        "return []",
    ),
    Mutant(
        "a rank that is held back by the bound is not let go when others catch up",
        _GROUPS,
        "                    self._parked.append(parked())\n                    return behind",
        "                    return behind",
    ),
)

#: Each write once, and in order.
_WRITES = (
    Mutant(
        "de-duplication of ranks' writes removed",
        _MARKS,
        "            fresh = buckets & ~_union(self.layers, stamp)",
        "            fresh = buckets",
    ),
    Mutant(
        "de-duplication of sessions' writes removed",
        _MARKS,
        "        return buckets & ~have",
        "        return buckets",
    ),
    Mutant(
        "older writes of sessions are taken again",
        _MARKS,
        "        if stamp < self.stamp:\n            return 0",
        "        if stamp < self.stamp:\n            return buckets",
    ),
    Mutant(
        "de-duplication of answered requests removed",
        _SESSIONS,
        "        if seq in self.answers:\n            return Verdict.ANSWERED\n",
        "",
    ),
    Mutant(
        "a request that is under way is begun again",
        _SESSIONS,
        "        if seq in self.pending:\n            return Verdict.PENDING\n",
        "",
    ),
    Mutant(
        "requests run as they arrive",
        _SERVICE,
        "                session.hold(seq, work, nbytes)\n",
        "                session.next = max(session.next, seq + 1)\n                self.dispatcher.submit(work)\n",
    ),
    Mutant(
        "requests of one session side by side",
        _DISPATCH,
        "        if session.running:\n            session.queue = deque()",
        "        if False:\n            session.queue = deque()",
    ),
    Mutant(
        "a parked pull keeps its session's later requests back",
        _ROWS,
        "work.park(member.clock, waiting, passes=passes)",
        "work.park(member.clock, waiting, passes=False)",
    ),
    Mutant(
        "a write that is held back lets later ones pass",
        _ROWS,
        "behind, passes=False)",
        "behind, passes=True)",
    ),
    Mutant(
        "refused writes not barred",
        _WORK,
        "record=write, bar=write)",
        "record=write, bar=False)",
    ),
    Mutant(
        "what the client has said since a write was made counts for it",
        _SESSIONS,
        "self.refused[before - 1] > acked\n",
        "self.refused[before - 1] > max(acked, self.acked)\n",
    ),
    Mutant(
        "a small write overtakes others that change the same rows",
        _SHARDS,
        "            if not self._turns.is_idle:\n                return None\n",
        "",
    ),
    Mutant(
        "refused writes go again while others are in flight",
        _ORDER,
        "        if not writing and self._writes and",
        "        if self._writes and",
    ),
    Mutant(
        "refused writes go again in any order",
        _ORDER,
        "sorted(self._writes, key=lambda refused: refused.piece.place)",
        "self._writes[::-1]",
    ),
    Mutant(
        "new writes overtake refused ones",
        _SENDING,
        "and not (piece.write and self._refusals.writes)",
        "",
    ),
    Mutant(
        "a duplicate of a rank is acknowledged before what it repeats is done",
        _GROUPS,
        "entry = Entry(write.shards, lambda: write_all(parts), finished, fresh",
        "entry = Entry(write.shards if parts else {}, lambda: write_all(parts), finished, fresh",
    ),
    Mutant(
        "a duplicate of a session is acknowledged before what it repeats is done",
        _ROWS,
        "return Entry(change.shards, lambda: write_all(parts), changed)",
        "return Entry(change.shards if parts else {}, lambda: write_all(parts), changed)",
    ),
    Mutant(
        "writes overtake those that wait for their turn",
        _TURNS,
        " or (self._wanted and _meet(shards, self._wanted)):",
        ":",
    ),
    Mutant(
        "writes do not wait for their turn",
        _TURNS,
        "        if (self._busy and _meet(shards, self._busy)) or",
        "        if",
    ),
    Mutant(
        "a dropped table is freed under a running request",
        _TABLES,
        "                used = table_id in self._users\n",
        "                used = False\n",
    ),
)

#: Sessions that are silent, forgotten and opened again.
_SESSIONS_ANEW = (
    Mutant(
        "a session is opened again without what was answered",
        _LINKS,
        "m.Hello(self.id, lane.acked)",
        "m.Hello(self.id)",
    ),
    Mutant(
        "a node does not heed what was answered",
        _SERVICE,
        "max(0, message.seq)",
        "0",
    ),
    Mutant(
        "numbers that were answered are missing after a session was opened again",
        _LINKS,
        "        for seq in lane.holes():\n            lane.fill(seq, self._nothing(seq), now)\n",
        "",
    ),
    Mutant(
        "a request that is given up leaves a gap",
        _INFLIGHT,
        "        self.requests[seq] = self._filler(seq, frames, now)\n        if",
        "        del self.requests[seq]\n        if",
    ),
    Mutant(
        "a write is sent again when nodes have forgotten it",
        _LINKS,
        "late = now - request.sent_at > self.settings.session_ttl",
        "late = False",
    ),
    Mutant(
        "marks are forgotten with the session",
        _SESSIONS,
        "            if now - since <= self.ttl:\n                break\n",
        "",
    ),
    Mutant(
        "timers before answers",
        _TRANSPORT,
        "            if not self._take_in(busy, done) and not spun:\n",
        "            self._timers(now)\n            if not self._take_in(busy, done) and not spun:\n",
    ),
    Mutant(
        "time in which nobody looked counts as silence",
        _TRANSPORT,
        "        if now - since <= UNSEEN_SECONDS:\n            return 0.0\n",
        "        if True:\n            return 0.0\n",
    ),
    Mutant(
        "calls wait for the coordinator",
        _LINKS,
        "            self._inquiries.append(self.control.ask(Attach(0, self.address.tier_id)))",
        "            self._heed(self.control.request(Attach(0, self.address.tier_id)))",
    ),
    Mutant(
        "ticks wait behind pushes",
        _INFLIGHT,
        "return not up or self._up == 0 or",
        "return self._up == 0 or",
    ),
)

#: What lies at a replica when its primary acknowledges it, and what becomes of it there.
_REPLICAS = (
    Mutant(
        "acknowledged before the replica has it",
        _COPIES,
        "        missing = [place for place in places if place.awaited]\n",
        "        missing: list[Place] = []\n",
    ),
    Mutant(
        "a repetition is acknowledged before what it repeats",
        _COPIES,
        "        return NOWHERE if self.asynchronous else self.all_so_far(buckets)",
        "        return NOWHERE",
    ),
    Mutant(
        "a log goes on past an entry that is missing",
        _FOLLOWER,
        "number != self.taken + 1:",
        "number <= self.taken:",
    ),
    Mutant(
        "what is not acknowledged is not sent again",
        _SENT_LOG,
        "if self._sent > self.acked and now >= self._resend_at:",
        "if False:",
    ),
    Mutant(
        "entries of a node that was declared dead count",
        _FOLLOWERS,
        'if info.state != "up":',
        "if False:",
    ),
    Mutant(
        "a replica keeps no marks",
        _ENTRIES,
        "            follower.marks.take(writer, stamp, table, buckets)\n        return change",
        "            pass\n        return change",
    ),
    Mutant(
        "closes are not shipped",
        _CLOSING,
        "            if entry.places:\n                self._ship_close(entry, close)\n",
        "            if entry.places:\n                self._ship_close(entry, Close(-5, 0))\n",
    ),
    Mutant(
        "ticks are not shipped",
        _GROUPS,
        "self._ship(places, lambda: entries.ShipTick(member, state, finish))",
        "self._ship(places, lambda: entries.ShipForget(0))",
    ),
    Mutant(
        "a new primary does not wait for what was shipped to it",
        _FOLLOWER,
        "            self._waiting.append((_Pause(then), [], 0))",
        "            self._waiting.appendleft((_Pause(then), [], 0))",
    ),
    Mutant(
        "a lead is given up before all of it is handed over",
        _HANDOVER,
        "        self._when_all_is_there(over)\n",
        "        over()\n",
    ),
    Mutant(
        "a node leads what it has no copy of",
        _HANDOVER,
        "            if self._follower_with(bucket) is None:\n",
        "            if False:\n",
    ),
    Mutant(
        "a copy of an earlier placement is taken",
        _SNAPSHOTS,
        "    if not follower.is_at(message.epoch):\n",
        "    if False:\n",
    ),
    Mutant(
        "buffers do not move with a bucket",
        _SNAPSHOTS,
        "            kept += _kept(tables, bucket, write, its)\n",
        "",
    ),
    Mutant(
        "a copy that is not caught up counts",
        _SNAPSHOTS,
        "        state.copies.begin(target, bit)\n",
        "        state.copies.begin(target, bit)\n        state.copies.caught_up(target, bit)\n",
    ),
    Mutant(
        "who else had a copy is taken to have all of it after a failover",
        _MOVING,
        "    return [row if row[0] == had[0] else row[:1] for had, row in zip(before, after, strict=True)]",
        "    return after",
    ),
)

MUTANTS: tuple[Mutant, ...] = (*_RANKS, *_CLOCKS, *_WRITES, *_SESSIONS_ANEW, *_REPLICAS)
