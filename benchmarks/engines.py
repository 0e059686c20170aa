"""Time of many short runs: two workers of the local engine beside the same runs in one process.

    python benchmarks/engines.py

Runs of the majority class on digits, records written by both. Workers have started and imported
everything before the clock does. The bar is 0.8 times the time of one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rcml_misa.datasets import Dataset, load_dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.results import RunStore
from rcml_misa.runs.backends import Engine
from rcml_misa.runs.engine import execute
from rcml_misa.runs.tasks import plan_tasks

BAR = 0.8


def seconds(dataset: Dataset, engine: Engine, runs: int) -> float:
    """Time runs of the majority class; all leave their record."""
    tasks = plan_tasks([recipe("majority")], datasets=1, runs=runs, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder))
        started = time.perf_counter()
        count = len(list(execute([dataset], tasks, store=store, engine=engine)))
        ended = time.perf_counter()
        if not count == runs == len(store.read()):
            raise RuntimeError(f"{count} of {runs} runs have a record")
    return ended - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    dataset = load_dataset("digits")
    alone, together = Engine(), Engine(jobs=options.jobs)
    for engine in (alone, together):
        seconds(dataset, engine, 2 * options.jobs)  # workers start and import
    ratios = []
    for _ in range(options.repeats):
        one, many = (seconds(dataset, engine, options.runs) for engine in (alone, together))
        ratios.append(many / one)
        print(f"one process {one:.2f} s, {options.jobs} workers {many:.2f} s: {many / one:.2f}")
    print(f"median {statistics.median(ratios):.2f}, bar {BAR}")


if __name__ == "__main__":
    main()
