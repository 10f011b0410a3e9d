"""HDFS over HTTP: WebHDFS of a NameNode and its DataNodes, or of a gateway (HttpFS). Every request has a time limit.

fsspec's client has none, overwrites files, writes them block by block, and takes a false answer for success. This one makes a file by
one request, never overwrites or renames, and checks each answer; it needs nothing but Python. A DataNode closes its connection after
every answer, and so each request has a connection of its own; any number of threads may share a client.

References: WebHDFS REST API, hadoop.apache.org/docs/stable/hadoop-project-dist/hadoop-hdfs/WebHDFS.html
"""

from __future__ import annotations

import errno
import http.client
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

T = TypeVar("T")

#: Errors of a NameNode that is not the active one, or not yet ready.
_ELSEWHERE = frozenset({"StandbyException", "RetriableException", "ObserverRetryOnActiveException"})

_KINDS: dict[str, tuple[type[OSError], int]] = {
    "FileNotFoundException": (FileNotFoundError, errno.ENOENT),
    "FileAlreadyExistsException": (FileExistsError, errno.EEXIST),
    "ParentNotDirectoryException": (NotADirectoryError, errno.ENOTDIR),
    "AccessControlException": (PermissionError, errno.EACCES),
    "AuthenticationException": (PermissionError, errno.EACCES),
    "SecurityException": (PermissionError, errno.EACCES),
    "InvalidToken": (PermissionError, errno.EACCES),
    "DSQuotaExceededException": (OSError, errno.EDQUOT),
    "NSQuotaExceededException": (OSError, errno.EDQUOT),
}

#: Bytes of an error's body that are read.
_MOST_ERROR = 1 << 16

#: Most redirections of one request.
_REDIRECTIONS = 3

#: Small pieces of a file are sent together, up to so many bytes.
_TOGETHER = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Time limits, and how often what only asks is asked again."""

    #: Seconds until a server takes a connection.
    connect: float = 10.0
    #: Seconds in which a server must say something, or take some of what is sent.
    silence: float = 20.0
    #: Times that a request without effect is tried, and seconds after which no other try begins.
    tries: int = 3
    seconds: float = 60.0


@dataclass(frozen=True)
class HdfsStatus:
    """A file or directory."""

    path: str
    is_folder: bool
    nbytes: int
    #: Seconds since 1970 of the last change.
    changed: float


class RefusedByHdfs(OSError):
    """The answer of a server that is not the one to ask now."""


class WebHdfs:
    """A client of one HDFS.

    Parameters
    ----------
    addresses : sequence of str
        Web servers of its NameNodes, as ``http://host:9870``; that which is active is found, and found again.
    user : str
        On whose behalf, where no one has to prove it.
    token : str
        A delegation token, as a URL has it; then `user` is that of the token.
    limits : Limits
    """

    def __init__(self, addresses: Sequence[str], *, user: str = "", token: str = "", limits: Limits = Limits()) -> None:
        self.addresses = tuple(addresses)
        self.limits = limits
        self._as = {"delegation": token} if token else {"user.name": user} if user else {}
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
        found = self._ask("GET", "LISTSTATUS", path, "FileStatuses").get("FileStatus", [])
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
        return self._ask("DELETE", "DELETE", path, "boolean", recursive=str(recursive).lower()) is True

    def read(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`, or as many as there are."""
        if length <= 0:
            return b""

        def attempt(address: str) -> bytes:
            with self._open(address, path, offset, length) as answer:
                return answer.read_up_to(length)

        return self._again(attempt)

    def stream(self, path: str, offset: int = 0) -> Answer:
        """All from `offset` on, to be read as it comes; the caller closes it."""
        return self._again(lambda address: self._open(address, path, offset, None))

    def create(self, path: str) -> Upload:
        """Begin a new file; `FileExistsError` if there is one. The directories above it are made."""

        def attempt(address: str) -> str:
            with self._request("PUT", self._url(address, "CREATE", path, {"overwrite": "false"})) as answer:
                _check(answer, self._name())
                return answer.location

        location = self._again(attempt)
        if not location:
            raise OSError(errno.EPROTO, f"{self._name()} named no DataNode to write to", path)
        return Upload(_connection(location, self.limits), location, path)

    def delegation_token(self, renewer: str) -> str:
        """A new delegation token, which `renewer` may renew; empty where this HDFS issues none."""
        made = self._ask("GET", "GETDELEGATIONTOKEN", "/", "Token", renewer=renewer)
        return str(made["urlString"]) if made else ""

    def renew_token(self, token: str) -> float:
        """Make a delegation token live longer; the time of its end, in seconds since 1970."""
        return float(self._ask("PUT", "RENEWDELEGATIONTOKEN", "/", "long", token=token)) / 1000.0

    def cancel_token(self, token: str) -> None:
        """End a delegation token."""
        self._ask("PUT", "CANCELDELEGATIONTOKEN", "/", "", token=token)

    # ---- requests --------------------------------------------------------------------------------------------------

    def _ask(self, method: str, operation: str, path: str, key: str, **parameters: str) -> Any:
        """What an answer has under `key`, if it must have one; a request that has been carried out may be sent again."""

        def attempt(address: str) -> Any:
            with self._request(method, self._url(address, operation, path, parameters)) as answer:
                _check(answer, self._name())
                body = answer.read_all()
            if not key:
                return None
            try:
                return json.loads(body)[key]
            except (ValueError, KeyError, TypeError):
                raise OSError(errno.EPROTO, f"{self._name()} must answer {operation} with {key}. Got {body[:100]!r}", path) from None

        return self._again(attempt)

    def _open(self, address: str, path: str, offset: int, length: int | None) -> Answer:
        parameters = {"offset": str(offset)} | ({"length": str(length)} if length is not None else {})
        url = self._url(address, "OPEN", path, parameters)
        for _ in range(_REDIRECTIONS):
            answer = self._request("GET", url)
            try:
                _check(answer, self._name())
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
        return f"{address}/webhdfs/v1{quote(path)}?{urlencode({'op': operation, **self._as, **parameters})}"

    def _request(self, method: str, url: str) -> Answer:
        connection = _connection(url, self.limits)
        try:
            connection.request(method, _target(url), headers={"Content-Length": "0"} if method == "PUT" else {})
            return Answer(connection, connection.getresponse())
        except BaseException as error:
            connection.close()
            if isinstance(error, ConnectionError):
                raise ConnectionResetError(errno.ECONNRESET, f"{_place(url)} ended the connection without an answer") from None
            if isinstance(error, http.client.HTTPException):
                raise OSError(errno.EPROTO, f"{_place(url)} answered what is no HTTP: {error!r}") from None
            if isinstance(error, TimeoutError):
                raise _silent(url, self.limits) from None
            raise

    def _name(self) -> str:
        return f"WebHDFS at {self.addresses[self._active]}"


class Answer:
    """What a server answers, read as it comes; a context manager."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.status = response.status
        #: Where the request shall go instead; empty: nowhere.
        self.location = response.getheader("Location", "") if 300 <= response.status < 400 else ""
        length = response.getheader("Content-Length")
        #: Bytes that are still to come, where the server has said how many.
        self._left = int(length) if length is not None and length.isdecimal() else None

    def read(self, most: int) -> bytes:
        """Up to `most` bytes; empty at the end. An answer that ends too early raises."""
        try:
            data = self._response.read(most)
        except http.client.IncompleteRead as error:
            raise self._cut() from error
        except TimeoutError:
            raise TimeoutError(errno.ETIMEDOUT, f"{self._peer()} fell silent in the middle of an answer") from None
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left > 0 and most > 0:
                raise self._cut()
        return data

    def read_up_to(self, length: int) -> bytes:
        """`length` bytes, or all there are."""
        parts, have = [], 0
        while have < length and (data := self.read(length - have)):
            parts.append(data)
            have += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_all(self) -> bytes:
        """The rest."""
        return self.read_up_to(1 << 62) if self._left is None else self.read_up_to(self._left)

    def _cut(self) -> OSError:
        return ConnectionAbortedError(errno.ECONNABORTED, f"{self._peer()} ended an answer too early")

    def _peer(self) -> str:
        return f"{self._connection.host}:{self._connection.port}"

    def close(self) -> None:
        """End the connection."""
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Upload:
    """A file that is being written at a DataNode; it is there, and whole, when `close` returns."""

    def __init__(self, connection: http.client.HTTPConnection, url: str, path: str) -> None:
        self._connection = connection
        self._path = path
        self._small: list[bytes] = []
        self._small_bytes = 0
        self._where = _place(url)
        self.position = 0
        self.closed = False
        with self._told():
            connection.putrequest("PUT", _target(url))
            connection.putheader("Content-Type", "application/octet-stream")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()

    def write(self, data: Any) -> int:
        """Send more; what has the buffer protocol."""
        view = memoryview(data).cast("B")
        self.position += len(view)
        if len(view) >= _TOGETHER:
            self._flush()
            self._send(view)
        elif view:
            self._small.append(bytes(view))
            self._small_bytes += len(view)
            if self._small_bytes >= _TOGETHER:
                self._flush()
        return len(view)

    def _flush(self) -> None:
        if self._small:
            data, self._small, self._small_bytes = b"".join(self._small), [], 0
            self._send(data)

    def _send(self, data: Any) -> None:
        with self._told():
            self._connection.send(b"%x\r\n" % len(data))
            self._connection.send(data)
            self._connection.send(b"\r\n")

    def close(self) -> None:
        """Send the rest, and wait until it is kept."""
        if self.closed:
            return
        try:
            self._flush()
            with self._told():
                self._connection.send(b"0\r\n\r\n")
                answer = Answer(self._connection, self._connection.getresponse())
            _check(answer, self._where)
            if answer.status not in (200, 201):
                raise OSError(errno.EPROTO, f"{self._where} answered {answer.status} to what was written", self._path)
        finally:
            self.abort()

    def abort(self) -> None:
        """End the connection; a part of the file may be there."""
        self.closed = True
        self._connection.close()

    def _told(self) -> _Told:
        return _Told(self)


class _Told:
    """Errors of a connection that a server has closed: it may have said why."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None:
            return
        upload = self._upload
        if isinstance(error, (BrokenPipeError, ConnectionResetError)):
            with suppress(http.client.HTTPException, ConnectionError, TimeoutError):
                _check(Answer(upload._connection, upload._connection.getresponse()), upload._where)
        upload.abort()
        if isinstance(error, ConnectionError):
            raise ConnectionResetError(errno.ECONNRESET, f"{upload._where} ended the connection", upload._path) from None
        if isinstance(error, TimeoutError):
            raise TimeoutError(errno.ETIMEDOUT, f"{upload._where} took nothing, or did not answer, in time", upload._path) from None
        if isinstance(error, http.client.HTTPException):
            raise OSError(errno.EPROTO, f"{upload._where} answered what is no HTTP: {error!r}", upload._path) from None


def _connection(url: str, limits: Limits) -> http.client.HTTPConnection:
    """A new connection, already made."""
    parts = urlsplit(url)
    kinds: dict[str, type[http.client.HTTPConnection]] = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise OSError(errno.EPROTO, f"WebHDFS redirects to {_place(url)!r}, which is no web address")
    connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=limits.connect)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        if isinstance(error, TimeoutError):
            raise TimeoutError(errno.ETIMEDOUT, f"{_place(url)} took no connection within {limits.connect:g} s") from None
        raise type(error)(error.errno, f"{_place(url)} cannot be reached: {error.strerror or error}") from None
    connection.sock.settimeout(limits.silence)
    return connection


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def _place(url: str) -> str:
    """Without the query, which may hold a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _silent(url: str, limits: Limits) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"{_place(url)} must answer within {limits.silence:g} s, and did not")


def _passes(error: OSError) -> bool:
    """Whether another try may do: the server is not there, silent, or not the active one."""
    return isinstance(error, (RefusedByHdfs, ConnectionError, TimeoutError)) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, None)


def _check(answer: Answer, who: str) -> None:
    """Raise what an answer says that is no success."""
    if answer.status < 400:
        return
    body = answer.read_up_to(_MOST_ERROR)
    try:
        remote = json.loads(body)["RemoteException"]
        kind, message = str(remote["exception"]), str(remote["message"]).strip().splitlines() or [""]
    except (ValueError, KeyError, TypeError):
        kind, message = "", [f"HTTP status {answer.status}"]
    if kind in _ELSEWHERE:
        raise RefusedByHdfs(errno.EAGAIN, f"{who}: {message[0]}")
    made, number = _KINDS.get(kind, (PermissionError, errno.EACCES) if answer.status == 401 else (OSError, errno.EIO))
    hint = "; give a delegation token (HADOOP_TOKEN_FILE_LOCATION), or HADOOP_USER_NAME" if made is PermissionError else ""
    raise made(number, f"{who}: {message[0]}{hint}")


def _status(path: str, one: dict[str, Any]) -> HdfsStatus:
    try:
        return HdfsStatus(path, one["type"] == "DIRECTORY", int(one["length"]), one["modificationTime"] / 1000.0)
    except (KeyError, TypeError, ValueError):
        raise OSError(errno.EPROTO, f"WebHDFS must say type, length and time of a file. Got {one!r}", path) from None


__all__ = ["Answer", "HdfsStatus", "Limits", "Upload", "WebHdfs"]
