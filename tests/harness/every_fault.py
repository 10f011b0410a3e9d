"""Every placement of one fault, or of two, over the messages of a small run: each run from its start.

::

    python -m tests.harness.every_fault                                  # all pairs of all small scenarios: minutes
    python -m tests.harness.every_fault --scenario bsp --replay 12:lost,30:crash

A script names messages by their number. The run is the same up to its first fault, so that the numbers of a run without faults
name what one fault may hit, and those of a run with one fault what the second may hit after it.
"""
# ruff: noqa: T201 - a command-line program prints

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from sparkps.specs import UNBOUNDED
from sparkps.testing.simulation.fates import BEFORE_SENDING, ON_THE_WAY, Fault, Scripted
from sparkps.testing.simulation.seams import Sizes, determined
from tests.harness.scenario import Group, Scenario, universe
from tests.harness.schedules import prepare, ready_pool
from tests.harness.world import Faults, World

Script = Mapping[int, Fault]
#: The messages of a run, by number: whether it went to a node, and the name of the client.
Seen = Sequence[tuple[bool, str]]

_STEP: Any = {"parts": 2, "together": True}

#: Small enough for every pair of faults.
TINY: dict[str, Scenario] = {
    "bsp": Scenario(1, (Group(0, (1,), **_STEP),), dense=False),
    "asp": Scenario(1, (Group(UNBOUNDED, (1,), **_STEP),), dense=False),
}

#: Small enough for every single fault; of pairs of faults there are tens of thousands.
SMALL: dict[str, Scenario] = {
    "bsp two clocks": Scenario(1, (Group(0, (2,), pushes=1, **_STEP),), dense=False),
    "bsp two ranks": Scenario(1, (Group(0, (1, 1), pushes=1, **_STEP),), dense=False),
    "ssp two ranks": Scenario(1, (Group(1, (1, 1), pushes=1, **_STEP),), dense=False),
    "bsp two nodes": Scenario(2, (Group(0, (1,), pushes=1, **_STEP),), dense=False),
    "asp two nodes": Scenario(2, (Group(UNBOUNDED, (1,), pushes=1, **_STEP),), dense=False),
    "bsp blind": Scenario(1, (Group(0, (2, 1), pushes=1, blind=True, **_STEP),), dense=False),
    "bsp calls": Scenario(1, (Group(0, (1,), pushes=1, calls=True, **_STEP),), dense=False),
    "asp calls": Scenario(1, (Group(UNBOUNDED, (1,), pushes=1, calls=True, **_STEP),), dense=False),
    "key sets": Scenario(1, (Group(0, (1,), pushes=1, keysets=True, **_STEP),), dense=False),
    "writer": Scenario(2, (Group(0, (1,), pushes=1, **_STEP),), dense=False, writers=1, rounds=1),
    "uneven": Scenario(2, (Group(0, (2, 1), pushes=1, together=True, peeks=True),), dense=False),
}

#: Groups of some size, for single faults.
LARGER: dict[str, Scenario] = {
    "ssp whole": Scenario(2, (Group(1, (2, 1), pushes=1, calls=True),)),
    "bsp whole": Scenario(2, (Group(0, (1, 1), together=True, keysets=True, hasty=False),)),
}

SCENARIOS = TINY | SMALL | LARGER


@dataclass
class Tally:
    """What a search has done."""

    runs: int = 0
    #: Most messages of a run.
    messages: int = 0

    def add(self, seen: Seen) -> None:
        """Count a run."""
        self.runs += 1
        self.messages = max(self.messages, len(seen))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.runs + other.runs, max(self.messages, other.messages))


def run(scenario: Scenario, script: Script, inline_bytes: int | None = None, traced: bool = False) -> World:
    """One run; its fates have `seen` its messages. Raises AssertionError where a promise breaks."""
    faults = Faults(sizes=Sizes(inline_bytes))
    with determined(0, faults.sizes, universe(scenario).buckets):
        world = World(scenario, Scripted(script), faults, traced=traced)
        world.run()
    return world


@dataclass(frozen=True)
class Search:
    """What to place: up to `faults` faults of some kinds over the messages of a scenario."""

    name: str
    faults: int
    kinds: tuple[Fault, ...] = tuple(Fault)
    inline_bytes: int | None = None

    def run(self, pool: Executor | None = None) -> Tally:
        """Run every placement, on a pool if there is one.

        Raises
        ------
        AssertionError
            A promise broke; says under which script, and how to replay it.
        """
        tally, seen = Tally(), self._seen({})
        tally.add(seen)
        firsts = [{number: fault} for number, fault in _placements(seen, {}, self.kinds)] if self.faults else []
        for found in pool.map(self.below, firsts, chunksize=8) if pool else map(self.below, firsts):
            tally += found
        return tally

    def below(self, first: Script) -> Tally:
        """Run a script, and all that it is the beginning of."""
        tally = Tally()
        stack = [dict(first)]
        while stack:
            script = stack.pop()
            seen = self._seen(script)
            tally.add(seen)
            if len(script) < self.faults:
                stack += [{**script, number: fault} for number, fault in _placements(seen, script, self.kinds)]
        return tally

    def _seen(self, script: Script) -> Seen:
        """The messages of a run."""
        try:
            fates = run(SCENARIOS[self.name], script, self.inline_bytes).wires.fates
        except AssertionError as error:
            inline = "" if self.inline_bytes is None else f" --inline-bytes {self.inline_bytes}"
            raise AssertionError(
                f"{error}\nin scenario {self.name!r} under the script {written(script)!r}; replay it with:"
                f" python -m tests.harness.every_fault --scenario {self.name!r} --replay {written(script)}{inline}"
            ) from error
        assert isinstance(fates, Scripted)
        return fates.seen


def _placements(seen: Seen, script: Script, kinds: Collection[Fault]) -> Iterator[tuple[int, Fault]]:
    """What else may go wrong after the last fault of a script."""
    for number in range(max(script, default=-1) + 1, len(seen)):
        up, client = seen[number]
        mortal = up and client.startswith("rank")
        for fault in (*ON_THE_WAY, *(BEFORE_SENDING if mortal else ())):
            if fault in kinds:
                yield number, fault


def written(script: Script) -> str:
    """A script as the command line takes it."""
    return ",".join(f"{number}:{fault.value}" for number, fault in script.items())


def parsed(text: str) -> Script:
    """A script from the command line."""
    parts = [part.split(":") for part in text.split(",") if part]
    return {int(number): Fault(fault) for number, fault in parts}


def replay(name: str, script: Script, inline_bytes: int | None) -> int:
    """Run one script and print what happened; the exit status."""
    faults = Faults(sizes=Sizes(inline_bytes))
    broken = None
    with determined(0, faults.sizes, universe(SCENARIOS[name]).buckets):
        world = World(SCENARIOS[name], Scripted(script), faults, traced=True)
        try:
            world.run()
        except AssertionError as error:
            broken = error
    for line in world.wires.trace or []:
        print(line)
    print(f"broken: {broken}" if broken else "every promise was kept")
    return 1 if broken else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=list(SCENARIOS), help="only this one")
    parser.add_argument("--faults", type=int, default=2, help="faults of a run, at most")
    parser.add_argument("--inline-bytes", type=int, help="larger requests run on the nodes' threads")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", metavar="SCRIPT", help="run this one and print its messages")
    args = parser.parse_args()
    if args.replay is not None:
        prepare()
        return replay(args.scenario, parsed(args.replay), args.inline_bytes)
    with ready_pool(args.processes) as pool:
        for name in [args.scenario] if args.scenario else SCENARIOS:
            began = time.monotonic()
            try:
                tally = Search(name, args.faults, inline_bytes=args.inline_bytes).run(pool)
            except AssertionError as error:
                print(f"{name}: {error}")
                return 1
            print(f"{name}: {tally.runs} runs in {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
