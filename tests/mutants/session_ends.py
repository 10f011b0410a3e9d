"""Mutants of sessions that end, and begin again."""

from __future__ import annotations

from tests.mutants.mutant import INFLIGHT, LINKS, SERVICE, SESSIONS, TRANSPORT, Mutant

#: Sessions that are silent, forgotten and opened again.
SESSIONS_ANEW = (
    Mutant(
        "a session is opened again without what was answered",
        LINKS,
        "m.Hello(self.id, lane.acked, self.address.tier_id)",
        "m.Hello(self.id, 0, self.address.tier_id)",
    ),
    Mutant(
        "a node does not heed what was answered",
        SERVICE,
        "max(0, message.seq)",
        "0",
    ),
    Mutant(
        "numbers that were answered are missing after a session was opened again",
        LINKS,
        "        for seq in lane.holes():\n            lane.fill(seq, self._nothing(seq), now)\n",
        "",
    ),
    Mutant(
        "a request that is given up leaves a gap",
        INFLIGHT,
        "        self.requests[seq] = self._filler(seq, frames, now)\n        if",
        "        del self.requests[seq]\n        if",
    ),
    Mutant(
        "a write is sent again when nodes have forgotten it",
        LINKS,
        "late = now - request.sent_at > self.settings.session_ttl",
        "late = False",
    ),
    Mutant(
        "marks are forgotten with the session",
        SESSIONS,
        "            if now - since <= self.ttl:\n                break\n",
        "",
    ),
    Mutant(
        "timers before answers",
        TRANSPORT,
        "            if not self._take_in(busy, done) and not spun:\n",
        "            self._timers(now)\n            if not self._take_in(busy, done) and not spun:\n",
    ),
    Mutant(
        "time in which nobody looked counts as silence",
        TRANSPORT,
        "        if now - since <= UNSEEN_SECONDS:\n            return 0.0\n",
        "        if True:\n            return 0.0\n",
    ),
    Mutant(
        "calls wait for the coordinator",
        LINKS,
        "            self._inquiries.append(self.control.ask(Attach(0, self.address.tier_id)))",
        "            self._heed(self.control.request(Attach(0, self.address.tier_id)))",
    ),
    Mutant(
        "ticks wait behind pushes",
        INFLIGHT,
        "return not up or self._up == 0 or",
        "return self._up == 0 or",
    ),
)
