"""The command line of ``sparkps``: its commands, and what each takes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparkps import __version__
from sparkps.config import MOST_NODES, parse_seconds

#: Where the secret of a tier is, if nothing else is said.
SECRET_FILE = Path("~/.sparkps/secret")

Run = Callable[[argparse.Namespace, Sequence[str]], int]


def parser() -> argparse.ArgumentParser:
    """Of the whole command line; ``run`` of what it gives carries the command out."""
    what = "Parameter servers for Spark: tiers that several applications share."
    top = argparse.ArgumentParser(prog="sparkps", allow_abbrev=False, description=what)
    top.add_argument("--version", action="version", version=f"sparkps {__version__}")
    top.add_argument("-v", "--verbose", action="store_true", help="say more on standard error")
    tier = top.add_subparsers(required=True).add_parser(
        "tier", help="start, look at, change and stop a tier", description="Start, look at, change and stop a tier."
    )
    commands = tier.add_subparsers(required=True)
    _start(commands)
    _add(commands, "status", "how a tier is", _status)
    tables = _add(commands, "tables", "the tables of a tier, with owners, sizes and last use", _tables)
    tables.add_argument("--drop", metavar="NAME", action="append", default=[], help="drop this table, owner/name; may be repeated")
    scale = _add(commands, "scale", "have more or fewer nodes, while work goes on", _scale)
    scale.add_argument("nodes", type=_number_of_nodes, help="how many nodes there shall be")
    scale.add_argument("--timeout", type=_seconds, default=600.0, metavar="TIME", help="how long it may take (default: 10m)")
    drain = _add(commands, "drain", "let one node go, while work goes on", _drain)
    drain.add_argument("node", type=int, help="the node's number, as `status` shows it")
    drain.add_argument("--timeout", type=_seconds, default=600.0, metavar="TIME", help="how long it may take (default: 10m)")
    stop = _add(commands, "stop", "end a tier in order, with a last checkpoint if it has a directory for them", _stop)
    stop.add_argument("--timeout", type=_seconds, default=600.0, metavar="TIME", help="how long it may take (default: 10m)")
    stop.add_argument("--discard", action="store_true", help="without a last checkpoint: what was written since the one before is lost")
    return top


def _add(commands: Any, name: str, what: str, run: Run) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, allow_abbrev=False, help=what, description=what[0].upper() + what[1:] + ".")
    made.add_argument("--url", required=True, help="URL of the tier, as `sparkps tier start` has printed it: sparkps://host:port")
    _secret_file(made)
    if name in ("status", "tables"):
        made.add_argument("--json", action="store_true", help="print all that is known, as JSON")
    made.set_defaults(run=run)
    return made


def _secret_file(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--secret-file", type=Path, default=SECRET_FILE, metavar="FILE",
        help=f"file with the tier's secret (default: {SECRET_FILE}, which all tiers have that name no other)",
    )  # fmt: skip


def _start(commands: Any) -> None:
    start = commands.add_parser(
        "start",
        allow_abbrev=False,
        help="start a tier, and keep it until Ctrl-C, SIGTERM or `sparkps tier stop`",
        description="Start a tier that applications attach to, print its URL, and keep it until Ctrl-C, SIGTERM or `sparkps tier stop`."
        " Without --hosts and --spark its processes run on this machine.",
        epilog="A time is 90s, 10m, 12h or 30d.",
    )
    start.set_defaults(run=_run_start)
    where = start.add_argument_group("where nodes run")
    place = where.add_mutually_exclusive_group()
    place.add_argument("--hosts", metavar="A,B,C", type=_hosts, help="on these hosts, each started by --start-command")
    place.add_argument("--spark", action="store_true", help="in executors of a Spark application (under spark-submit, or with --conf)")
    where.add_argument("--nodes", type=_number_of_nodes, metavar="N", help="how many (default: 2, or as many as there are hosts)")
    where.add_argument("--replication", type=int, choices=(1, 2, 3), help="copies of every row, each on another node (default: 1)")
    where.add_argument(
        "--start-command", metavar="TEMPLATE", default="",
        help="what starts a node on a host: {host} is the host, {command} what shall run there, which reads the secret from standard input"
        " (default: ssh with keys, which gives a silent host up after a minute)",
    )  # fmt: skip
    where.add_argument("--python", default="", metavar="PATH", help="Python on the hosts, with sparkps (default: the path of this one)")
    network = start.add_argument_group("how it is reached")
    network.add_argument("--port", type=int, help="TCP port of the URL (default: a free one)")
    network.add_argument("--bind", metavar="ADDRESS", help="address to listen at; 0.0.0.0 for all (default: 127.0.0.1, this machine only)")
    network.add_argument("--advertise", metavar="HOST", help="name or address by which others reach this machine (default: as --bind)")
    _secret_file(network)
    data = start.add_argument_group("what it keeps")
    data.add_argument("--checkpoint-dir", metavar="URL", help="write checkpoints here, and begin with the last one that is here")
    data.add_argument("--checkpoint-every", type=_seconds, metavar="TIME", help="how often (default: only when the tier ends)")
    data.add_argument("--ttl", type=_seconds, metavar="TIME", help="drop tables that nobody has used for so long (default: none)")
    start.add_argument(
        "--conf", action="append", default=[], type=_pair, metavar="KEY=VALUE",
        help="a setting, as spark.sparkps.nodeMemory=8g; with --spark also one of Spark. May be repeated",
    )  # fmt: skip
    start.add_argument("--detach", action="store_true", help="return when it runs, and leave it running in the background")
    start.add_argument("--log", type=Path, metavar="FILE", help="with --detach, its log (default: the secret file's path with .log)")
    start.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


# ---- values ------------------------------------------------------------------------------------------------------------


def _number_of_nodes(word: str) -> int:
    try:
        number = int(word)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_NODES:
        raise argparse.ArgumentTypeError(f"it must be a whole number between 1 and {MOST_NODES}, got {word!r}")
    return number


def _hosts(word: str) -> str:
    if not any(host.strip() for host in word.split(",")):  # as of a variable that is not set
        raise argparse.ArgumentTypeError(f"it must be names or addresses of hosts, with commas between, got {word!r}")
    return word


def _seconds(word: str) -> float:
    try:
        seconds = parse_seconds(word)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"it must be a time, as 90s, 10m, 12h or 30d, got {word!r}")
    return seconds


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key.startswith("spark."):
        raise argparse.ArgumentTypeError(f"it must be spark.KEY=VALUE, got {word!r}")
    return key, value


# ---- what carries them out; each is imported when it is used -----------------------------------------------------------


def _run_start(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    from sparkps.cli.start import start

    return start(arguments, words)


def _status(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    from sparkps.cli.commands import status

    return status(arguments)


def _tables(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    from sparkps.cli.commands import tables

    return tables(arguments)


def _scale(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    from sparkps.cli.commands import scale

    return scale(arguments)


def _drain(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    from sparkps.cli.commands import drain

    return drain(arguments)


def _stop(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    from sparkps.cli.commands import stop

    return stop(arguments)


__all__ = ["SECRET_FILE", "parser"]
