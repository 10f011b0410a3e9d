"""What the commands do that are about a tier which runs: all but ``start``."""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import threading
import time
from typing import Any

from sparkps.cli.output import ago, columns, numbered, shape_of, size
from sparkps.client.connection import Connection, connect
from sparkps.errors import DeadlineExceeded, NodeUnreachable, TierError, UnknownTable
from sparkps.wire.messages.control import AskToStop, DrainNode, DropTable, FindTable, ScaleTier, TierStatus

#: Seconds by which an answer may come later than the deadline that the tier itself keeps.
ANSWER_GRACE = 10.0
#: Seconds between two looks whether the tier has ended.
LOOK_EVERY = 0.2


def status(arguments: argparse.Namespace) -> int:
    """Print how the tier is."""
    with _connected(arguments) as tier:
        report = tier.status()
    _say(json.dumps(report, indent=2, default=str) if arguments.json else _described(report, tier.url))
    return 0


def _described(report: dict[str, Any], url: str) -> str:
    up = [node for node in report["nodes"] if node["state"] == "up"]
    lines = [f"Tier {report['tier_id']} at {url} is {report['state']}: {len(up)} of {report['num_nodes']} nodes are up."]
    for what, said in (("under way", report["scaling"]), ("lost buckets", report["lost_buckets"] or None)):
        if said is not None:
            lines.append(f"{what}: {said}")
    if report["checkpoint"] is not None:
        lines.append(f"Last checkpoint: {report['checkpoint']['id']} at {report['checkpoint']['url']}.")
    nodes = [
        (node["id"], node["state"], node["host"], node["buckets"], node["rows"], _memory(node), node["reason"] or "")
        for node in report["nodes"]
        if node["state"] != "left"
    ]
    lines += ["", columns(("NODE", "STATE", "HOST", "BUCKETS", "ROWS", "MEMORY", "WHY"), nodes)]
    if report["groups"]:
        groups = [(group["name"], group["state"], group["num_workers"], group["clock"]) for group in report["groups"]]
        lines += ["", columns(("WORKER GROUP", "STATE", "WORKERS", "CLOCK"), groups)]
    rows, nbytes = sum(table["rows"] for table in report["tables"]), sum(table["bytes"] for table in report["tables"])
    held = numbered(len(report["tables"]), "table")
    lines += ["", f"{held} of {numbered(rows, 'row')}, {size(nbytes)} (`sparkps tier tables` lists them)."]
    return "\n".join(lines)


def _memory(node: dict[str, Any]) -> str:
    used, limit = node.get("memory_bytes", 0), node.get("memory_limit", 0)
    return f"{size(used)} of {size(limit)}" if limit else size(used)


def tables(arguments: argparse.Namespace) -> int:
    """Print the tables, or drop some."""
    with _connected(arguments) as tier:
        if arguments.drop:
            return _dropped(tier, arguments.drop)
        listed = sorted(tier.tables(), key=lambda table: table["name"])
    if arguments.json:
        _say(json.dumps(listed, indent=2, default=str))
        return 0
    rows = [
        (table["name"], table["owner"] or "-", table["kind"], shape_of(table), table["storage"], table["rows"], size(table["bytes"]),
         ago(table["idle_seconds"]))
        for table in listed
    ]  # fmt: skip
    _say(columns(("TABLE", "OWNER", "KIND", "SHAPE", "TYPE", "ROWS", "SIZE", "LAST USED"), rows) if rows else "The tier has no tables.")
    return 0


def _dropped(tier: Connection, names: list[str]) -> int:
    """Drop tables by their full names; whether all were there."""
    failed = 0
    for name in names:
        try:
            spec = tier.request(FindTable(0, name)).spec
        except UnknownTable as error:
            sys.stderr.write(f"sparkps: {error.message}\n")
            failed = 1
            continue
        tier.request(DropTable(0, spec.name, spec.table))
        _say(f"{spec.name} is dropped.")
    return failed


def scale(arguments: argparse.Namespace) -> int:
    """Have more or fewer nodes."""
    with _connected(arguments) as tier:
        tier.request(ScaleTier(0, arguments.nodes, arguments.timeout), arguments.timeout + ANSWER_GRACE)
    _say(f"The tier has {numbered(arguments.nodes, 'node')}.")
    return 0


def drain(arguments: argparse.Namespace) -> int:
    """Let a node go."""
    with _connected(arguments) as tier:
        tier.request(DrainNode(0, arguments.node, arguments.timeout), arguments.timeout + ANSWER_GRACE)
        left = tier.request(TierStatus(0, fresh=False)).report["num_nodes"]
    _say(f"Node {arguments.node} has left the tier, which has {numbered(left, 'node')}.")
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """End the tier, and wait until it has ended."""
    with _connected(arguments) as tier:
        deadline, pause = time.monotonic() + arguments.timeout, threading.Event()
        before = _refused_ends(tier)
        tier.request(AskToStop(0, arguments.discard))
        while not _has_ended(tier, arguments.discard):
            if _refused_ends(tier) > before:
                why = tier.request(TierStatus(0, fresh=False)).report["ending"]["why"]
                raise TierError(f"{why} The tier goes on. `sparkps tier stop --discard` ends it without the checkpoint.")
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"The tier at {tier.url} must end within {arguments.timeout:g} s. It has not; what was begun goes on, as with a last"
                    " checkpoint: `sparkps tier status` shows it."
                )
            pause.wait(LOOK_EVERY)
    _say("The tier has ended.")
    return 0


def _refused_ends(tier: Connection) -> int:
    """How often the tier could not be ended as somebody had asked; 0 where it does not answer now."""
    with contextlib.suppress(DeadlineExceeded, NodeUnreachable):
        return int(tier.request(TierStatus(0, fresh=False), 1.0).report["ending"]["refused"])
    return 0


def _has_ended(tier: Connection, discard: bool = False) -> bool:
    """Whether nobody listens at the tier's URL any more, or another tier does; it may have been told by a coordinator that was lost.

    Only a connection that is refused says that nobody listens: a door that is full, a name that is not found for now and a network that is
    cut say nothing.
    """
    host, _, port = tier.url.partition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            pass
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    with contextlib.suppress(DeadlineExceeded, NodeUnreachable):
        if tier.request(TierStatus(0, fresh=False), 1.0).report["tier_id"] != tier.tier_id:
            return True
        tier.request(AskToStop(0, discard), 1.0)
    return False


def _connected(arguments: argparse.Namespace) -> Connection:
    return connect(arguments.url, arguments.secret_file.expanduser())


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


__all__ = ["drain", "scale", "status", "stop", "tables"]
