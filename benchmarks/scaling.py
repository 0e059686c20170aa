"""Seconds and peak memory of a fit against rows, views, columns and classes, beside peers.

One number at a time moves away from a base point. Every point is fitted on one core in a process
of its own, whose wall-clock seconds, prediction of 1000 rows, accuracy on fresh rows and peak
memory (all its processes, libraries and data included) are appended to a csv as they come. A point
that takes more than `--seconds` or `--gigabytes` is stopped, and larger ones of that method along
that axis are left out, as are points that would be far beyond by extrapolation of the last two; the
csv and the page say so. The same command goes on where it was stopped, larger bounds try what
smaller ones left out; points of another commit stay until their lines are removed from the csv.
From a million rows on tables are memory maps.

    python benchmarks/scaling.py --plan               # hours to expect
    python benchmarks/scaling.py [--methods rcml-misa,mlp] [--rows 1000,10000] [--views ""]
    python benchmarks/scaling.py --page               # docs/costs.md and docs/costs.svg, of the csv
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from journal import append
from measurements import AXES, Measured, Measurement, Point, along, measured
from methods import OURS, PEERS, build, reads_views
from mixtures import mapped, write_arrays
from processes import commit_of, run_bounded

ROOT = Path(__file__).parents[1]
CSV = ROOT / "benchmarks" / "costs.csv"
PAGE = ROOT / "docs" / "costs.md"
MAPPED_ROWS = 1_000_000  # from here on tables are memory maps
TEST_ROWS, TIMED_ROWS, CALLS = 2000, 1000, 3
START_SECONDS = 4.0  # of a process that imports the libraries, for plans

MARGIN, FIRST_SLOPE = 1.5, 0.5  # a point is left out only where it is clear that it takes too long
#: Processor seconds at the base point, roughly, for plans before anything is measured.
REFERENCE = {
    "rcml-misa": 90.0,
    "expert=ridge": 80.0,
    "expert=none": 80.0,
    "kernel-expert": 26.0,
    "ridge-expert": 6.0,
    "rcml": 65.0,
    "mlp": 6.5,
    "hist-gradient-boosting": 20.0,
    "lightgbm": 20.0,
    "rbf-svm": 3.6,
}


def measure(folder: Path, method: str, point: Point) -> dict[str, float]:
    """Fit and ask a method in this process about the tables in a folder."""
    import psutil

    warnings.simplefilter("ignore")
    estimator, in_maps = build(method), point.rows >= MAPPED_ROWS

    def table(views: Mapping[str, Any], maps: bool = False) -> Any:
        if not reads_views(method):
            return np.hstack(list(views.values()))
        from rcml_misa.views import MultiView

        return MultiView(views if maps else {name: np.array(view) for name, view in views.items()})

    if reads_views(method):
        import torch

        torch.set_num_threads(1)
    start = psutil.Process().memory_info().rss / 1e6
    clocks = time.perf_counter(), time.process_time()
    views, codes = mapped(folder / "train", point.mixture)
    estimator.fit(table(views, in_maps), codes)
    wall, processor = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
    views, codes = mapped(folder / "test", point.mixture)
    parts = [
        table({name: view[part] for name, view in views.items()})
        for part in (slice(TIMED_ROWS), slice(TIMED_ROWS, None))
    ]
    predicted = np.concatenate([estimator.predict(part) for part in parts])
    calls = []
    for _ in range(CALLS):
        started = time.perf_counter()
        estimator.predict(parts[0])
        calls.append(time.perf_counter() - started)
    return {
        "fit_seconds": wall,
        "cpu_seconds": processor,
        "predict_ms": 1000 * statistics.median(calls) * 1000 / TIMED_ROWS,
        "start_mb": start,
        "accuracy": float((predicted == codes).mean()),
        "mapped": int(in_maps),
    }


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent between the last two of the values, from 0 to 3; a low one where there is one."""
    if len(sizes) < 2:
        return FIRST_SLOPE
    ratio = math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])
    return min(max(ratio, 0.0), 3.0)


def expected_seconds(results: Measured, method: str, axis: str, point: Point) -> float | None:
    """Extrapolate from smaller points of an axis; infinite where one was stopped, None for want."""
    smaller = sorted(
        (
            row
            for (name, other), row in results.items()
            if name == method
            and row.ending != "failed"
            and replace(other, **{axis: 0}) == replace(point, **{axis: 0})
            and getattr(other, axis) < getattr(point, axis)
        ),
        key=lambda row: getattr(row, axis),
    )
    if not smaller:
        return None
    if smaller[-1].ending != "done":
        return math.inf
    sizes = [float(getattr(row, axis)) for row in smaller if row.ending == "done"]
    seconds = [row.fit_seconds for row in smaller if row.ending == "done"]
    ratio: float = getattr(point, axis) / sizes[-1]
    return float(seconds[-1] * ratio ** slope(sizes, seconds))


def is_final(row: Measurement | None, given: argparse.Namespace) -> bool:
    """Whether a point needs no further try within these bounds."""
    return row is not None and bool(
        row.ending in ("done", "failed")
        or (row.seconds_bound >= given.seconds and row.gigabytes_bound >= given.gigabytes)
    )


def run_point(folder: Path, method: str, point: Point, given: argparse.Namespace) -> Measurement:
    """Measure a method at a point in a process of its own."""
    task = json.dumps([str(folder), method, list(astuple(point))])
    usage = run_bounded(
        [sys.executable, __file__, "--task", task],
        seconds=given.seconds,
        gigabytes=given.gigabytes,
        environment={"PYTHONPATH": str(given.code)},
    )
    facts = json.loads(usage.output.splitlines()[-1]) if usage.ending == "done" else {}
    return Measurement(
        method=method,
        **asdict(point),
        ending=usage.ending,
        seconds_bound=given.seconds,
        gigabytes_bound=given.gigabytes,
        peak_mb=usage.peak_mb,
        note=usage.error if usage.ending == "failed" else "",
        commit=given.commit,
        **facts,
    )


@dataclass
class Folder:
    """Temporary tables of one point, made when they are first asked for."""

    point: Point

    def __enter__(self) -> Folder:
        self._folder = tempfile.TemporaryDirectory()
        self.path = Path(self._folder.name)
        self._made = False
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def tables(self) -> Path:
        """Folder with train and test tables."""
        if not self._made:
            rows, mixture = self.point.rows, self.point.mixture
            need = 4 * (rows + TEST_ROWS) * mixture.views * mixture.columns
            free = shutil.disk_usage(self.path).free
            if need > 0.8 * free:
                raise SystemExit(
                    f"{self.path} has {free / 1e9:.1f} GB free and {rows} rows take "
                    f"{need / 1e9:.1f} GB; name a larger disk by TMPDIR."
                )
            for seed, (part, count) in enumerate((("train", rows), ("test", TEST_ROWS))):
                (self.path / part).mkdir()
                write_arrays(self.path / part, mixture, count, seed=seed)
            self._made = True
        return self.path


def tell(row: Measurement, axis: str) -> None:
    """Print one line of a measurement."""
    what = f"{axis} {getattr(row, axis)}: {row.method}"
    if row.ending == "done":
        print(
            f"{what}: {row.fit_seconds:.2f} s, {row.cpu_seconds:.2f} s of processor, peak "
            f"{row.peak_mb:.0f} MB, predict {row.predict_ms:.0f} ms per 1000 rows, accuracy "
            f"{row.accuracy:.3f}",
            flush=True,
        )
        return
    reason = {
        "time": f"stopped after {row.seconds_bound:g} s",
        "memory": f"stopped above {row.gigabytes_bound:g} GB",
        "expected": f"left out, more than {row.seconds_bound:g} s expected",
        "failed": f"failed: {row.note}",
    }[row.ending]
    print(f"{what}: {reason}", flush=True)


def run(given: argparse.Namespace) -> None:
    """Measure whatever the csv lacks."""
    results = measured(given.csv)
    for axis, point in points(given):
        with Folder(point) as folder:
            for method in given.methods:
                if is_final(results.get((method, point)), given):
                    continue
                seconds = expected_seconds(results, method, axis, point)
                if seconds is not None and seconds > MARGIN * given.seconds:
                    row = Measurement(
                        method=method,
                        **asdict(point),
                        ending="expected",
                        seconds_bound=given.seconds,
                        gigabytes_bound=given.gigabytes,
                    )
                else:
                    row = run_point(folder.tables(), method, point, given)
                append(given.csv, row)
                results[method, point] = row
                tell(row, axis)


def points(given: argparse.Namespace) -> Iterator[tuple[str, Point]]:
    """All points, axis by axis; the base point counts along every axis."""
    for axis in AXES:
        for point in along(axis, getattr(given, axis), given.base):
            yield axis, point


def plan(given: argparse.Namespace) -> float:
    """Print the hours to expect of what the csv lacks; a point has at most `--seconds`."""
    results, total, counted = measured(given.csv), 0.0, set()
    for method in given.methods:
        for axis in AXES:
            minutes, beyond = 0.0, []
            for point in along(axis, getattr(given, axis), given.base):
                if is_final(results.get((method, point)), given) or (method, point) in counted:
                    continue
                counted.add((method, point))
                seconds = expected_seconds(results, method, axis, point)
                if seconds is None:
                    ratio = getattr(point, axis) / getattr(given.base, axis)
                    seconds = REFERENCE[method] * ratio
                if seconds > MARGIN * given.seconds:
                    beyond.append(getattr(point, axis))
                else:
                    minutes += (START_SECONDS + min(seconds, given.seconds)) / 60
            total += minutes
            left = f"; left out: {', '.join(map(str, beyond))}" if beyond else ""
            print(f"{method:24}{axis:9}{minutes:8.1f} minutes{left}")
    print(f"{total / 60:.1f} hours, if seconds grow as so far, else in proportion")
    return total


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(float(part)) for part in text.split(",") if part)

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=",".join([*OURS, *PEERS]))
    for axis, sizes in AXES.items():
        parser.add_argument(f"--{axis}", type=numbers, default=sizes, help="sizes; '' for none")
    parser.add_argument(
        "--base",
        type=lambda text: Point(*numbers(text)),
        default=Point(),
        help="rows, views, columns of each and classes, by default 10000,3,30,10",
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="most of one point")
    parser.add_argument("--gigabytes", type=float, default=16.0, help="most of one point")
    parser.add_argument("--csv", type=Path, default=CSV)
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout whose code is measured")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--page", nargs="?", type=Path, const=PAGE)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    given.methods = given.methods.split(",")
    if unknown := set(given.methods) - {*OURS, *PEERS}:
        parser.error(f"no method {', '.join(sorted(unknown))}; choose from {[*OURS, *PEERS]}")
    return given


def main(words: Sequence[str] | None = None) -> None:
    given = arguments(words)
    if given.task:
        folder, method, sizes = json.loads(given.task)
        print(json.dumps(measure(Path(folder), method, Point(*sizes))))
        return
    if given.page:
        from scaling_page import write

        write(given.page, list(measured(given.csv).values()), given.base)
        return
    if "lightgbm" in given.methods and find_spec("lightgbm") is None:
        print("lightgbm is not installed and is left out: pip install 'rcml-misa[benchmarks]'")
        given.methods.remove("lightgbm")
    if given.plan:
        plan(given)
        return
    given.commit = commit_of(given.code)
    run(given)


if __name__ == "__main__":
    main()
