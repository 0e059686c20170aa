"""Time per step and per run: the default against the `notes` preset, in one process on one core.

Steps of the two are timed in turns, so that a machine whose speed drifts slows both alike. A run
of `notes` (500 epochs) is extrapolated from its median step; a run of the default is measured
whole, experts included. Bars: a PIE run of the default takes at most a fiftieth of a `notes` run,
at most 4 s, and a Scene15 run at most 8 s; `--help` answers within 0.5 s.

    python benchmarks/speed.py [--datasets PIE,HandWritten,Scene15] [--repeats 3]
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch.optim.optimizer import register_optimizer_step_post_hook

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators import NotesClassifier, RCMLMISAClassifier
from rcml_misa.protocols import spawn_seeds, split_rows
from rcml_misa.views import MultiView

NOTES_EPOCHS = 500
STEPS = 10  # timed steps of each in a turn
TURNS = 3


def timed_steps(estimator: Any, views: MultiView, target: np.ndarray) -> list[float]:
    """Seconds of each optimisation step of a fit but the first."""
    stamps: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: stamps.append(time.perf_counter()))
    try:
        estimator.fit(views, target)
    finally:
        handle.remove()
    return list(np.diff(stamps))


def measure(name: str, repeats: int) -> dict[str, float]:
    """Median step of both and median run of the default on one data set."""
    dataset = load_dataset(name)
    rng = np.random.default_rng(spawn_seeds(0).split)
    train, _ = split_rows(len(dataset.target), rng=rng)
    views, target = dataset.views.take(train), dataset.target[train]
    per_epoch = math.ceil(len(train) / 200)
    epochs = math.ceil((STEPS + 1) / per_epoch)
    steps: dict[str, list[float]] = {"notes": [], "default": []}
    for _ in range(TURNS):
        for label, kind in (("notes", NotesClassifier), ("default", RCMLMISAClassifier)):
            steps[label] += timed_steps(kind(epochs=epochs, random_state=0), views, target)
    runs = []
    for seed in range(repeats):
        started = time.perf_counter()
        RCMLMISAClassifier(random_state=seed).fit(views, target)
        runs.append(time.perf_counter() - started)
    notes, default = (statistics.median(steps[label]) for label in ("notes", "default"))
    notes_run = notes * NOTES_EPOCHS * per_epoch
    return {
        "notes_step_ms": 1000 * notes,
        "default_step_ms": 1000 * default,
        "step_ratio": notes / default,
        "notes_run_s": notes_run,
        "default_run_s": statistics.median(runs),
        "run_ratio": notes_run / statistics.median(runs),
    }


def help_seconds() -> float:
    """Median time of `rcml-misa --help` as a whole process."""
    found = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "rcml_misa", "--help"], check=True, capture_output=True
        )
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", default="PIE,HandWritten,Scene15")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for name in given.datasets.split(","):
            found = measure(name, given.repeats)
            print(
                f"{name}: step {found['notes_step_ms']:.1f} ms (notes) against "
                f"{found['default_step_ms']:.1f} ms, ratio {found['step_ratio']:.1f}; "
                f"run {found['notes_run_s']:.0f} s (notes, extrapolated) against "
                f"{found['default_run_s']:.2f} s, ratio {found['run_ratio']:.0f}"
            )
    print(f"--help: {help_seconds():.2f} s")


if __name__ == "__main__":
    main()
