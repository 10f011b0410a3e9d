"""The table of mutants fits the code: what it would change is there, once."""

from __future__ import annotations

import pytest

from tests.mutants.__main__ import mutated
from tests.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_has_a_place(mutant: Mutant) -> None:
    assert mutated(mutant)


def test_names_are_distinct() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
