"""How much of RCML-MISA's network passes through its tokens, alone and in ten runs.

For each set and seed a network without closed-form members is trained, and asked about the test
rows as it is and with the tokens' part of every logit taken away. Printed are the tokens' share of
the logits' variance over rows and classes, cov(tokens, logits) / var(logits), and the accuracy
that is lost without them, with means over the seeds and 95 % intervals (Student's, over the mean's
standard error corrected for overlapping train sets: Nadeau and Bengio).

    python benchmarks/tokens.py [--datasets PIE,LandUse21,Scene15] [--runs 10] [--set key=value]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.nn.tokens import shares_to_evidence
from rcml_misa.opinions import fuse_views
from rcml_misa.protocols import Protocol, partition_rows, spawn_seeds
from rcml_misa.results.statistics import corrected_error

SETS = "PIE,LandUse21,Scene15,CUB,HandWritten,digits"


def run(name: str, seed: int, options: list[str]) -> dict[str, float]:
    """Train on one split; share of the variance, and accuracies in %, with and without tokens."""
    data = load_dataset(name)
    part = partition_rows(data.target, protocol=Protocol(), seed=seed, run=0)
    chosen = ["expert=none", "calibration_fraction=0", *options]
    model = recipe("rcml-misa", options=chosen).build(spawn_seeds(seed).model)
    model.fit(data.views.take(part.train), part.codes)
    views = data.views.take(part.test)
    target = np.searchsorted(model.classes_, data.target[part.test])
    with torch.no_grad():
        states = [output for _, output in model._outputs(views)]
        logits, tokens = (torch.cat([getattr(s, key) for s in states]).transpose(0, 1)
                          for key in ("logits", "token_logits"))  # fmt: skip
        right = [
            accuracy(model.module_.networks[0], part, len(data.views), target)
            for part in (logits, logits - tokens)
        ]
    whole, through = (part - part.mean(dim=-1, keepdim=True) for part in (logits, tokens))
    whole, through = (part - part.mean(dim=1, keepdim=True) for part in (whole, through))
    share = float((whole * through).sum() / whole.square().sum())
    return {"share": 100 * share, "accuracy": right[0], "without": right[1]}


def accuracy(module: Any, logits: torch.Tensor, views: int, target: np.ndarray) -> float:
    """Accuracy in % of opinions of logits (N + M, n, K), fused."""
    collect = module.collect
    evidence = shares_to_evidence(logits, collect.slope, collect.offset).transpose(0, 1)
    fused = fuse_views(evidence[:, :views], evidence[:, views:])
    return 100 * float((fused.argmax(dim=1).numpy() == target).mean())


def interval(values: np.ndarray, ratio: float) -> str:
    """Mean and 95 % interval of values over runs, `ratio` being test rows over train rows."""
    mean, runs = values.mean(), len(values)
    if runs < 2:
        return f"{mean:.1f}"
    half = stats.t.ppf(0.975, runs - 1) * corrected_error(values, ratio)
    return f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"


def main() -> None:
    """Measure and print one line per set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", default=SETS)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], dest="options")
    parser.add_argument("--csv", type=Path, help="file for the values of every run")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'set':12s} {'share of variance, %':26s} {'accuracy, %':12s} lost without tokens, points"
    )
    for name in arguments.datasets.split(","):
        values = [run(name, seed, arguments.options) for seed in range(arguments.runs)]
        rows += [{"dataset": name, "seed": seed, **each} for seed, each in enumerate(values)]
        share, right, without = (np.array([each[key] for each in values])
                                 for key in ("share", "accuracy", "without"))  # fmt: skip
        lost = interval(right - without, 0.25)
        print(f"{name:12s} {interval(share, 0.25):26s} {right.mean():<12.2f} {lost}", flush=True)
    if arguments.csv is not None:
        with arguments.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
