"""Which GPUs a rank has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sparkps.driver_bridge.groups.devices import DriverGpus, devices_of, gpus_of_driver


def session(master: str, *addresses: str) -> Any:
    resources = {"gpu": SimpleNamespace(addresses=list(addresses))} if addresses else {}
    return SimpleNamespace(sparkContext=SimpleNamespace(master=master, resources=resources))


@pytest.mark.parametrize(("resources", "devices"), [({}, ()), ({"gpu": ["3"]}, ("3",)), ({"gpu": ["3", "7"], "fpga": ["f"]}, ("3", "7"))])
def test_rank_has_what_spark_gave_to_its_task(resources: dict[str, list[str]], devices: tuple[str, ...]) -> None:
    given = {name: SimpleNamespace(addresses=addresses) for name, addresses in resources.items()}
    assert devices_of(given, 1, None) == devices


@pytest.mark.parametrize(
    ("each", "shares"),
    [(1.0, [("a",), ("b",), ("c",)]), (0.5, [("a",), ("a",), ("b",)]), (0.4, [("a",), ("a",), ("b",)]), (3.0, [("a", "b", "c")])],
)
def test_ranks_of_a_local_master_share_out_the_gpus_of_the_driver(each: float, shares: list[tuple[str, ...]]) -> None:
    gpus = gpus_of_driver(session("local[4]", "a", "b", "c"), each)
    assert [devices_of({}, rank, gpus) for rank in range(len(shares))] == shares


@pytest.mark.parametrize(("master", "each"), [("local[2]", 0.0), ("yarn", 1.0), ("local-cluster[1,1,512]", 1.0)])
def test_elsewhere_the_gpus_of_the_driver_are_its_own(master: str, each: float) -> None:
    assert gpus_of_driver(session(master, "a"), each) is None


def test_driver_without_gpus_has_none_to_share() -> None:
    assert gpus_of_driver(session("local[2]"), 1.0) == DriverGpus((), 1.0)
