"""Random kills, stops, scalings and checkpoints under load, for half an hour; every sum must be exact, all the time.

    python -m benchmarks.soak                                          # 30 minutes of all kinds of faults, replication 2
    python -m benchmarks.soak --minutes 5 --faults worker              # workers only, replication 1
    python -m benchmarks.soak --faults node stop --every 5 --seed 7

Four workers push to keys that do not depend on what they read, round after round, under BSP, SSP and ASP in turn; so it is known
what every row must be. Meanwhile faults come at random times. A reader looks at all rows all the time: none may ever shrink, or be
larger than what was pushed. After each round all rows must be exactly what was pushed; then a checkpoint is taken, rows are spoilt,
and it is restored. The report has the faults survived, the time from each to the next push that every worker began after it and
finished, and the goodput against rounds without faults.

Exit status 1: a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import machine, session, table
from benchmarks.soak_load import WORKERS, Load, Progress, train_function

#: Kind of fault -> method of PSContext that it needs.
NEEDS = {"scale": "scale", "drain": "drain", "checkpoint": "checkpoint"}

#: Seconds that a stopped node stands still, and within which a tier must be whole, and workers push, again.
STOPPED, WHOLE_WITHIN, PUSH_WITHIN = 20.0, 120.0, 60.0

#: Seconds of a round without faults by which their speed is known, at least, and of each round with faults, about.
CALIBRATION, ROUND = 10.0, 30.0

#: Nodes between which a tier is scaled.
FEWEST, MOST = 2, 4


@dataclass(frozen=True)
class Survived:
    """One fault, and when every worker pushed again."""

    kind: str
    what: str
    at: float
    #: Seconds; None: the round was over before.
    recovery: float | None


class Faults(threading.Thread):
    """Lets things go wrong, one after the other, until it is told to end.

    Parameters
    ----------
    ps : PSContext
    progress : Progress
        Of the workers that run.
    args : argparse.Namespace
    """

    def __init__(self, ps: Any, progress: Progress, args: argparse.Namespace) -> None:
        super().__init__(name="faults", daemon=True)
        self.ps = ps
        self.progress = progress
        self.survived: list[Survived] = []
        self.error: BaseException | None = None
        self._args = args
        self._rng = np.random.default_rng(args.seed)
        self._ended = threading.Event()
        self._began = time.monotonic()
        #: What a fault that lasts has seen of that itself.
        self._recovered: float | None = None
        self._kinds: dict[str, Callable[[], str]] = {
            "node": self._kill_node,
            "stop": self._stop_node,
            "worker": self._kill_worker,
            "coordinator": self._kill_coordinator,
            "scale": self._scale,
            "drain": self._drain,
            "checkpoint": self._checkpoint,
        }

    def end(self) -> None:
        """No more faults; waits for the one that is under way."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """The thread."""
        try:
            while not self._ended.wait(self._rng.exponential(self._args.every)):
                self._one(str(self._rng.choice(self._args.faults)))
        except BaseException as error:
            self.error = error

    def _one(self, kind: str) -> None:
        if not self.progress.all_run():
            return  # between rounds
        self._wait_whole()
        at, self._recovered = time.monotonic(), None
        what = self._kinds[kind]()
        if not what:
            return
        recovery = self._recovered or self.progress.pushed_after(at, PUSH_WITHIN)
        self.survived.append(Survived(kind, what, at - self._began, recovery))
        took = "the round was over" if recovery is None else f"{recovery:.2f} s"
        print(f"{at - self._began:7.1f} s  {kind}: {what}; to the next push of every worker: {took}", flush=True)

    def _wait_whole(self) -> None:
        """Replication is restored before the next fault: two at once are another promise."""
        from sparkps.testing.processes import wait_until

        wait_until(lambda: self.ps.status()["state"] == "ready", WHOLE_WITHIN, 0.1, "a tier that is whole")

    def _some_node(self) -> int:
        from sparkps.testing.processes import nodes_up

        return int(self._rng.choice(nodes_up(self.ps)))

    def _kill_node(self) -> str:
        from sparkps.testing.processes import kill_node

        node = self._some_node()
        kill_node(self.ps, node)
        return f"killed node {node}"

    def _stop_node(self) -> str:
        from sparkps.testing.processes import stop_node

        node = self._some_node()
        with stop_node(self.ps, node):
            at = time.monotonic()
            self._recovered = self.progress.pushed_after(at, STOPPED)
            self._ended.wait(STOPPED - (time.monotonic() - at))
        return f"stopped node {node} for {STOPPED:g} s"

    def _kill_worker(self) -> str:
        from sparkps.errors import InvalidInput
        from sparkps.testing.processes import kill_worker

        rank = int(self._rng.integers(WORKERS))
        try:
            kill_worker(self.progress.pid(rank))
        except InvalidInput:  # it has come to its end by itself
            return ""
        return f"killed the worker of rank {rank}"

    def _kill_coordinator(self) -> str:
        from sparkps.testing.processes import kill_coordinator

        return f"killed the coordinator, process {kill_coordinator(self.ps).pid}"

    def _scale(self) -> str:
        nodes = int(self._rng.integers(max(FEWEST, self._args.replication), MOST + 1))
        began = time.monotonic()
        self.ps.scale(num_nodes=nodes)
        return f"scaled to {nodes} nodes in {time.monotonic() - began:.1f} s"

    def _drain(self) -> str:
        from sparkps.testing.processes import nodes_up

        up = nodes_up(self.ps)
        if len(up) <= max(FEWEST, self._args.replication):
            return ""
        node = int(self._rng.choice(up))
        self.ps.drain(node)
        return f"drained node {node}"

    def _checkpoint(self) -> str:
        written = self.ps.checkpoint(self._args.checkpoints)
        return f"checkpoint of {written.bytes / 1e6:.1f} MB in {written.seconds:.2f} s"


@dataclass
class Reader:
    """Looks at all rows all the time: none shrinks, none is larger than what is pushed in this round."""

    rows: Any
    keys: NDArray[np.int64]
    most: NDArray[np.float64]
    looks: int = 0
    errors: list[BaseException] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """While it lasts."""
        thread = threading.Thread(target=self._look, name="reader", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self) -> None:
        before = np.zeros(len(self.keys))
        try:
            while not self._ended.wait(0.5):
                now = self.rows.pull(self.keys).ravel()
                assert (now >= before).all(), f"a row has shrunk: {self.keys[now < before][:5]}"
                assert (now <= self.most).all(), f"a row is too large: {self.keys[now > self.most][:5]}"
                before = now
                self.looks += 1
        except BaseException as error:
            self.errors.append(error)


class Soak:
    """One soak; see the module."""

    def __init__(self, ps: Any, args: argparse.Namespace, directory: pathlib.Path) -> None:
        self.ps = ps
        self.args = args
        self.load = Load(args.seed, args.keys, args.batch)
        self.progress = Progress(directory / "progress", create=True)
        self.rows = ps.sparse_table("soak", dim=1, dtype="float64")
        #: What each row must be.
        self.expected = np.zeros(args.keys)
        self.rounds = self.looks = self.restores = 0

    def round(self, clocks: int) -> float:
        """Push, and check all rows; clocks of all workers a second."""
        from sparkps import ASP, BSP, SSP

        number, self.rounds = self.rounds, self.rounds + 1
        self.expected += self.load.added(number, clocks)
        self.progress.reset()
        reader = Reader(self.rows, np.arange(self.args.keys), self.expected)
        began = time.monotonic()
        with reader.looking():
            train = train_function(self.load, str(self.progress.path), number, clocks)
            df = self.ps.spark.range(WORKERS)
            self.ps.run(df, train, num_workers=WORKERS, consistency=(BSP(), SSP(3), ASP())[number % 3])
        seconds = time.monotonic() - began
        self.looks += reader.looks
        if reader.errors:
            raise reader.errors[0]
        self._check(f"round {number}")
        return WORKERS * clocks / seconds

    def _check(self, what: str) -> None:
        found = self.rows.pull(np.arange(self.args.keys)).ravel()
        wrong = np.flatnonzero(found != self.expected)
        assert not len(wrong), (
            f"after {what} {len(wrong)} rows are wrong, such as {wrong[0]}: {found[wrong[0]]}, not {self.expected[wrong[0]]}"
        )

    def turn_back(self) -> None:
        """Take a checkpoint, spoil rows, and restore it: they are as they were."""
        taken = self.ps.checkpoint(self.args.checkpoints)
        some = np.arange(0, self.args.keys, 3)
        self.rows.add(some, np.ones((len(some), 1)))
        self.ps.restore(self.args.checkpoints, id=taken.id)
        self._check(f"the restore of {taken.id}")
        self.restores += 1

    def calibrate(self) -> tuple[int, float]:
        """Clocks of a round, and clocks a second without faults."""
        clocks = 20
        self.round(clocks)  # Spark starts its workers
        while WORKERS * clocks / self.round(clocks) < CALIBRATION:
            clocks *= 3
        speeds = [self.round(clocks) for _ in range(3)]  # each consistency once
        return int(min(speeds) / WORKERS * ROUND) + 1, 3 / sum(1 / speed for speed in speeds)

    def run(self) -> dict[str, Any]:
        """Calibrate, let things go wrong until the time is over, and report."""
        clocks, undisturbed = self.calibrate()
        print(f"without faults: {undisturbed:.0f} clocks a second; rounds of {clocks} clocks", flush=True)
        faults = Faults(self.ps, self.progress, self.args)
        until, began, done = time.monotonic() + 60 * self.args.minutes, time.monotonic(), 0
        faults.start()
        speeds = []
        try:
            while time.monotonic() < until and faults.error is None:
                speeds.append(self.round(clocks))
                done += 1
                if "checkpoint" in self.args.faults:
                    self.turn_back()
        finally:
            faults.end()
        if faults.error is not None:
            raise faults.error
        goodput = done / sum(1 / speed for speed in speeds)
        return {
            "minutes": (time.monotonic() - began) / 60,
            "rounds": done,
            "looks": self.looks,
            "restores": self.restores,
            "pushes": done * clocks * WORKERS,
            "goodput": goodput / undisturbed,
            "faults": [vars(one) for one in faults.survived],
        }


def told(report: dict[str, Any]) -> str:
    """The report in words."""
    kinds: dict[str, list[float | None]] = {}
    for one in report["faults"]:
        kinds.setdefault(one["kind"], []).append(one["recovery"])
    kinds["all"] = [one["recovery"] for one in report["faults"]]
    lines = []
    for kind, recoveries in kinds.items():
        known = [one for one in recoveries if one is not None]
        figures = [float(np.median(known)), float(np.percentile(known, 99)), max(known)] if known else ["", "", ""]
        lines.append([kind, len(recoveries), *figures])
    return (
        f"{report['minutes']:.1f} minutes, {report['rounds']} rounds, {report['pushes']:,} pushes: every row exact after each round,"
        f" none wrong in {report['looks']} looks between; {report['restores']} checkpoints restored, all rows as they were.\n"
        f"Goodput {report['goodput']:.2f} of that without faults.\n"
        + table(["fault", "survived", "recovery, median (s)", "p99", "worst"], lines)
    )


def main() -> int:
    """Command line; the exit status."""
    kinds = ["node", "stop", "worker", "coordinator", "scale", "drain", "checkpoint"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--faults", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two faults, in the mean")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--replication", type=int, help="default: 2 where nodes are killed or stopped, else 1")
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1000, help="keys of a push")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", default="", help="where to write the report as JSON")
    args = parser.parse_args()
    if args.replication is None:
        args.replication = 2 if {"node", "stop"} & set(args.faults) else 1
    print(machine())
    print(f"faults: {', '.join(args.faults)}; {args.nodes} nodes, replication {args.replication}, seed {args.seed}")
    report = soaked(args)
    if args.report:
        pathlib.Path(args.report).write_text(json.dumps(report, indent=1))
    print(told(report) if "broken" not in report else f"A promise was broken: {report['broken']}")
    return 1 if "broken" in report else 0


def soaked(args: argparse.Namespace) -> dict[str, Any]:
    """Start Spark and a tier, and soak them."""
    from sparkps import PSContext
    from sparkps.driver_bridge.launchers.restarts import Restarts

    missing = [kind for kind in args.faults if kind in NEEDS and not hasattr(PSContext, NEEDS[kind])]
    if missing:
        raise SystemExit(f"`--faults` must be what this version can survive. It cannot {', '.join(missing)}.")
    with tempfile.TemporaryDirectory() as name, session(f"local[{WORKERS}]") as spark:
        args.checkpoints = str(pathlib.Path(name) / "checkpoints")
        spark.sparkContext.setLogLevel("OFF")  # it tells of every worker that is killed
        with PSContext(spark, num_nodes=args.nodes, replication=args.replication) as ps:
            tier: Any = ps._tier  # three deaths a minute are a crash loop elsewhere; here they are chance
            tier.node_restarts, tier.coordinator_restarts = Restarts(1000), Restarts(1000)
            try:
                return Soak(ps, args, pathlib.Path(name)).run()
            except AssertionError as error:
                return {"broken": str(error)}


if __name__ == "__main__":
    sys.exit(main())
