"""Delegation tokens: out of files in both formats, into URLs, and when they are renewed."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkps.filesystems.tokens import Token, TokenTerms, next_renewal, read_tokens, token_for, user_of
from tests.unit.filesystems.token_files import issued, protobuf_file, writable_file

TOKENS = [
    Token(b"\0id" * 90, b"pass", "HDFS_DELEGATION_TOKEN", "10.0.0.1:8020"),
    Token(b"", b"x" * 70_000, "YARN_AM_RM_TOKEN", ""),
    Token(b"id", b"p", "HDFS_DELEGATION_TOKEN", "ha-hdfs:main"),
]


@pytest.mark.parametrize("made", [writable_file, protobuf_file])
def test_tokens_of_a_file(tmp_path: pathlib.Path, made: Callable[[Sequence[Token]], bytes]) -> None:
    (tmp_path / "t").write_bytes(made(TOKENS))
    assert read_tokens(tmp_path / "t") == TOKENS
    (tmp_path / "t").write_bytes(made([]))
    assert read_tokens(tmp_path / "t") == []


@pytest.mark.parametrize("made", [writable_file, protobuf_file])
@pytest.mark.parametrize("left", [0, 3, 5, 40, -3 * 10**4])
def test_file_that_was_cut_off_is_refused(tmp_path: pathlib.Path, made: Callable[[Sequence[Token]], bytes], left: int) -> None:
    (tmp_path / "t").write_bytes(made(TOKENS)[:left])
    with pytest.raises(ValueError, match="must "):
        read_tokens(tmp_path / "t")


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=20), st.text(max_size=200))
def test_token_comes_back_from_its_url(identifier: bytes, password: bytes, kind: str, service: str) -> None:
    token = Token(identifier, password, kind, service)
    assert Token.from_url_string(token.url_string()) == token


def test_token_as_hadoop_writes_it() -> None:
    """By hand: lengths, then bytes, in the alphabet of URLs, without padding."""
    assert Token(b"\xff\xfe", b"p", "k", "s").url_string() == "Av_-AXABawFz"


def test_token_of_a_service_or_the_only_one() -> None:
    assert token_for("10.0.0.1:8020", TOKENS) is TOKENS[0]
    assert token_for("main", TOKENS) is TOKENS[2]
    assert token_for("other", TOKENS) is None, "there are two, and neither is its own"
    assert token_for("other", TOKENS[:2]) is TOKENS[0]
    assert token_for("other", TOKENS[1:2]) is None


def test_no_secret_is_shown() -> None:
    assert "pass" not in repr(TOKENS[0])


def test_terms_that_a_namenode_has_written_into_a_token() -> None:
    text = issued("ann@REALM", 1_700_000_000.5, 1_700_604_800.25, renewer="yarn").url_string()
    assert TokenTerms.of(text) == TokenTerms("ann@REALM", "yarn", 1_700_000_000.5, 1_700_604_800.25)
    assert [TokenTerms.of(other) for other in ("", "token", TOKENS[0].url_string(), TOKENS[1].url_string())] == [None] * 4


@pytest.mark.parametrize(("owner", "expected"), [("ann", "ann"), ("ann@REALM", ""), ("hdfs/host@REALM", ""), ("", "")])
def test_name_that_goes_with_a_token_is_its_owners_unless_it_has_a_realm(owner: str, expected: str) -> None:
    assert user_of(issued(owner, 1.0, 2.0).url_string()) == expected
    assert user_of("no token") == ""


def test_renewal_is_in_time_and_again_in_time_after_failures() -> None:
    day = 86_400.0
    now = next_renewal(0.0, 0.0, day)
    assert now == 0.75 * day
    tries = 0
    while now < day:
        now = next_renewal(now, 0.0, day, failed=True)
        tries += 1
    assert tries >= 10
    assert next_renewal(9.0, 0.0, 4.0) == 9.0, "one that is late is due now"
    assert next_renewal(0.0, 0.0, 2.0, failed=True) == 1.0
