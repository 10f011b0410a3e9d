"""``python -m sparkps.testing.relayed_node``: a node that listens behind a relay, and says that it is where the relay is."""

from __future__ import annotations

import sys
from typing import Any

from sparkps.ps_nodes import __main__ as node
from sparkps.ps_nodes import server
from sparkps.ps_nodes.coordinator_link import CoordinatorLink

#: What the endpoint of a node behind a relay ends with; without it, it is the relay's.
BEHIND = ".behind"


class RelayedLink(CoordinatorLink):
    """A node's connection to the coordinator, by which clients and peers learn where the node is: at the relay."""

    def __init__(self, *args: Any) -> None:
        changed: list[Any] = [arg.removesuffix(BEHIND) if isinstance(arg, str) else arg for arg in args]
        super().__init__(*changed)


def main() -> int:
    """As ``python -m sparkps.ps_nodes``."""
    vars(server)["CoordinatorLink"] = RelayedLink
    return node.main()


if __name__ == "__main__":
    sys.exit(main())
