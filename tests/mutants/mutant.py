"""What a mutant is, and the files that mutants change."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change that some test must catch."""

    #: What it does to an invariant, in a few words.
    name: str
    #: Path from the root of the project.
    file: str
    #: Text that occurs once in the file, and what takes its place.
    old: str
    new: str


SESSION = "sparkps/client/session.py"
TRANSPORT = "sparkps/client/transport.py"
LINKS = "sparkps/client/links.py"
SENDING = "sparkps/client/sending.py"
INFLIGHT = "sparkps/client/inflight.py"
ORDER = "sparkps/client/order.py"
CLOCK = "sparkps/wire/clock.py"
FENCES = "sparkps/wire/fences.py"
MARKS = "sparkps/wire/marks.py"
SERVICE = "sparkps/ps_nodes/service.py"
SESSIONS = "sparkps/ps_nodes/sessions.py"
DISPATCH = "sparkps/ps_nodes/dispatch.py"
CLOCK_REQUESTS = "sparkps/ps_nodes/handlers/clocks.py"
ROWS = "sparkps/ps_nodes/handlers/rows.py"
WORK = "sparkps/ps_nodes/work.py"
GROUPS = "sparkps/ps_nodes/groups.py"
CLOSING = "sparkps/ps_nodes/closing.py"
DUE_CLOSES = "sparkps/ps_nodes/due_closes.py"
BUFFERS = "sparkps/ps_nodes/clock_buffers.py"
SHARDS = "sparkps/ps_nodes/shards.py"
TURNS = "sparkps/ps_nodes/turns.py"
TABLES = "sparkps/ps_nodes/tables/directory.py"

COPIES = "sparkps/ps_nodes/replication/copies.py"
SENT_LOG = "sparkps/ps_nodes/replication/sent_log.py"
FOLLOWER = "sparkps/ps_nodes/replication/follower.py"
FOLLOWERS = "sparkps/ps_nodes/replication/followers.py"
ENTRIES = "sparkps/ps_nodes/replication/entries.py"
HANDOVER = "sparkps/ps_nodes/replication/handover.py"
SNAPSHOTS = "sparkps/ps_nodes/replication/snapshots.py"
MOVING = "sparkps/driver_bridge/coordinator/handlers/moving.py"
