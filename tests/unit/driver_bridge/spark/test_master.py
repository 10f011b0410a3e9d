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


def test_no_other_module_judges_a_master_by_its_name() -> None:
    own = PACKAGE / "driver_bridge" / "spark" / "master.py"
    others = [path for path in PACKAGE.rglob("*.py") if path != own]
    judging = [path.name for path in others if 'startswith("local' in path.read_text() or r'r"local' in path.read_text()]
    assert judging == []
