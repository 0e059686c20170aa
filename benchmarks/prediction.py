"""Speed of `predict_proba`: rows per second and one row's latency, beside scikit-learn's MLP.

`MLPClassifier()` with its default hidden layer of 100 reads the same columns side by side. Batches
of all models follow each other in turns, so that a machine whose speed drifts slows all alike, and
ratios are of medians. Bars, on one core: at 1024 rows at least half the rows per second of the MLP
without experts and a tenth with them; one row in less than 3 ms.

    python benchmarks/prediction.py [--datasets PIE,HandWritten,Scene15] [--turns 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators import KernelExpertClassifier, RCMLClassifier, RCMLMISAClassifier

ROWS = 1024
BARS = {"rcml-misa without experts": 0.5, "rcml-misa": 0.1}
LATENCY = 3.0  # ms


def models(views: Any) -> dict[str, Any]:
    """The compared models; how long they were trained does not change their speed."""
    return {
        "mlp": MLPClassifier(max_iter=5, random_state=0),
        "rcml-misa without experts": RCMLMISAClassifier(
            views=views, expert="none", epochs=2, random_state=0
        ),
        "rcml-misa": RCMLMISAClassifier(views=views, epochs=2, random_state=0),
        "kernel-expert": KernelExpertClassifier(views=views, random_state=0),
        "rcml": RCMLClassifier(views=views, epochs=2, random_state=0),
    }


def medians(calls: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Median seconds of each call, taken in turns; the first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in found.items()}


def measure(name: str, turns: int) -> None:
    """Print one data set's figures."""
    data = load_dataset(name)
    table = data.views.to_array()
    batch = table[np.resize(np.arange(len(table)), ROWS)]
    fitted = {
        label: model.fit(table, data.target)
        for label, model in models(list(data.views.widths)).items()
    }
    many = medians({k: partial(m.predict_proba, batch) for k, m in fitted.items()}, turns)
    one = {
        label: medians({label: partial(model.predict_proba, batch[:1])}, 10 * turns)[label]
        for label, model in fitted.items()
    }
    for label in fitted:
        ratio, latency = many["mlp"] / many[label], 1000 * one[label]
        bar = f" (bar {BARS[label]})" if label in BARS else ""
        limit = f" (bar {LATENCY:.0f} ms)" if label in BARS else ""
        print(
            f"{name:12}{label:27}{ROWS / many[label]:10.0f} rows/s, ratio {ratio:.3f}{bar}; "
            f"one row {latency:.2f} ms{limit}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", default="PIE,HandWritten,Scene15")
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for name in given.datasets.split(","):
            measure(name, given.turns)


if __name__ == "__main__":
    main()
