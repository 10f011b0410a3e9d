"""Keeps a tier for others: starts nodes that they ask for, takes checkpoints, and ends it in order when it is told to."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import Any, Protocol

from sparkps.checkpoints.claims import Claim
from sparkps.checkpoints.manifest import Checkpoint, Owner
from sparkps.checkpoints.store import CheckpointStore
from sparkps.client.control import ControlClient
from sparkps.driver_bridge import checkpointing
from sparkps.errors import CheckpointError, SparkPSError
from sparkps.wire.messages.control import CloseTier, TierStatus

log = logging.getLogger(__name__)

#: Seconds between two looks at the tier.
LOOK_EVERY = 0.2

#: Seconds that the coordinator has to say how the tier is, before it is asked again.
STATUS_WITHIN = 5.0

#: Seconds in which all nodes must know that no request is to be carried out any more.
CLOSED_WITHIN = 60.0

#: Checkpoints of a kept tier are known by this, and the last so many are kept.
OWNER, KEEP = "sparkps tier", 3

#: Seconds that the checkpoint at the end may take.
LAST_CHECKPOINT_WITHIN = 3600.0


class KeptTier(Protocol):
    """What a keeper needs of a tier that this process has started."""

    #: To its coordinator.
    control: ControlClient

    def ended(self) -> SparkPSError | None:
        """Why nobody can ask the coordinator anything any more; None: it runs."""

    def start_missing(self, report: dict[str, Any]) -> None:
        """Start the nodes that lack by the coordinator's report."""

    def stop(self) -> None:
        """End all processes."""


class Keeper:
    """Keeps a tier that has been started, until it is told to stop.

    Parameters
    ----------
    tier : KeptTier
    store : CheckpointStore, optional
        Where its checkpoints are; None: it has none.
    every : float
        Seconds between two of them; 0: the one at the end alone.
    claim : Claim, optional
        That on the directory of its checkpoints.
    """

    def __init__(self, tier: KeptTier, store: CheckpointStore | None = None, every: float = 0.0, claim: Claim | None = None) -> None:
        self._tier = tier
        self._store = store
        self._every = every
        self._claim = claim
        #: Set by any thread, or a signal handler: the tier shall end.
        self._told = threading.Event()
        #: Tells checkpoints of this tier from those of an earlier one.
        self._life = secrets.token_hex(8)
        #: Held while a checkpoint is taken.
        self._taking = threading.Lock()

    def restore(self) -> Checkpoint | None:
        """Bring all tables back that the last checkpoint has; None: there is no checkpoint yet.

        Raises
        ------
        CheckpointError
            There are some, and none is sound.
        """
        if self._store is None or not self._store.ids():
            return None
        found = checkpointing.candidates(self._store)
        return Checkpoint.of(self._store.url, checkpointing.restored(self._tier.control, self._store, found))

    def stop(self) -> None:
        """Let `run` end; any thread, or a signal handler."""
        self._told.set()

    def run(self) -> SparkPSError | None:
        """Keep the tier until it shall end, and end it in order.

        With checkpoints the end is a last one, for which all requests wait: so it has whatever was acknowledged. Where it cannot be
        written the tier goes on if somebody has asked for the end, and is told why; a signal ends it all the same.

        Returns
        -------
        SparkPSError or None
            Why the tier has ended by itself, or without its last checkpoint; None: it was told to, and has ended in order.
        """
        clock = threading.Thread(target=self._take_now_and_then, name="sparkps-checkpoints", daemon=True)
        if self._store is not None and self._every:
            clock.start()
        why, is_over = None, False
        while not is_over:
            if self._told.wait(LOOK_EVERY):
                why, is_over = self._take_last(), True
            elif (why := self._tier.ended()) is not None:
                is_over = True
            else:
                is_over = self._look()
        self._told.set()
        self._tier.stop()
        return why

    def _look(self) -> bool:
        """See what others want of the tier; whether it is ready to end."""
        try:
            report = self._tier.control.request(TierStatus(0, fresh=False), STATUS_WITHIN).report
            if report["asked_to_stop"]:
                return self._asked_to_stop(report["ending"]["discard"])
            self._tier.start_missing(report)
        except SparkPSError as error:  # a coordinator that is being started again, or nodes that cannot be
            log.warning("the tier does not answer, or lacks nodes: %s", error)
        return False

    def _asked_to_stop(self, discard: bool) -> bool:
        """Somebody asks for the end; whether the tier is ready for it."""
        log.info("the tier is told to stop%s", ", without a last checkpoint" if discard else "")
        why = None if discard else self._take_last()
        if why is not None:
            self._tier.control.request(CloseTier(0, f"{why}"), CLOSED_WITHIN)
        return why is None

    # ---- checkpoints ---------------------------------------------------------------------------------------------------

    def _take_now_and_then(self) -> None:
        due = time.monotonic() + self._every
        while not self._told.wait(max(0.0, due - time.monotonic())):
            try:
                self._take()
            except SparkPSError as error:  # what cannot be taken now is in the next one
                log.warning("one of the tier's checkpoints was not taken: %s", error)
            due = max(due + self._every, time.monotonic())

    def _take_last(self) -> SparkPSError | None:
        """Take the last checkpoint, with all that was ever acknowledged: no request is carried out from then on. Why it is not taken."""
        if self._store is None:
            return None
        try:
            self._tier.control.request(CloseTier(0), CLOSED_WITHIN)
            self._take()
        except SparkPSError as error:
            why = CheckpointError(
                f"The last checkpoint of the tier must be written before it ends. It was not: {error} What was written since the one before"
                " it would be lost.",
                url=self._store.url,
            )
            log.error("%s", why)
            return why
        return None

    def _take(self) -> None:
        """Take a checkpoint, if there is something to come back to.

        Raises
        ------
        SparkPSError
            It cannot be taken.
        """
        assert self._store is not None, "it has checkpoints"
        with self._taking:
            tables = self._tables()
            if not tables and not self._store.ids():
                return  # a tier without tables has nothing to come back to; but it had, if there is a checkpoint
            if self._claim is not None:
                self._claim.check()
            owner = Owner(OWNER, self._life)
            made = checkpointing.take(self._tier.control, self._store.url, LAST_CHECKPOINT_WITHIN, owner=owner)
            log.info("checkpoint %s: %d bytes in %.1f s", made.id, made.bytes, made.seconds)
        lost = [table["name"] for table in tables if table["lost_buckets"]]
        if lost:  # this checkpoint is without them
            log.warning("older checkpoints stay, since rows of tables %s are lost: restore them, or drop the tables", lost)
            return
        try:
            self._store.prune(time.time(), KEEP, owner=OWNER)
        except SparkPSError as error:
            log.warning("checkpoints that are not needed any more were not removed: %s", error)

    def _tables(self) -> list[dict[str, Any]]:
        report = self._tier.control.request(TierStatus(0, fresh=False), STATUS_WITHIN).report
        tables: list[dict[str, Any]] = report["tables"]
        return tables


__all__ = ["Keeper", "KeptTier"]
