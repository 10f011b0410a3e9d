"""HDFS over HTTP: what it asks, and what comes of servers that are silent, broken, on standby, or say no."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

import pytest
from pyarrow.fs import FileSelector, FileType

from sparkps.filesystems.webhdfs import WebHdfs
from sparkps.filesystems.webhdfs_arrow import as_arrow
from sparkps.filesystems.webhdfs_http import Limits
from tests.harness.fake_webhdfs import FakeWebHdfs

QUICK = Limits(connect=1.0, silence=0.2, tries=3, seconds=5.0)


@pytest.fixture
def server() -> Iterator[FakeWebHdfs]:
    with FakeWebHdfs() as fake:
        yield fake


@pytest.fixture
def client(server: FakeWebHdfs) -> WebHdfs:
    return WebHdfs([server.url], user="ann", limits=QUICK)


def test_file_is_made_by_one_request_and_read_in_parts(server: FakeWebHdfs, client: WebHdfs) -> None:
    upload = client.create("/a b/c")
    for piece in (b"one", bytes(3 << 20), b"", b"two"):
        upload.write(piece)
    upload.close()
    assert server.files == {"/a b/c": b"one" + bytes(3 << 20) + b"two"}
    assert [operation for operation, _ in server.asked] == ["CREATE", "WRITE"]
    assert client.read("/a b/c", 1, 4) == b"ne\0\0"
    assert client.read("/a b/c", (3 << 20) + 3, 100) == b"two"
    with client.stream("/a b/c", 2) as answer:
        assert answer.read_all() == server.files["/a b/c"][2:]
    assert all(asked["user.name"] == "ann" for _, asked in server.asked)


def test_existing_file_is_never_replaced(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.files["/x"] = b"old"
    with pytest.raises(FileExistsError):
        client.create("/x")
    assert server.files["/x"] == b"old"
    assert all(asked.get("overwrite") == "false" for operation, asked in server.asked if operation == "CREATE")


def test_status_listing_and_removal(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.files.update({"/d/one": b"1", "/d/sub/two": b"22"})
    client.make_folder("/empty")
    assert [(one.path, one.is_folder, one.nbytes) for one in client.listing("/d")] == [("/d/one", False, 1), ("/d/sub", True, 0)]
    assert client.listing("/empty") == []
    assert client.status("/d/one").changed == 1_700_000_000.0  # type: ignore[union-attr]
    assert client.status("/none") is None
    with pytest.raises(NotADirectoryError):
        client.listing("/d/one")
    assert (client.delete("/d", recursive=True), client.delete("/d")) == (True, False)
    assert server.files == {}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("AccessControlException", PermissionError),
        ("InvalidToken", PermissionError),
        ("FileNotFoundException", FileNotFoundError),
        ("IOException", OSError),
    ],
)
def test_refusal_is_an_error_of_its_kind_with_the_servers_words(
    server: FakeWebHdfs, client: WebHdfs, kind: str, expected: type[OSError]
) -> None:
    server.faults = [("CREATE", kind)]
    with pytest.raises(expected, match=f"WebHDFS at {server.url}: {kind}: /x"):
        client.create("/x")
    assert len(server.asked) == 1, "what a server refuses is not asked again"


def test_full_quota_says_so(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.faults = [("CREATE", "DSQuotaExceededException")]
    with pytest.raises(OSError, match="Quota") as raised:
        client.create("/x")
    assert raised.value.errno == errno.EDQUOT


@pytest.mark.parametrize("operation", ["GETFILESTATUS", "LISTSTATUS", "OPEN", "READ", "MKDIRS", "DELETE"])
def test_silent_server_is_given_up_within_the_limit(server: FakeWebHdfs, client: WebHdfs, operation: str) -> None:
    server.files["/x"] = b"x"
    server.faults = [(operation, "silent")] * 3
    calls = {
        "GETFILESTATUS": lambda: client.status("/x"),
        "LISTSTATUS": lambda: client.listing("/"),
        "MKDIRS": lambda: client.make_folder("/y"),
        "DELETE": lambda: client.delete("/x"),
    }
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        calls.get(operation, lambda: client.read("/x", 0, 1))()
    assert time.monotonic() - began < 3
    assert sum(asked == operation for asked, _ in server.asked) == 3


@pytest.mark.parametrize("operation", ["CREATE", "WRITE"])
def test_file_that_a_silent_server_does_not_take_is_given_up(server: FakeWebHdfs, client: WebHdfs, operation: str) -> None:
    server.faults = [(operation, "silent")] * 3
    with pytest.raises(TimeoutError, match="127.0.0.1"):
        _write(client, "/x", b"x" * (8 << 20))
    assert "/x" not in server.files


@pytest.mark.parametrize("what", ["silent", "reset", "cut"])
@pytest.mark.parametrize("operation", ["OPEN", "READ"])
def test_read_is_tried_again(server: FakeWebHdfs, client: WebHdfs, operation: str, what: str) -> None:
    server.files["/x"] = b"0123456789"
    server.faults = [(operation, what)] * 2
    assert client.read("/x", 3, 5) == b"34567"


def test_answer_that_ends_too_early_is_never_taken_for_the_whole(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.files["/x"] = b"0123456789"
    server.faults = [("READ", "cut")] * 4
    with pytest.raises(ConnectionError, match="ended an answer too early"):
        client.read("/x", 0, 10)
    with pytest.raises(ConnectionError, match="ended an answer too early"), client.stream("/x") as answer:
        answer.read_all()


def test_connection_lost_while_a_file_is_written_is_an_error(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.faults = [("WRITE", "reset")]
    with pytest.raises(OSError, match=".+"):
        _write(client, "/x", b"x" * (32 << 20))
    assert "/x" not in server.files


def test_why_a_file_was_not_taken_is_heard(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.faults = [("WRITE", "DSQuotaExceededException")]
    with pytest.raises(OSError, match="DSQuotaExceededException"):
        _write(client, "/x", b"little")


@pytest.mark.parametrize(("operation", "what"), [("CREATE", "nowhere"), ("OPEN", "loop"), ("MKDIRS", "garbage"), ("LISTSTATUS", "nowhere")])
def test_answer_without_sense_is_an_error(server: FakeWebHdfs, client: WebHdfs, operation: str, what: str) -> None:
    server.files["/x"] = b"x"
    server.faults = [(operation, what)] * 9
    call = {
        "CREATE": lambda: client.create("/y"),
        "OPEN": lambda: client.read("/x", 0, 1),
        "MKDIRS": lambda: client.make_folder("/y"),
        "LISTSTATUS": lambda: client.listing("/"),
    }[operation]
    with pytest.raises(OSError, match="WebHDFS") as raised:
        call()
    assert raised.value.errno in (errno.EPROTO, errno.ELOOP)


def test_active_namenode_is_found_and_kept(server: FakeWebHdfs) -> None:
    server.files["/x"] = b"x"
    with FakeWebHdfs(standby=True) as standby:
        client = WebHdfs([standby.url, server.url], limits=QUICK)
        assert client.read("/x", 0, 1) == b"x"
        assert client.status("/x") is not None
        assert len(standby.asked) == 1
    gone = WebHdfs([standby.url, server.url], limits=QUICK)
    assert gone.read("/x", 0, 1) == b"x"


def test_nobody_there_is_an_error_that_names_the_address() -> None:
    with FakeWebHdfs() as fake:
        address = fake.url
    with pytest.raises(ConnectionError, match=f"{address} cannot be reached"):
        WebHdfs([address], limits=QUICK).status("/x")


def test_token_goes_with_every_request_and_into_no_error(server: FakeWebHdfs) -> None:
    client = WebHdfs([server.url], user="ann", token="secret", limits=QUICK)
    _write(client, "/x", b"x")
    client.read("/x", 0, 1)
    assert all(asked["delegation"] == "secret" and "user.name" not in asked for _, asked in server.asked)
    server.faults = [("READ", "silent")] * 3 + [("CREATE", "AccessControlException")]
    for call in (lambda: client.read("/x", 0, 1), lambda: client.create("/y")):
        with pytest.raises(OSError, match=".") as raised:
            call()
        assert "secret" not in str(raised.value)


def test_tokens_are_issued_renewed_and_cancelled(server: FakeWebHdfs, client: WebHdfs) -> None:
    token = client.delegation_token("yarn")
    assert token == "token-for-yarn"
    assert client.renew_token(token) == 1_700_000_086_400.0
    client.cancel_token(token)
    assert [(operation, asked.get("token")) for operation, asked in server.asked[1:]] == [
        ("RENEWDELEGATIONTOKEN", token),
        ("CANCELDELEGATIONTOKEN", token),
    ]


def test_as_a_file_system_of_pyarrow(server: FakeWebHdfs, client: WebHdfs) -> None:
    files = as_arrow(client)
    with files.open_output_stream("/d/x") as stream:
        stream.write(b"0123456789")
    assert files.get_file_info("/d/x").size == 10
    with files.open_input_file("/d/x") as file:
        assert (file.size(), file.read_at(3, 4), file.read_at(30, 8)) == (10, b"456", b"89")
    with files.open_input_stream("/d/x") as stream:
        assert stream.read() == b"0123456789"
    kinds = {info.path: info.type for info in files.get_file_info(FileSelector("/", recursive=True))}
    assert kinds == {"/d": FileType.Directory, "/d/x": FileType.File}
    for call in (lambda: files.open_input_file("/none"), lambda: files.delete_file("/none"), lambda: files.delete_dir("/none")):
        with pytest.raises(FileNotFoundError):
            call()
    with pytest.raises(NotImplementedError):
        files.move("/d/x", "/d/y")
    files.delete_dir("/d")
    assert server.files == {}


def test_file_that_shrinks_while_it_is_read_is_an_error(server: FakeWebHdfs, client: WebHdfs) -> None:
    server.files["/x"] = b"0123456789"
    with as_arrow(client).open_input_file("/x") as file:
        server.files["/x"] = b"01234"
        with pytest.raises(OSError, match="changed while it was read"):
            file.read()


def _write(client: WebHdfs, path: str, data: bytes) -> None:
    upload = client.create(path)
    upload.write(data)
    upload.close()
