"""The secret of a tier: its keys, its file, its pipe, and where it never is."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cloudpickle
import pytest
from pyspark.serializers import CloudPickleSerializer

from sparkps import secret as module
from sparkps.client.tables import SparseTable
from sparkps.driver_bridge.spark.closures import bring_secrets
from sparkps.errors import ConfigError, InvalidInput, NotAdmitted
from sparkps.secret import TierSecret, forget, held, keep, opened, sealed, secret_of
from sparkps.secret_files import for_stdin, read_secret_file, secret_on_stdin, write_secret_file
from sparkps.specs import TableSpec
from sparkps.wire.messages.control import TierAddress

ADDRESS = TierAddress("guarded", "tcp://127.0.0.1:1", 1.0, True)


@pytest.fixture
def secret() -> TierSecret:
    return TierSecret.new()


def test_two_tiers_share_no_key(secret: TierSecret) -> None:
    keys = {*secret.server, *secret.client, *TierSecret.new().server, *TierSecret.new().client}
    assert len(keys) == 8
    assert TierSecret(secret.raw).server == secret.server
    assert all(secret.raw.hex() not in key.decode() for key in keys)


@pytest.mark.parametrize("wrong", [b"", b"x" * 31, b"x" * 33, "x" * 32, None])
def test_a_secret_is_32_bytes(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        TierSecret(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [8, 31, 33, 64])
def test_a_secret_of_another_length_is_not_shown(length: int) -> None:
    nearly = os.urandom(length)
    with pytest.raises(InvalidInput) as raised:
        TierSecret(nearly)
    said = f"{raised.value} {raised.value!r} {raised.value.attributes}"
    for spelt in (repr(nearly)[2:-1], nearly.hex(), str(list(nearly))):
        assert spelt not in said


@pytest.mark.parametrize("wrong", ["", "zz" * 32, "ab" * 31, "ab" * 33, "é" * 64])
def test_what_is_no_secret_is_not_shown(wrong: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        TierSecret.parse(wrong)
    assert not wrong or wrong not in str(raised.value)


def test_a_signature_is_of_one_content_for_one_purpose(secret: TierSecret) -> None:
    signature = secret.sign("a", b"bc")
    assert secret.has_signed("a", b"bc", signature)
    assert not secret.has_signed("ab", b"c", signature)
    assert not secret.has_signed("a", b"bd", signature)
    assert not secret.has_signed("a", b"bc", signature[:-1])
    assert not TierSecret.new().has_signed("a", b"bc", signature)


def test_a_signature_for_one_purpose_holds_for_no_other(secret: TierSecret) -> None:
    for content in (b"", b"7", b"bc" * 1000):
        signature = secret.sign("result", content)
        assert secret.has_signed("result", content, signature)
        assert not any(secret.has_signed(other, content, signature) for other in ("", "resul", "results", "RESULT", "function f"))
        with pytest.raises(NotAdmitted, match="must be signed"):
            opened(secret, "t1", "function f", sealed(secret, "t1", "result", content))


def test_it_is_in_no_text_and_in_no_pickle(secret: TierSecret) -> None:
    assert secret.text not in f"{secret} {secret!r} {[secret]}"
    assert secret.client.secret.decode() not in f"{secret.client} {[secret.client]} {secret.client!r}"
    for dumps in (pickle.dumps, cloudpickle.dumps):
        with pytest.raises(InvalidInput, match="must not be pickled"):
            dumps(secret)


# ---- closures ----------------------------------------------------------------------------------------------------------


def carried(content: bytes, secret: TierSecret) -> bool:
    return secret.raw in content or secret.text.encode() in content


def test_closures_of_spark_bring_it_and_no_other_pickle_does(secret: TierSecret) -> None:
    bring_secrets()
    keep(ADDRESS.tier_id, secret)
    try:
        table = SparseTable(ADDRESS, TableSpec("w", "sparse", 1, "float32", table=1))
        closure = CloudPickleSerializer().dumps(lambda: table)
        assert carried(closure, secret)
        for other in (  # as broadcast variables, and functions that run on nodes
            pickle.dumps(table),
            cloudpickle.dumps(lambda: table),
        ):
            assert not carried(other, secret)
    finally:
        forget(ADDRESS.tier_id)
    with pytest.raises(NotAdmitted, match="closures of Spark's tasks bring it"):
        secret_of(ADDRESS)
    try:
        found = CloudPickleSerializer().loads(closure)()
        assert found == table
        assert secret_of(ADDRESS) == secret, "whoever gets the closure has it"
    finally:
        forget(ADDRESS.tier_id)


def test_a_tier_without_a_secret_needs_none() -> None:
    local = TierAddress("local", "ipc:///tmp/there")
    assert secret_of(local) is None
    bring_secrets()
    assert CloudPickleSerializer().loads(CloudPickleSerializer().dumps(local)) == local
    assert held("local") is None


# ---- files and pipes ---------------------------------------------------------------------------------------------------


def test_a_file_of_this_user_alone(secret: TierSecret, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("something else, for all to read")
    write_secret_file(path, secret)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_secret_file(path) == secret
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_a_file_below_a_home(secret: TierSecret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_secret_file(tmp_path / "secret", secret)
    for path in ("~/secret", Path("~/secret")):  # as a setting has it, which no shell has seen
        assert read_secret_file(path) == secret
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read_secret_file("~/another")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o666, 0o601])
def test_a_file_that_others_can_use_is_refused(secret: TierSecret, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    write_secret_file(path, secret)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="readable by its owner alone"):
        read_secret_file(path)


def test_a_file_of_another_user_is_refused(secret: TierSecret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_secret_file(path, secret)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(module.os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="belongs to"):
        read_secret_file(path)


def test_what_is_no_secret_file(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xfe", b"0" * 63, b"0" * 4096):
        path = tmp_path / "wrong"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="sparkps tier start"):
            read_secret_file(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_secret_file(tmp_path / "gone")
    with pytest.raises(ConfigError):
        read_secret_file(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)  # whoever opens one waits for somebody who writes
    with pytest.raises(ConfigError, match="must be a regular file"):
        read_secret_file(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="must be writable"):
        write_secret_file(tmp_path / "no" / "such" / "directory", TierSecret.new())


def test_a_file_is_written_through_no_link_that_somebody_has_laid(
    secret: TierSecret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.secrets, "token_hex", lambda nbytes: "0" * 2 * nbytes)
    target, elsewhere = tmp_path / "secret", tmp_path / "elsewhere"
    for is_there in (False, True):
        if is_there:
            elsewhere.write_text("of somebody else")
        (tmp_path / ".secret.00000000").symlink_to(elsewhere)
        with pytest.raises(ConfigError, match="must be writable"):
            write_secret_file(target, secret)
        assert not target.exists()
        assert elsewhere.exists() == is_there
    assert elsewhere.read_text() == "of somebody else"
    (tmp_path / ".secret.00000000").unlink(missing_ok=True)
    target.symlink_to(elsewhere)
    write_secret_file(target, secret)
    assert not target.is_symlink()
    assert elsewhere.read_text() == "of somebody else", "a link at its own name is replaced"


def test_a_line_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"0" * 1_000_000)
    with path.open("rb") as file:
        with pytest.raises(InvalidInput):
            secret_on_stdin(file.fileno())
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) <= len(for_stdin(TierSecret.new()))


def test_a_pipe_brings_it_and_goes_on(secret: TierSecret) -> None:
    reading, writing = os.pipe()
    os.write(writing, for_stdin(secret) + b"more")
    assert secret_on_stdin(reading) == secret
    assert os.read(reading, 10) == b"more", "not a byte too many was read"
    os.close(writing)
    with pytest.raises(InvalidInput):
        secret_on_stdin(reading)
    os.close(reading)
    assert for_stdin(None) == b""
