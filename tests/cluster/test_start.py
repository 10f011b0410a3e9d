"""A tier starts, or says why not, with a home, a temporary directory and a kernel cache of every kind."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from sparkps.kernels import ahead, compiled, places, rows, updates
from tests.harness.processes import DriverProgram

#: Starts a tier of one node, uses it, and says where its kernels are; `EDIT` runs between start and use.
START = """
import logging, pathlib, tempfile
import numpy as np
from sparkps.config import Settings
from sparkps.errors import SparkPSError
from sparkps.driver_bridge.launchers import local
warnings = []
class Listen(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())
logging.getLogger("sparkps").addHandler(Listen())
try:
    tier = local.launch(Settings(num_nodes=1, **SETTINGS))
except SparkPSError as error:
    say(error=type(error).__name__, message=str(error))
    sys.exit()
from sparkps.client.session import connect, disconnect
from sparkps.client.tables import SparseTable
from sparkps.driver_bridge.table_specs import sparse_spec
from sparkps.initializers import Zeros
from sparkps.kernels import places
from sparkps.optim import SGD
from sparkps.wire.messages.control import CreateTable
EDIT
table = SparseTable(tier.address, tier.control.request(CreateTable(0, sparse_spec("t", 1, "float32", Zeros(), SGD(1.0), 0, ""))).spec)
table.add([7], [[1.5]])
table.push([8], [[0.0]])
pulled = np.asarray(table.pull([7, 8])).tolist()
told = connect(tier.address)
say(pulled=pulled, kept=ascii(str(places.found().kept_in)), searched=[ascii(str(p)) for p in places.searched()],
    directory=str(tier.directory), warnings=[ascii(w) for w in warnings])
disconnect(tier.address)
tier.stop()
"""

def start(settings: dict[str, object] | None = None, edit: str = "", **environment: str) -> dict[str, object]:
    """What a driver program says of its tier."""
    program = START.replace("SETTINGS", repr(settings or {})).replace("EDIT", edit)
    with DriverProgram(program, **environment) as driver:
        said = driver.hear()
        driver.wait()
    return said


@pytest.fixture
def temporary() -> Iterator[pathlib.Path]:
    """A temporary directory with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as name:
        yield pathlib.Path(name)


@pytest.fixture
def no_home(temporary: pathlib.Path) -> dict[str, str]:
    """Environment of a user whose home takes nothing."""
    (temporary / "home").write_text("not a directory")
    return {
        "HOME": str(temporary / "home"),
        "XDG_CACHE_HOME": "",
        "SPARKPS_KERNEL_CACHE_DIR": "",
        "TMPDIR": str(temporary),
    }


def files_of(each: compiled.Kernel) -> list[str]:
    """Names of the files of one kernel."""
    return [compiled._DiskCache(each.python).name(signature) for _, signature in each.signatures()]


def warm_copy(directory: pathlib.Path) -> pathlib.Path:
    """All kernels of this machine, in a directory of this user alone."""
    ahead.warm(ahead.TIER)
    directory.mkdir(mode=0o700)
    for name in (name for each in ahead.kernels_of(ahead.TIER) for name in files_of(each)):
        for place in places.searched():
            if (place / name).exists():
                shutil.copy(place / name, directory)
    return directory


def test_without_a_home_kernels_are_kept_once_for_all_processes(temporary: pathlib.Path, no_home: dict[str, str]) -> None:
    private = warm_copy(temporary / f"sparkps-kernels-{os.geteuid()}")
    lost = private / files_of(rows.all_finite)[0]
    lost.unlink()
    first = start(**no_home)
    assert first["kept"] == repr(str(private))
    assert any(str(private) in warning and "compiles its kernels" in warning for warning in first["warnings"])
    assert any("Not a directory" in warning for warning in first["warnings"]), "why they are not in the user's cache"
    assert lost.exists()
    again = start(**no_home)
    assert again["warnings"] == []
    assert again["pulled"] == [[1.5], [0.0]]


def test_nodes_and_clients_keep_kernels_where_the_driver_does(temporary: pathlib.Path, no_home: dict[str, str]) -> None:
    private = warm_copy(temporary / f"sparkps-kernels-{os.geteuid()}")
    of_nodes = files_of(updates.UPDATES["sgd"])  # not loaded before a push needs it
    said = start(edit=f"for name in {of_nodes!r}: (pathlib.Path({str(private)!r}) / name).unlink()", **no_home)
    assert said["searched"][0] == repr(str(private))
    assert any((private / name).exists() for name in of_nodes), "the node has compiled it, and kept it there"


@pytest.mark.parametrize("by_setting", [True, False])
def test_a_cache_directory_that_was_asked_for_and_cannot_be_made_is_an_error(
    temporary: pathlib.Path, no_home: dict[str, str], by_setting: bool
) -> None:
    asked = str(temporary / "home" / "below")
    said = (
        start({"kernel_cache_dir": asked}, **no_home)
        if by_setting
        else start(**{**no_home, "SPARKPS_KERNEL_CACHE_DIR": asked})
    )
    assert said["error"] == "ConfigError"
    for part in ("`spark.sparkps.kernelCacheDir`", "SPARKPS_KERNEL_CACHE_DIR", asked, "Not a directory"):
        assert part in said["message"]
    assert [path.name for path in temporary.iterdir()] == ["home"], "nothing of the tier stays behind"


def test_a_temporary_directory_that_is_no_text_starts_a_tier(temporary: pathlib.Path) -> None:
    bad = temporary / os.fsdecode(b"bad\xff")
    bad.mkdir()
    said = start(TMPDIR=str(bad))
    assert said["pulled"] == [[1.5], [0.0]]
    assert pathlib.Path(str(said["directory"])).parent == pathlib.Path("/tmp")
    assert any("not UTF-8" in warning for warning in said["warnings"])
    assert not list(bad.iterdir())


def test_a_temporary_directory_that_is_no_text_keeps_kernels(temporary: pathlib.Path, no_home: dict[str, str]) -> None:
    bad = temporary / os.fsdecode(b"bad\xff")
    bad.mkdir()
    private = warm_copy(bad / f"sparkps-kernels-{os.geteuid()}")
    said = start(**{**no_home, "TMPDIR": str(bad)})
    assert said["pulled"] == [[1.5], [0.0]]
    assert said["kept"] == ascii(str(private))
    assert not any("compiles its kernels" in warning for warning in said["warnings"])


def test_a_full_disk_is_named_when_a_tier_cannot_start(temporary: pathlib.Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))\n"
    with DriverProgram(limit + START.replace("SETTINGS", "{}").replace("EDIT", ""), TMPDIR=str(temporary)) as driver:
        said = driver.hear()
        driver.wait()
    assert said["error"] == "ConfigError"
    assert "File too large" in said["message"]
    assert str(temporary) in said["message"]
    assert "Set TMPDIR" in said["message"]


def test_a_disk_that_fills_while_a_tier_starts_is_named(temporary: pathlib.Path) -> None:
    """The directory had room when it was made, and has none for the logs."""
    fill = (
        "import resource\nfrom sparkps.driver_bridge.launchers import launched\nmake = launched.socket_directory\n"
        "def fill():\n    made = make()\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n    return made\n"
        "launched.socket_directory = fill\n"
    )
    with DriverProgram(fill + START.replace("SETTINGS", "{}").replace("EDIT", ""), TMPDIR=str(temporary)) as driver:
        said = driver.hear()
        driver.wait()
    assert said["error"] == "TierError"
    for part in ("log cannot be written", "File too large", str(temporary), "set TMPDIR"):
        assert part in said["message"]
    assert "is empty" not in json.dumps(said)
    assert not list(temporary.iterdir())
