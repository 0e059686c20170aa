"""Peak memory of `rcml-misa predict` on files of millions of rows, each in a process of its own.

A model with kernel experts is fitted on 2000 rows of two views, six columns each; then as many
rows as asked for are answered from a csv, a parquet and an HDF5 file, with the surest nine tenths
kept, which asks for all uncertainties. Bar: 600 MB on two million rows.

    python benchmarks/memory.py [--rows 2000000] [--kinds csv,parquet,h5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

BAR = 600  # MB
BLOCK = 100_000  # rows written at once
COLUMNS = [f"{view}__{number}" for view in ("left", "right") for number in range(6)]


def rows(count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Make rows of three classes a little apart."""
    codes = rng.integers(3, size=count)
    centres = np.random.default_rng(1).normal(size=(3, len(COLUMNS)))
    values = centres[codes] + rng.normal(size=(count, len(COLUMNS)))
    frame = pd.DataFrame(values.round(4), columns=COLUMNS)
    return frame.assign(label=np.array(["a", "b", "c"])[codes])


def write(path: Path, count: int) -> None:
    """Write so many rows block by block."""
    rng, done = np.random.default_rng(0), 0
    if path.suffix == ".csv":
        while done < count:
            block = rows(min(BLOCK, count - done), rng)
            block.to_csv(path, index=False, mode="a" if done else "w", header=not done)
            done += len(block)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        schema = pa.Table.from_pandas(rows(1, rng)).schema
        with ParquetWriter(path, schema) as writer:
            while done < count:
                block = rows(min(BLOCK, count - done), rng)
                writer.write_table(pa.Table.from_pandas(block, schema=schema))
                done += len(block)
    else:
        import h5py

        with h5py.File(path, "w") as file:
            views = {
                name: file.create_dataset(name, (count, 6), dtype=np.float64)
                for name in ("left", "right")
            }
            while done < count:
                block = rows(min(BLOCK, count - done), rng)
                for name, view in views.items():
                    view[done : done + len(block)] = block.filter(like=name).to_numpy()
                done += len(block)


def measure(arguments: list[str]) -> tuple[float, float]:
    """Peak resident memory in MB and seconds of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "rcml_misa", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"rcml-misa {' '.join(arguments)} failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--kinds", default="csv,parquet,h5")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows(2000, np.random.default_rng(2)).to_csv(folder / "train.csv", index=False)
        model = str(folder / "model.rcml")
        measure(["fit", "--dataset", str(folder / "train.csv"), "--out", model])
        for kind in given.kinds.split(","):
            path = folder / f"rows.{kind}"
            write(path, given.rows)
            size = path.stat().st_size / 1e6
            out = str(folder / "answers.csv")
            peak, seconds = measure(
                ["predict", model, str(path), "--coverage", "0.9", "--out", out]
            )
            print(
                f"{kind}: {given.rows} rows, {size:.0f} MB; peak {peak:.0f} MB (bar {BAR} MB), "
                f"{seconds:.0f} s, {given.rows / seconds:.0f} rows/s"
            )
            path.unlink()


if __name__ == "__main__":
    main()
