"""Looking at a node: what it says of itself, and the rows of a bucket."""

from __future__ import annotations

from sparkps.errors import InvalidInput
from sparkps.ps_nodes.handlers.table import handles
from sparkps.ps_nodes.state import ServerState
from sparkps.ps_nodes.work import Work
from sparkps.specs import NUM_BUCKETS
from sparkps.wire.messages import data as m


@handles(m.Status)
def status(state: ServerState, work: Work) -> None:
    """The node's own view of itself."""
    work.answer(m.StatusReport(work.seq, state.report(work.replies.queued_bytes)), record=False)


@handles(m.Export)
def export(state: ServerState, work: Work) -> None:
    """Keys and rows of one bucket."""
    message: m.Export = work.message
    if not 0 <= message.bucket < NUM_BUCKETS or not state.bucket_bits >> message.bucket & 1:
        raise InvalidInput(f"Bucket {message.bucket} must be this node's.", bucket=message.bucket)
    if state.serving.missing and message.table in state.tables.by_id:
        state.serving.check([(state.tables.by_id[message.table].spec, 1 << message.bucket)])
    found = state.tables.export(message.table, message.bucket, message.start, message.limit)
    state.tables.note([message.table])
    work.done(found, record=False)
