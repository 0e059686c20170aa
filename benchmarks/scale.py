"""Time and peak memory of the default as rows grow: both should grow in proportion at most.

Each size runs in a process of its own, whose peak memory the operating system counts, data
included. Bar: 200 000 rows of 3 views of width 300 and 50 classes train within 4 GB.

    python benchmarks/scale.py [--rows 25000,50000,100000,200000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

VIEWS, WIDTH, CLASSES = 3, 300, 50


def measure(rows: int) -> dict[str, float]:
    """Train on synthetic rows in this process; seconds, peak GB and accuracy on train rows."""
    import torch
    from threadpoolctl import threadpool_limits

    from rcml_misa.estimators import RCMLMISAClassifier
    from rcml_misa.views import MultiView

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    target = rng.integers(CLASSES, size=rows)
    views = {}
    for view in range(VIEWS):
        centres = rng.normal(size=(CLASSES, WIDTH)) / 4
        values = rng.standard_normal((rows, WIDTH))
        for start in range(0, rows, 10_000):
            values[start : start + 10_000] += centres[target[start : start + 10_000]]
        views[f"view{view + 1}"] = values
    table = MultiView(views)
    with threadpool_limits(1):
        started = time.perf_counter()
        model = RCMLMISAClassifier(random_state=0).fit(table, target)
        seconds = time.perf_counter() - started
        some = slice(0, 2000)
        right = float((model.predict(table.take(some)) == target[some]).mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kilobytes on Linux
    return {"rows": rows, "seconds": seconds, "peak_gb": peak, "accuracy": right}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="25000,50000,100000,200000")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    for rows in given.rows.split(","):
        command = [sys.executable, __file__, "--one", rows]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        found = json.loads(done.stdout)
        print(
            f"{found['rows']:>7} rows: {found['seconds']:.0f} s, peak {found['peak_gb']:.2f} GB, "
            f"{1e6 * found['seconds'] / found['rows']:.0f} us a row, "
            f"accuracy {found['accuracy']:.3f} on train rows"
        )


if __name__ == "__main__":
    main()
