"""What a name means to whom, where several owners share a tier."""

from __future__ import annotations

import pytest

from sparkps import namespaces
from sparkps.errors import ConfigError, InvalidInput
from sparkps.specs import check_table_name
from sparkps.wire.messages.control import TierAddress


@pytest.mark.parametrize(
    ("name", "owner", "meant"),
    [("w", "ann", "ann/w"), ("bob/w", "ann", "bob/w"), ("w", "", "w"), ("", "ann", ""), ("ann/w", "ann", "ann/w")],
)
def test_plain_names_are_ones_own_and_full_names_anybodys(name: str, owner: str, meant: str) -> None:
    assert namespaces.full_name(name, owner) == meant
    assert TierAddress("t", "tcp://h:1", owner=owner).full_name(name) == meant
    assert namespaces.owner_of(meant) == meant.rpartition("/")[0]


@pytest.mark.parametrize("name", ["w", "ann/w", "a.n-n_/w.1-2", "A" * 64 + "/" + "b" * 128])
def test_names_with_an_owner_are_names(name: str) -> None:
    assert check_table_name(name) == name


@pytest.mark.parametrize("name", ["/w", "ann/", "a/b/c", "../w", "ann/../w", "ann//w", "1/w", "A" * 65 + "/w", "ann/w\n", "ann w/x"])
def test_other_names_are_none(name: str) -> None:
    with pytest.raises(InvalidInput, match="A table name must start.*owner"):
        check_table_name(name)


@pytest.mark.parametrize("user", ["ann", "7of9", "CORP\\ann", "ann@corp.example", "", "ä" * 300, "-x", ".hidden"])
def test_every_user_is_an_owner(user: str) -> None:
    owner = namespaces.owner_for(user)
    assert namespaces.check_owner(owner) == owner
    assert check_table_name(f"{owner}/w")


def test_two_users_are_two_owners() -> None:
    users = ["CORP\\ann", "CORP_ann", "CORP/ann", "müller", "møller", "m_ller", "", "user", "7of9", "_7of9"]
    users += ["a" * 63, "a" * 64, "a" * 65, "a" * 65 + "b"]
    owners = [namespaces.owner_for(user) for user in users]
    assert len(set(owners)) == len(users)
    assert all(namespaces.is_owner(owner) for owner in owners)
    assert namespaces.owner_for("a" * 64) == "a" * 64, "what can be an owner is one as it is"
    assert namespaces.owner_for("m\udcfcller") != namespaces.owner_for("m_ller"), "a name that is no UTF-8"


@pytest.mark.parametrize("owner", ["", "a/b", "ann lee", "x" * 65, 7, None])
def test_an_owner_that_is_given_must_be_one(owner: object) -> None:
    with pytest.raises(ConfigError, match=r"An owner \(`spark.sparkps.owner`\) must start") as caught:
        namespaces.check_owner(owner)
    assert caught.value.key == "spark.sparkps.owner"
