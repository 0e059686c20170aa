"""Time to read tables of many columns, beside pandas on the same file.

A table of two views and labels is written as csv and parquet for each number of columns and rows.
`frame_columns` and `read_own_file`, one after the other, are timed against `pandas.read_csv` and
`pandas.read_parquet`, which have neither views nor labels to tell; the times are medians of so many
repeats, taken in turns. Bar: 3 times pandas. `pandas.read_parquet` is left out above 25,000
columns: it takes 1.8 GB of memory for 20,000 columns, and more for more.

    python benchmarks/reading.py [--columns 2500,10000,25000,100000] [--rows 10,200] [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rcml_misa.datasets.files import FileOptions, read_own_file
from rcml_misa.datasets.files.frames import frame_columns

BAR = 3  # times pandas
MOST = 25_000  # columns that pandas.read_parquet is asked to read


def write(path: Path, columns: int, rows: int) -> None:
    """Write so many columns and rows, and labels, as csv and as parquet."""
    rng = np.random.default_rng(0)
    names = [f"{'left' if place < columns // 2 else 'right'}__{place}" for place in range(columns)]
    with path.open("w") as stream:
        print(*names, "label", sep=",", file=stream)
        for number in range(rows):
            print(*rng.normal(size=columns).round(4), number % 2, sep=",", file=stream)
    pd.read_csv(path).to_parquet(path.with_suffix(".parquet"))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def read(path: Path) -> None:
    frame_columns(path)
    read_own_file(path, FileOptions())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", default="2500,10000,25000,100000")
    parser.add_argument("--rows", default="10,200")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print(
        f"{'rows':>6} {'columns':>8} {'pandas':>9} {'csv':>15} {'parquet':>15}   (bar {BAR} times)"
    )
    for rows in map(int, given.rows.split(",")):
        for columns in map(int, given.columns.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "table.csv"
                write(path, columns, rows)
                stored = path.with_suffix(".parquet")
                works: dict[str, Callable[[], object]] = {
                    "read_csv": partial(pd.read_csv, path),
                    "own csv": partial(read, path),
                    "own parquet": partial(read, stored),
                }
                if columns <= MOST:
                    works["read_parquet"] = partial(pd.read_parquet, stored)
                times: dict[str, list[float]] = {name: [] for name in works}
                for _ in range(given.repeats):
                    for name, work in works.items():
                        times[name].append(seconds(work))
            print(f"{rows:12} {columns:12}", *cells(times, "csv"), *cells(times, "parquet"))


def cells(times: dict[str, list[float]], kind: str) -> list[str]:
    """Format pandas' median time, ours, and their ratio."""
    own = statistics.median(times[f"own {kind}"])
    if f"read_{kind}" not in times:
        return [f"{'-':>12}", f"{own:12.2f}", f"{'-':>12}"]
    pandas = statistics.median(times[f"read_{kind}"])
    return [f"{value:12.2f}" for value in (pandas, own, own / pandas)]


if __name__ == "__main__":
    main()
