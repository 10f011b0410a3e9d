"""Files by URL: local, of pyarrow and of fsspec, all with the same five verbs; and patience with them."""

from __future__ import annotations

import builtins
import errno
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.fs
import pytest

from sparkps.checkpoints import files as files_module
from sparkps.checkpoints.files import ArrowFiles, Files, LocalFiles, absolute_url, open_files
from sparkps.checkpoints.patience import Patience, PatientFiles, checksum, same_parts, within
from sparkps.checkpoints.store import CheckpointStore
from sparkps.driver_bridge.checkpointing import store_at
from sparkps.errors import CheckpointError, ConfigError
from sparkps.testing.failing_files import FailingFiles, FileFault
from tests.harness.fake_webhdfs import FakeWebHdfs
from tests.unit.checkpoints.samples import holds, write


def local(path: pathlib.Path) -> Files:
    return LocalFiles(str(path))


def arrow(path: pathlib.Path) -> Files:
    return ArrowFiles(pyarrow.fs.LocalFileSystem(), str(path), path.as_uri())


def of_fsspec(path: pathlib.Path) -> Files:
    pytest.importorskip("fsspec")
    return open_files(f"memory:/{path}")


def failing_never(path: pathlib.Path) -> Files:
    return open_files(f"failing+{path.as_uri()}?fault=error&at=1000000")


def of_webhdfs(path: pathlib.Path) -> Files:
    return open_files(f"webhdfs://127.0.0.1:{path.parts[1]}/checkpoints")


@pytest.fixture(params=[local, arrow, of_fsspec, failing_never, of_webhdfs])
def files(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Files]:
    opened: Callable[[pathlib.Path], Files] = request.param
    if opened is not of_webhdfs:
        yield opened(tmp_path / "not there yet")
        return
    with FakeWebHdfs() as server:
        yield opened(pathlib.Path("/", server.url.rpartition(":")[2]))


def test_five_verbs(files: Files) -> None:
    assert files.entries() == files.entries("folder", deep=True) == []
    files.write("folder/one.data", [b"abc", memoryview(b"defg"), b""])
    files.write("two.data", [])
    assert files.read("folder/one.data") == b"abcdefg"
    assert files.read("folder/one.data", 2, 3) == b"cde"
    assert files.read("folder/one.data", 5, 30) == b"fg"
    assert files.read("folder/one.data", 30) == b""
    assert b"".join(bytes(block) for block in files.blocks("folder/one.data")) == b"abcdefg"
    assert (files.size("folder/one.data"), files.size("two.data")) == (7, 0)
    assert [entry.name for entry in files.entries()] == ["two.data"]
    assert {entry.name: entry.nbytes for entry in files.entries(deep=True)} == {"folder/one.data": 7, "two.data": 0}
    assert [entry.name for entry in files.entries("folder")] == ["folder/one.data"]
    assert all(entry.changed == 0 or entry.changed > 1e9 for entry in files.entries(deep=True))  # some file systems do not say
    files.delete("folder/one.data")
    files.delete("folder/one.data")
    assert [entry.name for entry in files.entries(deep=True)] == ["two.data"]


def test_a_file_is_written_once(files: Files) -> None:
    files.write("one.data", [b"first"])
    with pytest.raises(FileExistsError):
        files.write("one.data", [b"second"])
    assert files.read("one.data") == b"first"


def test_what_is_not_there_is_an_error_of_its_own(files: Files) -> None:
    files.write("one.data", [b"first"])
    for call in (lambda: files.size("no.data"), lambda: files.read("no.data"), lambda: list(files.blocks("no.data"))):
        with pytest.raises(FileNotFoundError):
            call()


def test_a_checkpoint_on_any_of_them(files: Files) -> None:
    first, second = write(files, 1, file_bytes=700), write(files, 2)
    store = CheckpointStore(files)
    assert store.ids() == [first.id, second.id]
    assert holds(files, store.newest_sound(deep=True), 2)
    store.prune(0.0, keep=1)
    assert store.ids() == [second.id]
    assert holds(files, store.newest_sound(), 2)


def test_paths_and_file_urls_are_the_same(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b", "a%20b", "run#1", "run#2", "what?"):  # a name is a name, whatever is in it
        (tmp_path / name).mkdir()
        open_files(f"file://{tmp_path}/{name}").write("x", [name.encode()])
    for name in ("a b", "a%20b", "run#1", "run#2", "what?"):
        assert open_files(name).read("x") == open_files(absolute_url(name)).read("x") == name.encode()


def test_a_file_url_of_one_slash_is_of_this_machine_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (f"file:{tmp_path}/x", f"file://{tmp_path}/x"):
        assert absolute_url(url) == open_files(url).url == f"file://{tmp_path}/x"
    open_files(f"file:{tmp_path}/x").write("a", [b"1"])
    assert [each.name for each in tmp_path.iterdir()] == ["x"], "and no directory below this one"


@pytest.mark.parametrize("url", ["", "nosuch://bucket/path", "failing+nosuch://x/y?fault=error&at=1"])
def test_what_nobody_knows_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(ConfigError, match="The URL of checkpoints must"):
        open_files(url)


@pytest.mark.parametrize("place", ["/tmp/x\0y", "/tmp/\udcff", "s3://x/\udcff", "", None, 5, pathlib.PurePosixPath("/tmp/x\0y")])
def test_what_no_file_can_be_called_is_refused(place: Any) -> None:
    with pytest.raises(ConfigError, match="The URL of checkpoints must"):
        files_module.url_of(place)
    if isinstance(place, str):
        with pytest.raises(ConfigError, match="The URL of checkpoints must"):
            open_files(place)


@pytest.mark.parametrize("url", ["memory://x", "mock:///x", "failing+memory://x"])
def test_files_that_every_process_has_of_its_own_are_refused_where_they_must_be_shared(url: str) -> None:
    with pytest.raises(ConfigError, match="driver and all nodes share"):
        store_at(url)


def test_a_path_is_as_good_as_its_text(tmp_path: pathlib.Path) -> None:
    assert store_at(tmp_path).url == store_at(str(tmp_path)).url == f"file://{tmp_path}"


def test_without_fsspec_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "fsspec":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="fsspec is not installed"):
        files_module.open_files("memory://x")


# ---- patience --------------------------------------------------------------------------------------------------------------


def test_a_write_that_fails_goes_to_another_name(tmp_path: pathlib.Path) -> None:
    pauses: list[float] = []
    files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault("torn", at=1, times=3, verb="write")], seed=2)
    patient = PatientFiles(files, Patience(pause=0.5), pauses.append)
    assert patient.write("a/x.data", [b"0123456789"], [(10, checksum(b"0123456789"))]) == "a/x.again3.data"
    assert pauses == [0.5, 1.0, 2.0]
    assert (tmp_path / "a" / "x.again3.data").read_bytes() == b"0123456789"
    assert (tmp_path / "a" / "x.data").stat().st_size < 10


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_no_attempt_mends_is_told_at_once(tmp_path: pathlib.Path, code: int) -> None:
    class Full(LocalFiles):
        def write(self, name: str, chunks: Any) -> None:
            raise OSError(code, "No room")

    pauses: list[float] = []
    with pytest.raises(CheckpointError, match=r"write 3 bytes to 'x'.*Got 'No room' from file:.*attempt 1.*has room") as caught:
        PatientFiles(Full(str(tmp_path)), sleep=pauses.append).write("x", [b"abc"])
    assert not pauses
    assert caught.value.file == "x"


def test_attempts_end(tmp_path: pathlib.Path) -> None:
    pauses: list[float] = []
    files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault("error", at=1, times=0)])
    with pytest.raises(CheckpointError, match="at attempt 4"):
        PatientFiles(files, Patience(attempts=4), pauses.append).entries()
    assert (files.calls["entries"], len(pauses)) == (4, 3)
    files = FailingFiles(LocalFiles(str(tmp_path)), [FileFault("error", at=1, times=0)])
    with pytest.raises(CheckpointError, match="at attempt 2"):
        PatientFiles(files, Patience(seconds=3.0, pause=2.0), lambda _: None).entries()


def test_errors_of_a_call_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5.0, lambda: 1 // 0)
    assert within(5.0, lambda: None) is None


def test_parts_of_a_file_are_compared_across_blocks() -> None:
    parts = [(5, checksum(b"01234")), (3, checksum(b"567")), (2, checksum(b"89"))]
    for size in range(1, 11):
        blocks = [b"0123456789"[start : start + size] for start in range(0, 10, size)]
        assert same_parts(blocks, parts)
        assert same_parts([*blocks, b"more"], parts)
        assert not same_parts(blocks[:-1], parts)
        for place in range(10):
            spoilt = bytearray(b"0123456789")
            spoilt[place] ^= 1
            assert not same_parts([spoilt[start : start + size] for start in range(0, 10, size)], parts)


@pytest.mark.parametrize("least", [0, 1, 5, 999])
def test_a_disk_that_takes_less_than_it_was_given_is_given_the_rest(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    chunks = [bytes([number % 251]) * (number % 7) for number in range(1300)]
    whole, write_one = b"".join(chunks), os.write
    monkeypatch.setattr(os, "writev", lambda descriptor, some: write_one(descriptor, b"".join(some)[:least]))
    monkeypatch.setattr(os, "write", lambda descriptor, data: write_one(descriptor, data[:2]))
    LocalFiles(str(tmp_path)).write("x", chunks)
    assert (tmp_path / "x").read_bytes() == whole


def test_many_chunks_make_a_whole_file(tmp_path: pathlib.Path) -> None:
    chunks = [bytes([number % 251]) * (number % 7) for number in range(3000)]
    LocalFiles(str(tmp_path)).write("x", chunks)
    assert (tmp_path / "x").read_bytes() == b"".join(chunks)
