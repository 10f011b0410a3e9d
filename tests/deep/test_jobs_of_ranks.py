"""What a rank does with its job, without Spark and a tier: what it draws, which rows it takes, what it keeps, what it is told."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sparkps.errors import InvalidInput
from sparkps.mllib.deep.dense import FlatParameters
from sparkps.mllib.deep.estimator import seeded
from sparkps.mllib.deep.examples import Examples, Inputs
from sparkps.mllib.deep.job import digest
from sparkps.mllib.deep.losses import OwnLoss, SquaredLoss
from sparkps.mllib.deep.measuring import DeepMeasuring
from sparkps.mllib.deep.pipelined import _inputs, _packed
from sparkps.mllib.deep.rank import DeepRank
from sparkps.mllib.deep.store import ExampleStore
from sparkps.mllib.deep.zoo import architectures
from sparkps.mllib.deep.zoo.blocks import Spec
from sparkps.nn import Bags, Keys
from sparkps.nn.flat_optimizer import first_state, scale_at, stepped
from sparkps.optim import SGD, Adam, AdamW, Cosine, InverseSqrt, Momentum, Step
from tests.deep.test_architectures import COLUMNS, batch, evaluated
from tests.deep.test_graphs import scoring_of


def examples(count, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 3, count)
    offsets = np.append(0, np.cumsum(lengths))
    bags = Bags("w", rng.integers(0, 99, offsets[-1]), offsets, rng.random(offsets[-1]).astype(np.float32))
    inputs = Inputs(Keys(("a",), rng.integers(0, 99, (count, 1))), {"w": bags}, rng.random((count, 2)).astype(np.float32))
    return Examples(inputs, rng.random((count, 2)), rng.random(count))


def assert_same(found, expected):
    for one, other in [
        (found.inputs.categories.keys, expected.inputs.categories.keys), (found.inputs.numeric, expected.inputs.numeric),
        (found.inputs.bags["w"].keys, expected.inputs.bags["w"].keys), (found.inputs.bags["w"].offsets, expected.inputs.bags["w"].offsets),
        (found.inputs.bags["w"].weights, expected.inputs.bags["w"].weights), (found.labels, expected.labels),
        (found.weights, expected.weights),
    ]:  # fmt: skip
        np.testing.assert_array_equal(one, other)


# ---- what is drawn -----------------------------------------------------------------------------------------------------


def rank_of(seed, rank):
    return SimpleNamespace(job=SimpleNamespace(seed=seed), worker=SimpleNamespace(rank=rank), module=nn.Module())


def drawn(seed, rank, t):
    DeepRank._begin(rank_of(seed, rank), t)
    return float(torch.rand(1))


def test_every_rank_draws_something_else_in_every_step_and_the_same_again():
    every = [(seed, rank, t) for seed in (0, 1) for rank in range(3) for t in range(4)]
    assert len({drawn(*each) for each in every}) == len(every)
    assert drawn(1, 2, 3) == drawn(1, 2, 3)


def order_of(seed, rank, epoch, spilled=False):
    """The rows that a rank takes in an epoch, in their order."""
    store = SimpleNamespace(is_spilled=spilled, __len__=lambda: 50, take=list, rows=lambda start, stop: list(range(start, stop)))
    store = type("Rows", (), {**vars(store), "__len__": lambda self: 50})()
    store.take = list
    made = SimpleNamespace(**vars(rank_of(seed, rank)), store=store, _permuted=None)
    return [int(each) for each in DeepRank._examples(made, epoch, 0, 50)]


def test_rows_are_shuffled_anew_for_every_epoch_rank_and_seed():
    every = [order_of(seed, rank, epoch) for seed in (0, 1) for rank in (0, 1) for epoch in (0, 1)]
    assert all(sorted(each) == list(range(50)) != each for each in every)
    assert len({tuple(each) for each in every}) == len(every)
    assert order_of(0, 1, 1) == order_of(0, 1, 1)


def test_modules_that_are_made_at_once_have_the_weights_of_their_seed():
    expected = [seeded(seed, lambda: nn.Linear(20, 20)).weight for seed in (1, 2)]
    wrong = []

    def make(number):
        for _ in range(300):
            if not torch.equal(seeded(number + 1, lambda: nn.Linear(20, 20)).weight, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


# ---- what is kept together ---------------------------------------------------------------------------------------------


class Kept(nn.Module):
    """Buffers of all kinds; of them training changes those of the normalization alone."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha, self.norm = alpha, nn.BatchNorm1d(3)
        self.register_buffer("ids", torch.tensor([2**62 + 1, -(2**63) + 5]))
        self.register_buffer("turns", torch.tensor([1 + 2j]))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf))
        self.register_buffer("places", torch.arange(9.0), persistent=False)


def test_buffers_that_training_does_not_change_stay_as_they_are():
    module = Kept()
    flat = FlatParameters(module)
    assert flat.buffer_size == 3 + 3 + 1
    flat.load_buffers(flat.buffers() + 1.0)
    assert module.norm.running_mean.tolist() == [1.0] * 3
    assert int(module.norm.num_batches_tracked) == 1
    assert module.ids.tolist() == [2**62 + 1, -(2**63) + 5]
    assert module.turns.tolist() == [1 + 2j]


def test_modules_differ_by_their_attributes_and_constants():
    assert digest(Kept()) == digest(Kept()) != digest(Kept(alpha=0.1))
    other = Kept()
    other.places += 1.0
    assert digest(other) != digest(Kept())


def test_losses_differ_by_what_they_do():
    one, other = OwnLoss(lambda output, labels: (output - labels) ** 2), OwnLoss(lambda output, labels: (output - labels).abs())
    again = OwnLoss(lambda output, labels: (output - labels) ** 2)
    assert one.described == again.described != other.described


def test_a_mean_does_not_know_weights():
    output, labels = torch.tensor([1.0, 2.0]), torch.tensor([[0.0], [0.0]])
    assert OwnLoss(nn.functional.mse_loss).of_rows(output, labels).tolist() == [2.5, 2.5]
    with pytest.raises(InvalidInput, match="reduction='none'"):
        OwnLoss(nn.functional.mse_loss, weighted=True).of_rows(output, labels)
    with pytest.raises(InvalidInput, match="must give a tensor"):
        OwnLoss(lambda output, labels: None).of_rows(output, labels)


def test_the_squared_loss_is_half_the_square():
    assert SquaredLoss().of_rows(torch.tensor([3.0]), torch.tensor([[1.0]])).tolist() == [2.0]


# ---- steps of dense parameters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Adam(0.1), lambda each: torch.optim.Adam(each, lr=0.1)),
        (AdamW(0.1, weight_decay=0.3), lambda each: torch.optim.AdamW(each, lr=0.1, weight_decay=0.3)),
        (SGD(0.1, l2=0.2), lambda each: torch.optim.SGD(each, lr=0.1, weight_decay=0.2)),
        (Momentum(0.1, momentum=0.8, nesterov=True), lambda each: torch.optim.SGD(each, lr=0.1, momentum=0.8, nesterov=True)),
    ],
)
@pytest.mark.parametrize("schedule", [None, Cosine(total=6), Step(every=2, factor=0.5), InverseSqrt(warmup=3)])
def test_steps_are_those_of_torch_with_every_schedule(ours, theirs, schedule):
    if schedule is not None:
        ours = type(ours)(**{**{name: getattr(ours, name) for name in ours.__struct_fields__}, "schedule": schedule})
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer, state = theirs([parameter]), first_state(ours, parameter.detach().clone())
    for step in range(5):
        gradient = torch.tensor([0.3, -0.1, 0.7]) * (step + 1)
        parameter.grad = gradient.clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1.0 if schedule is None else scale_at(schedule, step))
        optimizer.step()
        state = stepped(ours, state, gradient, step)
        np.testing.assert_allclose(state[0], parameter.detach(), rtol=1e-5, atol=1e-6)
    if schedule is not None:
        assert len({scale_at(schedule, step) for step in range(5)}) > 1


# ---- rows on their way -------------------------------------------------------------------------------------------------


def test_rows_of_a_file_are_those_that_went_into_it(tmp_path):
    rows = examples(40)
    store = ExampleStore(0, str(tmp_path))
    store.add(rows)
    store.seal()
    assert store.is_spilled
    assert_same(store.rows(0, 40), rows)
    assert store.labels == pytest.approx(rows.labels.sum())
    store.close()


def test_rows_that_go_to_the_first_stage_are_those_that_were_read():
    rows = examples(9)
    assert_same(Examples(_inputs(_packed(rows.inputs), ("a",)), rows.labels, rows.weights), rows)


def test_all_rows_for_validation_are_measured_however_few_go_through_at_once():
    chunks = [examples(20, 1), examples(7, 2)]
    found = list(DeepMeasuring._portions(SimpleNamespace(_aside=chunks, _at_once=6)))
    assert [len(each) for each in found] == [6, 6, 6, 2, 6, 1]
    np.testing.assert_array_equal(np.concatenate([each.labels for each in found]), np.concatenate([each.labels for each in chunks]))


# ---- models ------------------------------------------------------------------------------------------------------------


def test_a_factorization_machine_of_several_classes_tells_them_apart():
    spec = Spec(dim=3, hidden=(6, 4), init_std=0.7, outputs=3, more={})
    output, module, _ = evaluated(lambda: architectures.DeepFM(COLUMNS, spec))
    for each in module.head.parameters():
        nn.init.zeros_(each)
    output = module(batch())
    assert output.shape == (5, 3)
    module.weigh.weight.grad = None
    nn.functional.cross_entropy(output, torch.tensor([0, 1, 2, 0, 1])).backward()
    assert module.weigh.weight.grad.abs().max() > 1e-3
    assert module.fields.numbers.grad.abs().max() > 1e-3


def test_threads_that_score_at_once_get_their_own_rows():
    held = scoring_of(architectures.DeepFM(COLUMNS, Spec(dim=3, hidden=(6,), init_std=0.7, more={}))).held
    held = held.held if hasattr(held, "held") else held
    loss, sets = scoring_of(architectures.DeepFM(COLUMNS, Spec(dim=3, hidden=(6,), init_std=0.7, more={}))).loss, []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        keys = Keys(("a", "b"), rng.integers(0, 9, (4, 2)))
        bags = {"w": Bags("w", rng.integers(0, 9, 5), np.array([0, 2, 2, 4, 5]))}
        sets.append(Inputs(keys, bags, rng.random((4, 2)).astype(np.float32)))
    expected, wrong = [held.outputs(each, loss) for each in sets], []

    def score(number):
        try:
            for _ in range(300):
                if not np.array_equal(held.outputs(sets[number], loss), expected[number]):
                    wrong.append(number)
        except RuntimeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=score, args=(number,)) for number in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
