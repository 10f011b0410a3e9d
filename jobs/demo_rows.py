"""Writes the rows of `make demo-deep` as CSV, a label and categories, and says what they are: real data, the largest that are at hand.

    python jobs/demo_rows.py out/demo
"""

from __future__ import annotations

import argparse
import csv
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyspark

ROOT = pathlib.Path(__file__).resolve().parents[1]

#: Fields of the Adult data, each with its first feature in the one-hot blocks of a9a.
A9A = {
    "age": 1, "workclass": 6, "fnlwgt": 14, "education": 19, "educationNum": 35, "marital": 40, "occupation": 47, "relationship": 61,
    "race": 67, "sex": 72, "gain": 74, "loss": 76, "hours": 78, "country": 83,
}  # fmt: skip

ADULT = """\
The data: Adult, a census of 1994 in the United States ({directory}).
The question: does a person earn more than 50,000 dollars a year? {fields} facts are known of each: {names}."""

RATINGS = """\
The data: ratings of films that come with pyspark (sample_movielens_data.txt); for a larger set, put a9a into {directory}.
The question: does a person give a film 3 stars or more of 5? All that is known are the numbers of person and film."""

Row = tuple[Any, ...]


def a9a_rows(path: pathlib.Path) -> list[Row]:
    """Rows of a9a, a libsvm file: the label, and the category of each field, None where there is none."""
    blocks, rows = list(A9A.values()), []
    for line in path.read_text().splitlines():
        label, *entries = line.split()
        row: list[int | None] = [None] * len(blocks)
        for entry in entries:
            index = int(entry.split(":")[0])
            row[sum(first <= index for first in blocks) - 1] = index
        rows.append((float(label == "+1"), *row))
    return rows


def film_rows(path: pathlib.Path) -> tuple[list[Row], list[Row]]:
    """Rows of ratings, ``user::film::stars``; every fifth is held out."""
    rows = [(float(int(line[2]) >= 3), *line[:2]) for line in (each.split("::") for each in path.read_text().split())]
    return [row for i, row in enumerate(rows) if i % 5], rows[::5]


def write(path: pathlib.Path, names: Sequence[str], rows: Iterable[Row]) -> None:
    """A CSV file with a header; what is None is empty."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("label", *names), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path, help="directory for train.csv and test.csv")
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="directory of a9a.*.libsvm")
    args = parser.parse_args()
    if (args.data / "a9a.train.libsvm").is_file():
        names, story = list(A9A), ADULT
        train, test = (a9a_rows(args.data / f"a9a.{part}.libsvm") for part in ("train", "test"))
    else:
        names, story = ["user", "film"], RATINGS
        train, test = film_rows(pathlib.Path(pyspark.__file__).parent / "data" / "mllib" / "sample_movielens_data.txt")
    args.output.mkdir(parents=True, exist_ok=True)
    write(args.output / "train.csv", names, train)
    write(args.output / "test.csv", names, test)
    print(story.format(directory=args.data, fields=len(names), names=", ".join(names)))
    print(f"It learns from {len(train)} rows, {args.output}/train.csv, and is tested on {len(test)} others, {args.output}/test.csv.")


if __name__ == "__main__":
    main()
