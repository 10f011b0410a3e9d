"""Mutants of logical time: what a rank promises with its ticks, and what a node makes of them."""

from __future__ import annotations

from tests.mutants.mutant import BUFFERS, CLOCK, CLOCK_REQUESTS, CLOSING, DUE_CLOSES, FENCES, GROUPS, SESSION, Mutant

#: What a rank promises with its ticks, and how its successor goes on.
RANKS = (
    Mutant(
        "tick without flush",
        SESSION,
        "        self.flush()\n        member.faults.check(member.rank)  # also what",
        "        member.faults.check(member.rank)  # also what",
    ),
    Mutant(
        "tick after a write that failed",
        SESSION,
        "        member.faults.check(member.rank)  # also what the caller was told of, and caught\n",
        "",
    ),
    Mutant(
        "tick while pulls of its clock are under way",
        SESSION,
        "            self.await_pulls()  # in BSP",
        "            pass  # in BSP",
    ),
    Mutant(
        "minimum instead of maximum at takeover",
        SESSION,
        "latest = max(best,",
        "latest = min(best,",
    ),
    Mutant(
        "a finish that one node knows of is missed at takeover",
        SESSION,
        "key=lambda answer: (answer.finished, answer.clock)",
        "key=lambda answer: answer.clock",
    ),
    Mutant(
        "finish not repeated at takeover",
        SESSION,
        "if latest.finished:  # a node",
        "if False:  # a node",
    ),
    Mutant(
        "every piece its own ordinal",
        SESSION,
        "                    if sent == 0:\n",
        "                    if sent >= 0:\n",
    ),
    Mutant(
        "fencing removed",
        FENCES,
        "if member.incarnation != self.incarnation[rank] or member.incarnation == 0:",
        "if member.incarnation == 0:",
    ),
)

#: Logical time on a node.
CLOCKS = (
    Mutant(
        "staleness off by one",
        CLOCK,
        "if staleness > bound != UNBOUNDED:",
        "if staleness > bound + 1 and bound != UNBOUNDED:",
    ),
    Mutant(
        "a pull after its tick",
        CLOCK,
        "if bound == 0 and member.clock <= self._ticks.high[rank]:",
        "if False:",
    ),
    Mutant(
        "pushes applied on arrival in BSP",
        GROUPS,
        "if self.spec.staleness or self.acts_at_once(member):",
        "if True:",
    ),
    Mutant(
        "closes not in rank order",
        BUFFERS,
        "key=lambda each: each[0])",
        "key=lambda each: each[0][2])",
    ),
    Mutant(
        "closes not in order of a rank's writes",
        BUFFERS,
        "key=lambda each: each[0])",
        "key=lambda each: (each[0][0], -each[0][1]))",
    ),
    Mutant(
        "closes not in order of clocks",
        DUE_CLOSES,
        "return self._due.popleft()",
        "return self._due.pop()",
    ),
    Mutant(
        "clocks close beyond a checkpoint's cut",
        DUE_CLOSES,
        "self._due[0].clock > self._last_clock:",
        "False:",
    ),
    Mutant(
        "pulls not held during a close",
        GROUPS,
        "if not (waiting or self._closes.busy):",
        "if not waiting:",
    ),
    Mutant(
        "drop-above removed",
        CLOSING,
        "                self._buffers.drop_above(effect.rank, effect.clock, effect.buckets)\n",
        "",
    ),
    Mutant(
        "marks stay when writes are dropped",
        CLOCK,
        "self._marks.rewind(rank, ",
        "(lambda *_: None)(rank, ",
    ),
    Mutant(
        "a finish is answered before its closes",
        CLOCK_REQUESTS,
        "    if not message.finish:\n",
        "    if True:\n",
    ),
    Mutant(
        "the drain at the end removed",
        CLOSING,
        "        self.when_applied(over)\n",
        "        over(None)\n",
    ),
    Mutant(
        "buffers without bound",
        GROUPS,
        "return self._clock.ahead(member) if full else []",
        "return []",
    ),
    Mutant(
        "a rank that is held back by the bound is not let go when others catch up",
        GROUPS,
        "                    self._parked.append(parked())\n                    return behind",
        "                    return behind",
    ),
)
