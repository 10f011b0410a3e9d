"""When each delegation token is renewed, and when it must be replaced. Pure: time is an argument (seconds since 1970).

A token's life::

    taken ──renewed at once──> renewed ──at 3/4 of its time──> renewed ... ──its last end is near──> due
              └────fails────> tried again, ever sooner ──3/4 of its time are over──> due

It is renewed at once, since only that tells when it ends. One that is *due* needs another in its place: it ends for good, or those who
may renew it do not answer, or refuse. A refusal is no reason to give up: the driver may have no other token either. One that was not
issued for the tier, as that which YARN gives to an application, is not for the tier to renew: it is due when Hadoop would end it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sparkps.filesystems.tokens import TokenTerms, next_renewal
from sparkps.wire.messages.control import NodeToken

#: Seconds that a token lives unless it is renewed, where no renewal has told: what Hadoop says if nothing else is set.
UNKNOWN_LIFE = 86_400.0

#: No time at all.
NEVER = float("inf")

#: Least seconds between two renewals, however wrong a clock is.
_SOONEST = 1.0

#: A renewal that lengthens a life by less than this has not: the token ends for good (seconds).
_NOTHING = 1.0


@dataclass
class _Life:
    """A token's life as it is known."""

    token: NodeToken
    #: When it was issued or last renewed, and when it ends unless it is renewed.
    since: float
    expires: float
    #: When it ends for good; `NEVER`: that is not known.
    ends: float
    #: When to renew it next; `NEVER` where that would change nothing.
    next_at: float
    #: When 3/4 of its time are over; `since <= due_at`.
    due_at: float
    #: The last renewal has failed, and why, numbers left out; empty: it has not.
    failure: str = ""
    #: `expires` is what a renewal has told.
    was_renewed: bool = False

    @property
    def is_last(self) -> bool:
        """Whether no renewal makes it any longer."""
        return self.expires > self.ends - _NOTHING


class Renewals:
    """Tokens, by service, and when they are renewed. Owner: one thread, or whoever holds the shell's lock."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}

    def hold(self, tokens: Mapping[str, NodeToken], now: float) -> None:
        """These are the tokens, and no others. One that has changed begins a new life; the others go on with theirs."""
        for service in set(self._lives) - set(tokens):
            del self._lives[service]
        for service, token in tokens.items():
            if service in self._lives and self._lives[service].token == token:
                continue
            terms = TokenTerms.of(token.text)
            since, ends = (min(terms.issued, now), terms.ends) if terms is not None else (now, NEVER)
            expires = max(now, min(since + UNKNOWN_LIFE, ends))
            first = now if token.is_ours else NEVER
            self._lives[service] = _Life(token, since, expires, ends, first, next_renewal(now, since, expires))

    def to_renew(self, now: float) -> list[NodeToken]:
        """Tokens whose renewal is to be tried now."""
        return [life.token for life in self._lives.values() if now >= life.next_at]

    def wait(self, now: float) -> float | None:
        """Seconds until `to_renew` has something; None: never, as it is."""
        waits = [life.next_at - now for life in self._lives.values() if life.next_at < NEVER]
        return max(0.0, min(waits)) if waits else None

    def renewed(self, token: NodeToken, expires: float, now: float) -> bool:
        """A token lives until `expires`; whether that ends a time of failures."""
        life = self._life(token)
        if life is None:
            return False
        if life.was_renewed and expires < life.expires + _NOTHING:
            life.ends = expires
        was_failing = bool(life.failure)
        life.was_renewed, life.since, life.expires, life.failure = True, now, expires, ""
        life.due_at = max(now + _SOONEST, next_renewal(now, now, expires))
        life.next_at = NEVER if life.is_last else life.due_at
        return was_failing

    def failed(self, token: NodeToken, why: str, now: float) -> bool:
        """A renewal has failed; whether that is news: another cause than the last time."""
        life = self._life(token)
        if life is None:
            return False
        cause = re.sub(r"\d+", "#", why)
        is_news, life.failure = life.failure != cause, cause or "?"
        life.next_at = next_renewal(now, life.since, max(now, life.expires), failed=True)
        return is_news

    def due(self, now: float) -> set[str]:
        """Services whose token must be replaced."""
        return {
            service
            for service, life in self._lives.items()
            if now >= life.due_at and (life.failure or life.is_last or not life.token.is_ours)
        }

    def validate(self) -> None:
        """Check the invariants."""
        for service, life in self._lives.items():
            assert life.token.service == service
            assert life.due_at >= life.since
            assert life.next_at < NEVER or life.is_last or not life.token.is_ours, "what may live longer is renewed some day"

    def _life(self, token: NodeToken) -> _Life | None:
        """Of a token that has not been replaced meanwhile."""
        life = self._lives.get(token.service)
        return life if life is not None and life.token == token else None


__all__ = ["UNKNOWN_LIFE", "Renewals"]
