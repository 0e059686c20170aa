"""Time and peak memory of the default as rows grow, beside an earlier state of the code.

Rows of 3 views of width 300 and 50 classes lie in memory maps of float32. Each size runs in a
process of its own on one core, the present state and the earlier one in turns; peak memory is that
of all its processes, data included. Bars at the largest size, meant for 200,000 rows: at most a
fifth of the earlier state's time, and at most 2 GB. Results are appended to `--csv`, if one is
named, as they come; the same command, on the same commits, goes on where it was stopped.

    python benchmarks/scale.py [--rows 25000,50000,100000,200000] [--before FOLDER] [--csv FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from journal import append, read
from processes import commit_of, run_bounded

ROOT = Path(__file__).parents[1]
VIEWS, WIDTH, CLASSES, BLOCK = 3, 300, 50, 10_000
SHARE, GIGABYTES = 1 / 5, 2.0  # bars
TEST_ROWS = 2000


@dataclass(frozen=True)
class Result:
    """One fit: state of the code and its commit, rows, and what it took; a row of the csv."""

    state: str
    commit: str
    rows: int
    ending: str
    seconds: float
    peak_mb: float
    accuracy: float
    note: str

    def __str__(self) -> str:
        told = f"{self.rows:>7} rows, {self.state} ({self.commit}): "
        if self.ending != "done":
            return told + f"{self.ending} at {self.peak_mb / 1e3:.2f} GB {self.note}".rstrip()
        return told + (
            f"{self.seconds:.0f} s, peak {self.peak_mb / 1e3:.2f} GB, "
            f"{1e6 * self.seconds / self.rows:.0f} us a row, accuracy {self.accuracy:.3f} on "
            "train rows"
        )


def write_tables(folder: Path, rows: int) -> None:
    """Write synthetic rows block by block: a file per view, and their classes."""
    rng = np.random.default_rng(0)
    target = rng.integers(CLASSES, size=rows)
    np.save(folder / "target.npy", target)
    for view in range(VIEWS):
        centres = rng.normal(size=(CLASSES, WIDTH)) / 4
        path = folder / f"view{view + 1}.npy"
        table = np.lib.format.open_memmap(path, "w+", np.float32, (rows, WIDTH))
        for start in range(0, rows, BLOCK):
            codes = target[start : start + BLOCK]
            table[start : start + BLOCK] = rng.standard_normal((len(codes), WIDTH)) + centres[codes]
        table.flush()


def measure(folder: Path) -> dict[str, float | str]:
    """Train on the rows of a folder in this process; seconds and accuracy on train rows."""
    import torch

    import rcml_misa
    from rcml_misa.estimators import RCMLMISAClassifier
    from rcml_misa.views import MultiView

    torch.set_num_threads(1)
    paths = sorted(folder.glob("view*.npy"))
    target = np.load(folder / "target.npy")
    started = time.perf_counter()
    table = MultiView({path.stem: np.load(path, mmap_mode="r") for path in paths})
    model = RCMLMISAClassifier(device="cpu", random_state=0).fit(table, target)
    seconds = time.perf_counter() - started
    some = slice(0, TEST_ROWS)
    right = float((model.predict(table.take(some)) == target[some]).mean())
    return {"seconds": seconds, "accuracy": right, "code": str(Path(rcml_misa.__file__).parents[1])}


def run(state: str, code: Path, folder: Path, rows: int, given: argparse.Namespace) -> Result:
    """Train one state of the code in a process of its own."""
    usage = run_bounded(
        [sys.executable, __file__, "--task", str(folder)],
        seconds=given.seconds,
        gigabytes=given.gigabytes,
        environment={"PYTHONPATH": str(code)},
    )
    facts = json.loads(usage.output.splitlines()[-1]) if usage.ending == "done" else {}
    if facts and Path(facts["code"]) != code:
        raise SystemExit(f"the code of {facts['code']} ran in place of that of {code}.")
    return Result(
        state,
        commit_of(code),
        rows,
        usage.ending,
        facts.get("seconds", usage.seconds),
        usage.peak_mb,
        facts.get("accuracy", math.nan),
        usage.error if usage.ending == "failed" else "",
    )


def compare(now: Result, before: Result | None) -> None:
    """Print the bars of one size."""
    peak = now.peak_mb / 1e3
    state = "met" if now.ending == "done" and peak <= GIGABYTES else "not met"
    print(f"peak {peak:.2f} GB; bar, at most {GIGABYTES:g} GB: {state}")
    if before is None:
        return
    if now.ending != "done" or before.ending != "done":
        print("ratio of seconds: not measured")
        return
    share = now.seconds / before.seconds
    state = "met" if share <= SHARE else "not met"
    print(
        f"{share:.3f} of the earlier state's seconds, {now.peak_mb / before.peak_mb:.2f} of its "
        f"peak; bar, at most {SHARE:g} of its seconds: {state}"
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="25000,50000,100000,200000")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier state")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--seconds", type=float, default=3600.0, help="most of one fit")
    parser.add_argument("--gigabytes", type=float, default=16.0, help="most of one fit")
    parser.add_argument("--task", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.task:
        print(json.dumps(measure(given.task)))
        return
    codes = {"now": ROOT}
    if given.before:
        codes["before"] = given.before.resolve()
    earlier = (
        {}
        if given.csv is None
        else {
            (row.commit, row.rows): row for row in read(given.csv, Result) if row.ending == "done"
        }
    )
    results: dict[str, Result] = {}
    for rows in (int(text) for text in given.rows.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            for state, code in codes.items():
                result = earlier.get((commit_of(code), rows))
                if result is None:
                    if not any(Path(folder).iterdir()):
                        write_tables(Path(folder), rows)
                    result = run(state, code, Path(folder), rows, given)
                    if given.csv is not None:
                        append(given.csv, result)
                results[state] = result
                print(result, flush=True)
        compare(results["now"], results.get("before"))


if __name__ == "__main__":
    main()
