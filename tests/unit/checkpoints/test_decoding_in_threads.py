"""Files are decoded by several threads at once, the first ones too."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib, sys, threading
import numpy as np
from sparkps.checkpoints import format, manifest
logical = b"".join(format.encode_logical(b"x", [np.arange(3)]))
sys.setswitchinterval(1e-6)
for _ in range(200):
    importlib.reload(format)
    barrier = threading.Barrier(4)
    def decode():
        barrier.wait()
        assert format.decode_logical(logical)[0] == b"x"
    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_that_decode_the_first_logical_times_at_once_do_not_crash() -> None:
    """What msgspec knows of a class it finds out at the first decoding, and another thread may meet it half known: the process died."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
