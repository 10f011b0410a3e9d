"""The driver's own requests to the coordinator: none is sent to one whose process is known to be gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from sparkps.client.control import ControlClient
from sparkps.errors import DeadlineExceeded, NodeUnreachable, SparkPSError
from sparkps.secret import secret_of
from sparkps.wire.messages.control import TierAddress

#: The end of a process is seen by its connections first, and within so many seconds by the launcher, its parent.
_NOTICE = 1.0


class DriverControl(ControlClient):
    """As a `ControlClient`, of the process that has started the coordinator. Made by `for_tier`.

    The launcher sees at once that its child has ended, and how; connections only see that nobody answers.
    """

    #: Says that the coordinator is gone, and why; None: it runs.
    ended: Callable[[], SparkPSError | None] = staticmethod(lambda: None)

    @classmethod
    def for_tier(cls, address: TierAddress, ended: Callable[[], SparkPSError | None]) -> Self:
        """This process's client of a tier: what `ControlClient.of` gives from now on.

        Parameters
        ----------
        address : TierAddress
        ended : callable
            See `ended`.
        """
        client = cls.of(address)
        assert isinstance(client, cls), "nobody has asked a tier that has just been started"
        client.ended = ended
        return client

    @classmethod
    def beside(cls, address: TierAddress, ended: Callable[[], SparkPSError | None]) -> Self:
        """A client of its own, of a tier that others of this process may have attached to as well: what ends for it goes on for them."""
        client = cls(address.coordinator, address.control_timeout, secret_of(address))
        client.ended = ended
        return client

    def check(self) -> None:
        """Raise if the coordinator is gone.

        Raises
        ------
        NodeUnreachable
            Says how it ended, and what to do.
        """
        error = self.ended()
        if error is not None:
            raise error

    def request(self, message: Any, timeout: float | None = None) -> Any:
        """As `ControlClient.request`; fails at once, with the reason, where the coordinator is gone."""
        self.check()
        try:
            return super().request(message, timeout)
        except (NodeUnreachable, DeadlineExceeded) as error:
            if error.attributes.get("endpoint") == self.endpoint:
                self._explain(error)
            raise

    def _explain(self, error: SparkPSError) -> None:
        """Raise the reason for `error` in its place, if the coordinator has ended."""
        seen, pause = threading.Event(), 0.02
        for _ in range(int(_NOTICE / pause) if isinstance(error, NodeUnreachable) else 1):
            reason = self.ended()
            if reason is not None:
                raise reason from error
            seen.wait(pause)


__all__ = ["DriverControl"]
