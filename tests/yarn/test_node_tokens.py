"""Delegation tokens of a real HDFS, from the driver's JVM to the nodes: renewed, replaced, and ended with the tier.

An HDFS where nobody has to prove who he is issues tokens and keeps account of them, and takes requests without one, too. So what
processes send is seen on its way, by a server between them and the NameNode.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from sparkps import PSContext
from sparkps.driver_bridge import node_tokens
from sparkps.filesystems.webhdfs import WebHdfs
from tests.harness.hadoop import HadoopCluster
from tests.harness.hadoop_conf import write_configuration
from tests.harness.hadoop_files import why_not
from tests.harness.waiting import wait_until

#: Seconds that a token lives unless it is renewed, and at most.
INTERVAL, LIFE = 3.0, 10.0


class Between:
    """A server that hands requests on to a NameNode's web server, and keeps what was asked; a context manager."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        #: Operation, parameters, status and time of every request.
        self.asked: list[tuple[str, dict[str, str], int, float]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Hand)
        self._server.between = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Between:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def of(self, operation: str) -> list[tuple[dict[str, str], int, float]]:
        """Requests of a kind."""
        return [(parameters, status, at) for name, parameters, status, at in list(self.asked) if name == operation]


class _Hand(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def _hand_on(self) -> None:
        between: Between = self.server.between  # type: ignore[attr-defined]
        connection = http.client.HTTPConnection(between.target, timeout=20)
        connection.request(self.command, self.path, headers={"Content-Length": "0"} if self.command == "PUT" else {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        between.asked.append((asked.pop("op", ""), asked, answer.status, time.monotonic()))
        self.close_connection = True
        self.send_response(answer.status)
        for name in ("Location", "Content-Type"):
            if value := answer.getheader(name):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_DELETE = _hand_on


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HadoopCluster]:
    """An HDFS whose tokens live shortly, and that takes whoever has no name for somebody else."""
    if reason := why_not():
        pytest.skip(reason)
    times = {"renew-interval": INTERVAL, "max-lifetime": LIFE}
    site = {f"dfs.namenode.delegation.token.{key}": int(1000 * seconds) for key, seconds in times.items()}
    settings = {"hdfs-site.xml": site, "core-site.xml": {"hadoop.http.staticuser.user": "nobody"}}
    with HadoopCluster(tmp_path_factory.mktemp("hdfs"), tokens=True, yarn=False, settings=settings) as cluster:
        yield cluster


def test_nodes_write_with_the_tiers_tokens_which_are_renewed_replaced_and_ended(
    hdfs: HadoopCluster, spark: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_tokens, "LOOK_EVERY", 0.25)
    monkeypatch.setattr(node_tokens, "AGAIN_AFTER", 0.5)
    monkeypatch.delenv("HADOOP_TOKEN_FILE_LOCATION", raising=False)
    with Between(hdfs.webhdfs) as between:
        files = {"core-site.xml": {"fs.defaultFS": hdfs.hdfs}}
        site = {"dfs.namenode.http-address": between.place, "dfs.namenode.delegation.token.always-use": True}
        write_configuration(tmp_path, {**files, "hdfs-site.xml": site})
        monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
        with caplog.at_level("DEBUG", "sparkps"), PSContext(spark, num_nodes=2) as ps:
            table = ps.sparse_table("w", 2)
            keys = np.arange(2000)
            table.assign(keys, np.ones((2000, 2), np.float32))
            ps.checkpoint(f"{hdfs.hdfs}/of-nodes")
            created = between.of("CREATE")
            assert len(created) >= 3, "of two nodes, and the manifest"
            first = created[0][0]["delegation"]
            assert {(asked.get("delegation"), asked.get("user.name")) for asked, _, _ in created} == {(first, hdfs.user)}
            listed = WebHdfs([hdfs.webhdfs], user="x")._ask("GET", "LISTSTATUS", "/of-nodes", "FileStatuses")["FileStatus"]
            assert {one["owner"] for one in listed} == {hdfs.user}
            assert wait_until(lambda: _last_token(between) != first, 30), "when it ends for good there is another"
            renewed = [at for asked, status, at in between.of("RENEWDELEGATIONTOKEN") if asked["token"] == first and status == 200]
            assert renewed[-1] - renewed[0] > INTERVAL, "it has lived for longer than it would have by itself"
            assert not [status for _, status, _ in between.of("RENEWDELEGATIONTOKEN") if status != 200]
            os.kill(ps.status()["coordinator"]["pid"], signal.SIGKILL)
            assert wait_until(lambda: ps.status()["coordinator"]["restarts"] == 1, 20)
            ps.scale(3)
            before = len(between.of("CREATE"))
            ps.checkpoint(f"{hdfs.hdfs}/of-nodes")
            later = {asked.get("delegation") for asked, _, _ in between.of("CREATE")[before:]}
            assert first not in later
            assert None not in later
            status = repr(ps.status())
            tokens = {asked["token"] for asked, _, _ in between.of("RENEWDELEGATIONTOKEN")}
        ended = {asked["token"]: status for asked, status, _ in between.of("CANCELDELEGATIONTOKEN")}
        assert tokens <= set(ended)
        last = _last_token(between)
        assert ended[last] == 200
        with pytest.raises(PermissionError, match="found in cache|[Tt]oken"):
            WebHdfs([hdfs.webhdfs], user=hdfs.user).renew_token(last)
    assert not [token for token in tokens if token in caplog.text or token in status]


def _last_token(between: Between) -> str:
    return between.of("RENEWDELEGATIONTOKEN")[-1][0]["token"]
