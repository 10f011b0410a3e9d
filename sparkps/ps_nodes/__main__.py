"""``python -m sparkps.ps_nodes``: one parameter-server node."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sparkps.descriptors import raise_limit
from sparkps.lifeline import tidy_up, wake_with_parent, watch_stdin
from sparkps.peer_limits import PeerLimits
from sparkps.secret_files import secret_on_stdin

#: Exit status of a node that ends although its tier needs it, as on SIGTERM.
ENDED = 4


def main(argv: list[str] | None = None) -> int:
    """Start a node and serve until it is told to stop.

    Parameters
    ----------
    argv : list of str, optional
        Command line; see ``--help``.

    Returns
    -------
    int
        Exit status: 0 when the coordinator has told it to stop, `ENDED` when something else has.
    """
    arguments = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    raise_limit()
    wake_with_parent()
    # The I/O thread must get the interpreter back soon after a kernel of the pool returns.
    sys.setswitchinterval(0.0005)
    from sparkps.ps_nodes.coordinator_link import Origin
    from sparkps.ps_nodes.server import Node
    from sparkps.ps_nodes.tables.buffers import keep_message_buffers

    keep_message_buffers()
    threads = arguments.threads or max(1, (os.cpu_count() or 2) // 2)
    origin = Origin(arguments.host, arguments.job, arguments.attempt)
    secret = secret_on_stdin() if arguments.secret_on_stdin else None
    limits = PeerLimits(arguments.peer_connections, arguments.peer_handshakes)
    parent = os.getppid() if arguments.watch_parent else 0
    node = Node(
        arguments.coordinator,
        arguments.bind,
        threads,
        parent,
        origin,
        arguments.advertise,
        secret,
        limits,
        arguments.max_message_bytes,
    )
    node.control.outlives_coordinator = arguments.watch_stdin or arguments.watch_parent

    def stop(number: int, *_: Any) -> None:
        node.stop(why=f"it got signal {number}")

    if signal.getsignal(signal.SIGTERM) != signal.SIG_IGN:  # as whoever started it wishes
        signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.watch_stdin:
        watch_stdin(lambda: node.stop(orphaned=True, why="the process that started it is gone"))
    status = node.serve()
    if status == 0 and not node.control.over:
        status = ENDED
    if node.orphaned and arguments.scratch:
        tidy_up(Path(arguments.scratch))
    return status


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sparkps.ps_nodes", description="One parameter-server node of sparkps."
    )
    parser.add_argument(
        "--coordinator", required=True, help="endpoint of the coordinator, such as tcp://host:port or ipc://path"
    )
    parser.add_argument("--bind", required=True, help="endpoint for clients; port 0 takes a free one, 7100-7199 the first that is free")
    parser.add_argument(
        "--threads", type=int, default=0, help="threads for large requests (default: half of the cores)"
    )
    parser.add_argument("--watch-stdin", action="store_true", help="exit when standard input ends")
    parser.add_argument("--watch-parent", action="store_true", help="exit when the parent process is gone")
    parser.add_argument("--advertise", default="", help="name or address by which others reach a TCP endpoint (default: that of --bind)")
    parser.add_argument("--host", default="", help="name of the machine: copies of rows are on different ones (default: its own)")
    parser.add_argument("--job", type=int, default=-1, help="job of a launcher, which has one node at a time")
    parser.add_argument("--attempt", type=int, default=-1, help="attempt at that job")
    parser.add_argument("--scratch", default="", help="directory of the tier, to be tidied up if the driver is gone")
    parser.add_argument("--max-message-bytes", type=int, default=256 << 20, help="largest message that is expected")
    parser.add_argument("--peer-connections", type=int, default=4096, help="most connections of one host")
    parser.add_argument("--peer-handshakes", type=int, default=500, help="most new connections of one host in a second")
    parser.add_argument("--secret-on-stdin", action="store_true", help="read the secret of the tier as the first line of standard input")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
