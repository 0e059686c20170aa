"""Time of a MOSI-words run of MISA beside the plain loop, and of a MOSI run, on one core.

The plain loop is the same network with everything trained, in float32, on batches in random order
padded to their longest text. Ours keeps the states of the frozen layers, computes in bfloat16
where the processor has it, and draws batches of like length. Epochs of the two are timed in turns
on the same rows; a run is extrapolated from its median epoch. Bars: at most two minutes for a
MOSI-words run and for a MOSI run, with one process per core.

    python benchmarks/sentiment.py [--rows 320] [--turns 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from rcml_misa.datasets import Dataset, as_task, load_dataset
from rcml_misa.estimators import MISARegressor, RCMLMISAClassifier

EPOCHS = 10
PLAIN = {"text_layers": None, "precision": "float32"}


def random_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Batches as they come."""
    order = rng.permutation(len(lengths))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def epoch_seconds(data: Dataset, rows: np.ndarray, options: dict[str, Any]) -> float:
    """Processor seconds of the second epoch; the first one warms up."""
    stamps: list[float] = []
    model = MISARegressor(epochs=2, patience=None, random_state=0, **options)
    model.fit(
        data.views.take(rows),
        data.target[rows],
        callback=lambda _: stamps.append(time.process_time()),
    )
    return stamps[1] - stamps[0]


def words(rows: int, turns: int) -> None:
    data = load_dataset("MOSI-words")
    train = data.folds["train"] if data.folds else np.arange(0)
    some = train[:: max(len(train) // rows, 1)]
    found: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(turns):
        found["ours"].append(epoch_seconds(data, some, {}))
        with patch("rcml_misa.estimators.view_networks.bucketed_batches", random_batches):
            found["plain"].append(epoch_seconds(data, some, PLAIN))
    scale = EPOCHS * len(train) / len(some)
    plain, ours = (scale * statistics.median(found[name]) for name in ("plain", "ours"))
    print(
        f"MOSI-words, {EPOCHS} epochs on {len(train)} rows: plain loop {plain:.0f} s, "
        f"ours {ours:.0f} s of one core, ratio {plain / ours:.1f} (extrapolated from {len(some)} "
        f"rows, median of {turns} turns)"
    )


def dense() -> None:
    data = as_task(load_dataset("MOSI"), "3")
    train = data.folds["train"] if data.folds else np.arange(0)
    started = time.process_time()
    RCMLMISAClassifier(random_state=0).fit(data.views.take(train), data.target[train])
    print(f"MOSI, RCML-MISA on {len(train)} rows: {time.process_time() - started:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        words(given.rows, given.turns)
        dense()


if __name__ == "__main__":
    main()
