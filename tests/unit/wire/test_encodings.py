"""Rows in fewer bytes: how far they come out from what went in, and what becomes of numbers that do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from sparkps.wire.encodings import NAMED, Encoding, decoded, encoded, layout_of, row_bytes

LOSSY = [Encoding.FLOAT16, Encoding.BFLOAT16, Encoding.INT8]
each = pytest.mark.parametrize("encoding", LOSSY, ids=lambda found: found.name)


def there_and_back(rows: np.ndarray, encoding: Encoding) -> np.ndarray:
    return decoded(encoded(rows, encoding), encoding)


def drawn(seed: int, rows: int = 500, dim: int = 16) -> np.ndarray:
    """Numbers of all magnitudes that float16 has in full."""
    rng = np.random.default_rng(seed)
    found = rng.choice([-1.0, 1.0], (rows, dim)) * np.exp(rng.uniform(np.log(1e-4), np.log(6e4), (rows, dim)))
    return found.astype(np.float32)


def bound(rows: np.ndarray, encoding: Encoding) -> np.ndarray:
    """The largest error that the module's docstring allows each value."""
    if encoding == Encoding.INT8:
        return np.broadcast_to(np.abs(rows).max(axis=1, keepdims=True) / 254 * (1 + 1e-5), rows.shape)
    return np.abs(rows) / (2048 if encoding == Encoding.FLOAT16 else 256)


@each
@pytest.mark.parametrize("seed", range(5))
def test_errors_are_bounded_and_bytes_are_as_said(encoding: Encoding, seed: int) -> None:
    rows = drawn(seed)
    array = encoded(rows, encoding)
    assert (array.dtype, array.shape) == layout_of(encoding, *rows.shape)
    assert array.nbytes == len(rows) * row_bytes(encoding, rows.shape[1], 64)
    found = decoded(array, encoding)
    assert found.dtype == np.float32
    assert (np.abs(found - rows) <= bound(rows, encoding)).all()
    assert not np.array_equal(found, rows), "what loses nothing needs no bound"


@each
def test_what_came_out_goes_through_unchanged(encoding: Encoding) -> None:
    once = there_and_back(drawn(7), encoding)
    np.testing.assert_allclose(there_and_back(once, encoding), once, rtol=1e-6)


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even() -> None:
    bits = np.arange(1 << 16, dtype=np.uint32) << 16
    exact = bits.view(np.float32)
    finite = exact[np.isfinite(exact)].reshape(-1, 1)
    assert there_and_back(finite, Encoding.BFLOAT16).tobytes() == finite.tobytes()  # both zeros among them
    half_way = (bits[np.isfinite(exact)] | 0x8000).view(np.float32).reshape(-1, 1)
    found = encoded(half_way, Encoding.BFLOAT16).ravel()
    within = (found & 0x7FFF) != 0x7F7F  # the last one has nothing above it
    assert (found[within] & 1 == 0).all()
    above = (bits[np.isfinite(exact)] | 0x8001).view(np.float32).reshape(-1, 1)
    upper = np.minimum((bits[np.isfinite(exact)] >> 16 & 0x7FFF) + 1, 0x7F7F)
    assert np.array_equal(encoded(above, Encoding.BFLOAT16).ravel() & 0x7FFF, upper)


def test_float16_rounds_as_numpy_does() -> None:
    rows = drawn(3)
    assert np.array_equal(there_and_back(rows, Encoding.FLOAT16), rows.astype(np.float16).astype(np.float32))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("encoding", "largest"), [(Encoding.FLOAT16, 65504.0), (Encoding.BFLOAT16, 3.3895314e38)])
def test_what_is_too_large_is_cut_and_what_is_no_number_stays_none(encoding: Encoding, largest: float) -> None:
    rows = np.array([[3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-45]], np.float32)
    found = there_and_back(rows, encoding)[0]
    assert found[:2].tolist() == [np.float32(largest), -np.float32(largest)]
    assert found[2:4].tolist() == [np.inf, -np.inf]
    assert np.isnan(found[4])
    assert found[5:].tolist() == [0.0, 0.0, 0.0]
    assert np.signbit(found[5:]).tolist() == [False, True, False]
    odd = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800001], np.uint32).view(np.float32)[None]
    assert np.isnan(there_and_back(odd, encoding)).all(), "bits of a NaN that carry over would make a number of it"


@pytest.mark.filterwarnings("error")
def test_rows_of_int8_stand_alone() -> None:
    nan, inf = np.nan, np.inf
    finite = [[0, 0, 0], [1e-45, 0, 0], [3.4e38, -3.4e38, 1]]
    rows = np.array([*finite, [nan, 1, 2], [inf, 1, 2], [-inf, inf, nan], [127, -127, 64]], np.float32)
    found = there_and_back(rows, Encoding.INT8)
    assert np.array_equal(found[[0, 1, 6]], [[0, 0, 0], [0, 0, 0], [127, -127, 64]])
    assert np.isnan(found[3:6]).all()
    np.testing.assert_allclose(found[2], [3.4e38, -3.4e38, 0.0], rtol=1e-6)


@each
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 1), (2, 1000)])
def test_shapes(encoding: Encoding, shape: tuple[int, int]) -> None:
    rows = np.full(shape, 0.5, np.float32)
    assert np.array_equal(there_and_back(rows, encoding), rows)


def test_plain_rows_are_themselves() -> None:
    rows = drawn(1)
    assert encoded(rows, Encoding.PLAIN) is rows
    assert decoded(rows, Encoding.PLAIN) is rows
    assert row_bytes(Encoding.PLAIN, 16, 64) == 64
    assert set(NAMED.values()) == set(Encoding)
