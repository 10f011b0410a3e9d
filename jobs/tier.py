"""The command ``sparkps`` for spark-submit, which wants a file: ``spark-submit --master yarn jobs/tier.py tier start --spark``."""

from __future__ import annotations

import sys

from sparkps.cli import main

if __name__ == "__main__":
    sys.exit(main())
