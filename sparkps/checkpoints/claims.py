"""Whose a directory of checkpoints is: two tiers that begin with its last checkpoint, and write theirs there, would lose each other's rows.

A claim is a small file that its owner writes anew every few seconds. One that was not renewed for long, or whose process is provably gone,
is void. File systems can make a file where there is none, and no more: so a claim is renewed under a new name.
"""

from __future__ import annotations

import json
import logging
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass
from typing import Self

from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import CheckpointError
from sparkps.lifeline import is_gone, this_process

log = logging.getLogger(__name__)

#: Seconds between two renewals, and after which one that was not renewed is void: clocks of hosts may differ by some seconds.
RENEW_EVERY, VOID_AFTER = 15.0, 90.0

_SUFFIX = ".claim"


@dataclass(frozen=True)
class Holder:
    """Who has claimed a directory."""

    #: Random.
    claim: str
    host: str
    #: As `lifeline.this_process` names it.
    process: str
    #: Seconds since 1970.
    renewed: float

    def is_void(self, now: float) -> bool:
        """Whether it counts no more."""
        return now - self.renewed > VOID_AFTER or is_gone(self.process)


class Claim:
    """A claim on a directory of checkpoints, renewed by a thread of its own; a context manager.

    Parameters
    ----------
    store : CheckpointStore

    Raises
    ------
    CheckpointError
        Somebody else has it, or it cannot be written; when it is entered.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, Claim(CheckpointStore(directory)) as claim:
    ...     claim.check()
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._claim = secrets.token_hex(8)
        self._name = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_on, name="sparkps-claim", daemon=True)

    def __enter__(self) -> Self:
        self._refuse_if_taken(self._others())
        self._renew()
        try:
            self._refuse_if_taken(self._others())  # of two that came at once one at most goes on
        except CheckpointError:
            self._store.files.delete(self._name)
            raise
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(30)
        try:
            self._store.files.delete(self._name)
        except CheckpointError as failed:
            log.warning("the claim on %s could not be removed: %s", self._store.url, failed)

    def check(self) -> None:
        """See that the directory is still ours: it is not where this process stood still for so long that another one has taken it.

        Raises
        ------
        CheckpointError
        """
        self._refuse_if_taken(self._others())

    # ---- the files -----------------------------------------------------------------------------------------------------

    def _others(self) -> list[Holder]:
        """Others whose claims count. Void ones are removed."""
        found: list[Holder] = []
        for entry in self._store.files.entries():
            if not entry.name.endswith(_SUFFIX):
                continue
            holder = self._read(entry.name)
            if holder is None or holder.claim == self._claim:
                continue
            if holder.is_void(time.time()):
                self._store.files.delete(entry.name)
            else:
                found.append(holder)
        return found

    def _read(self, name: str) -> Holder | None:
        """None: it is gone by now, or not wholly written yet."""
        try:
            return Holder(**json.loads(self._store.files.read(name)))
        except (CheckpointError, ValueError, TypeError):
            return None

    def _refuse_if_taken(self, others: list[Holder]) -> None:
        for holder in others:
            raise CheckpointError(
                f"A directory of checkpoints must be one tier's alone: another one would begin with its checkpoints, and remove them."
                f" {self._store.url} is that of a tier on host {holder.host}, which was there {time.time() - holder.renewed:.0f} s ago."
                f" Give another directory, or end that tier first; if its host is gone, its claim is void after {VOID_AFTER:g} s.",
                url=self._store.url,
            )

    def _renew(self) -> None:
        holder = Holder(self._claim, socket.gethostname(), this_process(), time.time())
        written = self._store.files.write(f"{self._claim}-{secrets.token_hex(4)}{_SUFFIX}", [json.dumps(asdict(holder)).encode()])
        before, self._name = self._name, written
        if before:
            self._store.files.delete(before)

    def _renew_on(self) -> None:
        while not self._ended.wait(RENEW_EVERY):
            try:
                self._renew()
            except CheckpointError as error:
                log.warning("the claim on %s could not be renewed: %s", self._store.url, error)


__all__ = ["RENEW_EVERY", "VOID_AFTER", "Claim", "Holder"]
