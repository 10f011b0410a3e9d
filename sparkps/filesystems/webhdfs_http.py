"""One HTTP exchange with a WebHDFS server: a connection with time limits, an answer that is whole or raises, a file on its way."""

from __future__ import annotations

import errno
import http.client
import json
import re
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

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

#: Bytes of a file a second, at least.
_SLOWEST = 1 << 18

#: Bytes that are read at once of an answer whose length is not known.
_PIECE = 1 << 20

#: Bytes of an error's body that are read.
_MOST_ERROR = 1 << 16

#: Bytes of an answer that is no file: a directory of a million files.
_MOST_ANSWER = 1 << 28

#: What a server may say again of a request, and nobody else shall read.
_TOKEN = re.compile(r"(?<=delegation=)[^&\s]+|(?<=token=)[^&\s]+")

#: Statuses of servers, or of what stands before them, that cannot answer now.
_NOT_NOW = frozenset({502, 503, 504})

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


#: Where nothing else is said.
LIMITS = Limits()


class RefusedByHdfs(OSError):
    """The answer of a server that is not the one to ask now."""


class Within:
    """A request and its whole answer have so long as one try may take: then the connection ends, though bytes go on coming.

    Parameters
    ----------
    limits : Limits
    nbytes : int
        Of a file, that are to come: the time that they may take comes on top.
    """

    def __init__(self, limits: Limits, nbytes: int = 0) -> None:
        self._timer = threading.Timer(limits.seconds + nbytes / _SLOWEST, self._end)
        self._timer.daemon = True
        self._seconds = self._timer.interval
        self._is_over = False
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Within:
        self._timer.start()
        return self

    def add(self, connection: http.client.HTTPConnection) -> None:
        """This connection ends, too."""
        self._sockets.append(connection.sock)

    def _end(self) -> None:
        self._is_over = True
        for one in self._sockets:
            with suppress(OSError):  # it has ended
                one.shutdown(socket.SHUT_RDWR)

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._is_over:  # whatever it looks like: what has come is not all
            raise TimeoutError(errno.ETIMEDOUT, f"WebHDFS must have answered within {self._seconds:.3g} s, and did not")


def request(method: str, url: str, limits: Limits, within: Within | None = None) -> Answer:
    """Send a request without a body; its answer, of which only the head has come."""
    connection = connected(url, limits)
    if within is not None:
        within.add(connection)
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
            raise _silent(url, limits) from None
        raise


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
        except (http.client.IncompleteRead, ValueError, AttributeError) as error:  # closed, when its time was over
            raise self._cut() from error
        except http.client.HTTPException as error:
            raise OSError(errno.EPROTO, f"{self._peer()} answered what is no HTTP: {error!r}") from None
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
        parts, have = [], 0
        while data := self.read(_PIECE):
            parts.append(data)
            have += len(data)
            if have > _MOST_ANSWER:
                raise OSError(errno.EFBIG, f"{self._peer()} must answer with {_MOST_ANSWER} bytes at most, and did not")
        return b"".join(parts)

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

    def __init__(self, url: str, path: str, limits: Limits) -> None:
        self._connection = connection = connected(url, limits)
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
            check(answer, self._where)
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
                check(Answer(upload._connection, upload._connection.getresponse()), upload._where)
        upload.abort()
        if isinstance(error, ConnectionError):
            raise ConnectionResetError(errno.ECONNRESET, f"{upload._where} ended the connection", upload._path) from None
        if isinstance(error, TimeoutError):
            raise TimeoutError(errno.ETIMEDOUT, f"{upload._where} took nothing, or did not answer, in time", upload._path) from None
        if isinstance(error, http.client.HTTPException):
            raise OSError(errno.EPROTO, f"{upload._where} answered what is no HTTP: {error!r}", upload._path) from None


def connected(url: str, limits: Limits) -> http.client.HTTPConnection:
    """A new connection, already made."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OSError(errno.EPROTO, f"WebHDFS redirects to what is no web address: {error}") from None
    kinds: dict[str, type[http.client.HTTPConnection]] = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if parts.scheme not in kinds or not parts.hostname:
        raise OSError(errno.EPROTO, f"WebHDFS redirects to {_place(url)!r}, which is no web address")
    connection = kinds[parts.scheme](parts.hostname, port, timeout=limits.connect)
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


def check(answer: Answer, who: str) -> None:
    """Raise what an answer says that is no success."""
    if answer.status < 400:
        return
    body = answer.read_up_to(_MOST_ERROR)
    try:
        remote = json.loads(body)["RemoteException"]
        kind, message = str(remote["exception"]), str(remote["message"]).strip().splitlines() or [""]
    except (ValueError, KeyError, TypeError):
        kind, message = "", [f"HTTP status {answer.status}"]
    message[0] = _TOKEN.sub("...", message[0])
    if kind in _ELSEWHERE or (not kind and answer.status in _NOT_NOW):
        raise RefusedByHdfs(errno.EAGAIN, f"{who}: {message[0]}")
    made, number = _KINDS.get(kind, (PermissionError, errno.EACCES) if answer.status == 401 else (OSError, errno.EIO))
    hint = "; give a delegation token (HADOOP_TOKEN_FILE_LOCATION), or HADOOP_USER_NAME" if made is PermissionError else ""
    raise made(number, f"{who}: {message[0]}{hint}")


__all__ = ["LIMITS", "Answer", "Limits", "RefusedByHdfs", "Upload", "Within", "check", "connected", "request"]
