"""What each form of RCML-MISA and its members cost: training, model file, prediction, on one core.

Each is fitted once to a random 80 % of a real set's rows, saved and asked about the others; how
costs grow with rows, views, columns and classes is for `scaling.py`.

    python benchmarks/costs.py [--dataset LandUse21] [--forms rcml-misa,expert=ridge,...]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from methods import OURS, build
from threadpoolctl import threadpool_limits

from rcml_misa.datasets import load_dataset


def seconds(action: Any) -> float:
    """Processor time of an action."""
    started = time.process_time()
    action()
    return time.process_time() - started


def main() -> None:
    """Measure and print one line per form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="LandUse21")
    parser.add_argument("--forms", default=",".join(OURS))
    arguments = parser.parse_args()
    data = load_dataset(arguments.dataset)
    order = np.random.default_rng(0).permutation(len(data.target))
    train, test = np.split(order, [round(0.8 * len(order))])
    known, new = data.views.take(np.sort(train)), data.views.take(np.sort(test))
    print(f"{'form':15s} {'train, s':>9s} {'file, MB':>9s} {'1000 rows, ms':>14s}")
    for name in arguments.forms.split(","):
        model = build(name)
        with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
            fit = seconds(lambda model=model: model.fit(known, data.target[np.sort(train)]))
            path = Path(folder) / "model"
            model.save(path)
            size = path.stat().st_size / 1e6
            asked = [seconds(lambda model=model: model.predict_proba(new)) for _ in range(3)]
        rows = 1e6 * statistics.median(asked) / len(test)
        print(f"{name:15s} {fit:9.1f} {size:9.1f} {rows:14.0f}", flush=True)


if __name__ == "__main__":
    main()
