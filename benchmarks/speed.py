"""Time of a run of each form of RCML-MISA against one of the `notes` preset, on one core.

A run of `notes` (500 epochs) is extrapolated from its median step; the others are measured whole,
experts included. Steps of `notes` and runs of the others are timed in turns in one process, so that
a machine whose speed drifts slows all alike, and ratios are of medians. Bars, on PIE: a run of
`kernel-expert` is at least 150 times, of `expert=ridge` 40 times and of the default 25 times faster
than a run of `notes` (goal of the default: 100 times); `--help` answers within .5 s.

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
from rcml_misa.estimators import KernelExpertClassifier, NotesClassifier, RCMLMISAClassifier
from rcml_misa.protocols import spawn_seeds, split_rows
from rcml_misa.views import MultiView

NOTES_EPOCHS = 500
STEPS = 10  # timed steps of `notes` in a turn
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "kernel-expert": (KernelExpertClassifier, {}),
    "expert=ridge": (RCMLMISAClassifier, {"expert": "ridge"}),
    "default": (RCMLMISAClassifier, {}),
}
BARS = {"kernel-expert": 150, "expert=ridge": 40, "default": 25}  # times faster, on PIE
GOAL = 100  # of the default
HELP_BAR = 0.5  # s


def timed_steps(estimator: Any, views: MultiView, target: np.ndarray) -> list[float]:
    """Seconds of each optimisation step of a fit but the first."""
    stamps: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: stamps.append(time.perf_counter()))
    try:
        estimator.fit(views, target)
    finally:
        handle.remove()
    return list(np.diff(stamps))


def measure(name: str, repeats: int) -> None:
    """Print median runs of all forms on one data set, and their ratios to a run of `notes`."""
    dataset = load_dataset(name)
    rng = np.random.default_rng(spawn_seeds(0).split)
    train, _ = split_rows(len(dataset.target), rng=rng)
    views, target = dataset.views.take(train), dataset.target[train]
    per_epoch = math.ceil(len(train) / 200)
    epochs = math.ceil((STEPS + 1) / per_epoch)
    steps: list[float] = []
    runs: dict[str, list[float]] = {form: [] for form in FORMS}
    for seed in range(repeats):
        steps += timed_steps(NotesClassifier(epochs=epochs, random_state=seed), views, target)
        for form, (kind, options) in FORMS.items():
            started = time.perf_counter()
            kind(**options, random_state=seed).fit(views, target)
            runs[form].append(time.perf_counter() - started)
    step = statistics.median(steps)
    notes = step * NOTES_EPOCHS * per_epoch
    print(f"{name}, notes: step {1000 * step:.1f} ms, run {notes:.0f} s (extrapolated)")
    for form, times in runs.items():
        seconds = statistics.median(times)
        line = f"{name}, {form}: run {seconds:.2f} s, ratio {notes / seconds:.0f}"
        if name == "PIE":
            line += f"; bar {BARS[form]}: {met(notes / seconds >= BARS[form])}"
            if form == "default":
                line += f"; goal {GOAL}: {met(notes / seconds >= GOAL)}"
        print(line, flush=True)


def met(is_met: bool) -> str:
    """Say whether a bar is met."""
    return "met" if is_met else "not met"


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
            measure(name, given.repeats)
    seconds = help_seconds()
    print(f"--help: {seconds:.2f} s; bar {HELP_BAR} s: {met(seconds <= HELP_BAR)}")


if __name__ == "__main__":
    main()
