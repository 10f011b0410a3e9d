"""The secret of a tier: who has it may connect, and nobody else; every process keeps those that it was given.

A tier that listens at TCP endpoints has one secret of 32 random bytes. From it follow two pairs of CURVE keys (`CurveZMQ
<https://rfc.zeromq.org/spec/26/>`_), that of its servers, the coordinator and the nodes, and that of whoever connects to them, and a key
by which what is sent through others is signed. It reaches a process through a pipe from its parent (standard input), inside the closure
of a Spark task, or in a file that its owner alone can read; never through a command line, an environment, a setting, a log or a pickle
that is not a closure.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from functools import cached_property
from typing import NamedTuple, NoReturn, Protocol

from sparkps.errors import InvalidInput, NotAdmitted

#: Bytes of a secret.
SECRET_BYTES = 32

#: Bytes of a signature.
SIGNATURE_BYTES = 32


class KeyPair(NamedTuple):
    """A pair of CURVE keys, each in Z85 (40 bytes)."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r}, ...)"


class TierSecret:
    """The secret of one tier.

    Parameters
    ----------
    secret : bytes
        32 bytes.

    Raises
    ------
    InvalidInput
        There are not 32 bytes.

    Examples
    --------
    >>> secret = TierSecret.new()
    >>> secret, TierSecret.parse(secret.text) == secret
    (TierSecret(...), True)
    >>> signature = secret.sign("result", b"7")
    >>> secret.has_signed("result", b"7", signature), secret.has_signed("function", b"7", signature)
    (True, False)
    """

    def __init__(self, secret: bytes) -> None:
        if not isinstance(secret, bytes) or len(secret) != SECRET_BYTES:
            raise InvalidInput(f"The secret of a tier must be {SECRET_BYTES} bytes. Got something else.")
        self._secret = secret

    @classmethod
    def new(cls) -> TierSecret:
        """A secret that nobody else has."""
        return cls(secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> TierSecret:
        """The secret of `text`: 64 hexadecimal digits, with white space around them.

        Raises
        ------
        InvalidInput
            It is something else; the message does not show it.
        """
        try:
            return cls(bytes.fromhex(text.strip()))
        except ValueError:
            raise InvalidInput(f"The secret of a tier must be {2 * SECRET_BYTES} hexadecimal digits. Got something else.") from None

    @property
    def text(self) -> str:
        """As `parse` takes it. For a pipe, or a file of this user alone."""
        return self._secret.hex()

    @property
    def raw(self) -> bytes:
        """The 32 bytes themselves. For the closure of a task."""
        return self._secret

    @cached_property
    def server(self) -> KeyPair:
        """Of the coordinator and of all nodes."""
        return self._pair(b"curve server")

    @cached_property
    def client(self) -> KeyPair:
        """Of whoever connects to them."""
        return self._pair(b"curve client")

    def sign(self, purpose: str, content: bytes) -> bytes:
        """A signature of `content` for one purpose, by whoever has the secret (32 bytes)."""
        return hmac.digest(self._derive(b"signature"), len(purpose.encode()).to_bytes(4, "big") + purpose.encode() + content, "sha256")

    def has_signed(self, purpose: str, content: bytes, signature: bytes) -> bool:
        """Whether `signature` is that of `content` for this purpose; takes as long for a wrong one as for a right one."""
        return hmac.compare_digest(self.sign(purpose, content), signature)

    def _pair(self, role: bytes) -> KeyPair:
        import zmq
        from zmq.utils import z85

        secret = z85.encode(self._derive(role))
        return KeyPair(zmq.curve_public(secret), secret)

    def _derive(self, role: bytes) -> bytes:
        return hashlib.blake2b(role, digest_size=32, key=self._secret, person=b"sparkps").digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TierSecret) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._derive(b"hash"))

    def __repr__(self) -> str:
        return "TierSecret(...)"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput("The secret of a tier must not be pickled: closures of Spark tasks carry it by themselves.")


# ---- what this process has ---------------------------------------------------------------------------------------------


class Secured(Protocol):
    """Where a tier is; see `wire.messages.control.TierAddress`."""

    @property
    def tier_id(self) -> str:
        """Id of the tier."""

    @property
    def is_secured(self) -> bool:
        """Whether only those who have its secret are admitted."""


#: By the tier's id.
_kept: dict[str, TierSecret] = {}


def keep(tier_id: str, secret: TierSecret) -> None:
    """This process may use a tier, until it ends or `forget` is called."""
    _kept[tier_id] = secret


def forget(tier_id: str) -> None:
    """The tier has ended."""
    _kept.pop(tier_id, None)


def held(tier_id: str) -> TierSecret | None:
    """The secret that this process has of a tier, if it has one."""
    return _kept.get(tier_id)


def secret_of(tier: Secured) -> TierSecret | None:
    """The secret of a tier that this process was given; None: the tier needs none.

    Raises
    ------
    NotAdmitted
        It needs one, and this process has none.
    """
    found = _kept.get(tier.tier_id)
    if found is None and tier.is_secured:
        raise NotAdmitted(
            f"A process that uses tier {tier.tier_id} must have its secret. This one has none: closures of Spark's tasks bring it, other"
            " pickles and broadcast variables do not. Use the table inside a function that Spark sends to its executors, or attach with the"
            " tier's secret file (`sparkps.connect`, `spark.sparkps.attach`).",
            tier_id=tier.tier_id,
        )
    return found


# ---- what is unpickled at its end --------------------------------------------------------------------------------------


def sealed(secret: TierSecret | None, tier_id: str, purpose: str, content: bytes) -> bytes:
    """`content` with a signature before it, for whoever will unpickle it; without one where the tier has no secret.

    A tier that is started again with the same secret has another id: what was signed for the one is nothing to the other.
    """
    return content if secret is None else secret.sign(_in_tier(purpose, tier_id), content) + content


def opened(secret: TierSecret | None, tier_id: str, purpose: str, content: bytes) -> bytes:
    """What somebody who has the secret of this tier has `sealed` for it and for this purpose.

    Raises
    ------
    NotAdmitted
        Nobody of this tier has signed it, or for something else, or before the tier was started: it must not be unpickled.

    Examples
    --------
    >>> secret = TierSecret.new()
    >>> opened(secret, "t1", "result", sealed(secret, "t1", "result", b"7")), opened(None, "t1", "result", b"7")
    (b'7', b'7')
    """
    if secret is None:
        return content
    signature, signed = content[:SIGNATURE_BYTES], content[SIGNATURE_BYTES:]
    if not secret.has_signed(_in_tier(purpose, tier_id), signed, signature):
        raise NotAdmitted(f"A {purpose} must be signed by somebody who has the tier's secret. It is not, and was not looked at.")
    return signed


def _in_tier(purpose: str, tier_id: str) -> str:
    return f"{purpose} of tier {tier_id}"


__all__ = ["SECRET_BYTES", "SIGNATURE_BYTES", "KeyPair", "TierSecret", "forget", "held", "keep", "opened", "sealed", "secret_of"]
