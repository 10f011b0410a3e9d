"""HDFS over HTTP: WebHDFS of a NameNode and its DataNodes, or of a gateway (HttpFS). Every request has a time limit.

fsspec's client has none, overwrites files, writes them block by block, and takes a false answer for success. This one makes a file by
one request, never overwrites or renames, and checks each answer; it needs nothing but Python. A DataNode closes its connection after
every answer, and so each request has a connection of its own; any number of threads may share a client.

References: WebHDFS REST API, hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from sparkps.filesystems.tokens import user_of
from sparkps.filesystems.webhdfs_http import LIMITS, Answer, Limits, RefusedByHdfs, Upload, Within, check, request

T = TypeVar("T")

#: No token ends later (milliseconds since 1970).
_LATEST = 1 << 53

#: Most redirections of one request.
_REDIRECTIONS = 3

@dataclass(frozen=True)
class HdfsStatus:
    """A file or directory."""

    path: str
    is_folder: bool
    nbytes: int
    #: Seconds since 1970 of the last change.
    changed: float


class WebHdfs:
    """A client of one HDFS.

    Parameters
    ----------
    addresses : sequence of str
        Web servers of its NameNodes, as ``http://host:9870``; that which is active is found, and found again.
    user : str
        On whose behalf, where no one has to prove it.
    token : str or callable
        A delegation token, as a URL has it, or what gives the one to use now, maybe an empty one; `user` is then that of the token.
    limits : Limits
    """

    def __init__(self, addresses: Sequence[str], *, user: str = "", token: str | Callable[[], str] = "", limits: Limits = LIMITS) -> None:
        self.addresses = tuple(addresses)
        self.limits = limits
        self._user, self._token = user, token
        #: Index of the address that answered last. A race of two threads costs a request to the wrong one.
        self._active = 0

    # ---- verbs -----------------------------------------------------------------------------------------------------

    def status(self, path: str) -> HdfsStatus | None:
        """What there is at `path`; None if nothing is."""
        try:
            return _status(path, self._ask("GET", "GETFILESTATUS", path, "FileStatus"))
        except FileNotFoundError:
            return None

    def listing(self, path: str) -> list[HdfsStatus]:
        """What a directory holds, by name; `FileNotFoundError` if there is none."""
        found = self._ask("GET", "LISTSTATUS", path, "FileStatuses")
        found = found.get("FileStatus", []) if isinstance(found, dict) else None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise OSError(errno.EPROTO, f"{self._name()} must list what a directory holds, and did not", path)
        if len(found) == 1 and not found[0].get("pathSuffix"):
            raise NotADirectoryError(errno.ENOTDIR, "It is a file", path)
        made = [_status(f"{path.rstrip('/')}/{one.get('pathSuffix')}", one) for one in found]
        return sorted(made, key=lambda one: one.path)

    def make_folder(self, path: str) -> None:
        """Make a directory and those above it, where they are missing."""
        if self._ask("PUT", "MKDIRS", path, "boolean") is not True:
            raise OSError(errno.EIO, f"{self._name()} made no directory", path)

    def delete(self, path: str, *, recursive: bool = False) -> bool:
        """Remove a file, an empty directory, or with `recursive` all of one; whether there was anything."""
        may_be_done = False

        def attempt(address: str) -> bool:
            nonlocal may_be_done
            try:
                answer = self._answered(address, "DELETE", "DELETE", path, "boolean", {"recursive": str(recursive).lower()})
            except (ConnectionError, TimeoutError) as error:
                may_be_done |= not isinstance(error, ConnectionRefusedError)
                raise
            return answer is True or may_be_done  # what is not there now the request removed whose answer was lost

        return self._again(attempt)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`, or as many as there are."""
        if length <= 0:
            return b""

        def attempt(address: str) -> bytes:
            with Within(self.limits, length) as within, self._open(address, path, offset, length, within) as answer:
                return answer.read_up_to(length)

        return self._again(attempt)

    def stream(self, path: str, offset: int = 0) -> Answer:
        """All from `offset` on, to be read as it comes; the caller closes it."""
        return self._again(lambda address: self._open(address, path, offset, None))

    def create(self, path: str) -> Upload:
        """Begin a new file; `FileExistsError` if there is one. The directories above it are made."""

        def attempt(address: str) -> str:
            with request("PUT", self._url(address, "CREATE", path, {"overwrite": "false"}), self.limits) as answer:
                check(answer, self._name())
                return answer.location

        location = self._again(attempt)
        if not location:
            raise OSError(errno.EPROTO, f"{self._name()} named no DataNode to write to", path)
        return Upload(location, path, self.limits)

    def delegation_token(self, renewer: str) -> str:
        """A new delegation token, which `renewer` may renew; empty where this HDFS issues none."""
        made = self._ask("GET", "GETDELEGATIONTOKEN", "/", "Token", renewer=renewer)
        if made and not (isinstance(made, dict) and isinstance(made.get("urlString"), str)):
            raise OSError(errno.EPROTO, f"{self._name()} must give a token as a URL has it, and gave none")
        return str(made["urlString"]) if made else ""

    def renew_token(self, token: str) -> float:
        """Make a delegation token live longer; the time of its end, in seconds since 1970."""
        expires = self._ask("PUT", "RENEWDELEGATIONTOKEN", "/", "long", token=token)
        if isinstance(expires, bool) or not isinstance(expires, int) or not 0 < expires < _LATEST:
            raise OSError(errno.EPROTO, f"{self._name()} must say when a token ends, in milliseconds. Got {expires!r:.40}")
        return expires / 1000.0

    def cancel_token(self, token: str) -> None:
        """End a delegation token."""
        self._ask("PUT", "CANCELDELEGATIONTOKEN", "/", "", token=token)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _ask(self, method: str, operation: str, path: str, key: str, **parameters: str) -> Any:
        """What an answer has under `key`, if it must have one; a request that has been carried out may be sent again."""

        return self._again(lambda address: self._answered(address, method, operation, path, key, parameters))

    def _answered(self, address: str, method: str, operation: str, path: str, key: str, parameters: dict[str, str]) -> Any:
        url = self._url(address, operation, path, parameters)
        with Within(self.limits) as within, request(method, url, self.limits, within) as answer:
            check(answer, self._name())
            body = answer.read_all()
        if not key:
            return None
        try:
            return json.loads(body)[key]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise OSError(errno.EPROTO, f"{self._name()} must answer {operation} with {key}. Got {body[:100]!r}", path) from None

    def _open(self, address: str, path: str, offset: int, length: int | None, within: Within | None = None) -> Answer:
        parameters = {"offset": str(offset)} | ({"length": str(length)} if length is not None else {})
        url = self._url(address, "OPEN", path, parameters)
        for _ in range(_REDIRECTIONS):
            answer = request("GET", url, self.limits, within)
            try:
                check(answer, self._name())
            except BaseException:
                answer.close()
                raise
            if not answer.location:
                return answer
            url = answer.location
            answer.close()
        raise OSError(errno.ELOOP, f"{self._name()} redirects without end", path)

    def _again(self, attempt: Callable[[str], T]) -> T:
        """`attempt(address)` at the active NameNode; at others, and again, while servers do not answer."""
        end = time.monotonic() + self.limits.seconds
        first: OSError | None = None
        for number in range(max(self.limits.tries, len(self.addresses))):
            at = self._active
            try:
                return attempt(self.addresses[at])
            except OSError as error:
                if not _passes(error):
                    raise
                # What the first one said may be that it is on standby: of several errors the last by another cause tells more.
                first = error if first is None or isinstance(first, RefusedByHdfs) else first
                if self._active == at:
                    self._active = (at + 1) % len(self.addresses)
                if time.monotonic() >= end:
                    break
                if number + 1 >= len(self.addresses):
                    time.sleep(0.1)
        assert first is not None, "a try that does not return raises"
        raise first

    def _url(self, address: str, operation: str, path: str, parameters: dict[str, str]) -> str:
        # Who has a token is given no other one by it.
        own = {"user.name": self._user} if self._user else {}
        who = own if operation == "GETDELEGATIONTOKEN" else self._identity()
        return f"{address}/webhdfs/v1{quote(path)}?{urlencode({'op': operation, **who, **parameters})}"

    def _identity(self) -> dict[str, str]:
        token = self._token if isinstance(self._token, str) else self._token()
        user = user_of(token) if token else self._user
        return ({"delegation": token} if token else {}) | ({"user.name": user} if user else {})

    def _name(self) -> str:
        return f"WebHDFS at {self.addresses[self._active]}"


def _passes(error: OSError) -> bool:
    """Whether another try may do: the server is not there, silent, or not the active one."""
    if isinstance(error, (RefusedByHdfs, ConnectionError, TimeoutError, socket.gaierror)):  # a pod that is down has no name
        return True
    return error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, None)


def _status(path: str, one: dict[str, Any]) -> HdfsStatus:
    try:
        length = one["length"]
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise ValueError(length)
        return HdfsStatus(path, one["type"] == "DIRECTORY", length, one["modificationTime"] / 1000.0)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise OSError(errno.EPROTO, f"WebHDFS must say type, length and time of a file. Got {one!r}", path) from None


__all__ = ["HdfsStatus", "WebHdfs"]
