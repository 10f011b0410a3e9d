"""The store by which a process group of torch is formed: a few keys that one rank serves to the others.

torch has one of its own, `TCPStore`. It listens on every interface of its host, and each side looks up the name of the other when it
connects; where that look-up is slow, or its answer lost, forming a group takes five seconds and more. This one listens on the one
interface that it is told, asks nobody for names, and whoever waits for a key waits at most `WAIT`.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import torch.distributed
import zmq

from sparkps.admission import Admission
from sparkps.secret import TierSecret
from sparkps.sockets import bind, connect

#: Seconds in which a key must appear that somebody waits for.
WAIT = 30.0

#: Largest message to the store: addresses of ranks.
_MAX_MESSAGE_BYTES = 8 << 20

#: Seconds between two looks of a server at whether it is to end.
_LOOK = 0.1

#: A request: what is asked, of which keys, with which values. An answer: whether it is one, and values.
_Request = tuple[str, list[str], list[bytes]]
_Answer = tuple[bool, list[bytes]]

#: Its names are those of the C++ library, and not all declared.
_dist: Any = torch.distributed


class StoreServer:
    """Serves the keys of one group from a thread, until it is closed.

    Parameters
    ----------
    host : str
        Address of the interface to listen on.
    secret : TierSecret, optional
        Of the tier, where it asks for one.

    Examples
    --------
    >>> server = StoreServer("127.0.0.1")
    >>> store = PeerStore(server.endpoint)
    >>> store.set("rank0", b"there"); store.get("rank0"), store.add("joined", 2), store.check(["rank1"])
    (b'there', 2, False)
    >>> store.close(); server.close()
    """

    def __init__(self, host: str, secret: TierSecret | None = None) -> None:
        self._context = zmq.Context()
        self._admission = None if secret is None else Admission(self._context, secret)
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, ":" in host)
        where = f"[{host}]" if ":" in host else host
        #: Where others reach it.
        self.endpoint = bind(self._socket, f"tcp://{where}:0", secret, _MAX_MESSAGE_BYTES)
        self._keys = StoreKeys()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sparkps-store", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        #: Who waits for keys, and the request.
        waiting: list[tuple[list[bytes], _Request]] = []
        while not self._closing.is_set():
            if not self._socket.poll(int(_LOOK * 1000)):
                continue
            *way, content = self._socket.recv_multipart()
            try:
                request = msgspec.msgpack.decode(content, type=_Request)
            except msgspec.DecodeError:
                continue  # of somebody who is no rank
            # The new one first: it may be what others wait for.
            waiting = [each for each in [(way, request), *waiting] if not self._answered(*each)]
        self._socket.close()
        if self._admission is not None:
            self._admission.close()
        self._context.term()

    def _answered(self, way: list[bytes], request: _Request) -> bool:
        try:
            answer = self._keys.asked(*request)
        except (ValueError, IndexError):
            return True  # keys without values, and such: of somebody who is no rank, and gets no answer
        if answer is not None:
            self._socket.send_multipart([*way, msgspec.msgpack.encode(answer)])
        return answer is not None

    def close(self) -> None:
        """Serve no more."""
        self._closing.set()
        self._thread.join()


class StoreKeys:
    """What a store holds, and what comes of a request.

    Examples
    --------
    >>> keys = StoreKeys()
    >>> keys.asked("get", ["a"], []), keys.asked("set", ["a"], [b"1"]), keys.asked("get", ["a"], [])
    (None, (True, []), (True, [b'1']))
    """

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def asked(self, what: str, keys: Sequence[str], values: Sequence[bytes]) -> _Answer | None:
        """The answer; None: it has to wait for its keys."""
        held = self._values
        if what in ("get", "wait"):
            if not all(key in held for key in keys):
                return None
            return True, [held[key] for key in keys] if what == "get" else []
        if what == "set":
            held.update(zip(keys, values, strict=True))
        elif what == "append":
            held[keys[0]] = held.get(keys[0], b"") + values[0]
        elif what == "add":
            held[keys[0]] = b"%d" % (int(held.get(keys[0], b"0")) + int(values[0]))
            return True, [held[keys[0]]]
        elif what == "compare":
            expected, desired = values
            if held.get(keys[0], b"") == expected:
                held[keys[0]] = desired
            return True, [held.get(keys[0], expected)]
        elif what == "delete":
            return held.pop(keys[0], None) is not None, []
        elif what == "check":
            return all(key in held for key in keys), []
        elif what == "count":
            return True, [b"%d" % len(held)]
        return True, []


class PeerStore(_dist.Store):
    """A `torch.distributed.Store` of the keys that a `StoreServer` has.

    Parameters
    ----------
    endpoint : str
        Of the server.
    wait : float
        Seconds in which a request must be answered.
    secret : TierSecret, optional
        Of the tier, where it asks for one.

    Raises
    ------
    torch.distributed.DistStoreError
        By each method where no answer came in time: a key did not appear, or the server is gone.
    """

    def __init__(self, endpoint: str, wait: float = WAIT, secret: TierSecret | None = None) -> None:
        super().__init__()
        self._wait = wait
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, "[" in endpoint)
        connect(self._socket, endpoint, secret)
        self._number = 0

    def close(self) -> None:
        """Ask no more."""
        with self._lock:
            self._socket.close()
            self._context.term()

    def _ask(self, what: str, keys: Sequence[str], values: Sequence[bytes] = (), within: float | None = None) -> _Answer:
        deadline = time.monotonic() + (self._wait if within is None else within)
        with self._lock:
            self._number += 1
            tag = b"%d" % self._number
            self._socket.send_multipart([tag, msgspec.msgpack.encode((what, list(keys), list(values)))])
            while (left := deadline - time.monotonic()) > 0:
                if self._socket.poll(max(1, int(left * 1000))):
                    came, content = self._socket.recv_multipart()
                    if came == tag:  # not that of a request that was given up
                        answer: _Answer = msgspec.msgpack.decode(content, type=_Answer)
                        return answer
        named = ", ".join(keys)
        raise _dist.DistStoreError(f"The store of a process group must answer {what!r} of {named}. It has not within {self._wait:g} s.")

    # ---- what torch calls ----------------------------------------------------------------------------------------------

    def set(self, key: str, value: bytes | str) -> None:
        """Let a key have a value."""
        self._ask("set", [key], [_bytes(value)])

    def get(self, key: str) -> bytes:
        """The value of a key, when it has one."""
        return self._ask("get", [key])[1][0]

    def wait(self, keys: Sequence[str], timeout: datetime.timedelta | None = None) -> None:
        """Wait until all keys have values."""
        self._ask("wait", keys, within=None if timeout is None else timeout.total_seconds())

    def add(self, key: str, value: int) -> int:
        """Add to a number, which begins at 0; what it comes to."""
        return int(self._ask("add", [key], [b"%d" % value])[1][0])

    def check(self, keys: Sequence[str]) -> bool:
        """Whether all keys have values."""
        return self._ask("check", keys)[0]

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        """Let a key have the value `desired` if it has `expected`; what it has then."""
        return self._ask("compare", [key], [_bytes(expected), _bytes(desired)])[1][0]

    def delete_key(self, key: str) -> bool:
        """Let a key have no value; whether it had one."""
        return self._ask("delete", [key])[0]

    def num_keys(self) -> int:
        """Number of keys that have values."""
        return int(self._ask("count", [])[1][0])

    def append(self, key: str, value: bytes) -> None:
        """Put a value behind the one that a key has."""
        self._ask("append", [key], [_bytes(value)])

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """The values of keys, when they all have some."""
        return self._ask("get", keys)[1]

    def multi_set(self, keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Let keys have values."""
        self._ask("set", keys, [_bytes(each) for each in values])

    def has_extended_api(self) -> bool:
        """Whether it knows `append`, `multi_get` and `multi_set`."""
        return True


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


__all__ = ["WAIT", "PeerStore", "StoreKeys", "StoreServer"]
