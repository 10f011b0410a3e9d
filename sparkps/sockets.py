"""Multipart messages on zmq sockets, with no more Python than needed: a small request spends most of its time here.

pyzmq's own ``send_multipart`` and ``recv_multipart`` check every part and ask the library after each; with flags as enums that
takes 6 us a message, and this 3.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence, Sized
from typing import Any

import zmq

_READABLE, _MORE = int(zmq.POLLIN), int(zmq.SNDMORE)

#: For `send` and `receive`: raise `zmq.Again` instead of waiting.
AT_ONCE = int(zmq.NOBLOCK)

Socket = zmq.Socket[Any]


def send(socket: Socket, frames: Sequence[Any], flags: int = 0) -> None:
    """Send one message.

    Parameters
    ----------
    socket : zmq.Socket
    frames : sequence of bytes, ndarray or zmq.Frame
        From ``socket.copy_threshold`` bytes on a frame is sent from where it lies, and must not change before it is sent.
    flags : int
        0 or `AT_ONCE`.
    """
    more = flags | _MORE
    last = len(frames) - 1
    for i in range(last):
        socket.send(frames[i], more, False)
    socket.send(frames[last], flags, False)


def send_tracked(socket: Socket, frames: Sequence[Any], large: int) -> zmq.MessageTracker | None:
    """As `send`; tells when the last frame of at least `large` bytes is out of this process's memory. None: there is none."""
    last = len(frames) - 1
    heavy = max((i for i, frame in enumerate(frames) if getattr(frame, "nbytes", 0) >= large), default=-1)
    tracker = None
    for i, frame in enumerate(frames):
        tracked = i == heavy
        sent = socket.send(frame, _MORE if i < last else 0, False, tracked)
        tracker = sent if tracked else tracker
    return tracker


def receive(socket: Socket, flags: int = 0) -> list[zmq.Frame]:
    """The next message; its frames lie where the library received them.

    Raises
    ------
    zmq.Again
        There is none, and `flags` or the socket's time-out forbid to wait longer.
    """
    frame = socket.recv(flags, False)
    frames = [frame]
    while frame.more:
        frame = socket.recv(flags, False)
        frames.append(frame)
    return frames


def is_readable(socket: Socket) -> bool:
    """Whether a message is there."""
    return bool(zmq.zmq_poll([(socket, _READABLE)], 0))


def spin(socket: Socket, seconds: float, unless: Sized = ()) -> bool:
    """Look for a message without sleeping, for at most `seconds` and while `unless` is empty; whether there is one.

    To be woken takes as long as a small request does. Between two looks the processor goes to whoever else can use it.
    """
    look = [(socket, _READABLE)]
    until = time.perf_counter() + seconds
    while not unless and time.perf_counter() < until:
        if zmq.zmq_poll(look, 0):
            return True
        os.sched_yield()
    return False


__all__ = ["AT_ONCE", "Socket", "is_readable", "receive", "send", "send_tracked", "spin"]
