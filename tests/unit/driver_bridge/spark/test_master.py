"""Where the tasks of a master run."""

from __future__ import annotations

import pathlib

import pytest

from sparkps.driver_bridge.spark.master import Master

PACKAGE = pathlib.Path(__file__).resolve().parents[4] / "sparkps"


@pytest.mark.parametrize(
    ("name", "in_driver", "on_this_host", "cores"),
    [
        ("local", True, True, 1),
        ("local[*]", True, True, 8),
        ("local[4,2]", True, True, 4),
        ("local-cluster[2,3,1024]", False, True, 6),
        ("localhost", False, False, None),
        ("spark://localhost:7077", False, False, None),
        ("yarn", False, False, None),
        ("", False, False, None),
    ],
)
def test_masters(name: str, in_driver: bool, on_this_host: bool, cores: int | None) -> None:
    master = Master(name)
    assert (master.in_driver, master.on_this_host, master.cores(8)) == (in_driver, on_this_host, cores)


@pytest.mark.parametrize(
    ("name", "yarn", "kubernetes", "standalone", "accounts_memory", "workers_have_gpus", "cores_of_worker"),
    [
        ("local[*]", False, False, False, False, False, 0),
        ("local-cluster[2,3,1024]", False, False, False, False, True, 3),
        ("spark://localhost:7077", False, False, True, False, True, 0),
        ("yarn", True, False, False, True, False, 0),
        ("k8s://https://host:443", False, True, False, True, False, 0),
    ],
)
def test_managers(
    name: str, yarn: bool, kubernetes: bool, standalone: bool, accounts_memory: bool, workers_have_gpus: bool, cores_of_worker: int
) -> None:
    master = Master(name)
    assert (master.is_yarn, master.is_kubernetes, master.is_standalone) == (yarn, kubernetes, standalone)
    assert (master.accounts_memory, master.workers_have_gpus) == (accounts_memory, workers_have_gpus)
    assert master.cores_of_worker == cores_of_worker


#: How code that judges a master by its name looks.
_JUDGING = ('startswith("local', r'r"local', 'startswith("spark://', 'startswith("k8s', '== "yarn"')


def test_no_other_module_judges_a_master_by_its_name() -> None:
    own = PACKAGE / "driver_bridge" / "spark" / "master.py"
    others = [path for path in PACKAGE.rglob("*.py") if path != own]
    judging = [path.name for path in others if any(sign in path.read_text() for sign in _JUDGING)]
    assert judging == []
