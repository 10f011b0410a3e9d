"""Gradients that lose a part on their way arrive in the long run, once, and within bounded memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from sparkps.client.error_feedback import ErrorFeedback
from sparkps.client.row_slots import RowSlots
from sparkps.client.tables import SparseTable
from sparkps.errors import InvalidInput, NonFiniteValues
from sparkps.specs import TableSpec
from sparkps.testing.simulation import Simulation
from sparkps.testing.simulation.simulation import SimulatedClient
from sparkps.wire.encodings import NAMED, Encoding, decoded
from tests.unit.client.fake_tier import ADDRESS

KEYS, DIM = np.arange(-40, 60), 4
LOSSY = ["float16", "bfloat16", "int8"]


def tiny(transport: str) -> tuple[np.ndarray, float]:
    """A gradient too small for its way beside a large one, and what hundreds of it come to."""
    gradient = np.full((1, DIM), 1e-3 if transport == "int8" else 1e-9, np.float32)
    if transport == "int8":
        gradient[0, 0] = 1.0
    return gradient, 400 * float(gradient[0, 1])


def summed(feedback: ErrorFeedback, gradient: np.ndarray, times: int = 400) -> np.ndarray:
    key, total = np.array([7]), np.zeros((1, DIM))
    for _ in range(times):
        total += decoded(feedback.encoded(key, gradient), feedback.encoding)
    return total


@pytest.mark.parametrize("transport", ["float16", "int8"])
def test_many_tiny_gradients_arrive_and_would_not_by_themselves(transport: str) -> None:
    gradient, expected = tiny(transport)
    with_feedback = summed(ErrorFeedback(DIM, NAMED[transport]), gradient)
    assert with_feedback[0, 1] == pytest.approx(expected, rel=0.2)
    without = summed(ErrorFeedback(DIM, NAMED[transport], 0), gradient)
    assert without[0, 1] == 0.0, "the test needs gradients that do not arrive"


def test_small_parts_of_gradients_arrive_in_bfloat16() -> None:
    gradient = np.full((1, DIM), 1.0 + 1 / 512, np.float32)
    assert summed(ErrorFeedback(DIM, Encoding.BFLOAT16), gradient) == pytest.approx(400 * (1 + 1 / 512), abs=0.01)
    assert summed(ErrorFeedback(DIM, Encoding.BFLOAT16, 0), gradient) == pytest.approx(400.0)


@pytest.mark.parametrize("transport", LOSSY)
def test_what_was_sent_and_what_is_left_are_what_was_given(transport: str) -> None:
    rng = np.random.default_rng(1)
    feedback = ErrorFeedback(DIM, NAMED[transport])
    given, sent = np.zeros((100, DIM)), np.zeros((100, DIM))
    for _ in range(50):
        keys = rng.permutation(100)[:30]
        gradients = rng.normal(size=(30, DIM)).astype(np.float32)
        before = gradients.copy()
        given[keys] += gradients
        sent[keys] += decoded(feedback.encoded(keys, gradients), feedback.encoding)
        assert np.array_equal(gradients, before), "the caller's array is its own"
    found, places = feedback._left.find(np.arange(100))
    assert found.all()
    np.testing.assert_allclose(sent + feedback._left.rows[places], given, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_the_largest_gradients_leave_numbers_behind() -> None:
    largest = np.full((1, DIM), np.finfo(np.float32).max)
    for encoding in (Encoding.FLOAT16, Encoding.BFLOAT16, Encoding.INT8):
        assert np.isfinite(summed(ErrorFeedback(DIM, encoding), largest, 5)).all()


# ---- bounded memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_bytes", [0, 10, 100, 5000])
def test_slots_keep_within_their_bytes_and_never_give_another_keys_row(max_bytes: int) -> None:
    rng, slots = np.random.default_rng(2), RowSlots(DIM, max_bytes)
    assert slots.nbytes <= max_bytes
    known: dict[int, tuple[float, int]] = {}
    for number in range(200):
        keys = rng.permutation(np.arange(-300, 300))[:20]
        rows = np.repeat(rng.normal(size=(20, 1)), DIM, axis=1).astype(np.float32)
        slots.keep(keys, rows, number)
        known.update({int(key): (float(row[0]), number) for key, row in zip(keys, rows, strict=True)})
        found, places = slots.find(np.arange(-300, 300))
        assert not found.any() or max_bytes >= 32
        for key in (np.flatnonzero(found) - 300).tolist():
            place = places[key + 300]
            assert (slots.rows[place] == known[key][0]).all()
            assert slots.numbers_at(np.array([place]))[0] == known[key][1]
    assert max_bytes < 5000 or found.sum() > 60


# ---- on a tier ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", LOSSY)
@pytest.mark.parametrize("seed", range(3))
def test_pushes_that_are_lost_and_sent_again_count_once(transport: str, seed: int) -> None:
    from tests.unit.testing.test_simulation import BAD, ClientSettings

    expected = np.zeros((len(KEYS), DIM))
    patient = ClientSettings(request_timeout=150.0, retry_max=4.0)
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(12, len(KEYS), DIM)).astype(np.float32)

    def program(client: SimulatedClient) -> np.ndarray:
        table = client.table("w").over(transport)
        for each in gradients:
            table.push(rng.permutation(KEYS), each)
            client.pause(1.0)
        return table.pull(KEYS)

    order = np.random.default_rng(seed)
    order.normal(size=(12, len(KEYS), DIM))
    for each in gradients:
        expected[order.permutation(KEYS) + 40] -= each
    with Simulation(seed, 3, BAD, client=patient) as simulation:
        simulation.sparse_table("w", dim=DIM, dtype="float32")
        pulled = simulation.call(program)
        rows = simulation.rows("w")
    exact = np.array([rows[key] for key in KEYS.tolist()])
    size = np.abs(gradients).max()
    np.testing.assert_allclose(exact, expected, atol=2 * size / 100)  # one rounding of a gradient, not twelve
    np.testing.assert_allclose(pulled, exact, atol=np.abs(exact).max() / 100)
    assert not np.array_equal(pulled, exact.astype(np.float32))


def test_key_sets_and_several_nodes() -> None:
    def program(client: SimulatedClient) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = client.table("w").over("bfloat16")
        keys = table.register(KEYS[::-1])
        keys.push(np.repeat(KEYS[::-1, None], DIM, axis=1))
        table.push([3, 3, 5], np.ones((3, DIM)))
        table.add(KEYS, np.full((len(KEYS), DIM), 1 / 512, np.float32))
        return keys.pull(), table.pull(KEYS), client.table("w").pull(KEYS)

    with Simulation(0, 3) as simulation:
        simulation.sparse_table("w", dim=DIM, dtype="float32")
        by_set, by_keys, exact = simulation.call(program)
    expected = -KEYS.astype(np.float64)
    expected[[43, 45]] -= [2, 1]
    np.testing.assert_array_equal(exact[:, 0], (expected + 1 / 512).astype(np.float32))  # `add` loses nothing
    np.testing.assert_array_equal(by_set[::-1], by_keys)
    assert np.abs(by_keys - exact).max() <= 64 / 256


# ---- handles -----------------------------------------------------------------------------------------------------------


def test_handles_say_what_they_cannot_do_and_travel_as_they_are() -> None:
    table = SparseTable(ADDRESS, TableSpec("w", "sparse", 2, table=1, index=1))
    assert table.encoding == Encoding.PLAIN
    small = table.over("int8", feedback_bytes=1000)
    again = pickle.loads(pickle.dumps(small))
    assert (again.encoding, again._transport) == (Encoding.INT8, ("int8", 1000))
    assert small == table
    assert small.over("float32").encoding == Encoding.PLAIN
    with pytest.raises(InvalidInput, match="one of float32, float16, bfloat16, int8. Got 'bf16'"):
        table.over("bf16")
    with pytest.raises(InvalidInput, match="must be of float32 to travel as int8. Got float64"):
        SparseTable(ADDRESS, TableSpec("w", "sparse", 2, "float64", table=1, index=1)).over("int8")


def test_gradients_that_are_refused_leave_nothing_behind() -> None:
    def program(client: SimulatedClient) -> np.ndarray:
        table = client.table("w").over("int8")
        with pytest.raises(NonFiniteValues):
            table.push([1], [[np.nan, 1.0, 1.0, 1.0]])
        table.push([1], [[127.0, 1.0, 1.0, 1.0]])
        return table.pull([1])

    with Simulation(0, 1) as simulation:
        simulation.sparse_table("w", dim=DIM, dtype="float32")
        assert simulation.call(program).tolist() == [[-127.0, -1.0, -1.0, -1.0]]
