"""Delegation tokens of HDFS: out of the file in which Hadoop gives them to a process, as URLs have them; and when to renew one.

A token is what a NameNode takes for a proof of identity. It ends after a day, unless who may renews it before, and for good after a
week (``dfs.namenode.delegation.token.renew-interval`` and ``max-lifetime``). Renewing changes nothing in it.

References: org.apache.hadoop.security.Credentials (the file), org.apache.hadoop.security.token.Token (a token, and as a URL has it),
org.apache.hadoop.security.token.delegation.AbstractDelegationTokenIdentifier (what is in one).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Kinds of tokens that a NameNode issues, over its own protocol or over HTTP.
KINDS = frozenset({"HDFS_DELEGATION_TOKEN", "WEBHDFS delegation", "SWEBHDFS delegation"})

_MAGIC = b"HDTS"
_WRITABLE, _PROTOBUF = 0, 1

#: A token is renewed when this share of its time has gone; after a failure, when this share of what is left has.
_SHARE, _AFTER_FAILURE = 0.75, 0.1

#: Least and most seconds until a renewal that has failed is tried again.
_SOONEST, _LATEST = 1.0, 300.0


@dataclass(frozen=True)
class Token:
    """A token. Whoever has it may act as its owner: it is never logged."""

    identifier: bytes
    password: bytes
    kind: str
    #: Who takes it: ``10.0.0.1:8020``, or ``ha-hdfs:NAME`` of a name service.
    service: str

    def __repr__(self) -> str:
        return f"Token({self.kind!r}, {self.service!r})"

    def url_string(self) -> str:
        """As URLs have it."""
        parts = (self.identifier, self.password, self.kind.encode(), self.service.encode())
        encoded = b"".join(_vint(len(part)) + part for part in parts)
        return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()

    @classmethod
    def from_url_string(cls, text: str) -> Token:
        """The token that a URL has.

        Raises
        ------
        ValueError
            It is none.
        """
        reader = _Reader(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return _writable_token(reader)


@dataclass(frozen=True)
class TokenTerms:
    """What a NameNode has written into a token."""

    #: Whose token it is, by the full name, and who may renew it.
    owner: str
    renewer: str
    #: When it was issued, and when it ends for good (seconds since 1970).
    issued: float
    ends: float

    @classmethod
    def of(cls, text: str) -> TokenTerms | None:
        """The terms of a token as a URL has it; None: it is not one that an HDFS has issued."""
        try:
            reader = _Reader(Token.from_url_string(text).identifier)
            if reader.take(1) != b"\0":
                return None
            owner, renewer, _ = (reader.take(reader.vint()).decode() for _ in range(3))
            return cls(owner, renewer, reader.vint() / 1000.0, reader.vint() / 1000.0)
        except ValueError:
            return None


def user_of(text: str) -> str:
    """The user whose name a request with this token must have, too; empty: none, the token says it.

    An HDFS where nobody has to prove who he is does not read tokens, and takes whoever gives no name for a user of its own. One that
    reads them takes no name that differs from theirs, and may have shortened it by its own rules: a name with a realm is not sent.
    """
    terms = TokenTerms.of(text)
    return terms.owner if terms is not None and "@" not in terms.owner and "/" not in terms.owner else ""


def read_tokens(path: Path) -> list[Token]:
    """The tokens of a file, as ``HADOOP_TOKEN_FILE_LOCATION`` names it.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no file of tokens.
    """
    data = path.read_bytes()
    if data[:4] != _MAGIC or len(data) < 5 or data[4] not in (_WRITABLE, _PROTOBUF):
        raise ValueError(f"{path} must be a file of Hadoop's credentials, which begins with {_MAGIC!r}. Got {data[:5]!r}.")
    reader = _Reader(data[5:])
    try:
        return _writable_file(reader) if data[4] == _WRITABLE else _protobuf_file(reader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a file of Hadoop's credentials: {error}") from None


def token_for(authority: str, tokens: Iterable[Token]) -> Token | None:
    """The token for an HDFS: that of its service, or the only one of any HDFS.

    Parameters
    ----------
    authority : str
        Of an ``hdfs://`` URL.
    tokens : iterable of Token
    """
    ours = [token for token in tokens if token.kind in KINDS]
    named = [token for token in ours if token.service.removeprefix("ha-hdfs:") == authority]
    return named[0] if named else ours[0] if len(ours) == 1 else None


def next_renewal(now: float, issued: float, expires: float, *, failed: bool = False) -> float:
    """When to renew a token next, in the seconds of `now`.

    Parameters
    ----------
    now : float
    issued : float
        When it was issued, or last renewed.
    expires : float
        When it ends, unless it is renewed.
    failed : bool
        Whether a renewal has just failed: then the next is tried soon, and ten times at least before the end.

    Examples
    --------
    >>> next_renewal(now=0.0, issued=0.0, expires=86400.0)
    64800.0
    >>> next_renewal(now=64800.0, issued=0.0, expires=86400.0, failed=True)
    65100.0
    """
    if failed:
        return now + min(_LATEST, max(_SOONEST, (expires - now) * _AFTER_FAILURE))
    return max(now, issued + (expires - issued) * _SHARE)


# ---- formats -------------------------------------------------------------------------------------------------------------


class _Reader:
    """Bytes, from the first to the last; `ValueError` where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        if count < 0 or self._at + count > len(self._data):
            raise ValueError(f"a token must have {count} more bytes. It ends after {len(self._data) - self._at}.")
        self._at += count
        return self._data[self._at - count : self._at]

    def vint(self) -> int:
        """A number as Hadoop's WritableUtils writes it."""
        first = int.from_bytes(self.take(1), "big", signed=True)
        if first >= -112:
            return first
        value = int.from_bytes(self.take(-112 - first if first >= -120 else -120 - first), "big")
        return value if first >= -120 else ~value

    def varint(self) -> int:
        """A number as protobuf writes it."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def field(self) -> tuple[int, bytes]:
        """Number and content of a protobuf field with a length."""
        tag = self.varint()
        if tag & 7 != 2:
            raise ValueError(f"a token's fields must have a length. Got wire type {tag & 7}.")
        return tag >> 3, self.take(self.varint())


def _vint(value: int) -> bytes:
    if value <= 127:
        return bytes([value])
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([256 - 112 - len(data)]) + data


def _writable_token(reader: _Reader) -> Token:
    identifier, password = reader.take(reader.vint()), reader.take(reader.vint())
    kind, service = reader.take(reader.vint()).decode(), reader.take(reader.vint()).decode()
    return Token(identifier, password, kind, service)


def _writable_file(reader: _Reader) -> list[Token]:
    found = []
    for _ in range(reader.vint()):
        reader.take(reader.vint())  # its alias
        found.append(_writable_token(reader))
    return found


def _protobuf_file(reader: _Reader) -> list[Token]:
    """CredentialsProto: field 1, repeated, is an alias and a TokenProto."""
    whole, found = _Reader(reader.take(reader.varint())), []
    while not whole.at_end:
        number, content = whole.field()
        if number != 1:
            continue
        entry = _Reader(content)
        while not entry.at_end:
            number, content = entry.field()
            if number == 2:
                parts, token = {}, _Reader(content)
                while not token.at_end:
                    number, part = token.field()
                    parts[number] = part
                identifier, password, kind, service = (parts.get(n, b"") for n in (1, 2, 3, 4))
                found.append(Token(identifier, password, kind.decode(), service.decode()))
    return found


__all__ = ["KINDS", "Token", "TokenTerms", "next_renewal", "read_tokens", "token_for", "user_of"]
