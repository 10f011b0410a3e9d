"""Kernels belong to their owners, and can be compiled and loaded before they are called."""

from __future__ import annotations

import pathlib
from typing import Literal

import pytest

from sparkps.kernels import ahead, compiled, places
from sparkps.kernels.compiled import array, given, kernel
from sparkps.ps_nodes.tables.directory import KERNELS, Tables, load_ahead
from sparkps.specs import TableSpec

OWNER = __name__


@kernel(lambda t: (given(t), array(t)), dtypes=compiled.FLOATS)
def _halved(values, out):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        out[i] = values[i] / 2


def test_warm_tells_what_it_compiles_and_then_is_warm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    compiled.use_cache_dir(tmp_path / "kernels")
    told: list[tuple[int, int, str]] = []
    assert not ahead.is_warm(OWNER)
    assert ahead.warm(OWNER, progress=lambda *args: told.append(args)) == 1
    assert told == [(0, 1, "_halved")]
    assert ahead.is_warm(OWNER)
    assert ahead.warm(OWNER) == 0


def test_the_tier_owns_what_nodes_and_clients_call_and_no_estimators_kernels() -> None:
    of_tier = {each.module for each in ahead.kernels_of(ahead.TIER)}
    of_all = {each.module for each in ahead.kernels_of(ahead.EVERYTHING)}
    assert {"sparkps.kernels.lookup", "sparkps.kernels.partition", "sparkps.kernels.updates"} <= of_tier
    assert all(name.startswith("sparkps.kernels.") for name in of_tier)
    assert "sparkps.mllib.data.kernels" in of_all - of_tier
    assert OWNER not in of_all, "what others declare is theirs"


def test_a_module_that_is_not_there_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError):
        ahead.is_warm("sparkps.nowhere")


def test_what_lacks_an_extra_is_left_out(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has all extras: greenlet is for simulations, torch for deep models."""
    package = tmp_path / "kernels_with_extras"
    (package / "simulated").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "plain.py").write_text(f"from {__name__} import _halved\n")
    (package / "simulated" / "__init__.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert ahead._modules("kernels_with_extras") == {"kernels_with_extras", "kernels_with_extras.plain"}
    with pytest.raises(ModuleNotFoundError):
        ahead._modules("kernels_with_extras.simulated")


@pytest.mark.parametrize("dtype", compiled.FLOATS)
@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_a_node_with_a_table_has_loaded_all_that_the_table_calls(
    kind: Literal["sparse", "dense"], dtype: Literal["float32", "float64"]
) -> None:
    """Later there may be no memory for it."""
    ahead.warm(*KERNELS)
    loading = {(each.__name__, each.module): each._ready for each in ahead.kernels_of(*KERNELS)}
    for ready in loading.values():
        ready.clear()
    Tables(range(256)).create(TableSpec("t", kind, 1, dtype, shape=(4,) if kind == "dense" else (), table=1, index=1))
    assert len(loading) >= 19
    assert all({"", dtype} & set(ready) for ready in loading.values())


def test_only_what_is_kept_is_loaded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To compile takes seconds, in which a node would be silent."""
    for name in ("_given", "_told", "_found"):
        monkeypatch.setattr(places, name, None)
    compiled.use_cache_dir(tmp_path / "kernels")
    (halved,) = ahead.kernels_of(OWNER)
    halved._ready.clear()
    ahead.load_kept("float32", OWNER)
    assert not halved._ready
    ahead.warm(OWNER)
    halved._ready.clear()
    ahead.load_kept("float32", OWNER)
    assert set(halved._ready) == {"float32"}


def test_what_is_loaded_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look reads and checks a file, and a training makes thirty tables."""
    ahead.warm(*KERNELS)
    ahead.load_kept("float64", *KERNELS)
    monkeypatch.setattr(compiled.Kernel, "is_cached", lambda self: pytest.fail(f"{self.__name__} is looked for"))
    ahead.load_kept("float64", *KERNELS)


def test_a_node_loads_what_its_tables_call_while_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead.warm(*KERNELS)
    loading = ahead.kernels_of(*KERNELS)
    for each in loading:
        monkeypatch.setattr(each, "_ready", {})
    load_ahead()
    assert all(set(each._ready) & {"", "float32"} and each.is_ready(("", "float32", "float64")) for each in loading)


def test_a_node_without_room_for_them_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def full(dtype: str, *owners: str) -> None:
        asked.append(dtype)
        raise MemoryError("no room")

    monkeypatch.setattr(ahead, "load_kept", full)
    load_ahead()
    assert asked == ["float32"]
