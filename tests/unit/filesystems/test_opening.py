"""Which file system a URL opens, at which address, for whom, and with which token."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pyarrow.fs
import pytest

from sparkps.checkpoints.files import open_files
from sparkps.environment import hadoop_environment
from sparkps.errors import ConfigError
from sparkps.filesystems import held_tokens, opening
from sparkps.filesystems.hadoop_conf import read_properties, uses_tokens, web_addresses
from sparkps.filesystems.opening import can_be_shared, open_filesystem, service_of, webhdfs_of
from sparkps.filesystems.tokens import Token
from tests.harness.fake_webhdfs import FakeWebHdfs
from tests.unit.filesystems.token_files import issued, writable_file


@pytest.fixture(autouse=True)
def no_hadoop(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """The machine's own Hadoop does not count."""
    for key in ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_HOME", "HADOOP_TOKEN_FILE_LOCATION", "HADOOP_USER_NAME", "SPARK_USER"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[FakeWebHdfs]:
    with FakeWebHdfs() as fake:
        yield fake


def write_conf(folder: pathlib.Path, name: str, **properties: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"<property><name>{key}</name><value>{value}</value></property>" for key, value in properties.items()]
    (folder / name).write_text(f"<?xml version='1.0'?>\n<configuration>{''.join(lines)}</configuration>")


def of_site(server: FakeWebHdfs, **more: str) -> dict[str, str]:
    return {"dfs.namenode.http-address": server.url.removeprefix("http://"), **more}


# ---- addresses -----------------------------------------------------------------------------------------------------------


def test_web_address_is_that_of_the_configured_namenode_only() -> None:
    conf = {"fs.defaultFS": "hdfs://nn:8020", "dfs.namenode.http-address": "0.0.0.0:50070"}
    assert web_addresses("nn:8020", conf) == ("http://nn:50070",)
    assert web_addresses("other:8020", conf) == ("http://other:9870",)
    assert web_addresses("nn", {}) == ("http://nn:9870",)


def test_encrypted_web_servers_are_asked_where_there_are_no_others() -> None:
    conf = {"dfs.http.policy": "HTTPS_ONLY", "dfs.ha.namenodes.ns": "a,b", "dfs.namenode.https-address.ns.a": "h1:1"}
    assert web_addresses("ns", {**conf, "dfs.namenode.rpc-address.ns.b": "h2:8020"}) == ("https://h1:1", "https://h2:9871")


def test_name_service_of_one_namenode() -> None:
    conf = {"dfs.nameservices": "ns,other", "dfs.namenode.http-address.ns": "h:1"}
    assert web_addresses("ns", conf) == ("http://h:1",)


def test_first_directory_holds_and_values_are_expanded(tmp_path: pathlib.Path) -> None:
    write_conf(tmp_path / "a", "core-site.xml", **{"fs.defaultFS": "hdfs://${master}:1", "endless": "${endless}x"})
    write_conf(tmp_path / "b", "hdfs-site.xml", **{"fs.defaultFS": "hdfs://no:2", "master": "nn"})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "core-site.xml").write_text("<configuration><property>")
    found = read_properties([tmp_path / "none", tmp_path / "c", tmp_path / "a", tmp_path / "b"])
    assert found["fs.defaultFS"] == "hdfs://nn:1"


def test_containers_of_yarn_find_what_spark_has_put_there(
    tmp_path: pathlib.Path, server: FakeWebHdfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_conf(tmp_path / "__spark_conf__" / "__hadoop_conf__", "hdfs-site.xml", **of_site(server, **{"dfs.nameservices": "x"}))
    write_conf(tmp_path / "__spark_conf__", "__spark_hadoop_conf__.xml", **{"fs.defaultFS": "hdfs://nn:8020"})
    write_conf(tmp_path / "elsewhere", "hdfs-site.xml", **{"dfs.namenode.http-address": "no:1"})
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "elsewhere"))
    assert webhdfs_of("hdfs://nn:8020/x").addresses == (server.url,)
    assert webhdfs_of("hdfs:///x").addresses == (server.url,), "the default file system"


def test_url_without_host_needs_a_default(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"HADOOP_CONF_DIR.*fs\.defaultFS"):
        open_filesystem("hdfs:///x")
    with pytest.raises(ConfigError, match="web server"):
        open_filesystem("webhdfs:///x")


# ---- who, and by which token ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "url_user", "expected"),
    [({"SPARK_USER": "sam"}, "", "sam"), ({"SPARK_USER": "sam", "HADOOP_USER_NAME": "ann"}, "", "ann"), ({}, "zoe@", "zoe")],
)
def test_user_of_requests(
    server: FakeWebHdfs, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url_user: str, expected: str
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    filesystem, path = open_filesystem(f"webhdfs://{url_user}{server.url.removeprefix('http://')}/a b")
    filesystem.create_dir(path)
    assert server.asked[-1][1]["user.name"] == expected
    assert "/a b" in server.folders


def test_token_of_the_token_file_is_sent(
    server: FakeWebHdfs, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    address = server.url.removeprefix("http://")
    token = Token(b"who", b"proof", "HDFS_DELEGATION_TOKEN", address)
    (tmp_path / "tokens").write_bytes(writable_file([Token(b"x", b"y", "HDFS_DELEGATION_TOKEN", "other:1"), token]))
    monkeypatch.setenv("HADOOP_TOKEN_FILE_LOCATION", str(tmp_path / "tokens"))
    open_files(f"webhdfs://{address}/d").write("x", [b"1"])
    assert {asked["delegation"] for _, asked in server.asked} == {token.url_string()}
    open_filesystem(f"webhdfs://{address}/d", token="given")[0].get_file_info("/d/x")
    assert server.asked[-1][1]["delegation"] == "given"
    monkeypatch.setenv("HADOOP_TOKEN_FILE_LOCATION", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="HADOOP_TOKEN_FILE_LOCATION must name a file"):
        open_filesystem(f"webhdfs://{address}/d")


@pytest.fixture
def held(server: FakeWebHdfs) -> Iterator[str]:
    """The address of the server, for which tokens that are held end with the test."""
    address = server.url.removeprefix("http://")
    yield address
    held_tokens.hold(address, "")


def test_token_of_the_tier_is_sent_rather_than_that_of_the_file_and_the_newest_one_at_any_time(
    server: FakeWebHdfs, held: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "tokens").write_bytes(writable_file([Token(b"x", b"y", "HDFS_DELEGATION_TOKEN", held)]))
    monkeypatch.setenv("HADOOP_TOKEN_FILE_LOCATION", str(tmp_path / "tokens"))
    before = open_files(f"webhdfs://{held}/d")
    sent = []
    for token in (issued("ann", 1.0, 2.0), issued("ann@REALM", 1.0, 2.0)):
        held_tokens.hold(held, token.url_string())
        for files in (before, open_files(f"webhdfs://{held}/d")):
            files.write(f"x{len(sent)}", [b"1"])
            sent.append((server.asked[-2][1].get("delegation"), server.asked[-2][1].get("user.name")))
        assert sent[-2:] == [(token.url_string(), "ann" if len(sent) == 2 else None)] * 2
    held_tokens.hold(held, "")
    before.write("last", [b"1"])
    in_file = Token(b"x", b"y", "HDFS_DELEGATION_TOKEN", held).url_string()
    assert server.asked[-2][1]["delegation"] == in_file, "without one it is as before"


def test_libhdfs_is_not_taken_where_it_would_not_use_the_token_of_the_tier(
    server: FakeWebHdfs, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    write_conf(tmp_path / "conf", "hdfs-site.xml", **of_site(server, **{"dfs.nameservices": "main"}))
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "conf"))
    monkeypatch.setattr("sparkps.filesystems.opening._libhdfs", lambda url: "libhdfs")
    assert open_filesystem("hdfs://main/x")[0] == "libhdfs"
    held_tokens.hold("main", "secret")
    try:
        assert open_filesystem("hdfs://main/x")[0].type_name == "py::webhdfs"
    finally:
        held_tokens.hold("main", "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [("hdfs://nn:8020/x", "nn:8020"), ("hdfs://ann@main/x", "main"), ("hdfs:///x", "nn:9"), ("webhdfs://h:1/x", "h:1"),
     ("swebhdfs://h/x", "h"), ("webhdfs:///x", ""), ("file:///x", ""), ("/x", ""), ("s3://bucket/x", "")],
)  # fmt: skip
def test_service_of_a_url(url: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    write_conf(tmp_path / "conf", "core-site.xml", **{"fs.defaultFS": "hdfs://nn:9"})
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "conf"))
    assert service_of(url) == expected


@pytest.mark.parametrize(
    ("properties", "expected"),
    [({}, False), ({"hadoop.security.authentication": "Simple"}, False), ({"hadoop.security.authentication": "kerberos"}, True),
     ({"dfs.namenode.delegation.token.always-use": "TRUE"}, True), ({"dfs.namenode.delegation.token.always-use": "false"}, False)],
)  # fmt: skip
def test_where_tokens_are_used(properties: dict[str, str], expected: bool) -> None:
    assert uses_tokens(properties) is expected


# ---- others --------------------------------------------------------------------------------------------------------------


def test_libhdfs_is_taken_where_pyarrow_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def made(host: str, port: int, user: str | None = None) -> str:
        asked.append((host, port, user))
        return "libhdfs"

    monkeypatch.setattr(pyarrow.fs, "HadoopFileSystem", made)
    assert open_filesystem("hdfs://ann@nn:8020/a%20b#?") == ("libhdfs", "/a%20b#?")
    assert open_filesystem("hdfs:///x") == ("libhdfs", "/x")
    assert asked == [("nn", 8020, "ann"), ("default", 0, None)]


def test_names_of_hadoop_for_object_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def made(url: str) -> tuple[str, str]:
        opened.append(url)
        return "s3", "bucket/x"

    monkeypatch.setattr(opening, "_known", lambda spelled, url, scheme, what: made(spelled))
    assert [open_filesystem(f"{scheme}://bucket/x")[1] for scheme in ("s3", "s3a", "s3n")] == ["bucket/x"] * 3
    assert opened == ["s3://bucket/x"] * 3


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(ConfigError, match=r"The URL must be of a file system.*pip install 'fsspec\[dropbox\]'"):
        open_filesystem("dropbox://x/y")


@pytest.mark.parametrize(
    ("url", "shared"),
    [("hdfs://nn/x", True), ("s3a://b/x", True), ("file:///x", False), ("/x", False), ("memory://x", False), ("failing+memory://x", False)],
)
def test_what_every_host_sees(url: str, shared: bool) -> None:
    assert can_be_shared(url) is shared


def test_environment_names_directories_in_hadoops_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOOP_HOME", "/opt/hadoop")
    monkeypatch.setenv("YARN_CONF_DIR", "/etc/yarn")
    monkeypatch.setenv("HADOOP_CONF_DIR", "/etc/hadoop")
    named = [str(one) for one in hadoop_environment().conf_dirs]
    assert named == ["__spark_conf__/__hadoop_conf__", "__spark_conf__", "/etc/hadoop", "/etc/yarn", "/opt/hadoop/etc/hadoop"]


@pytest.mark.parametrize(
    ("authority", "default"),
    [("nn", "hdfs://nn:8020"), ("nn:8020", "hdfs://nn"), ("NN:8020", "hdfs://nn:8020"), ("nn:9", "hdfs://nn:9/user")],
)
def test_a_name_node_has_its_web_address_however_it_is_spelled(authority: str, default: str) -> None:
    properties = {"fs.defaultFS": default, "dfs.namenode.http-address": "web:50070"}
    assert web_addresses(authority, properties) == ("http://web:50070",)
    assert web_addresses("other:8020", properties) == ("http://other:9870",)
