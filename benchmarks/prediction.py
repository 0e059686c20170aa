"""Speed of `predict_proba`: rows per second and one row's latency, beside scikit-learn's MLP.

`MLPClassifier()` with its default hidden layer of 100 reads the same columns. Models are fitted on
four fifths of a set's rows and asked for 1024 rows, with repetition, or for one. Each side is a
process of one thread that waits for its turn, so that a machine whose speed drifts slows all alike;
times are of the processor, and ratios are of medians. With `--before`, the same models are fitted
and asked by an earlier checkout, in turns with this one. `--parts` prints what each part of an
answer costs instead.

    python benchmarks/prediction.py [--datasets PIE,Scene15] [--before FOLDER] [--parts]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators import (
    KernelExpertClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
)

ROWS = 1024
PEER = "mlp"
LATENCY = 3.0  # ms
SINGLE = 5  # single rows for each batch


class Bar(NamedTuple):
    """Least ratios of rows per second to the MLP's, and to those of the state before."""

    peer: float | None
    before: float | None


BARS = {
    "ridge-expert": Bar(0.5, None),
    "expert=ridge": Bar(0.1, 5.0),
    "default": Bar(None, 4.0),
    "kernel-expert": Bar(None, 4.0),
}


def models(views: Any) -> dict[str, Any]:
    """The compared models; how long a network was trained does not change its speed."""
    return {
        PEER: MLPClassifier(max_iter=5, random_state=0),
        "ridge-expert": RidgeExpertClassifier(views=views, random_state=0),
        "expert=ridge": RCMLMISAClassifier(views=views, expert="ridge", epochs=2, random_state=0),
        "default": RCMLMISAClassifier(views=views, epochs=2, random_state=0),
        "kernel-expert": KernelExpertClassifier(views=views, random_state=0),
    }


def fitted(name: str, labels: Sequence[str]) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Fit models on four fifths of a set, and make a batch of rows to ask for."""
    data = load_dataset(name)
    table = data.views.to_array()
    some = np.random.default_rng(0).permutation(len(table))[: 4 * len(table) // 5]
    made = models(list(data.views.widths))
    fits = {label: made[label].fit(table[some], data.target[some]) for label in labels}
    return fits, table[np.resize(np.arange(len(table)), ROWS)]


def seconds(call: Callable[[], Any]) -> float:
    """Processor time of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def serve(name: str, labels: Sequence[str]) -> None:
    """Fit models, then print the seconds for every line of standard input, a label and rows."""
    fits, batch = fitted(name, labels)
    print("ready", flush=True)
    for line in sys.stdin:
        label, rows = line.rsplit(maxsplit=1)
        model, part = fits[label], batch[: int(rows)]
        print(seconds(partial(model.predict_proba, part)), flush=True)


class Side:
    """A process that fits models with one checkout of the package and answers when asked."""

    def __init__(self, folder: Path, name: str, labels: Sequence[str]) -> None:
        command = [sys.executable, __file__, "--serve", *labels, "--datasets", name]
        self.process = subprocess.Popen(  # noqa: S603
            command,
            env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.input: Any = self.process.stdin
        self.output: Any = self.process.stdout

    def line(self) -> str:
        """Wait for the next line of the process."""
        text: str = self.output.readline()
        if not text:
            raise SystemExit(f"a process ended with code {self.process.wait()}")
        return text

    def ask(self, label: str, rows: int) -> float:
        """Let the process answer so many rows by a model, and return the seconds."""
        self.input.write(f"{label} {rows}\n")
        self.input.flush()
        return float(self.line())

    def close(self) -> None:
        """End the process."""
        self.input.close()
        self.process.wait()


def said(met: bool) -> str:
    """Words for a bar that is met or not."""
    return "met" if met else "not met"


def in_turns(sides: dict[str, Side], turns: int) -> dict[tuple[str, str, int], float]:
    """Median seconds by side, model and rows; the first turn warms up."""
    times: dict[tuple[str, str, int], list[float]] = {}
    for side in sides.values():
        side.line()
    for turn in range(turns + 1):
        for label in (PEER, *BARS):
            for place, side in sides.items():
                for rows, count in ((ROWS, 1), (1, SINGLE)):
                    spent = [side.ask(label, rows) for _ in range(count)]
                    times.setdefault((place, label, rows), []).extend(spent if turn else [])
    return {key: statistics.median(values) for key, values in times.items()}


def measure(name: str, before: Path | None, turns: int) -> None:
    """Print one data set's figures."""
    here = Path(__file__).resolve().parents[1]
    sides = {"now": Side(here, name, [PEER, *BARS])}
    if before is not None:
        sides["before"] = Side(before, name, [PEER, *BARS])
    try:
        median = in_turns(sides, turns)
    finally:
        for side in sides.values():
            side.close()
    for label in (PEER, *BARS):
        spent, one = median["now", label, ROWS], 1000 * median["now", label, 1]
        words = [f"{name:12}{label:14}{ROWS / spent:9.0f} rows/s"]
        if label != PEER:
            bar, ratio = BARS[label], median["now", PEER, ROWS] / spent
            limit = "" if bar.peer is None else f" (bar {bar.peer}: {said(ratio >= bar.peer)})"
            words.append(f"{ratio:.3f} of the MLP's{limit}")
            if before is not None:
                gain = median["before", label, ROWS] / spent
                limit = f" (bar {bar.before}: {said(gain >= bar.before)})" if bar.before else ""
                words.append(f"{gain:.2f} times those before{limit}")
        limit = f" (bar {LATENCY:.0f} ms: {said(one < LATENCY)})" if label != PEER else ""
        if before is not None and label != PEER:
            limit += f", {1000 * median['before', label, 1]:.2f} ms before"
        print("; ".join([*words, f"one row {one:.2f} ms{limit}"]))


def parts(name: str, turns: int) -> None:
    """Print the microseconds a row that each part of an answer costs."""
    from rcml_misa.estimators.answering import Answerer

    fits, batch = fitted(name, list(BARS))
    for label, model in fits.items():
        answer, views = Answerer(model), model._check_rows(batch)
        blocks = list(answer.plan.blocks(views.arrays))
        readings = [answer.plan(views.arrays, rows) for rows in blocks]
        logits = [answer.logits(reading) for reading in readings]
        standings = [
            answer.standing(reading, each.witness)
            for reading, each in zip(readings, logits, strict=True)
        ]

        def judge(answer: Any = answer, pairs: Any = (readings, logits)) -> None:
            for reading, each in zip(*pairs, strict=True):
                answer.standing(reading, each.witness)

        def fuse(model: Any = model, pairs: Any = (logits, standings)) -> None:
            for each, standing in zip(*pairs, strict=True):
                model._fuse(each, standing, leave_out=False)

        def read(plan: Any = answer.plan, arrays: Any = views.arrays, cut: Any = blocks) -> None:
            for rows in cut:
                plan(arrays, rows)

        def every(part: Any, given: Any = readings) -> Callable[[], Any]:
            return lambda: [part(reading) for reading in given]

        steps: dict[str, Callable[[], Any]] = {
            "all": partial(model.predict_proba, batch),
            "checks": partial(model._check_rows, batch),
            "reading": read,
            "members": every(answer.scorer.score),
            "networks": every(answer.networks) if answer.networks else lambda: None,
            "logits": every(answer.logits),
            "standing": judge,
            "fusion": fuse,
        }
        spent = {
            step: statistics.median(seconds(call) for _ in range(turns))
            for step, call in steps.items()
        }
        listed = ", ".join(f"{step} {1e6 * value / ROWS:.1f}" for step, value in spent.items())
        print(f"{name:12}{label:14}us a row: {listed} (logits hold members and networks)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", default="PIE,HandWritten,Scene15")
    parser.add_argument("--before", type=Path, help="folder of an earlier checkout")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--serve", nargs="+", metavar="MODEL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        for name in given.datasets.split(","):
            if given.serve:
                serve(name, given.serve)
            elif given.parts:
                parts(name, given.turns)
            else:
                measure(name, given.before, given.turns)


if __name__ == "__main__":
    main()
