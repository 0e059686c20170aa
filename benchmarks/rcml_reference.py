"""RCML here against RCML's own code, run side by side on the same splits of PIE.

The published code is not part of this repository. Get a copy and name its folder:

    git clone https://github.com/jiajunsi/RCML
    python benchmarks/rcml_reference.py RCML [--runs 10] [--epochs 500]

Each run is the published `main.normal` and `main.conflict`, unaltered but for the data set of the
former, from one NumPy seed, so that both draw the same split. `RCMLClassifier` with the code's
pairwise folding, and once more with the paper's mean, gets the very arrays that the copy scaled,
the conflictive test rows included. Bar: over ten runs the mean accuracies of the published code
and of the pairwise folding differ by at most 1 point, clean and conflictive.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from scipy import stats

from rcml_misa.estimators import RCMLClassifier

MODULES = ("main", "data", "model", "loss_function")  # the copy's
TRAIN_SHARE = 0.8
BAR = 1.0  # point


@contextlib.contextmanager
def copy_of(folder: Path) -> Iterator[ModuleType]:
    """Import the copy's `main` from its folder, in which it looks for its data."""
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("main")
    finally:
        sys.path.remove(str(folder))
        os.chdir(before)
        for name in MODULES:
            sys.modules.pop(name, None)


def published(main: Any, seed: int, epochs: int) -> tuple[float, float]:
    """Clean and conflictive accuracy of the published code."""
    given = SimpleNamespace(batch_size=200, epochs=epochs, annealing_step=50, lr=0.003)
    main.HandWritten = main.PIE  # what `normal` trains on
    found = []
    for function in (main.normal, main.conflict):
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            function(given)
        found.append(float(said.getvalue().rsplit("acc:", 1)[1]))
    return found[0], found[1]


def ours(main: Any, seed: int, epochs: int, fusion: Any) -> tuple[float, float]:
    """Clean and conflictive accuracy of the estimator on the same split and the same rows."""
    np.random.seed(seed)  # noqa: NPY002
    data = main.PIE()
    rows = np.arange(len(data))
    np.random.shuffle(rows)  # noqa: NPY002
    train, test = np.split(rows, [int(TRAIN_SHARE * len(data))])
    clean = [data.X[view][test].copy() for view in range(data.num_views)]
    fitted = RCMLClassifier(
        fusion=fusion, scaling="none", epochs=epochs, device="cpu", random_state=seed
    ).fit([data.X[view][train] for view in range(data.num_views)], data.Y[train])
    data.postprocessing(
        test, addNoise=True, sigma=0.5, ratio_noise=0.1, addConflict=True, ratio_conflict=0.4
    )
    altered = [data.X[view][test] for view in range(data.num_views)]
    return fitted.score(clean, data.Y[test]), fitted.score(altered, data.Y[test])


def told(name: str, figures: np.ndarray) -> str:
    """Mean and population deviation on both test sets, in percent."""
    means, spreads = 100 * figures.mean(axis=0), 100 * figures.std(axis=0)
    return f"{name:22}" + "   ".join(
        f"{mean:6.2f} ± {spread:.2f}" for mean, spread in zip(means, spreads, strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="a copy of github.com/jiajunsi/RCML")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=500)
    given = parser.parse_args()
    folder = given.folder.resolve()
    if not all((folder / f"{name}.py").is_file() for name in MODULES):
        parser.error(
            f"{given.folder} holds no copy of RCML; git clone https://github.com/jiajunsi/RCML"
        )
    torch.set_num_threads(1)
    names = ("published code", "here, pairwise", "here, mean")
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with copy_of(folder) as code:
        for seed in range(given.runs):
            rows[names[0]].append(published(code, seed, given.epochs))
            rows[names[1]].append(ours(code, seed, given.epochs, "pairwise"))
            rows[names[2]].append(ours(code, seed, given.epochs, "mean"))
            line = "   ".join(
                f"{name} {100 * rows[name][-1][0]:.2f} / {100 * rows[name][-1][1]:.2f}"
                for name in names
            )
            print(f"seed {seed}: {line}", flush=True)
    print(f"\nPIE, {given.runs} runs       clean %          conflictive %")
    figures = {name: np.array(found) for name, found in rows.items()}
    for name in names:
        print(told(name, figures[name]))
    gaps = 100 * (figures[names[1]] - figures[names[0]])
    for place, kind in enumerate(("clean", "conflictive")):
        p = stats.ttest_1samp(gaps[:, place], 0).pvalue if len(gaps) > 1 else float("nan")
        print(
            f"pairwise minus published, {kind}: {gaps[:, place].mean():+.2f} points "
            f"(paired t p {p:.3f})"
        )
    met = bool((np.abs(gaps.mean(axis=0)) <= BAR).all())
    print(f"bar, {BAR:g} point on both: {'met' if met else 'not met'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
