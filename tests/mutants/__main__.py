"""`make mutants`: breaks one stated invariant at a time and says which test catches it.

    python -m tests.mutants                       # all of them, two at a time
    python -m tests.mutants --only "staleness"    # those whose name holds this
    python -m tests.mutants --list
    python -m tests.mutants --scenarios           # what the schedules alone catch, without the units

Each mutant is a change of a few characters (`table.MUTANTS`), made in a copy of the tree. The fast tests then run against
the copy, units first, up to the first failure; a test that runs out of time counts as one that fails. A mutant that no test
catches is a promise that nothing checks: the exit status is 1.
"""
# ruff: noqa: T201 - a command-line program prints

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]

#: What the tests need of the tree.
_PARTS = ("sparkps", "tests", "benchmarks", "conf", "jobs", "scripts", "pyproject.toml", "Makefile")

#: Tests to run, and their time limit in seconds.
Step = tuple[tuple[str, ...], float]

UNITS: Step = (("tests/unit/wire", "tests/unit/client", "tests/unit/ps_nodes", "tests/unit/checkpoints", "tests/unit/driver_bridge"), 900.0)
SCENARIOS: Step = (("tests/scenarios",), 1200.0)

#: Mutants under test at once.
AT_ONCE = 2

#: What is to be cleared away if this program is ended: leaders of the process groups of tests, and copies of the tree.
_running: set[int] = set()
_copies: set[Path] = set()


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant."""

    #: The test that failed; None: the mutant survived.
    caught_by: str | None
    seconds: float
    #: The end of what the tests printed.
    output: str = ""


def mutated(mutant: Mutant) -> str:
    """The text of the mutant's file with its change.

    Raises
    ------
    SystemExit
        The text to be changed is not there exactly once: the table must be brought up to date.
    """
    text = (ROOT / mutant.file).read_text()
    count = text.count(mutant.old)
    if count != 1:
        raise SystemExit(
            f"The text that mutant {mutant.name!r} changes must occur once in {mutant.file}. It occurs {count} times:\n{mutant.old}"
        )
    if mutant.new == mutant.old:
        raise SystemExit(f"Mutant {mutant.name!r} must change something.")
    return text.replace(mutant.old, mutant.new)


@contextmanager
def copy_of_tree(mutant: Mutant | None) -> Iterator[Path]:
    """A copy of the tree, with the mutant's change."""
    with tempfile.TemporaryDirectory(prefix="sparkps-mutant-") as directory:
        copy = Path(directory)
        _copies.add(copy)
        for part in _PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy2(source, copy / part)
        if mutant is not None:
            (copy / mutant.file).write_text(mutated(mutant))
        yield copy


def judged(mutant: Mutant | None, steps: Sequence[Step]) -> Verdict:
    """Run the tests against a mutant, or without one against the tree as it is."""
    began = time.monotonic()
    with copy_of_tree(mutant) as copy:
        for paths, limit in steps:
            caught, output = _failure(copy, _nearest_first(paths, mutant), limit)
            if caught is not None:
                return Verdict(caught, time.monotonic() - began, output)
    return Verdict(None, time.monotonic() - began)


def _nearest_first(paths: tuple[str, ...], mutant: Mutant | None) -> tuple[str, ...]:
    """The tests of the mutant's own package first: most mutants are caught there."""
    package = Path(mutant.file).parent.name if mutant is not None else ""
    return tuple(sorted(paths, key=lambda path: Path(path).name != package))


def _failure(copy: Path, paths: tuple[str, ...], limit: float) -> tuple[str | None, str]:
    """The first test that fails, and the end of what was printed."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths]
    process = subprocess.Popen(
        command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    _running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return f"the time limit of {limit:.0f} s", output[-2000:]
    finally:
        _running.discard(process.pid)
    if process.returncode == 0:
        return None, ""
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
    if found is None and process.returncode == 1:
        found = re.search(r"^(tests/\S+)", output, re.MULTILINE)
    return found[1] if found else f"pytest's exit status {process.returncode}", output[-2000:]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutants whose name holds this")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--trust", action="store_true", help="do not run the tests without a mutant first")
    parser.add_argument("--scenarios", action="store_true", help="run no units: what the schedules alone catch")
    args = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if args.only in mutant.name]
    for mutant in MUTANTS:
        mutated(mutant)
    if args.list:
        for mutant in chosen:
            print(f"{mutant.name}  ({mutant.file})")
        return 0
    steps = [SCENARIOS] if args.scenarios else [UNITS, SCENARIOS]
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    if not args.trust and not _sound(steps):
        return 1
    return _report(chosen, steps)


def _end(*_: object) -> None:
    """Leave no test behind."""
    for leader in list(_running):
        os.killpg(leader, signal.SIGKILL)
    for copy in list(_copies):
        shutil.rmtree(copy, ignore_errors=True)
    os._exit(130)


def _sound(steps: Sequence[Step]) -> bool:
    """Whether the tests pass without a mutant: else they would catch anything."""
    verdict = judged(None, steps)
    if verdict.caught_by is None:
        print(f"without a mutant all tests pass ({verdict.seconds:.0f} s)", flush=True)
        return True
    print(f"{verdict.output}\nThe tests must pass without a mutant. {verdict.caught_by} fails.")
    return False


def _report(mutants: Sequence[Mutant], steps: Sequence[Step]) -> int:
    survivors = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(judged, mutant, steps): mutant for mutant in mutants}
        for done in as_completed(running):
            mutant, verdict = running[done], done.result()
            if verdict.caught_by is None:
                survivors.append(mutant.name)
                print(f"SURVIVES  {mutant.name} ({verdict.seconds:.0f} s)", flush=True)
            else:
                print(f"caught    {mutant.name}: {verdict.caught_by} ({verdict.seconds:.0f} s)", flush=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants were caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
