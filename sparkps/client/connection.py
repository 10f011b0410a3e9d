"""`sparkps.connect`: a running tier from any Python program, without Spark."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, NoReturn, Self

from sparkps.client.attaching import attach, leave, url_of
from sparkps.client.control import ControlClient
from sparkps.client.tables import DenseTable, SparseTable
from sparkps.environment import user_name
from sparkps.errors import InvalidInput, TierError
from sparkps.namespaces import check_owner, owner_for
from sparkps.secret_files import read_secret_file
from sparkps.specs import check_table_name
from sparkps.wire.messages.control import FindTable, TierStatus

_CLOSED = "A connection to a tier must be open while its tables are used. It was closed: connect again (`sparkps.connect`)."


def connect(url: str, secret_file: str | os.PathLike[str] | None = None, owner: str | None = None, timeout: float = 30.0) -> Connection:
    """Connect to a tier that others have started: to look rows up, and to change them.

    Neither Spark nor pyspark is needed. Whoever has the secret file may do all that an application may.

    Parameters
    ----------
    url : str
        As ``sparkps tier start`` prints it: ``sparkps://host:port``.
    secret_file : str or os.PathLike
        The tier's secret file, which this user alone may read.
    owner : str, optional
        Whose tables are meant where a name says no owner; default: the user of this process.
    timeout : float
        Seconds that the tier's coordinator has for a request.

    Returns
    -------
    Connection

    Raises
    ------
    ConfigError
        It is no URL of a tier, the secret file cannot be read, or others may read it.
    NotAdmitted
        The secret is missing, or that of another tier.
    NodeUnreachable
        No tier listens there.

    Examples
    --------
    >>> with sparkps.connect("sparkps://gateway:7077", secret_file="tier.secret") as tier:   # doctest: +SKIP
    ...     tier.table("ann/w").pull([7, 8])
    array([[0.5],
           [0. ]], dtype=float32)
    """
    secret = None if secret_file is None else read_secret_file(secret_file)
    owner = owner_for(user_name()) if owner is None else check_owner(owner)
    return Connection(url, attach(url, secret, owner, timeout))


class Connection:
    """A tier as a plain Python program sees it; a context manager. Made by `connect`; any thread may use it.

    Attributes
    ----------
    url : str
        Of the tier.
    owner : str
        Whose tables are meant where a name says no owner.
    tier_id : str
        Of the tier: one that is started again has another.
    """

    def __init__(self, url: str, address: Any) -> None:
        self._address = address
        self._is_closed = False
        self.url = url_of(address.coordinator)
        self.owner: str = address.owner
        self.tier_id: str = address.tier_id

    def table(self, name: str) -> SparseTable | DenseTable:
        """The handle of a table: to pull, push, add, assign and call.

        Parameters
        ----------
        name : str
            Of the owner's table, or ``owner/name``.

        Returns
        -------
        SparseTable or DenseTable

        Raises
        ------
        InvalidInput
            It is no name of a table.
        UnknownTable
        """
        spec = self._control().request(FindTable(0, check_table_name(self._address.full_name(name)))).spec
        return (SparseTable if spec.kind == "sparse" else DenseTable)(self._address, spec)

    def tables(self) -> list[dict[str, Any]]:
        """All tables of the tier, of all owners.

        Returns
        -------
        list of dict
            ``name`` (with its owner, as `table` takes it), ``owner``, ``kind`` ("sparse" or "dense"), ``dim``, ``shape``, ``dtype``,
            ``rows``, ``bytes``, ``idle_seconds`` (since somebody used it), and what else `status` has.
        """
        listed: list[dict[str, Any]] = self.status()["tables"]
        return listed

    def status(self) -> dict[str, Any]:
        """The tier as it is now, in plain values; see `PSContext.status`."""
        report: dict[str, Any] = self._control().request(TierStatus(0)).report
        return report

    def request(self, message: Any, timeout: float | None = None) -> Any:
        """Ask the tier's coordinator; for tools (see `sparkps.wire.messages.control`)."""
        return self._control().request(message, timeout)

    def close(self) -> None:
        """Leave the tier: handles that were taken from here cannot be used any more. Does nothing the second time."""
        if self._is_closed:
            return
        self._is_closed = True
        leave(self._address, _CLOSED)

    def _control(self) -> ControlClient:
        if self._is_closed:
            raise TierError(_CLOSED)
        return ControlClient.of(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection to {self.url} as {self.owner}{', closed' if self._is_closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("A Connection must stay in its process. Connect in each one (`sparkps.connect`), with the secret file there.")


__all__ = ["Connection", "connect"]
