"""Commands of the coordinator: what a node takes over when it is welcomed, and what it is told from then on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from sparkps.errors import OutOfNodeMemory, ProtocolError, TierError
from sparkps.filesystems import held_tokens
from sparkps.ps_nodes import functions
from sparkps.ps_nodes.checkpointing import cuts, loading, writing
from sparkps.ps_nodes.closed import Serving
from sparkps.ps_nodes.replication.handover import place
from sparkps.ps_nodes.replication.snapshots import send_buckets
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.tables.buffers import return_freed_memory
from sparkps.secret import opened
from sparkps.specs import NUM_BUCKETS, check_spec
from sparkps.wire.buckets import unpacked
from sparkps.wire.messages import control as c

log = logging.getLogger(__name__)

#: Seconds that a user's function may take to be loaded: modules that it imports may be large.
LOADING_LIMIT = 20.0

#: Told what a command raised, or None, maybe later and from another thread; of some commands also what there is to report.
Done = Callable[..., None]

#: Carries a command out, and calls its last argument when that is done, unless it raises.
Carrier = Callable[[ServerState, Any, Done], None]

#: How each command is carried out.
COMMANDS: dict[type[c.ControlMessage], Carrier] = {}


def command(state: ServerState, message: Any, done: Done) -> None:
    """Carry a command out, and tell `done` what came of it."""
    try:
        carrier = COMMANDS.get(type(message))
        if carrier is None:
            raise ProtocolError(f"A node must be sent commands. Got {type(message).__name__} instead.")
        carrier(state, message, done)
    except Exception as error:  # whatever it is, the coordinator tells the caller
        log.warning("command %s failed", type(message).__name__, exc_info=True)
        done(error)


def welcome(state: ServerState, message: c.Welcome) -> None:
    """The node is a member: take over all that exists."""
    state.node, state.tier_id = message.node, message.tier_id
    state.settings = message.settings
    state.sessions.ttl = message.settings.session_ttl
    state.copies.node = message.node
    state.copies.asynchronous = message.settings.replication_ack == "async"
    if message.epoch:
        place(state, message.epoch, message.placement, message.nodes, _placed)
        for spec in message.tables:
            state.tables.create(check_spec(spec))
        for group in message.groups:
            state.open_group(group)
    state.share_memory()
    _hold(message.tokens)
    for name, blob in message.functions:
        _load(state, name, blob, lambda error: log.error("a function is not known here: %s", error) if error else None)


def _placed(error: BaseException | None) -> None:
    if error is not None:
        raise error


def _carries_out(message: type[c.ControlMessage]) -> Callable[[Carrier], Carrier]:
    """Enters the decorated function into `COMMANDS`."""

    def enter(carrier: Carrier) -> Carrier:
        COMMANDS[message] = carrier
        return carrier

    return enter


@_carries_out(c.SetPlacement)
def _set_placement(state: ServerState, message: c.SetPlacement, done: Done) -> None:
    missing = {table: unpacked(buckets) for table, buckets in message.missing.items()}
    serving = Serving(message.is_restoring, message.torn, missing)
    place(state, message.epoch, message.placement, message.nodes, done, message.anew, serving)
    state.share_memory()


@_carries_out(c.CopyBuckets)
def _copy_buckets(state: ServerState, message: c.CopyBuckets, done: Done) -> None:
    foreign = [bucket for bucket in message.buckets if not 0 <= bucket < NUM_BUCKETS or not state.bucket_bits >> bucket & 1]
    state.nodes.update((info.node, info) for info in message.nodes)
    info = state.nodes.get(message.target)
    if foreign or info is None or info.state != "up" or message.target == state.node:
        raise TierError(
            f"Copies must be of buckets of which the node is the primary, on another node that is up. Got buckets {foreign[:8]} that are"
            f" not node {state.node}'s, and node {message.target} as the target.",
            node=state.node,
        )
    if message.target in state.memory.full_nodes:
        raise OutOfNodeMemory(
            f"Copies must be made on a node that has memory for them. Node {message.target} is near its `spark.sparkps.nodeMemory`.",
            node=message.target,
        )
    send_buckets(state, message.buckets, message.target, lambda error: state.io.post(lambda: done(error)))


@_carries_out(c.HoldClocks)
def _hold_clocks(state: ServerState, message: c.HoldClocks, done: Done) -> None:
    writing.make_way(state)
    cut = cuts.hold(state)
    done(None, {"clocks": {str(number): clock for number, clock in cut.clocks.items()}})


@_carries_out(c.WriteCheckpoint)
def _write_checkpoint(state: ServerState, message: c.WriteCheckpoint, done: Done) -> None:
    writing.write(state, message, done)


@_carries_out(c.ReleaseClocks)
def _release_clocks(state: ServerState, message: c.ReleaseClocks, done: Done) -> None:
    cuts.release(state)
    done(None)


@_carries_out(c.VerifyCheckpoint)
def _verify_checkpoint(state: ServerState, message: c.VerifyCheckpoint, done: Done) -> None:
    loading.verify(state, message, done)


@_carries_out(c.LoadCheckpoint)
def _load_checkpoint(state: ServerState, message: c.LoadCheckpoint, done: Done) -> None:
    loading.load(state, message, done)


@_carries_out(c.TakeTokens)
def _take_tokens(state: ServerState, message: c.TakeTokens, done: Done) -> None:
    _hold(message.tokens)
    done(None)


def _hold(tokens: list[c.NodeToken]) -> None:
    for token in tokens:
        held_tokens.hold(token.service, token.text)


@_carries_out(c.CreateTable)
def _create_table(state: ServerState, message: c.CreateTable, done: Done) -> None:
    spec = check_spec(message.spec)
    state.memory.check_table(spec)
    state.tables.create(spec)
    done(None)


@_carries_out(c.DropTable)
def _drop_table(state: ServerState, message: c.DropTable, done: Done) -> None:
    followers = list(state.followers)
    left = [len(followers) + 1]

    def one() -> None:
        left[0] -= 1
        if not left[0]:
            drop()

    def drop() -> None:
        gone = state.tables.drop(message.table)
        if gone:
            state.sessions.forget_index(gone)
        return_freed_memory()
        state.look_at_memory()
        done(None)

    # What primaries have acknowledged before the drop may still be on its way into the copies here, and read the table.
    for follower in followers:
        follower.then(lambda: state.io.post(one))
    one()


@_carries_out(c.OpenGroup)
def _open_group(state: ServerState, message: c.OpenGroup, done: Done) -> None:
    state.open_group(message.spec)
    done(None)


@_carries_out(c.FailGroup)
def _fail_group(state: ServerState, message: c.FailGroup, done: Done) -> None:
    if message.group in state.groups:
        state.groups[message.group].end(message.cause.exception())
    done(None)


@_carries_out(c.CloseGroup)
def _close_group(state: ServerState, message: c.CloseGroup, done: Done) -> None:
    state.answers.forget_group(message.group)
    state.close_group(message.group, lambda: done(None))


@_carries_out(c.RegisterFunction)
def _register_function(state: ServerState, message: c.RegisterFunction, done: Done) -> None:
    _load(state, message.name, message.blob, done)


def _load(state: ServerState, name: str, blob: bytes, done: Done) -> None:
    """To load a user's function is to run code of the user's: on a thread of that kind, with a deadline."""

    def load() -> None:
        functions.register(name, opened(state.secret, state.tier_id, f"function {name}", blob), state.settings.allow_functions)

    def loaded(_: Any, error: BaseException | None) -> None:
        state.io.post(state.loading.ended)
        done(error)

    state.loading.begun()
    state.users.start(load, LOADING_LIMIT, loaded, lambda: None, name=name)
