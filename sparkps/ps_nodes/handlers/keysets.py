"""Key sets of a session: registered, and forgotten. They are the I/O thread's, so both are told to it; the answer follows."""

from __future__ import annotations

from sparkps.errors import ProtocolError
from sparkps.ps_nodes.handlers.table import handles
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables.keysets import KeyChunk, NodeKeySet, room_of
from sparkps.ps_nodes.work import Work
from sparkps.wire.messages import data as m


@handles(m.Register)
def register(state: ServerState, work: Work) -> None:
    """Keep one chunk of a key set."""
    message: m.Register = work.message
    if len(work.arrays) != 1:
        raise ProtocolError(f"A registration must bring one array of keys. Got {len(work.arrays)} instead.")
    keys = work.arrays[0]
    if keys.dtype != "int64" or keys.ndim != 1:
        raise ProtocolError(f"Registered keys must be int64 of shape (n,). Got {keys.dtype} of shape {keys.shape}.")
    state.check_kept(work.session, room_of(len(keys)), f"{len(keys)} registered keys")
    state.memory.check_bytes(2 * keys.nbytes, f"{len(keys)} registered keys", "")
    chunk = KeyChunk(state.tables.index(message.index), keys, registered=True, among=state.bucket_bits, keep_keys=state.copies.active)
    if not 0 <= message.start <= message.start + chunk.size <= message.total:
        raise ProtocolError(f"A chunk must lie in its key set of {message.total} keys. Got start {message.start}.")

    def keep() -> None:
        session, keysets = work.session, work.session.keysets
        keyset = keysets.get(message.keyset)
        if keyset is None or keyset.index_id != message.index:
            session.forget_keyset(message.keyset)
            keyset = keysets[message.keyset] = NodeKeySet(message.index, message.total)
        session.keyset_room += keyset.add(message.start, chunk)

    state.io.post(keep)
    work.done(record=True)


@handles(m.Unregister)
def unregister(state: ServerState, work: Work) -> None:
    """Forget a key set."""

    def forget() -> None:
        work.session.forget_keyset(work.message.keyset)

    state.io.post(forget)
    work.done(record=True)
