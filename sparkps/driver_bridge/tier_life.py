"""The life of a tier beside a Spark session: it starts, is the only one, and ends with what ends first."""

from __future__ import annotations

import logging
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from sparkps.client.control import ControlClient
from sparkps.client.session import disconnect, end_all
from sparkps.driver_bridge.arguments import settings_of
from sparkps.driver_bridge.driver_control import DriverControl
from sparkps.driver_bridge.launchers import RunningTier, launch
from sparkps.driver_bridge.log_fetching import LogFetching
from sparkps.driver_bridge.node_tokens import NodeTokens
from sparkps.driver_bridge.signals import EndOfDriver, EndOfSpark
from sparkps.driver_bridge.spark.closures import bring_secrets
from sparkps.driver_bridge.spark.python_workers import start_python_workers, use_this_python
from sparkps.driver_bridge.spark.session import has_stopped, running_context
from sparkps.driver_bridge.spark.tokens import known_filesystems
from sparkps.errors import ConfigError, InvalidInput, SparkPSError, TierError
from sparkps.secret import forget
from sparkps.wire.messages.control import TierAddress

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

#: Seconds that `stop` waits for the start of Python workers, where that is still under way.
_START_PATIENCE = 5.0


class TierLife:
    """A tier from its start to its end; a context manager. What it can do is in `context.PSContext`, which has the parameters."""

    #: The current one. Owner: `_lock`.
    _active: TierLife | None = None
    #: Held while a context starts or stops. Re-entrant, since a signal handler may stop what its own thread is starting.
    _lock = threading.RLock()

    def __init__(
        self,
        spark: SparkSession,
        num_nodes: int | None = None,
        replication: int | None = None,
        launch: str | None = None,
        replication_ack: str | None = None,
        url: str | None = None,
        secret_file: str | os.PathLike[str] | None = None,
    ) -> None:
        context = running_context(spark)
        self.spark = spark
        self.settings = settings_of(spark, num_nodes, replication, launch, replication_ack, url, secret_file)
        self._spark_context = context
        self._pid = os.getpid()
        self._stopped = False
        self._tier: RunningTier | None = None
        #: Set when no job of our own runs any more.
        self._workers_started = threading.Event()
        self._workers_started.set()
        #: Nobody has asked for this context itself: it was made for whoever needs one.
        self._is_shared = False
        #: Brings what other processes log to the driver's log, where `spark.sparkps.logLevel` asks for it.
        self._log_fetching: LogFetching | None = None
        #: Sees to it that nodes have the delegation tokens that they need.
        self._node_tokens: NodeTokens | None = None
        #: None until the tier has started.
        self._end_of_spark: EndOfSpark | None = None
        with TierLife._lock:
            _make_room(context)
            self._end = EndOfDriver(self.stop)
            self._end.arm()
            try:
                use_this_python(context)
                self._workers_started = start_python_workers(spark)
                self._start()
            except BaseException:
                self.stop()
                raise
            self._end_of_spark = EndOfSpark(lambda: has_stopped(context), self.stop)
            TierLife._active = self

    def _start(self) -> None:
        bring_secrets()  # before anything is sent: nodes in executors get theirs so
        self._tier = launch(self.settings, self.spark)
        self.settings = self._tier.settings
        #: What table handles carry.
        self.address: TierAddress = self._tier.address
        #: To the coordinator.
        control = DriverControl.beside if self._tier.application else DriverControl.for_tier
        self.control = control(self.address, self._tier.ended)
        if self.settings.log_level:
            self._log_fetching = LogFetching(self.control.request, self.settings.log_level).begin()
        self._node_tokens = NodeTokens.of(self.spark, self.control.request).begin(lambda: known_filesystems(self.spark))
        log.info("tier %s is ready: %d nodes", self.address.tier_id, self.settings.num_nodes)

    @classmethod
    def active(cls) -> Self | None:
        """The current context of this process, or None."""
        active = cls._active
        return active if isinstance(active, cls) and active._pid == os.getpid() and active._is_usable() else None

    @classmethod
    def get_or_create(cls, spark: SparkSession) -> Self:
        """The active context if it belongs to the session's SparkContext, else a new one from its `spark.sparkps.*` settings.

        A context made here lives on for the next caller, until `stop()`, the end of Spark or the interpreter's exit, or until
        somebody makes one explicitly. If a process of its tier was lost with its tables, and no restore has brought them back, a new
        tier takes its place.
        """
        context = running_context(spark)
        with cls._lock:
            active = cls.active()
            if active is not None and active._spark_context is context:
                lost = active._lost() if active._is_shared else None
                if lost is None:
                    return active
                log.warning("a new tier takes the place of the one that was started before: %s", lost)
            made = cls(spark)
            made._is_shared = True
            return made

    def _lost(self) -> SparkPSError | None:
        return None if self._tier is None else self._tier.lost()

    def stop(self) -> None:
        """End the tier: its processes and all tables; or leave it, where it was attached to: its tables live on there.

        Does nothing the second time, and in a forked child.
        """
        if self._stopped or os.getpid() != self._pid:
            return
        self._stopped = True
        with TierLife._lock:
            self._end.disarm()
            if self._end_of_spark is not None:
                self._end_of_spark.cancel()
            if TierLife._active is self:
                TierLife._active = None
            # A Spark that is stopped next would report its workers as crashed.
            self._workers_started.wait(_START_PATIENCE)
            if self._tier is None:
                return
            if self._log_fetching is not None:
                self._log_fetching.end()
            if self._node_tokens is not None:
                self._node_tokens.end()
            if not self._tier.application:  # all that is there goes with it
                disconnect(self._tier.address)
                end_all(self._tier.address)
            self._tier.stop()
            if self._node_tokens is not None:
                self._node_tokens.cancel()
            if self._tier.application:
                self.control.close()
                log.info("tier %s is left", self._tier.address.tier_id)
                return
            ControlClient.of(self._tier.address).close()
            forget(self._tier.address.tier_id)
            log.info("tier %s has stopped", self._tier.address.tier_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "active"
        tier = "" if self._tier is None else f" {self._tier.address.tier_id}"
        return f"<PSContext{tier}: {self.settings.num_nodes} nodes, {state}>"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput(
            "A function that runs on executors must use table handles. Got the PSContext, which lives on the driver:"
            ' say `w = ps.table("w")` outside the function, and use `w` inside, or `worker.table("w")` in a worker group.'
        )

    def _is_usable(self) -> bool:
        return not self._stopped and not has_stopped(self._spark_context)

    def _check_running(self) -> None:
        if self._stopped or os.getpid() != self._pid:
            raise TierError("The PSContext must be running. It was stopped: make a new one.")

    def _check_can_start(self) -> None:
        """Before a group's input is staged, which may take long."""
        self._check_running()
        if has_stopped(self._spark_context):
            raise TierError("The SparkSession of the PSContext must be running. It was stopped: make new ones of both.")
        self.control.check()


def _make_room(context: Any) -> None:
    """Only one context is active: one that nobody has asked for goes, and one of a SparkContext that was stopped."""
    active = TierLife._active
    if active is None or active._pid != os.getpid():
        return
    if not (active._is_shared or has_stopped(active._spark_context)):
        raise ConfigError(
            f"Only one PSContext may be active. {active!r} is: use it (`PSContext.active()`), or stop it first."
        )
    active.stop()


__all__ = ["TierLife"]
