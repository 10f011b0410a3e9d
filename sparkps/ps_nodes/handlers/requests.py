"""Requests of clients: whether one may run now, and what its sender is told if it does not."""

from __future__ import annotations

import logging

from sparkps.errors import ProtocolError, SparkPSError
from sparkps.ps_nodes.dispatch import UNKNOWN_BYTES
from sparkps.ps_nodes.handlers import calls, clocks, figures, keysets, rows  # noqa: F401 - they fill REQUESTS
from sparkps.ps_nodes.handlers.table import REQUESTS, handles
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables import operations
from sparkps.ps_nodes.tables.keysets import KeySetMissing
from sparkps.ps_nodes.work import Unreadable, Work
from sparkps.wire.messages import data as m
from sparkps.wire.messages.base import DataMessage

log = logging.getLogger(__name__)

#: Requests that come with arrays.
_BRING_ARRAYS = frozenset({m.Step, m.Register})


def run(state: ServerState, work: Work) -> None:
    """Carry one request out and answer it, unless it is parked. Any thread."""
    message = work.message
    try:
        if getattr(message, "epoch", state.epoch) != state.epoch:
            work.send_back(_wrong_epoch(state, work))
        elif not state.serving.is_open and hasattr(message, "epoch"):
            work.send_back(state.serving.refusal(work.seq, message))
        elif work.session.bars(work.seq, work.acked) and work.is_write:
            work.send_back(_barred(state, work))
        else:
            if work.arrays and type(message) not in _BRING_ARRAYS:
                raise ProtocolError(f"A {type(message).__name__} must bring no arrays. Got {len(work.arrays)}.")
            REQUESTS[type(message)](state, work)
    except KeySetMissing as missing:
        work.send_back(m.UnknownKeySet(work.seq, missing.keyset))
    except SparkPSError as error:
        if getattr(message, "epoch", state.epoch) != state.epoch:  # it was looked at by a placement that has changed meanwhile
            work.send_back(_wrong_epoch(state, work))
        else:
            work.fail(error)
    except Exception as error:
        log.exception("request %s failed", type(message).__name__)
        work.fail(error)


def _wrong_epoch(state: ServerState, work: Work) -> m.WrongEpoch:
    return m.WrongEpoch(work.seq, state.epoch, state.placement)


def _barred(state: ServerState, work: Work) -> DataMessage:
    """A write before this one was sent back, so this one is, too; whatever was wrong with that one."""
    named = [op.keyset for op in getattr(work.message, "ops", ()) if op.keyset != m.NO_KEYSET]
    return m.UnknownKeySet(work.seq, named[0]) if named else _wrong_epoch(state, work)


def answer_bytes(state: ServerState, work: Work) -> int:
    """Bytes that the answer to a request will have, about; a function's work is unknown."""
    message = work.message
    if type(message) is m.Call:
        return UNKNOWN_BYTES
    if type(message) is m.Step and state.is_complete:
        return operations.answer_bytes(state.tables, message.ops, work.arrays, work.session.keysets, state.bucket_bits)
    return 0


@handles(Unreadable)
def _refuse(state: ServerState, work: Work) -> None:
    raise work.message.error
