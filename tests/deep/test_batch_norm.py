"""Batch normalization over the rows of several ranks is that of torch over all of them, there and back, whatever rows each rank has."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from sparkps.errors import InvalidInput
from sparkps.nn.batch_norm import share_statistics


class Ranks:
    """Threads that add up what each of them gives."""

    def __init__(self, count: int) -> None:
        self.count, self.given, self.calls = count, [torch.empty(0)] * count, 0
        self.barrier = threading.Barrier(count, timeout=20)

    def adding(self, rank: int) -> Callable[[Tensor], Tensor]:
        def add(mine: Tensor) -> Tensor:
            self.given[rank] = mine.clone()
            self.barrier.wait()
            summed = torch.stack(self.given).sum(0)
            self.calls += rank == 0
            self.barrier.wait()
            return summed

        return add

    def run(self, act: Callable[[int], object]) -> list[object]:
        with ThreadPoolExecutor(self.count) as pool:
            return [each.result(timeout=30) for each in [pool.submit(act, rank) for rank in range(self.count)]]


def layers(kind: str, **options: object) -> tuple[nn.Module, Tensor]:
    """A module with two such layers, and 12 rows for it."""
    torch.manual_seed(2)
    if kind == "1d":
        made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, **options), nn.Tanh(), nn.Linear(4, 4), nn.BatchNorm1d(4, **options))
        return made, torch.randn(12, 3) * 3 + 50
    if kind == "sequences":
        return nn.Sequential(nn.BatchNorm1d(3, **options), nn.Conv1d(3, 4, 2), nn.BatchNorm1d(4, **options)), torch.randn(12, 3, 5)
    made = nn.Sequential(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4, **options), nn.ReLU(), nn.BatchNorm2d(4, **options))
    return made, torch.randn(12, 2, 4, 3)


@pytest.mark.parametrize("spans", [[(0, 7), (7, 12)], [(0, 5), (5, 5), (5, 12)], [(0, 12)]], ids=["uneven", "one without rows", "alone"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("1d", {}),
        ("1d", {"affine": False}),
        ("1d", {"momentum": None}),
        ("sequences", {}),
        ("2d", {}),
        ("2d", {"track_running_stats": False}),
    ],
)
def test_ranks_do_what_one_does_with_all_rows(kind: str, options: dict[str, object], spans: list[tuple[int, int]]) -> None:
    alone, rows = layers(kind, **options)
    modules = [copy.deepcopy(alone) for _ in spans]
    rows.requires_grad_()
    weights = torch.randn(alone(rows).shape)
    alone.zero_grad()
    alone.load_state_dict(modules[0].state_dict())
    expected = alone(rows)
    (expected * weights).sum().backward()
    ranks = Ranks(len(spans))

    def step(rank: int) -> tuple[Tensor, Tensor]:
        start, stop = spans[rank]
        assert share_statistics(modules[rank], ranks.adding(rank)) == 2
        mine = rows.detach()[start:stop].clone().requires_grad_()
        found = modules[rank](mine)
        (found * weights[start:stop]).sum().backward()
        return found.detach(), mine.grad

    found, gradients = zip(*ranks.run(step), strict=True)
    torch.testing.assert_close(torch.cat(found), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat(gradients), rows.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in alone.named_parameters():
        summed = sum(module.get_parameter(name).grad for module in modules)
        torch.testing.assert_close(summed, parameter.grad, rtol=1e-4, atol=1e-5)
    for name, buffer in alone.named_buffers():
        for module in modules:
            torch.testing.assert_close(module.get_buffer(name), buffer, rtol=1e-5, atol=1e-6)


def test_each_layer_costs_one_sum_there_and_one_back_and_none_where_it_is_not_trained() -> None:
    module, rows = layers("1d")
    ranks = Ranks(1)
    share_statistics(module, ranks.adding(0))
    module(rows).sum().backward()
    assert ranks.calls == 4
    expected = nn.functional.batch_norm(module[0](rows), module[1].running_mean, module[1].running_var, module[1].weight, module[1].bias)
    module.eval()
    torch.testing.assert_close(module[1](module[0](rows)), expected)
    assert ranks.calls == 4


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = nn.BatchNorm1d(3).double()
    share_statistics(layer, lambda mine: mine)
    rows = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: layer(given).pow(3), (rows,))


def test_rows_in_bfloat16_stay_so() -> None:
    layer = nn.BatchNorm1d(3)
    share_statistics(layer, lambda mine: mine)
    rows = torch.randn(64, 3).bfloat16()
    found = layer(rows)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), nn.BatchNorm1d(3)(rows.float()), rtol=0.02, atol=0.02)


def test_a_single_row_cannot_be_normalized_and_no_rows_at_all_change_nothing() -> None:
    layer = nn.BatchNorm1d(3)
    share_statistics(layer, lambda mine: mine)
    with pytest.raises(InvalidInput, match="at least two values of each channel"):
        layer(torch.ones(1, 3))
    none = torch.ones(0, 3, requires_grad=True)
    layer(none).sum().backward()
    assert int(layer.num_batches_tracked) == 0
    assert torch.equal(layer.weight.grad, torch.zeros(3))
