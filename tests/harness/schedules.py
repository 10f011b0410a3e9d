# ruff: noqa: T201 - a command-line program prints
"""Schedules by seed: one seed is one scenario, one network and all that goes wrong, bit for bit.

::

    python -m tests.harness.schedules --count 1000000 --seed 7     # seeds 7, 8, 9 ...; stops at the first that breaks a promise
    python -m tests.harness.schedules --replay 4711                # one of them, with the trace of its messages
    python -m tests.harness.schedules --replicas --count 1000      # with replicas: nodes are killed, stopped and cut off, buckets move
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

from sparkps.kernels.ahead import TIER, warm
from sparkps.specs import UNBOUNDED
from sparkps.testing.simulation.fates import Drawn, Weather
from sparkps.testing.simulation.seams import Sizes, determined
from tests.harness.scenario import Group, Scenario, universe
from tests.harness.world import Faults, World

#: Seeds that one process takes at a time.
BATCH = 100

#: Objects after which the garbage of worlds that have ended is looked for: some tens of schedules.
GARBAGE = 50_000


@dataclass(frozen=True)
class Schedule:
    """Everything that a seed stands for."""

    seed: int
    scenario: Scenario
    weather: Weather
    faults: Faults

    def world(self, traced: bool = False) -> World:
        """The schedule, ready to run (inside `determined`)."""
        rng = random.Random(f"events {self.seed}")
        fates = Drawn(random.Random(f"fates {self.seed}"), self.weather)
        return World(self.scenario, fates, self.faults, rng, traced)

    def determined(self) -> AbstractContextManager[None]:
        """What must hold while the schedule is made and runs."""
        return determined(self.seed, self.faults.sizes, universe(self.scenario).buckets)

    def run(self, traced: bool = False) -> World:
        """Run it; an AssertionError names the promise that broke."""
        with self.determined():
            world = self.world(traced)
            world.run()
        return world


def drawn(seed: int) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(f"schedule {seed}")
    idle = rng.random() < 0.12
    return Schedule(seed, _scenario(rng), _weather(rng, idle), _faults(rng, idle))


def drawn_with_replicas(seed: int) -> Schedule:
    """The schedule of a seed, with replicas and what they are for; its numbers are others than those without."""
    base, rng = drawn(seed), random.Random(f"replicas {seed}")
    nodes = rng.choice([2, 3, 3, 4])
    # A reader may see what is not acknowledged yet, and miss it after a failover: none looks on.
    scenario = replace(base.scenario, nodes=nodes, replication=2, readers=0)
    hurt = {
        "kills": rng.choice([0, 1, 2]) if nodes > 2 else 0,
        "stops": rng.choice([0, 0, 1]),
        "cuts": rng.choice([0, 0, 1]),
    }
    faults = replace(base.faults, epochs=0, silence=0.0, **hurt)
    if rng.random() < 0.3:
        scenario = replace(scenario, writers=1, burst=rng.choice([2, 3, 5]))
    # Slower networks than deadlines allow for would have copies given up all the time.
    weather = replace(base.weather, delay=min(base.weather.delay, 0.05))
    faults = replace(faults, ends=rng.choice([None, 0.0, 0.5, 3.0]), drains=rng.choice([0, 1, 2]) if nodes > 2 else 0)
    if nodes > 2 and rng.random() < 0.3:  # buckets without copies may move, but nothing may be lost
        scenario, faults = replace(scenario, replication=1, moves=True), replace(faults, kills=0, stops=0, cuts=0, drains=nodes - 1)
    return Schedule(seed, scenario, weather, faults)


def _group(rng: random.Random) -> Group:
    ranks = rng.choice([1, 1, 2, 2, 2, 3])
    blind = rng.random() < 0.25
    most = 4 if blind else rng.choice([1, 1, 2, 2, 3])
    return Group(
        staleness=rng.choice([0, 0, 0, 1, 2, UNBOUNDED]),
        clocks=tuple(rng.randint(1, most) for _ in range(ranks)),
        pushes=rng.choice([1, 1, 1, 2]),
        parts=rng.randint(1, 3),
        keysets=rng.random() < 0.25,
        together=rng.random() < 0.5,
        hasty=rng.random() < 0.7,
        peeks=rng.random() < 0.15,
        blind=blind,
        late_pulls=rng.random() < 0.1,
        ticks_last=rng.random() < 0.5,
        calls=rng.random() < 0.15,
    )


def _scenario(rng: random.Random) -> Scenario:
    return Scenario(
        nodes=rng.choice([1, 1, 2, 2, 2, 3]),
        groups=tuple(_group(rng) for _ in range(rng.choice([1] * 9 + [2]))),
        dense=rng.random() < 0.2,
        writers=rng.choice([0, 0, 0, 1]),
        readers=rng.choice([0] * 7 + [1]),
        churn=rng.random() < 0.05,
    )


def _weather(rng: random.Random, idle: bool) -> Weather:
    rough = rng.random() < 0.7
    return Weather(
        loss=rng.choice([0.0, 0.03, 0.03, 0.03] if idle else [0.0, 0.03, 0.1, 0.25]) if rough else 0.0,
        repeat=rng.choice([0.0, 0.05, 0.2]) if rough else 0.0,
        stray=rng.choice([0.0, 0.0, 0.1, 0.5]) if rough else 0.0,
        straggle=rng.choice([0.0, 0.0, 0.05]) if rough else 0.0,
        delay=rng.choice([0.005, 0.05, 0.5]),
    )


def _faults(rng: random.Random, idle: bool) -> Faults:
    """What goes wrong. `idle`: programs compute for longer than nodes remember their sessions, and than a call may take.

    Nodes forget a session either when it was silent for too long, or because there are too many.
    """
    until = rng.choice([0.5, 3.0, 10.0])
    crowded = idle and rng.random() < 0.5
    return Faults(
        breaks=rng.choice([0, 0, 1, 3]),
        crashes=rng.choice([0, 1, 1, 2, 4]),
        lost_writers=rng.choice([0, 0, 1]),
        until=until,
        lease=rng.choice([0.0, 0.5, 5.0]),
        naps=0.2 if idle else rng.choice([0.0, 0.1, 0.3]),
        longest_nap=rng.choice([60.0, 200.0]) if idle else 3.0,
        session_ttl=20.0 if idle and not crowded else 3600.0,
        silence=35.0 if rng.random() < 0.06 else 0.0,
        failure=rng.uniform(0, until) if rng.random() < 0.05 else None,
        sizes=Sizes(rng.choice([None, 0, 64]), rng.choice([None, 0]), *((0, 5.0) if crowded else (None, None))),
        chunk_bytes=rng.choice([None, None, 40]),
        credit_bytes=rng.choice([None, None, 48, 200]),
        buffer_bytes=rng.choice([None, None, 2000]),
        waiting_bytes=rng.choice([None, None, 300]),
        epochs=rng.choice([0, 0, 0, 1, 2]),
    )


def prepare() -> None:
    """Load the kernels, and keep the garbage collector off what stays."""
    warm(TIER)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)


def failure_of(seed: int, replicas: bool = False) -> str | None:
    """Which promise a seed breaks, if it does."""
    try:
        (drawn_with_replicas if replicas else drawn)(seed).run()
    except AssertionError as error:
        return str(error) or repr(error)
    except Exception as error:  # of the node itself, past all that tells a client: the seed must be known all the same
        return repr(error)
    return None


def first_failure(seeds: range, replicas: bool = False) -> tuple[int, str] | None:
    """The first of some seeds that breaks a promise."""
    for seed in seeds:
        broken = failure_of(seed, replicas)
        if broken is not None:
            return seed, broken
    return None


def batches_of(seeds: range, size: int = BATCH) -> list[range]:
    """Seeds in batches of which a process takes one at a time."""
    return [range(at, min(at + size, seeds.stop)) for at in range(seeds.start, seeds.stop, size)]


def told(seed: int, broken: str, replicas: bool = False) -> str:
    """A failure in words, with the way to see it again."""
    how = f"{'--replicas ' if replicas else ''}--replay {seed}"
    return f"seed {seed} breaks a promise: {broken}\nreplay it with: python -m tests.harness.schedules {how}"


@contextmanager
def ready_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that run schedules, all of them started."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=prepare) as pool:
        try:
            list(pool.map(first_failure, [range(0)] * processes))
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def failures(seeds: range, processes: int, replicas: bool = False) -> Iterator[tuple[int, tuple[int, str] | None]]:
    """Runs seeds in batches: after each, how many have run, and the first failure of the batch."""
    batches = batches_of(seeds)
    with ready_pool(processes) as pool:
        for batch, found in zip(batches, pool.map(partial(first_failure, replicas=replicas), batches), strict=True):
            yield batch.stop - seeds.start, found


def fingerprint(seeds: range) -> int:
    """A number that stands for the traces of some seeds."""
    code = 0
    for seed in seeds:
        for line in drawn(seed).run(traced=True).wires.trace or []:
            code = zlib.crc32(line.encode(), code)
    return code


def replay(seed: int, replicas: bool = False) -> int:
    """Run one seed and print what happened; the exit status."""
    schedule = (drawn_with_replicas if replicas else drawn)(seed)
    print(schedule)
    with schedule.determined():
        world = schedule.world(traced=True)
        broken = None
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
    parser.add_argument("--count", type=int, default=10_000, help="schedules to run")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", type=int, metavar="SEED", help="run this one and print its messages")
    parser.add_argument("--replicas", action="store_true", help="schedules with replicas")
    parser.add_argument("--fingerprint", action="store_true", help="print a number that stands for all their messages")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.count)
    if args.replay is not None or args.fingerprint:
        prepare()
        if args.replay is not None:
            return replay(args.replay, args.replicas)
        print(fingerprint(seeds))
        return 0
    return search(seeds, args.processes, args.replicas)


def search(seeds: range, processes: int, replicas: bool = False) -> int:
    """Run seeds up to the first that breaks a promise, and say how it goes; the exit status."""
    began = last = time.monotonic()
    for done, found in failures(seeds, processes, replicas):
        now = time.monotonic()
        if found is not None:
            print(told(*found, replicas))
            return 1
        if now - last > 10 or done == len(seeds):
            last = now
            print(f"{done} of {len(seeds)} schedules kept every promise, {done / (now - began):.0f} a second", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
