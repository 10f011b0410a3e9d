"""What a push loses on its way in fewer bytes is added to the next push of the same key: no gradient is too small to arrive.

The residual of each key is kept at its worker, so it is lost with it: a successor begins without any, as does a handle that was pickled. It
is no more than one push of a key was rounded by. Memory is bounded, too: where two keys share a place, the one that was pushed
last has it.

References
----------
Seide et al., 1-Bit Stochastic Gradient Descent and its Application to Data-Parallel Distributed Training of Speech DNNs, Interspeech
2014, section 3.2. Karimireddy et al., Error Feedback Fixes SignSGD and other Gradient Compression Schemes, ICML 2019, algorithm 1.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkps.client.row_slots import RowSlots
from sparkps.wire.encodings import Encoding, decoded, encoded

Array = NDArray[Any]

#: Most bytes of the residuals of one table at one worker.
FEEDBACK_BYTES = 64 << 20

_LARGEST = np.finfo(np.float32).max


class ErrorFeedback:
    """The residuals of one table's gradients. Thread-safe.

    Parameters
    ----------
    dim : int
        Values of a row.
    encoding : Encoding
        How gradients are written.
    max_bytes : int
        Of all residuals; 0: none are kept.

    Examples
    --------
    >>> feedback, key = ErrorFeedback(2, Encoding.INT8), np.array([7])
    >>> sent = [decoded(feedback.encoded(key, np.array([[1.0, 0.001]], np.float32)), Encoding.INT8) for _ in range(100)]
    >>> round(float(sum(sent)[0, 1]), 2)
    0.1
    """

    def __init__(self, dim: int, encoding: Encoding, max_bytes: int = FEEDBACK_BYTES) -> None:
        self.encoding = encoding
        #: Owner, as of what is in it: whoever holds the lock.
        self._left = RowSlots(dim, max_bytes)
        self._lock = threading.Lock()

    def encoded(self, keys: Array, gradients: Array) -> Array:
        """The gradients of distinct keys, with what was left of earlier ones, as they go out; what they lose is kept.

        Parameters
        ----------
        keys : ndarray of shape (n,), int64
        gradients : ndarray of shape (n, dim), float32
            Finite; left as they are.
        """
        with self._lock:
            found, places = self._left.find(keys)
            wanted = gradients.copy()
            with np.errstate(over="ignore"):  # cut by the next line
                wanted[found] += self._left.rows[places[found]]
            np.clip(wanted, -_LARGEST, _LARGEST, out=wanted)
            sent = encoded(wanted, self.encoding)
            wanted -= decoded(sent, self.encoding)
            self._left.keep(keys, wanted)
            return sent


__all__ = ["FEEDBACK_BYTES", "ErrorFeedback"]
