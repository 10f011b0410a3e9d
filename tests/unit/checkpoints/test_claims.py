"""A directory of checkpoints is one tier's at a time, and whoever is gone holds it no longer."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from sparkps.checkpoints import claims
from sparkps.checkpoints.claims import Claim, Holder
from sparkps.checkpoints.store import CheckpointStore
from sparkps.errors import CheckpointError
from sparkps.lifeline import name_of, this_process
from tests.harness.waiting import wait_until


@pytest.fixture
def store(tmp_path: pathlib.Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path))


def left(store: CheckpointStore, **fields: object) -> None:
    """A claim that somebody has written."""
    holder = Holder(**{"claim": "abc", "host": "far", "process": "", "renewed": time.time(), **fields})  # type: ignore[arg-type]
    store.files.write("abc-1.claim", [json.dumps(asdict(holder)).encode()])


def files(store: CheckpointStore) -> list[str]:
    return [entry.name for entry in store.files.entries() if entry.name.endswith(".claim")]


def test_one_has_it_and_the_next_one_when_that_has_ended(store: CheckpointStore) -> None:
    with Claim(store) as claim:
        claim.check()
        with pytest.raises(CheckpointError, match="must be one tier's alone"), Claim(store):
            pass
        claim.check()
        assert len(files(store)) == 1, "whoever was refused leaves nothing"
    assert files(store) == []
    with Claim(store):
        pass


def test_of_many_at_once_one_at_most_has_it(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second writes its claim between the two looks of the first."""
    first, second = Claim(store), Claim(store)
    renew = first._renew

    def late() -> None:
        second._renew()
        renew()

    monkeypatch.setattr(first, "_renew", late)
    with pytest.raises(CheckpointError), first:
        pass
    with pytest.raises(CheckpointError):
        second._name = ""
        with Claim(store):
            pass


def test_a_claim_of_a_process_that_is_gone_is_void_at_once(store: CheckpointStore) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        left(store, process=name_of(process.pid))
        with pytest.raises(CheckpointError), Claim(store):
            pass
        process.kill()
        process.wait()
    with Claim(store):
        assert len(files(store)) == 1


def test_a_claim_of_another_host_is_void_when_it_was_not_renewed_for_long(store: CheckpointStore) -> None:
    left(store, renewed=time.time() - claims.VOID_AFTER + 20)
    with pytest.raises(CheckpointError, match="on host far, which was there"), Claim(store):
        pass
    store.files.delete("abc-1.claim")
    left(store, renewed=time.time() - claims.VOID_AFTER - 1)
    with Claim(store):
        pass


def test_it_is_renewed(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_EVERY", 0.01)
    with Claim(store) as claim:
        before = files(store)
        assert wait_until(lambda: files(store) not in ([], before) and len(files(store)) == 1, 10)
        claim.check()


def test_whoever_stood_still_for_long_knows_that_another_one_has_it(store: CheckpointStore) -> None:
    with Claim(store) as claim:
        left(store, process=this_process())
        with pytest.raises(CheckpointError, match="must be one tier's alone"):
            claim.check()


def test_what_is_no_claim_stops_nobody(store: CheckpointStore) -> None:
    for number, content in enumerate((b"", b"{}", b"[]", b"\xff", json.dumps({"claim": 1}).encode())):
        store.files.write(f"x{number}.claim", [content])
    with Claim(store) as claim:
        claim.check()
    assert os.getpid()
