"""Four workers of which a random one is late in each clock: loss over time under BSP, SSP and ASP.

    python -m benchmarks.stragglers                                    # prints the figures, writes benchmarks/stragglers.png
    python -m benchmarks.stragglers --curves curves.json --png ""      # keeps the curves; --replot curves.json draws them

Logistic regression on a9a (32,561 rows, 123 features, LIBSVM's file): every rank computes the gradient of its quarter of the rows and
then sleeps, so that a clock takes `--work` seconds whatever the machine has to do. In each clock another rank sleeps longer, for an
exponentially distributed time, with a mean of 1 clock's work, and of 3. Under BSP all wait for it; under SSP(4) the others go on
for four clocks. Measured is the time until the loss is what BSP reaches at its end; with matplotlib, a picture is drawn.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import machine, session, table

if TYPE_CHECKING:
    from sparkps import PSContext
    from sparkps.consistency import Consistency

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent.parent / "shared" / "data" / "a9a.train.libsvm"
FEATURES = 123

WORKERS = 4
STALENESS = 4

#: Mean delay in clocks' work -> share of BSP's time in which SSP must reach BSP's loss.
PROMISED = {1.0: 0.75, 3.0: 0.60}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Delays:
    """Which rank is late in each clock, and by how many seconds."""

    ranks: list[int]
    seconds: list[float]

    @classmethod
    def drawn(cls, mean: float, clocks: int, seed: int) -> Delays:
        """Another rank in each clock than in the one before."""
        rng = np.random.default_rng(seed)
        ranks = np.cumsum(rng.integers(1, WORKERS, clocks)) % WORKERS
        return cls(ranks.tolist(), rng.exponential(mean, clocks).tolist())

    def of(self, rank: int, clock: int) -> float:
        """Seconds by which a rank is late in a clock."""
        return self.seconds[clock] if self.ranks[clock] == rank else 0.0


def modelled(delays: Delays, work: float, clocks: int, staleness: float) -> float:
    """Seconds until the last rank has done `clocks` clocks, if nothing took time but work and delays."""
    done = np.zeros((WORKERS, clocks + 1))
    for clock in range(clocks):
        floor = done[:, int(clock - staleness)].max() if clock >= staleness else 0.0
        for rank in range(WORKERS):
            done[rank, clock + 1] = max(done[rank, clock], floor) + work + delays.of(rank, clock)
    return float(done[:, clocks].max())


def read(path: pathlib.Path) -> tuple[Floats, Floats]:
    """Rows with a constant 1 at their end, and labels, 0 or 1."""
    lines = path.read_text().splitlines()
    rows, labels = np.zeros((len(lines), FEATURES + 1)), np.zeros(len(lines))
    rows[:, -1] = 1.0
    for number, line in enumerate(lines):
        label, *entries = line.split()
        labels[number] = float(label) > 0
        for entry in entries:
            index, value = entry.split(":")
            rows[number, int(index) - 1] = float(value)
    return rows, labels


def loss(rows: Floats, labels: Floats, weights: Floats) -> float:
    """Mean log loss."""
    margins = rows @ weights
    return float(np.mean(np.logaddexp(0.0, margins) - labels * margins))


@dataclass
class Curve:
    """Loss over time of one run."""

    name: str
    mean_delay: float
    seconds: list[float]
    losses: list[float]

    def reaches(self, wanted: float) -> float:
        """When the loss is as low as wanted; infinite if never."""
        return next((at for at, loss in zip(self.seconds, self.losses, strict=True) if loss <= wanted), float("inf"))


def train_function(directory: str, delays: Delays, clocks: int, work: float) -> Any:
    """The train function: returns the weights that the rank has read, and when."""

    def train(worker: Any, batches: Any) -> list[tuple[float, list[float]]]:
        place = pathlib.Path(directory)
        rows, labels = np.load(place / "rows.npy", mmap_mode="r"), np.load(place / "labels.npy")
        total = len(labels)
        mine, wanted = np.ascontiguousarray(rows[worker.rank :: WORKERS]), labels[worker.rank :: WORKERS]
        model, read = worker.table("straggling"), []
        (place / f"{worker.table('straggling').spec.table}-{worker.rank}").touch()
        while len(list(place.glob(f"{worker.table('straggling').spec.table}-*"))) < WORKERS:
            time.sleep(0.005)
        for clock in range(clocks):
            began = time.monotonic()
            weights = model.pull().ravel()
            read.append((time.time(), weights.tolist()))
            began += max(0.0, time.monotonic() - began)  # waiting for others is no work
            probabilities = 1.0 / (1.0 + np.exp(-(mine @ weights)))
            gradient = mine.T @ (probabilities - wanted) / total
            time.sleep(max(0.0, began + work - time.monotonic()) + delays.of(worker.rank, clock))
            model.push(gradient)
            worker.tick()
        read.append((time.time(), model.pull().ravel().tolist()))
        return read

    return train


def measure(
    ps: PSContext, data: tuple[Floats, Floats], directory: str, args: argparse.Namespace, run: Run
) -> Curve:
    """One run."""
    from sparkps.optim import SGD

    model = ps.dense_table("straggling", shape=FEATURES + 1, dtype="float64", optimizer=SGD(args.step_size))
    try:
        train = train_function(directory, run.delays, run.clocks, args.work)
        results = ps.run(ps.spark.range(WORKERS), train, num_workers=WORKERS, consistency=run.consistency)
    finally:
        model.drop()
    read = sorted((one for rank in results for one in rank), key=lambda one: one[0])
    start = max(rank[0][0] for rank in results)
    losses = [loss(*data, np.array(weights)) for _, weights in read]
    return Curve(run.name, run.mean, [max(0.0, at - start) for at, _ in read], losses)


@dataclass(frozen=True)
class Run:
    """What one run is to be."""

    name: str
    consistency: Consistency
    mean: float
    delays: Delays
    clocks: int


def compare(ps: PSContext, directory: str, args: argparse.Namespace) -> list[Curve]:
    """All runs; prints the figures."""
    from sparkps import ASP, BSP, SSP

    data = read(pathlib.Path(args.input))
    for name, array in zip(("rows", "labels"), data, strict=True):
        np.save(pathlib.Path(directory) / f"{name}.npy", array)
    curves, lines = [], []
    for mean in PROMISED:
        most = int(args.clocks * 1.3)
        delays = Delays.drawn(mean * args.work, most, args.seed)
        ways: list[tuple[str, Consistency, int]] = [
            ("BSP", BSP(), args.clocks),
            (f"SSP({STALENESS})", SSP(STALENESS), most),
            ("ASP", ASP(), most),
        ]
        mine = [measure(ps, data, directory, args, Run(name, how, mean, delays, n)) for name, how, n in ways]
        wanted = mine[0].losses[-1]
        target = mine[0].reaches(wanted)
        staleness = {"BSP": 0.0, f"SSP({STALENESS})": float(STALENESS), "ASP": float("inf")}
        base = modelled(delays, args.work, args.clocks, 0.0)
        for curve in mine:
            model = modelled(delays, args.work, args.clocks, staleness[curve.name]) / base
            promised = PROMISED[mean] if curve.name.startswith("SSP") else ""
            at = curve.reaches(wanted)
            lines.append([mean, curve.name, f"{wanted:.4f}", at, at / target, model, promised])
        curves += mine
    print(table(["mean delay (clocks)", "way", "loss", "seconds to it", "of BSP's", "model", "promised"], lines))
    return curves


def draw(curves: Sequence[Curve], path: str) -> None:
    """Loss against time, a panel for each mean delay."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    means = sorted({curve.mean_delay for curve in curves})
    figure, panels = pyplot.subplots(1, len(means), figsize=(5.5 * len(means), 3.8), sharey=True, squeeze=False)
    for panel, mean in zip(panels[0], means, strict=True):
        mine = [curve for curve in curves if curve.mean_delay == mean]
        for curve in mine:
            panel.plot(curve.seconds, curve.losses, label=curve.name, linewidth=1.6)
        ending = "s'" if mean > 1 else "'s"
        panel.axhline(mine[0].losses[-1], color="grey", linewidth=0.8, linestyle="--")
        panel.set(title=f"delays of {mean:g} clock{ending} work in the mean", xlabel="seconds")
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0][0].set_ylabel("mean log loss on a9a")
    low = min(min(curve.losses) for curve in curves)
    panels[0][0].set_ylim(low - 0.01, low + 0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"drawn: {path}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--input", default=str(DATA), help="a9a's training rows as a libsvm file")
    parser.add_argument("--clocks", type=int, default=100, help="clocks of BSP")
    parser.add_argument("--work", type=float, default=0.1, help="seconds of a clock's work")
    parser.add_argument("--step-size", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--png", default=str(HERE / "stragglers.png"), help="where to draw; empty: nowhere")
    parser.add_argument("--curves", default="", help="where to keep the curves, as JSON")
    parser.add_argument("--replot", default="", help="draw these curves, and measure nothing")
    args = parser.parse_args()
    if args.replot:
        curves = [Curve(**one) for one in json.loads(pathlib.Path(args.replot).read_text())]
    else:
        curves = measured(args)
    if args.curves:
        pathlib.Path(args.curves).write_text(json.dumps([asdict(curve) for curve in curves]))
    if args.png:
        draw(curves, args.png)


def measured(args: argparse.Namespace) -> list[Curve]:
    """Start Spark and a tier, and run everything."""
    from sparkps import PSContext

    if not pathlib.Path(args.input).is_file():
        raise SystemExit(f"`--input` must be a9a's training rows, a libsvm file. Got {args.input!r}, which does not exist.")
    print(machine())
    print(f"{WORKERS} workers, {args.clocks} clocks of {args.work:g} s, step size {args.step_size:g}, seed {args.seed}")
    with tempfile.TemporaryDirectory() as directory, session(f"local[{WORKERS}]") as spark:
        with PSContext(spark, num_nodes=2) as ps:
            return compare(ps, directory, args)


if __name__ == "__main__":
    main()
