"""Who may talk to a process of a tier: answers libzmq's question of each new connection, by `ZAP <https://rfc.zeromq.org/spec/27/>`_.

libzmq has proved by then that the peer has the secret of the public key that it shows (CURVE); what is left to say is whether that is the
key of this tier. A peer that was not admitted is hung up on, and learns nothing of what is behind.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import threading
from typing import Any

import zmq
from zmq.utils import z85

from sparkps.secret import TierSecret

log = logging.getLogger(__name__)

#: Where libzmq asks, in each context.
_WHERE = "inproc://zeromq.zap.01"

#: Of the protocol.
_VERSION, _ADMITTED, _REFUSED = b"1.0", b"200", b"400"

#: Milliseconds between two looks at whether it is closed.
_LOOK_MS = 200


class Admission:
    """Admits whoever has the secret of a tier, from a thread of its own; to be made before a socket of the context listens.

    Parameters
    ----------
    context : zmq.Context
        That of the sockets which listen.
    secret : TierSecret

    Attributes
    ----------
    refused : int
        Peers that were not admitted.
    """

    def __init__(self, context: zmq.Context[Any], secret: TierSecret) -> None:
        self.refused = 0
        self._expected = z85.decode(secret.client.public)
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_WHERE)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sparkps-admission", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Admit nobody any more; to be called when nothing of the context listens."""
        self._closing.set()
        self._thread.join(10)

    def _serve(self) -> None:
        with contextlib.closing(self._socket):
            while not self._closing.is_set():
                if not self._socket.poll(_LOOK_MS):
                    continue
                request = self._socket.recv_multipart()
                try:
                    answer = self.answer(request)
                except Exception:  # without an answer the socket would take no further question: nobody would be admitted ever again
                    log.exception("a peer could not be admitted")
                    answer = self._refusal(request[1] if len(request) > 1 else b"")
                self._socket.send_multipart(answer)

    def answer(self, request: list[bytes]) -> list[bytes]:
        """The answer to a request of libzmq: version, id, domain, address, identity, mechanism, credentials."""
        number, mechanism, *credentials = request[1], request[5], *request[6:]
        is_one_of_us = mechanism == b"CURVE" and len(credentials) == 1 and hmac.compare_digest(credentials[0], self._expected)
        if is_one_of_us:
            return [_VERSION, number, _ADMITTED, b"", b"", b""]
        return self._refusal(number)

    def _refusal(self, number: bytes) -> list[bytes]:
        self.refused += 1
        return [_VERSION, number, _REFUSED, b"the tier's secret is needed", b"", b""]


__all__ = ["Admission"]
