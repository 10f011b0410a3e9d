"""Files of tokens as Hadoop's Credentials write them."""

from __future__ import annotations

from collections.abc import Sequence

from sparkps.filesystems.tokens import Token


def _vlong(value: int) -> bytes:
    """A number that is not negative as Hadoop's WritableUtils write it."""
    if value <= 127:
        return bytes([value])
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([256 - 112 - len(data)]) + data


def _sized(data: bytes) -> bytes:
    return _vlong(len(data)) + data


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    made = b""
    while value > 127:
        made, value = made + bytes([value & 127 | 128]), value >> 7
    return made + bytes([value])


def _parts(token: Token) -> list[bytes]:
    return [token.identifier, token.password, token.kind.encode(), token.service.encode()]


def writable_file(tokens: Sequence[Token]) -> bytes:
    """The older format; a secret key follows the tokens."""
    entries = b"".join(_sized(b"alias") + b"".join(map(_sized, _parts(token))) for token in tokens)
    return b"HDTS\0" + bytes([len(tokens)]) + entries + b"\1" + _sized(b"key") + _sized(b"secret")


def protobuf_file(tokens: Sequence[Token]) -> bytes:
    """The newer format; a secret key follows the tokens."""
    whole = b""
    for token in tokens:
        inner = b"".join(_field(number, part) for number, part in enumerate(_parts(token), 1))
        whole += _field(1, _field(1, b"alias") + _field(2, inner))
    whole += _field(2, _field(1, b"key") + _field(3, b"secret"))
    return b"HDTS\1" + _varint(len(whole)) + whole


def issued(owner: str, at: float, ends: float, renewer: str = "", service: str = "nn:8020", password: bytes = b"proof") -> Token:
    """A token as a NameNode issues it; times in seconds since 1970."""
    names = b"".join(_sized(name.encode()) for name in (owner, renewer or owner, ""))
    identifier = b"\0" + names + _vlong(int(at * 1000)) + _vlong(int(ends * 1000)) + _vlong(7) + _vlong(2)
    return Token(identifier, password, "HDFS_DELEGATION_TOKEN", service)


__all__ = ["issued", "protobuf_file", "writable_file"]
