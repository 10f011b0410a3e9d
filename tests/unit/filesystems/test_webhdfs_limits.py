"""Limits of WebHDFS that hold where nobody answers, or answers something strange."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sparkps.filesystems import webhdfs_http
from sparkps.filesystems.webhdfs import WebHdfs
from sparkps.filesystems.webhdfs_http import LIMITS, Limits, Upload
from tests.harness.fake_webhdfs import FakeWebHdfs

QUICK = Limits(connect=1.0, silence=0.2, tries=3, seconds=5.0)


def test_connecting_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []

    def connect(self: http.client.HTTPConnection) -> None:
        limits.append(self.timeout)
        raise TimeoutError

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    with pytest.raises(TimeoutError, match=r"took no connection within 1 s"):
        webhdfs_http.connected("http://10.255.255.1:9870/", QUICK)
    assert limits == [1.0]


def test_limits_where_nothing_is_said_are_shorter_than_a_heartbeat_deadline() -> None:
    assert LIMITS.connect <= 10
    assert LIMITS.silence <= 30
    assert LIMITS.seconds <= 60


def test_no_try_begins_after_the_time_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeWebHdfs() as server:
        server.faults = [("GETFILESTATUS", "silent")] * 50
        with pytest.raises(TimeoutError):
            WebHdfs([server.url], limits=Limits(connect=1.0, silence=0.1, tries=50, seconds=0.5)).status("/x")
        assert 2 <= len(server.asked) <= 8


@pytest.mark.parametrize("place", ["ftp://127.0.0.1:1/x", "file:///etc/passwd"])
def test_a_redirection_to_what_is_no_web_server_is_an_error(place: str) -> None:
    with pytest.raises(OSError, match="no web address") as raised:
        webhdfs_http.connected(place, QUICK)
    assert raised.value.errno == errno.EPROTO


def _server(answer: Any) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do(self) -> None:
            self.close_connection = True
            answer(self)

        do_GET = do_PUT = do_DELETE = do

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    return made


def _json(handler: BaseHTTPRequestHandler, status: int, **what: Any) -> None:
    body = json.dumps(what).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_a_file_that_was_answered_with_another_redirection_is_not_written() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        while int(handler.rfile.readline(), 16):
            handler.rfile.readline()
        handler.rfile.readline()
        handler.send_response(307)
        handler.send_header("Location", "http://127.0.0.1:1/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server = _server(answer)
    try:
        upload = Upload(_url(server) + "/x", "/x", QUICK)
        with pytest.raises(OSError, match="answered 307"):
            upload.close()
    finally:
        server.shutdown(), server.server_close()


def test_an_answer_in_chunks_that_ends_too_early_is_never_taken_for_the_whole() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\n01234\r\n")

    server = _server(answer)
    try:
        with pytest.raises(ConnectionError, match="ended an answer too early"):
            WebHdfs([_url(server)], limits=QUICK).read("/x", 0, 10)
    finally:
        server.shutdown(), server.server_close()


def test_a_directory_that_was_not_made_is_an_error() -> None:
    server = _server(lambda handler: _json(handler, 200, boolean=False))
    try:
        with pytest.raises(OSError, match="made no directory"):
            WebHdfs([_url(server)], limits=QUICK).make_folder("/x")
    finally:
        server.shutdown(), server.server_close()


@pytest.mark.parametrize("kind", ["StandbyException", "RetriableException", "ObserverRetryOnActiveException"])
def test_who_is_not_the_one_to_ask_now_is_asked_again(kind: str) -> None:
    asked: list[int] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(1)
        if len(asked) < 3:
            _json(handler, 403, RemoteException={"exception": kind, "message": "not now"})
        else:
            _json(handler, 200, boolean=True)

    server = _server(answer)
    try:
        WebHdfs([_url(server)], limits=QUICK).make_folder("/x")
    finally:
        server.shutdown(), server.server_close()
    assert len(asked) == 3


def test_a_name_node_whose_name_nobody_knows_now_does_not_hide_the_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def connected(url: str, limits: Limits) -> Any:
        if "gone" in url:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(url, limits)

    real = webhdfs_http.connected
    monkeypatch.setattr(webhdfs_http, "connected", connected)
    with FakeWebHdfs() as server:
        WebHdfs(["http://gone:9870", server.url], limits=QUICK).make_folder("/x")
        assert "/x" in server.folders


def _trickle(handler: Any, head: bool) -> None:
    """One byte after the other, without end."""
    if not head:
        handler.send_response(200)
        handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            threading.Event().wait(0.1)


@pytest.mark.parametrize("ask", [lambda hdfs: hdfs.status("/x"), lambda hdfs: hdfs.read("/x", 0, 1000)], ids=["status", "read"])
@pytest.mark.parametrize("head", [False, True])
def test_a_server_that_never_ends_its_answer_is_left_when_the_time_is_over(head: bool, ask: Any) -> None:
    server = _server(lambda handler: _trickle(handler, head))
    began = time.monotonic()
    try:
        with pytest.raises(OSError):
            ask(WebHdfs([_url(server)], limits=Limits(connect=1.0, silence=1.0, tries=2, seconds=0.4)))
        assert time.monotonic() - began < 5.0
    finally:
        server.shutdown()
        server.server_close()


def test_an_answer_that_does_not_say_how_long_it_is_is_read_to_its_end() -> None:
    def answer(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b'{"FileStatus": {"type": "FILE", "length": 7, "modificationTime": 1000}}')

    server = _server(answer)
    try:
        status = WebHdfs([_url(server)], limits=QUICK).status("/x")
        assert status is not None
        assert status.nbytes == 7
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (lambda hdfs: hdfs.status("/x"), {"FileStatus": {"type": "FILE", "length": -5, "modificationTime": 0}}),
        (lambda hdfs: hdfs.status("/x"), {"FileStatus": {"type": "FILE", "length": "7", "modificationTime": 0}}),
        (lambda hdfs: hdfs.listing("/x"), {"FileStatuses": None}),
        (lambda hdfs: hdfs.listing("/x"), {"FileStatuses": {"FileStatus": [None]}}),
        (lambda hdfs: hdfs.delegation_token("me"), {"Token": {"other": 1}}),
        (lambda hdfs: hdfs.delegation_token("me"), {"Token": "x"}),
        (lambda hdfs: hdfs.renew_token("t"), {"long": 1 << 63}),
        (lambda hdfs: hdfs.renew_token("t"), {"long": "soon"}),
        (lambda hdfs: hdfs.renew_token("t"), {"long": float("nan")}),
    ],
)
def test_what_makes_no_sense_is_an_error_of_the_server(operation: Any, said: dict[str, Any]) -> None:
    server = _server(lambda handler: _json(handler, 200, **said))
    try:
        with pytest.raises(OSError, match=r"WebHDFS"):
            operation(WebHdfs([_url(server)], limits=QUICK))
    finally:
        server.shutdown()
        server.server_close()


def test_a_name_node_behind_a_gateway_that_cannot_answer_now_does_not_hide_the_other_one() -> None:
    def busy(handler: Any) -> None:
        handler.send_response(503)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server = _server(busy)
    try:
        with FakeWebHdfs() as other:
            WebHdfs([_url(server), other.url], limits=QUICK).make_folder("/x")
            assert "/x" in other.folders
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_that_a_server_says_again_is_shown_to_nobody() -> None:
    def echo(handler: Any) -> None:
        _json(handler, 403, RemoteException={"exception": "SecurityException", "message": f"bad token {handler.path}"})

    server = _server(echo)
    try:
        with pytest.raises(PermissionError) as raised:
            WebHdfs([_url(server)], token="SECRET", limits=QUICK).status("/x")
        assert "SECRET" not in str(raised.value)
    finally:
        server.shutdown()
        server.server_close()


def test_a_file_that_was_removed_by_a_request_whose_answer_was_lost_was_there() -> None:
    asked: list[int] = []

    def answer(handler: Any) -> None:
        asked.append(1)
        if len(asked) > 1:
            _json(handler, 200, boolean=False)

    server = _server(answer)
    try:
        assert WebHdfs([_url(server)], limits=QUICK).delete("/x")
        assert len(asked) == 2
        assert not WebHdfs([_url(server)], limits=QUICK).delete("/y")
    finally:
        server.shutdown()
        server.server_close()


def test_a_token_is_not_asked_for_with_another_one() -> None:
    paths: list[str] = []

    def answer(handler: Any) -> None:
        paths.append(handler.path)
        _json(handler, 200, Token={"urlString": "t"})

    server = _server(answer)
    try:
        assert WebHdfs([_url(server)], user="ann", token="other", limits=QUICK).delegation_token("me") == "t"
    finally:
        server.shutdown()
        server.server_close()
    assert "delegation=" not in paths[0]
    assert "user.name=ann" in paths[0]
