"""A WebHDFS server in this process: NameNode and DataNode in one, files in memory, and faults on demand."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

_ERRORS = {
    "StandbyException": 403,
    "FileNotFoundException": 404,
    "FileAlreadyExistsException": 403,
    "AccessControlException": 403,
    "InvalidToken": 403,
    "DSQuotaExceededException": 403,
    "IOException": 500,
}


class FakeWebHdfs:
    """The server; a context manager.

    Parameters
    ----------
    standby : bool
        Whether it says of all requests that it is not the active one.

    Attributes
    ----------
    url : str
        ``http://127.0.0.1:PORT``.
    files : dict
        Content by path. Written by its threads.
    asked : list of (str, dict)
        Operation, or "WRITE" and "READ" at a DataNode, and parameters of every request so far.
    faults : list of (str, str)
        Operation, and what goes wrong when it comes next: "silent", "reset", "cut" (an answer that ends too early), "garbage",
        "nowhere" (no Location), "loop" (it redirects without end), or an exception's name.
    """

    def __init__(self, standby: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.folders: set[str] = {"/"}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.faults: list[tuple[str, str]] = [("", "StandbyException")] * 1000 if standby else []
        #: What a renewal answers: the end of the token, in milliseconds since 1970.
        self.token_ends = 1_700_000_086_400_000
        #: Silent answers wait for it.
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.fake = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def fault(self, operation: str) -> str:
        """What goes wrong with a request; each fault once."""
        for number, (at, what) in enumerate(self.faults):
            if at in ("", operation):
                del self.faults[number]
                return what
        return ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            return

    def _serve(self) -> None:
        self.fake: FakeWebHdfs = self.server.fake  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        self.asks = {key: values[0] for key, values in parse_qs(parts.query).items()}
        data_node = parts.path.startswith("/data")
        self.at = unquote(parts.path.removeprefix("/data").removeprefix("/webhdfs/v1")).rstrip("/") or "/"
        operation = {"PUT": "WRITE", "GET": "READ"}[self.command] if data_node else self.asks["op"]
        self.fake.asked.append((operation, self.asks))
        self.close_connection = True
        what = self.fake.fault(operation)
        if what == "silent":
            self.fake.over.wait(30)
        elif what == "reset":
            return
        elif what == "garbage":
            self._answer(200, b"<html>a proxy's greeting</html>")
        elif what == "nowhere":
            self._answer(200, b"{}")
        elif what == "loop":
            self._redirect(self.path)
        elif what in _ERRORS:
            self._refuse(what)
        else:
            self.cut = what == "cut"
            getattr(self, f"_{operation.lower()}")()

    do_GET = do_PUT = do_DELETE = _serve

    def _answer(self, status: int, body: bytes, said: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if said is None else said))
        self.end_headers()
        self.wfile.write(body)

    def _json(self, **what: Any) -> None:
        self._answer(200, json.dumps(what).encode())

    def _refuse(self, kind: str) -> None:
        body = json.dumps({"RemoteException": {"exception": kind, "javaClassName": f"java.{kind}", "message": f"{kind}: {self.at}"}})
        self._answer(_ERRORS[kind], body.encode())

    def _redirect(self, target: str) -> None:
        self.send_response(307)
        self.send_header("Location", f"{self.fake.url}{target}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    # ---- the NameNode ----------------------------------------------------------------------------------------------

    def _data(self) -> None:
        self._redirect("/data" + self.path.removeprefix("/webhdfs/v1"))

    def _open(self) -> None:
        if self.at not in self.fake.files:
            return self._refuse("FileNotFoundException")
        return self._data()

    def _create(self) -> None:
        if self.at in self.fake.files and self.asks.get("overwrite", "false") == "false":
            return self._refuse("FileAlreadyExistsException")
        return self._data()

    def _entry(self, path: str, suffix: str) -> dict[str, Any]:
        data = self.fake.files.get(path)
        kind = "DIRECTORY" if data is None else "FILE"
        return {"pathSuffix": suffix, "type": kind, "length": len(data or b""), "modificationTime": 1_700_000_000_000}

    def _is_folder(self) -> bool:
        below = self.at.rstrip("/") + "/"
        return self.at in self.fake.folders or any(path.startswith(below) for path in self.fake.files)

    def _getfilestatus(self) -> None:
        if self.at not in self.fake.files and not self._is_folder():
            return self._refuse("FileNotFoundException")
        return self._json(FileStatus=self._entry(self.at, ""))

    def _liststatus(self) -> None:
        if self.at in self.fake.files:
            return self._json(FileStatuses={"FileStatus": [self._entry(self.at, "")]})
        if not self._is_folder():
            return self._refuse("FileNotFoundException")
        below = self.at.rstrip("/") + "/"
        names = {path.removeprefix(below).partition("/")[0] for path in [*self.fake.files, *self.fake.folders] if path.startswith(below)}
        return self._json(FileStatuses={"FileStatus": [self._entry(below + name, name) for name in sorted(names - {""})]})

    def _mkdirs(self) -> None:
        self.fake.folders.add(self.at)
        self._json(boolean=True)

    def _delete(self) -> None:
        there = self.at in self.fake.files or self._is_folder()
        below = self.at.rstrip("/") + "/"
        for path in [path for path in self.fake.files if path == self.at or path.startswith(below)]:
            del self.fake.files[path]
        self.fake.folders -= {path for path in self.fake.folders if path == self.at or path.startswith(below)}
        self._json(boolean=there)

    def _getdelegationtoken(self) -> None:
        self._json(Token={"urlString": f"token-for-{self.asks['renewer']}"})

    def _renewdelegationtoken(self) -> None:
        self._json(long=self.fake.token_ends)

    def _canceldelegationtoken(self) -> None:
        self._answer(200, b"")

    # ---- the DataNode ----------------------------------------------------------------------------------------------

    def _read(self) -> None:
        offset = int(self.asks.get("offset", 0))
        data = self.fake.files[self.at][offset:]
        data = data[: int(self.asks.get("length", len(data)))]
        self._answer(200, data[: len(data) // 2] if self.cut else data, len(data))

    def _write(self) -> None:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.fake.files[self.at] = b"".join(parts)
        self._answer(201, b"")


__all__ = ["FakeWebHdfs"]
