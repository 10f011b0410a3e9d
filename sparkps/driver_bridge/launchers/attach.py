"""``launch="attach"``: a tier that runs already, started by ``sparkps tier start``; applications come, train, and leave their tables there.

Nothing is started here. The application gets the tier's secret from a file on the driver's machine, and its executors get it with their
tasks. What it calls ``w`` is ``owner/w`` on the tier (see `sparkps.namespaces`); its worker groups have slots of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
from typing import TYPE_CHECKING, Any

from sparkps.client.attaching import attach, leave, url_of
from sparkps.client.control import ControlClient
from sparkps.config import BEATS_PER_DEADLINE, PREFIX, Settings, conf_of
from sparkps.driver_bridge.groups.rank_lease import SOLVER_ATTEMPT
from sparkps.driver_bridge.launchers import ANSWER_GRACE
from sparkps.driver_bridge.profiles import Held
from sparkps.driver_bridge.spark.channel import check_channel
from sparkps.driver_bridge.spark.master import Master
from sparkps.errors import ConfigError, GroupError, SparkPSError, TierError
from sparkps.namespaces import owner_for
from sparkps.secret_files import read_secret_file
from sparkps.wire.messages.control import Cause, EndGroup, FailRank, ScaleTier, TierAddress, TierStatus

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

#: Seconds that the tier has to answer whoever asks whether it is still there, or leaves it.
ANSWER_WITHIN = 5.0

_LEFT = "The PSContext must be running. It was stopped, and has left the tier, where its tables live on: attach again."


class AttachedTier:
    """A tier that others have started; use `launch`.

    Parameters
    ----------
    settings : Settings
        Of the application.
    address : TierAddress
    """

    def __init__(self, settings: Settings, address: TierAddress) -> None:
        self.address = address
        self.application = secrets.token_hex(8)
        self._control = ControlClient.of(address)
        self._is_left = False
        report = self._control.request(TierStatus(0, fresh=False)).report
        #: Those of the application, with what the tier says of itself.
        self.settings = as_the_tier_is(settings, report["num_nodes"], report["settings"])

    @property
    def held_by_nodes(self) -> Held:
        """See `RunningTier.held_by_nodes`: nodes hold nothing of this application."""
        return Held()

    def ended(self) -> SparkPSError | None:
        """See `RunningTier.ended`."""
        return TierError(_LEFT) if self._is_left else None

    def lost(self) -> SparkPSError | None:
        """See `RunningTier.lost`: another tier may have taken the place of this one, or none."""
        if self._is_left:
            return TierError(_LEFT)
        try:
            found = self._control.request(TierStatus(0, fresh=False), ANSWER_WITHIN).report["tier_id"]
        except SparkPSError as error:
            return error
        if found == self.address.tier_id:
            return None
        return TierError(f"Tier {self.address.tier_id} must be running. It was started again, and is {found} now.")

    def scale(self, num_nodes: int, seconds: float) -> None:
        """See `RunningTier.scale`; whoever has started the tier starts nodes that lack."""
        self._control.request(ScaleTier(0, num_nodes, seconds), seconds + ANSWER_GRACE)

    def stop(self) -> None:
        """Leave the tier: worker groups of this application end, its tables live on. Does nothing the second time."""
        if self._is_left:
            return
        try:
            with contextlib.suppress(SparkPSError):  # a tier that is gone needs no good-bye
                self._end_groups()
        finally:
            self._is_left = True
            leave(self.address, _LEFT)

    def _end_groups(self) -> None:
        report = self._control.request(TierStatus(0, fresh=False), ANSWER_WITHIN).report
        for group in report["groups"]:
            if group["application"] == self.application:
                cause = Cause.of(GroupError(f"Worker group {group['name']!r} is ended: its application leaves the tier."))
                self._control.request(FailRank(0, group["id"], -1, SOLVER_ATTEMPT, cause), ANSWER_WITHIN)
                self._control.request(EndGroup(0, group["id"]), ANSWER_WITHIN)


def as_the_tier_is(settings: Settings, num_nodes: int, told: dict[str, Any]) -> Settings:
    """An application's settings, with those of the tier that it attaches to in place of its own where they must agree.

    Parameters
    ----------
    settings : Settings
    num_nodes : int
    told : dict
        From `status.told` of the tier.
    """
    deadline = told["heartbeat_deadline"]
    interval = min(settings.node.heartbeat_interval, deadline / BEATS_PER_DEADLINE)
    return dataclasses.replace(
        settings,
        num_nodes=num_nodes,
        replication=told["replication"],
        log_level="",
        node=dataclasses.replace(settings.node, heartbeat_deadline=deadline, heartbeat_interval=interval),
        workers=dataclasses.replace(settings.workers, lease_ttl=told["lease_ttl"]),
    )


def launch(settings: Settings, spark: SparkSession) -> AttachedTier:
    """Attach to the tier at `spark.sparkps.attach`.

    Parameters
    ----------
    settings : Settings
    spark : SparkSession

    Raises
    ------
    ConfigError
        No URL, a secret file that cannot be read or that others may read, or a cluster whose connections are open to others.
    NotAdmitted
        The secret is not that of the tier.
    NodeUnreachable
        No tier listens there.

    Examples
    --------
    >>> tier = launch(Settings(attach="sparkps://gateway:7077", secret_file="tier.secret"), spark)      # doctest: +SKIP
    >>> tier.stop()                                                                                     # doctest: +SKIP
    """
    if not settings.attach:
        raise ConfigError(
            f'To attach to a tier, its URL must be given: `PSContext(spark, launch="attach", url="sparkps://host:port", secret_file=...)`'
            f" or `{PREFIX}attach`. Got none; `sparkps tier start` starts a tier and prints its URL.",
            key=PREFIX + "attach",
        )
    if not Master(spark.sparkContext.master or "").on_this_host:
        check_channel(conf_of(spark), settings.network.allow_plaintext_keys)
    if settings.log_level:
        log.warning("`%slogLevel` is for a tier of one's own: the log of one that others share stays where that was started.", PREFIX)
    secret = read_secret_file(settings.secret_file) if settings.secret_file else None
    owner = settings.owner or owner_for(str(spark.sparkContext.sparkUser()))
    address = attach(settings.attach, secret, owner, settings.control_timeout)
    try:
        tier = AttachedTier(settings, address)
    except BaseException:
        leave(address, _LEFT)
        raise
    log.info("attached to tier %s at %s as %s", address.tier_id, url_of(address.coordinator), owner)
    return tier


__all__ = ["AttachedTier", "as_the_tier_is", "launch"]
