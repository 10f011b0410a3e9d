"""Compiled kernels are kept on disk: a second process compiles nothing, an edit never meets stale code."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from numba import types

from sparkps.kernels import ahead, compiled, places
from sparkps.kernels.compiled import array, given, kernel

SECOND_PROCESS = """
import sys
import numba
from numba.core import compiler
def refuse(*args, **kwargs):
    raise AssertionError("compiled instead of loaded")
from sparkps.kernels import compiled, rows, updates
compiled.use_cache_dir(sys.argv[1])
compiler.compile_extra = refuse
compiler.CompilerBase.compile_extra = refuse
rows.all_finite.of("float32")
updates.UPDATES["sgd"].of("float32")
print("loaded")
"""

EVERY_KERNEL = """
import sys
import numpy as np
from sparkps.kernels import ahead
for dtype in ("float32", "float64"):
    ahead.load_kept(dtype, *sys.argv[1:])
from sparkps.kernels.partition import partition
print(len(partition(np.array([5, 7, 5]), np.arange(256, dtype=np.int32)).keys), "scipy.linalg" in sys.modules)
"""


@kernel(lambda t: (given(t), array(t)), dtypes=compiled.FLOATS)
def _double(values, out):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        out[i] = 2 * values[i]


def use(monkeypatch: pytest.MonkeyPatch, directory: pathlib.Path) -> None:
    """Keep kernels in `directory` until the end of the test."""
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    compiled.use_cache_dir(directory)


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    use(monkeypatch, tmp_path / "kernels")
    return tmp_path / "kernels"


def test_a_read_only_array_and_a_writeable_one_share_one_signature() -> None:
    values = np.arange(4.0)
    out = np.empty(4)
    ready = _double.of("float64")
    ready(values, out)
    values.flags.writeable = False
    ready(values, out)
    assert out.tolist() == [0, 2, 4, 6]
    assert len(ready.signatures) == 1  # type: ignore[attr-defined]


def test_wrong_dtype_is_refused() -> None:
    with pytest.raises(TypeError):
        _double.of("float64")(np.arange(4, dtype=np.int32), np.empty(4))


def test_second_process_loads_what_the_first_compiled(cache: pathlib.Path) -> None:
    from sparkps.kernels import rows, updates

    for each, dtype in ((rows.all_finite, "float32"), (updates.UPDATES["sgd"], "float32")):
        dispatcher = compiled._dispatcher(each.python, declared=True)
        dispatcher.compile(dict(each.signatures())[dtype])
    assert len(list(cache.glob("*.kernel"))) == 2
    made = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS, str(cache)], capture_output=True, text=True, check=False
    )
    assert made.stdout == "loaded\n", made.stderr


def test_every_kernel_is_loaded_without_what_only_compiling_needs() -> None:
    owners = ahead.TIER, "sparkps.mllib.data.kernels", "sparkps.mllib.linear"
    ahead.warm(*owners)
    made = subprocess.run([sys.executable, "-c", EVERY_KERNEL, *owners], capture_output=True, text=True, check=False)
    assert made.stdout == "2 False\n", made.stderr


def test_a_damaged_cache_file_is_compiled_again(cache: pathlib.Path) -> None:
    compiled._dispatcher(_double.python, declared=True).compile(dict(_double.signatures())["float32"])
    (file,) = cache.glob("*.kernel")
    file.write_bytes(b"damaged")
    dispatcher = compiled._dispatcher(_double.python, declared=True)
    dispatcher.compile(dict(_double.signatures())["float32"])
    out = np.empty(2, np.float32)
    dispatcher(np.ones(2, np.float32), out)
    assert out.tolist() == [2, 2]


def test_an_unwritable_cache_directory_costs_the_cache_only(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("not a directory")
    use(monkeypatch, file / "kernels")
    dispatcher = compiled._dispatcher(_double.python, declared=True)
    dispatcher.compile((types.Array(types.float32, 1, "C"), types.Array(types.float32, 1, "C")))
    assert dispatcher.signatures


def test_a_kernel_that_there_is_no_memory_for_is_refused() -> None:
    """LLVM would end the process."""
    code = """
import resource, psutil
from sparkps.kernels import compiled, rows
rows.gather.of("float32")
now = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (now + (4 << 20), now + (4 << 20)))
try:
    rows.scatter.of("float32")
except MemoryError as error:
    print(error)
"""
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.stdout.startswith("There must be 16 MiB of memory to load the kernel 'scatter'. There are not:"), made.stderr
