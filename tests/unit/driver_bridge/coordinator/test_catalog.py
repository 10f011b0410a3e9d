"""Tables and functions of a tier: one table a name, one index a group."""

from __future__ import annotations

import random

import msgspec
import pytest

from sparkps.config import NodeSettings
from sparkps.driver_bridge.coordinator import catalog as catalog_module
from sparkps.driver_bridge.coordinator.catalog import MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_TABLES, Catalog
from sparkps.errors import InvalidInput, TableMismatch, UnknownTable
from sparkps.optim import SGD, Adagrad
from sparkps.specs import TableSpec
from sparkps.wire.codec import encode
from sparkps.wire.messages.control import Welcome

W = TableSpec("w", "sparse", 2)


def test_a_table_is_created_once_however_often_it_is_asked_for() -> None:
    catalog = Catalog()
    spec, new = catalog.propose(W)
    again, newer = catalog.propose(W)
    assert (new, newer) == (True, False)
    assert spec == again
    assert spec.table > 0
    assert spec.index > 0


def test_a_table_is_found_when_every_node_has_it() -> None:
    catalog = Catalog()
    spec, _ = catalog.propose(W)
    with pytest.raises(UnknownTable):
        catalog.find("w")
    assert catalog.confirm(spec.table)
    assert catalog.find("w") == spec


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    catalog = Catalog()
    catalog.propose(W)
    with pytest.raises(UnknownTable, match=r"'x' must exist on the tier\. Tables there are: w"):
        catalog.find("x")


@pytest.mark.parametrize(
    "change",
    [{"dim": 3}, {"dtype": "float64"}, {"optimizer": Adagrad(0.1)}, {"seed": 1}, {"group": "g"}, {"storage": "float16"}],
)
def test_another_table_of_that_name_is_refused_by_what_differs(change: dict[str, object]) -> None:
    catalog = Catalog()
    catalog.propose(W)
    with pytest.raises(TableMismatch, match=next(iter(change))):
        catalog.propose(msgspec.structs.replace(W, **change))


@pytest.mark.parametrize("name", ["", "1w", "a b", "ä", "w;drop", "x" * 129])
def test_strange_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="must start with a letter"):
        Catalog().propose(TableSpec(name, "sparse", 1))
    with pytest.raises(InvalidInput, match="must"):
        Catalog().register("x" * 300, b"")


def test_tables_of_a_group_share_an_index_and_others_do_not() -> None:
    catalog = Catalog()
    a, _ = catalog.propose(TableSpec("a", "sparse", 1, group="g"))
    b, _ = catalog.propose(TableSpec("b", "sparse", 3, group="g"))
    c, _ = catalog.propose(TableSpec("c", "sparse", 1))
    assert a.index == b.index != c.index


def test_a_dropped_name_is_free_and_its_id_is_not() -> None:
    catalog = Catalog()
    old, _ = catalog.propose(W)
    catalog.confirm(old.table)
    assert not catalog.drop("w", old.table + 1)
    assert catalog.drop("w", old.table)
    assert not catalog.confirm(old.table), "it was dropped while it was created"
    new, is_new = catalog.propose(msgspec.structs.replace(W, optimizer=SGD(0.5)))
    assert is_new
    assert new.table > old.table
    assert new.index > old.index


def test_a_function_that_nodes_refuse_leaves_the_one_before() -> None:
    catalog = Catalog()
    assert catalog.register("f", b"1") is None
    previous = catalog.register("f", b"2")
    catalog.restore("f", previous)
    assert catalog.functions == {"f": b"1"}
    catalog.restore("f", None)
    assert not catalog.functions


@pytest.mark.parametrize("seed", range(20))
def test_random_schedules(seed: int) -> None:
    rng, catalog = random.Random(seed), Catalog()
    used: set[int] = set()
    for _ in range(200):
        name, group = rng.choice("abcd"), rng.choice(["", "g", "h"])
        match rng.randrange(3):
            case 0:
                try:
                    spec, new = catalog.propose(TableSpec(name, "sparse", rng.randint(1, 2), group=group))
                except TableMismatch:
                    continue
                assert not new or spec.table not in used
                used.add(spec.table)
            case 1 if name in catalog.tables:
                catalog.confirm(catalog.tables[name].table)
            case 2 if name in catalog.tables:
                catalog.drop(name, catalog.tables[name].table)
        catalog.validate()


@pytest.mark.parametrize("change", [{"dim": 0}, {"dim": 1 << 40}, {"shape": (1 << 62,)}, {"seed": 1 << 63}])
def test_a_table_that_cannot_be_is_refused_before_any_node_hears_of_it(change: dict[str, object]) -> None:
    catalog = Catalog()
    with pytest.raises(InvalidInput, match=next(iter(change))):
        catalog.propose(msgspec.structs.replace(W, **change))
    assert not catalog.tables


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_TABLES", 3)
    catalog = Catalog()
    for n in range(3):
        catalog.propose(TableSpec(f"w{n}", "sparse", 1))
    with pytest.raises(InvalidInput, match="at most 3 tables"):
        catalog.propose(W)
    assert not catalog.propose(TableSpec("w1", "sparse", 1))[1], "one that is there is found"


def test_functions_are_bounded_in_number_and_size() -> None:
    catalog = Catalog()
    catalog.register("large", b"x" * (MAX_FUNCTION_BYTES - 10))
    with pytest.raises(InvalidInput, match=r"at most .* bytes together"):
        catalog.register("more", b"x" * 11)
    assert catalog.register("large", b"x" * MAX_FUNCTION_BYTES) is not None, "what is replaced does not count"
    for n in range(MAX_FUNCTIONS - 1):
        catalog.register(f"f{n}", b"")
    with pytest.raises(InvalidInput, match=f"at most {MAX_FUNCTIONS} functions"):
        catalog.register("one more", b"")


def test_a_node_can_be_welcomed_to_the_fullest_tier() -> None:
    functions = [("f" * 256, b"x" * (MAX_FUNCTION_BYTES // MAX_FUNCTIONS))] * MAX_FUNCTIONS
    largest = TableSpec("x" * 128, "dense", 1, "float64", (1 << 35,) * 32, optimizer=Adagrad(0.1), seed=-(1 << 63))
    placement = [list(range(256))] * 256
    welcome = Welcome(1, 0, "tier", 1, placement, [largest] * MAX_TABLES, functions, [], NodeSettings())
    assert encode(welcome)


def test_an_unknown_table_is_refused_in_few_words() -> None:
    catalog = Catalog()
    for n in range(1000):
        catalog.propose(TableSpec(f"w{n:04}", "sparse", 1))
    with pytest.raises(UnknownTable, match="w0000, .* and 980 more") as caught:
        catalog.find("y" * 100_000)
    assert len(str(caught.value)) < 1000
