"""The command ``sparkps``: tiers that outlive applications, started, looked at, changed and stopped.

::

    sparkps tier start      start a tier, and keep it until Ctrl-C, SIGTERM or `sparkps tier stop`
    sparkps tier status     how it is
    sparkps tier tables     its tables, with owners, sizes and last use; drops them by name
    sparkps tier scale      have more or fewer nodes
    sparkps tier drain      let one node go
    sparkps tier stop       end it

Exit status: 0, it is done; 1, it could not be, with the reason on standard error; 2, the command line is wrong.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from sparkps.cli.arguments import parser
from sparkps.errors import SparkPSError

#: Exit status after Ctrl-C.
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Carry a command out.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line, without the program's name; default: those of this process.

    Returns
    -------
    int
        Exit status.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = parser().parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("sparkps").setLevel(logging.INFO if arguments.verbose else logging.WARNING)
    logging.getLogger("sparkps.cli").setLevel(logging.INFO)
    try:
        status: int = arguments.run(arguments, words)
    except SparkPSError as error:
        sys.stderr.write(f"sparkps: {error.message}\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads the output has seen enough
        return 1
    return status


__all__ = ["INTERRUPTED", "main"]
