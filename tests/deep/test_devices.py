"""Which device a worker computes on, and what is said when it has no room there: with CUDA as torch would tell of it."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparkps.errors import InvalidInput, OutOfDeviceMemory
from sparkps.mllib.deep.devices import device_of, within_memory
from sparkps.nn.process_group import Collective, PeersLost
from sparkps.wire.messages.control import TierAddress

JOB: Any = SimpleNamespace(batch_size=4096, accumulation=2, amp=False)


def worker(*addresses: str) -> Any:
    return SimpleNamespace(rank=3, clock=7, device=addresses[0] if addresses else None, devices=addresses)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs; the current ones, as they were set."""
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_a_worker_computes_on_the_gpu_that_it_was_given_whatever_the_one_before(cuda: list[int]) -> None:
    assert [device_of(worker(address), "auto", 0.5) for address in "101"] == [torch.device("cuda", int(each)) for each in "101"]
    assert device_of(worker("0", "1"), "cuda", 2.0) == torch.device("cuda", 0), "of several the first"
    assert cuda == [1, 0, 1, 0]


def test_the_cpu_is_taken_only_where_no_gpu_was_asked_for(cuda: list[int]) -> None:
    assert device_of(worker(), "auto") == device_of(worker("1"), "cpu", 1.0) == torch.device("cpu")
    assert cuda == []


@pytest.mark.parametrize(("wanted", "gpus", "must"), [("auto", 0.5, "With 0.5 GPUs for each worker"), ("cuda", 0.0, "With device='cuda'")])
def test_an_executor_without_a_gpu_is_an_error_that_says_what_to_set(wanted: str, gpus: float, must: str) -> None:
    with pytest.raises(InvalidInput, match=rf"{must}.*Rank 3 was given none.*`gpusPerWorker`.*spark\.sparkps\.worker\.gpus.*device='cpu'"):
        device_of(worker(), wanted, gpus)


@pytest.mark.parametrize("address", ["2", "GPU-1f2e", "card0"])
def test_an_address_that_torch_does_not_know_is_an_error(cuda: list[int], address: str) -> None:
    with pytest.raises(InvalidInput, match=f"Rank 3 was given '{address}', and torch sees 2 here.*CUDA_VISIBLE_DEVICES"):
        device_of(worker(address), "auto", 1.0)
    assert cuda == []


def test_a_given_gpu_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInput, match="torch sees 0 here"):
        device_of(worker("0"), "auto", 1.0)


class Tensors:
    """What a step has on a device."""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("NCCL error: unhandled cuda error\nLast error:\nFailed to CUDA calloc async 8 bytes: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_too_little_memory_is_told_with_what_to_set_and_lets_go_of_the_step(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[weakref.ref[Tensors]] = []
    emptied: list[bool] = []

    def act() -> None:
        tensors = Tensors()
        kept.append(weakref.ref(tensors))
        raise type(error)(str(error))

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(kept[0]() is None))
    gc.disable()
    try:
        with pytest.raises(OutOfDeviceMemory) as told:
            within_memory(torch.device("cuda", 1), worker("1"), JOB, act)
    finally:
        gc.enable()
    assert emptied == [True], "the memory of the step is free before the cache is emptied"
    for part in ("cuda:1 of rank 3", "clock 7", "batchSize=4096", "accumulationSteps=2", "amp=False", "`gpusPerWorker`", str(error)[:60]):
        assert part in told.value.message
    assert (told.value.rank, told.value.clock, told.value.__context__) == (3, 7, None)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        within_memory(torch.device("cpu"), worker(), JOB, lambda: torch.ones(2, 3) @ torch.ones(2, 3))


class GroupWithoutMemory:
    def allreduce(self, tensors: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")


class GroupThatLost(GroupWithoutMemory):
    def allreduce(self, tensors: Any) -> Any:
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize(("group", "raised"), [(GroupWithoutMemory(), torch.OutOfMemoryError), (GroupThatLost(), PeersLost)])
def test_a_collective_without_memory_is_no_lost_peer_for_that_would_be_tried_again_for_ever(group: Any, raised: type[Exception]) -> None:
    address = TierAddress("t1", "ipc:///nobody")
    one = SimpleNamespace(rank=0, num_workers=2, session=SimpleNamespace(address=address))
    peers = Collective(one, torch.device("cpu"))
    peers.members, peers._group = [0, 1], group
    with pytest.raises(raised):
        peers.add(torch.ones(1))


class Work:
    """A collective on a GPU that is completed after so many looks."""

    def __init__(self, looks: float) -> None:
        self.looks, self.waited = looks, False

    def is_completed(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def wait(self) -> None:
        self.waited = True


def on_gpu(looks: float, one: Any, done_within: float = 60.0) -> tuple[Collective, Work]:
    """A rank of two, whose collectives take so many looks."""
    peers, work = Collective(one, torch.device("cuda", 0), done_within), Work(looks)
    peers.members, peers._group = [0, 1], SimpleNamespace(allreduce=lambda tensors: work)
    return peers, work


def member(*, meeting_called: bool) -> Any:
    address = TierAddress("t1", "ipc:///nobody")
    return SimpleNamespace(rank=0, num_workers=2, meeting_called=meeting_called, session=SimpleNamespace(address=address))


def test_a_collective_on_a_gpu_is_left_when_a_meeting_is_called_for_nccl_would_wait_for_ever() -> None:
    peers, work = on_gpu(3, member(meeting_called=False))
    peers.add(torch.ones(1))
    assert work.waited
    peers, work = on_gpu(float("inf"), member(meeting_called=True))
    with pytest.raises(PeersLost, match="another worker waits for a meeting"):
        peers.add(torch.ones(1))
    assert not peers.is_formed
    peers, work = on_gpu(float("inf"), member(meeting_called=False), done_within=0.05)
    with pytest.raises(PeersLost, match=r"it has taken 0\.05 s"):
        peers.add(torch.ones(1))


class FormedLate(Collective):
    """A group whose first barrier a rank does not come to."""

    joined = 0

    def _join(self, endpoint: str, number: int) -> None:
        self.joined += 1
        if self.joined == 1:
            raise PeersLost("a rank was lost after the meeting")


def test_a_rank_that_is_lost_between_the_meeting_and_the_forming_calls_for_another_meeting() -> None:
    one = member(meeting_called=False)
    one.meetings, one.meet = 0, lambda said: [said, said]
    peers = FormedLate(one, torch.device("cpu"))
    assert peers.form({"step": 3}) == {0: {"step": 3}, 1: {"step": 3}}
    assert peers.joined == 2
    peers.close()
