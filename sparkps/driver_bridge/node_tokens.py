"""Delegation tokens for the nodes, at the driver: it obtains them, gives them to the coordinator, and replaces those that end.

A token is needed where the Hadoop configuration says that processes have to prove who they are, for each HDFS that nodes open. The
coordinator hands it to them, and renews it. What comes to its end all the same is asked for here every few seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sparkps.driver_bridge.spark import tokens as jvm
from sparkps.driver_bridge.spark.tokens import Obtained
from sparkps.environment import hadoop_environment
from sparkps.errors import SparkPSError
from sparkps.filesystems import held_tokens
from sparkps.filesystems.hadoop_conf import read_properties, uses_tokens
from sparkps.filesystems.opening import service_of, web_addresses_of
from sparkps.filesystems.webhdfs import WebHdfs
from sparkps.filesystems.webhdfs_http import Limits
from sparkps.wire.messages.control import FindDueTokens, GiveToken, NodeToken

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

#: Seconds between two looks at what ends soon, and until a token that could not be had is asked for again.
LOOK_EVERY, AGAIN_AFTER = 5.0, 30.0
#: Seconds that the JVM and its NameNode have for a token, the coordinator for an answer, and the nodes for theirs.
OBTAIN_WITHIN, ANSWER_WITHIN, GIVE_WITHIN = 20.0, 5.0, 15.0
#: Seconds at the end of a tier in which its tokens are ended.
CANCEL_WITHIN = 3.0

_CANCEL = Limits(connect=1.0, silence=2.0, tries=1, seconds=2.0)


@dataclass
class _Service:
    """What is known of the tokens of one HDFS."""

    url: str
    #: What nodes have; None: nothing.
    given: NodeToken | None = None
    #: All that were issued for this tier.
    issued: list[NodeToken] = field(default_factory=list)
    #: No sooner is one asked for again (seconds, monotonic).
    again_at: float = 0.0
    #: Why there was none the last time; each reason is logged once.
    why: str = ""


class NodeTokens:
    """Sees to it that nodes have the tokens that they need, from `begin` to `end`.

    Parameters
    ----------
    request : callable
        ``request(message, timeout)``: asks the coordinator.
    obtain : callable
        ``obtain(url)``: a token for the HDFS of a URL, `Obtained`. May take long.
    is_needed : callable
        Whether the Hadoop configuration says that tokens are used.
    look_every : float
        Seconds.
    """

    def __init__(
        self,
        request: Callable[[Any, float], Any],
        obtain: Callable[[str], Obtained],
        is_needed: Callable[[], bool],
        look_every: float,
    ) -> None:
        self._request = request
        self._obtain = obtain
        self._is_needed = is_needed
        self._look_every = look_every
        #: By service, as `service_of` names it. Owner: `_lock`, which is held while one is obtained and given.
        self._services: dict[str, _Service] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, spark: SparkSession, request: Callable[[Any, float], Any]) -> NodeTokens:
        """Those of a tier beside a session."""

        def is_needed() -> bool:
            return jvm.tokens_are_used(spark) or uses_tokens(read_properties(hadoop_environment().conf_dirs))

        return cls(request, lambda url: within(OBTAIN_WITHIN, lambda: jvm.obtain_token(spark, url)), is_needed, LOOK_EVERY)

    def begin(self, known: Callable[[], Iterable[str]] = tuple) -> NodeTokens:
        """Look after tokens from now on; those for the URLs that `known` gives are obtained beside what goes on."""
        held_tokens.ask_for_more(self.see_to)
        self._thread = threading.Thread(target=self._look_on, args=(known,), name="sparkps-node-tokens", daemon=True)
        self._thread.start()
        return self

    def see_to(self, url: str) -> None:
        """Nodes are about to open a URL: they have a token for its HDFS afterwards, if they need one and it can be had. Never raises."""
        try:
            service = service_of(url)
            if not service or self._over.is_set() or not self._is_needed():
                return
            with self._lock:
                known = self._services.setdefault(service, _Service(_root(url, service)))
                if known.given is None and time.monotonic() >= known.again_at:
                    self._replace(service, known)
        except Exception as error:  # nodes go on as if there were no tokens
            log.warning("nodes have no delegation token for %s: %s", url, error)

    def end(self) -> None:
        """Obtain no more; does nothing the second time."""
        if not self._over.is_set():
            self._over.set()
            held_tokens.ask_for_more(None)
            for service in list(self._services):
                held_tokens.hold(service, "")

    def cancel(self) -> None:
        """End what was issued for this tier, which is over; what cannot be ended in time ends by itself."""
        issued = [token for known in self._services.values() for token in known.issued]
        threads = [threading.Thread(target=_cancel, args=(token,), daemon=True) for token in issued]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + CANCEL_WITHIN
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ---- inside --------------------------------------------------------------------------------------------------------

    def _replace(self, service: str, known: _Service) -> None:
        """Obtain a token, and give it to the nodes. `_lock` is held."""
        known.again_at = time.monotonic() + AGAIN_AFTER
        got = self._obtain(known.url)
        if not got.text:
            self._warn(known, service, got.why or "there is none")
            return
        token = NodeToken(service, got.text, list(web_addresses_of(known.url)), got.is_new)
        if token == known.given:
            log.debug("there is no newer delegation token for %s", service)
            return
        if token.is_ours:
            known.issued.append(token)
        held_tokens.hold(service, token.text)
        if self._over.is_set():
            held_tokens.hold(service, "")
            return
        try:
            self._request(GiveToken(0, token), GIVE_WITHIN)
        except SparkPSError as error:
            self._warn(known, service, str(error))
            return
        known.given, known.why = token, ""
        log.info("nodes have a delegation token for %s", service)

    def _warn(self, known: _Service, service: str, why: str) -> None:
        if known.why != why:
            known.why = why
            log.warning(
                "nodes have no new delegation token for %s, and use what they find where they run (HADOOP_TOKEN_FILE_LOCATION): %s",
                service,
                why,
            )

    def _look_on(self, known: Callable[[], Iterable[str]]) -> None:
        try:
            urls = list(known())
        except Exception as error:  # Spark may have ended already
            log.debug("file systems for which tokens are needed cannot be found: %s", error)
            urls = []
        for url in urls:
            self.see_to(url)
        while not self._over.wait(self._look_every):
            self._look()

    def _look(self) -> None:
        """Replace what ends soon; a coordinator that does not answer is asked again later."""
        if not any(known.given for known in list(self._services.values())):
            return
        try:
            due = self._request(FindDueTokens(0), ANSWER_WITHIN).services
            with self._lock:
                for service in due:
                    known = self._services.get(service)
                    if known is not None and time.monotonic() >= known.again_at:
                        self._replace(service, known)
        except Exception as error:
            log.debug("delegation tokens that end cannot be found: %s", error)


def _root(url: str, service: str) -> str:
    return f"{url.partition('://')[0]}://{service}/"


def _cancel(token: NodeToken) -> None:
    try:
        WebHdfs(token.addresses, token=token.text, limits=_CANCEL).cancel_token(token.text)
    except Exception as error:
        log.debug("the delegation token for %s could not be ended: %s", token.service, error)


def within(seconds: float, obtain: Callable[[], Obtained]) -> Obtained:
    """What `obtain` returns, or that it took too long; then it goes on on its own thread, and what comes of it is lost."""
    got: list[Obtained] = []

    def run() -> None:
        try:
            got.append(obtain())
        except Exception as error:
            got.append(Obtained(why=f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, name="sparkps-obtain-token", daemon=True)
    thread.start()
    thread.join(seconds)
    return got[0] if got else Obtained(why=f"no answer within {seconds:g} s")


__all__ = ["NodeTokens", "within"]
