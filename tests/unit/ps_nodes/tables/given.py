"""Keys as nodes get them."""

from __future__ import annotations

import numpy as np

from sparkps.wire.hashing import buckets_of


def grouped(keys: np.ndarray) -> np.ndarray:
    """Unique keys, ordered by bucket as a client sends them."""
    keys = np.unique(np.asarray(keys, np.int64))
    return np.ascontiguousarray(keys[np.argsort(buckets_of(keys), kind="stable")])
