"""The thread of the coordinator that renews delegation tokens: the coordinator's own never waits for an HDFS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from sparkps.driver_bridge.coordinator.renewals import Renewals
from sparkps.filesystems.webhdfs import WebHdfs
from sparkps.filesystems.webhdfs_http import Limits
from sparkps.wire.messages.control import NodeToken

log = logging.getLogger(__name__)

#: Seconds after which it is looked again, however late the next renewal is: clocks are set, and there is a longest wait.
LONGEST_WAIT = 3600.0

#: Of one renewal: a NameNode that is silent delays those of other tokens by no more than this.
LIMITS = Limits(connect=5.0, silence=10.0, tries=2, seconds=10.0)


def renew(token: NodeToken) -> float:
    """Renew a token at its HDFS; when it ends now (seconds since 1970).

    Raises
    ------
    OSError
        It was refused, or nobody has answered in time.
    """
    return WebHdfs(token.addresses, token=token.text, limits=LIMITS).renew_token(token.text)


class TokenRenewal:
    """Renews the tokens that it is given, from the first one on until `end`.

    Parameters
    ----------
    renew : callable, optional
        Renews one, as `renew` does.
    """

    def __init__(self, renew: Callable[[NodeToken], float] = renew) -> None:
        self._renew = renew
        self._change = threading.Condition()
        #: Owner of these: `_change`.
        self._renewals = Renewals()
        self._held: dict[str, NodeToken] = {}
        self._is_over = False
        self._thread: threading.Thread | None = None

    def hold(self, tokens: Mapping[str, NodeToken]) -> None:
        """These are the tokens by service, and no others; does nothing if that is known."""
        if tokens == self._held:  # only this thread changes it
            return
        with self._change:
            self._held = dict(tokens)
            self._renewals.hold(self._held, time.time())
            self._change.notify_all()
            if self._thread is None and not self._is_over:
                self._thread = threading.Thread(target=self._run, name="sparkps-token-renewal", daemon=True)
                self._thread.start()

    def due(self) -> set[str]:
        """Services whose token must be replaced."""
        if self._thread is None:
            return set()
        with self._change:
            return self._renewals.due(time.time())

    def end(self) -> None:
        """Renew no more. A request that is under way is not waited for."""
        with self._change:
            self._is_over = True
            self._change.notify_all()

    def _run(self) -> None:
        while (token := self._next()) is not None:
            try:
                expires = self._renew(token)
            except Exception as error:  # whatever it is, the thread goes on
                self._failed(token, error)
            else:
                self._renewed(token, expires)

    def _next(self) -> NodeToken | None:
        """The next token to renew, when its time has come; None: it is over."""
        with self._change:
            while not self._is_over:
                now = time.time()
                waiting = self._renewals.to_renew(now)
                if waiting:
                    return waiting[0]
                wait = self._renewals.wait(now)
                self._change.wait(wait if wait is None else min(wait, LONGEST_WAIT))
        return None

    def _renewed(self, token: NodeToken, expires: float) -> None:
        with self._change:
            is_news = self._renewals.renewed(token, expires, time.time())
        if is_news:
            log.info("the delegation token for %s is renewed again", token.service)

    def _failed(self, token: NodeToken, error: Exception) -> None:
        with self._change:
            is_news = self._renewals.failed(token, f"{type(error).__name__}: {error}", time.time())
        if is_news:
            log.warning("the delegation token for %s could not be renewed, which is tried again: %s", token.service, error)


__all__ = ["LIMITS", "TokenRenewal", "renew"]
