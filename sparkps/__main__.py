"""``python -m sparkps``: the same as the command ``sparkps``."""

from __future__ import annotations

import sys

from sparkps.cli import main

if __name__ == "__main__":
    sys.exit(main())
