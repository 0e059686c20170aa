"""Views that do not belong to their row: who detects such rows, and who names the view.

Sensors: four groups of columns, four classes, 2500 train and 5000 test rows, of which 560 have one
lying group, by turns that of a test row of another class or noise of three deviations. Printed are
the AUROC of the largest gain, of uncertainty and of conflict for these rows; the share of them in
which the liar has the largest gain, in which it is named past the limit that 5 % of other, clean
rows exceed, and in which it is `suspect`; the clean rows that are accused; accuracies with
``suspect="report"`` and ``"exclude"``, with views judged by the agreement of their opinions alone,
as a model without `membership_` judges them, and with the true liar left out, which is the best
that exclusion can do; the same for groups shifted by five deviations, one at a time. The Bayes
detector knows the true densities; nothing can rank or name better.

Real sets: one view of 20 % of the test rows is that of a test row of another class, or of any
other row, or is shifted by five deviations of the train rows. FPR95: the false positive rate at
which 95 % of the rows of the published conflictive copy are found among their own clean selves, by
fused uncertainty and by the largest gain: of the rows with a replaced view, which is
`conflict_fpr95` of a run's record, and of all rows. More than half of all rows are not altered,
and no score tells these from themselves, so that what R-FUML published is beside the former. Its
split, noise and share of altered rows may be others; figures are no more than near each other.

Cost: seconds of `Membership.fit` over those of the whole fit, and prediction with gains over that
without.

    python benchmarks/suspect.py [--methods rcml-misa,ridge-expert,rcml] [--seeds 5] [--each]
        [--datasets PIE,HandWritten,Scene15] [--conflict HandWritten,Scene15,LandUse21]
        [--runs 3] [--parts sensors,cost,sets,fpr95]
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_limits

from rcml_misa.datasets import load_dataset
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.pooling import PoolingClassifier
from rcml_misa.estimators.registry import Recipe, recipe
from rcml_misa.experts.membership import Membership
from rcml_misa.metrics import auroc, fpr95
from rcml_misa.protocols import Protocol
from rcml_misa.protocols.corruptions import far_views, take_each
from rcml_misa.reporting import Number, Numbers, Table, render
from rcml_misa.reporting.comparison import published_figures
from rcml_misa.runs.single import fit_task
from rcml_misa.runs.tasks import Task
from rcml_misa.views import MultiView, dense

WIDTHS = {"vib": 8, "temp": 5, "elec": 6, "proc": 7}
CLASSES, DISTANCE, COMMON, NOISE = 4, 0.7, 0.5, 3.0
TRAIN, TEST, CORRUPTED, CLEAN = 2500, 5000, 560, 2000
SHIFT = 5.0  # standard deviations
ACCUSED = 0.05  # share of clean rows past the limit
SHARE = 0.2  # of a real set's test rows with a corrupted view
WIDE = 160  # characters of a printed line
TURNS = 7  # timed predictions
SETS_APART = "calibration_fraction=0.1"  # for methods whose limits need rows of their own
Array = NDArray[np.float64]
Names = NDArray[np.str_]
Measures = dict[str, float]

BARS = {
    "AUROC, largest gain": ">= .88",
    "liar has the largest gain": ">= .82",
    "liar named, 5 % accused": ">= .60",
    "shifted group named, least": "1",
    "shifted, exclude - group absent": ">= -.005",
    "corrupted, exclude - by agreement": ">= .03",
    "clean, exclude - report": ">= -.002",
}


class Sensors(NamedTuple):
    """Train rows, test rows and their clean selves, their liars ('' for none), class means."""

    train: MultiView
    labels: NDArray[np.int64]
    test: MultiView
    target: NDArray[np.int64]
    liar: Names
    clean: MultiView
    means: Mapping[str, Array]


def make_sensors(seed: int) -> Sensors:
    """Draw the rows of a seed."""
    rng = np.random.default_rng(seed)
    means = {name: DISTANCE * rng.normal(size=(CLASSES, width)) for name, width in WIDTHS.items()}

    def rows(count: int) -> tuple[dict[str, Array], NDArray[np.int64]]:
        codes = rng.integers(CLASSES, size=count)
        common = COMMON * rng.normal(size=(count, 1))
        tables = {n: m[codes] + common + rng.normal(size=(count, m.shape[1])) for n, m in pairs}
        return tables, codes

    pairs = list(means.items())
    (train, labels), (clean, target) = rows(TRAIN), rows(TEST)
    test = {name: table.copy() for name, table in clean.items()}
    names, liar = list(WIDTHS), np.full(TEST, "", dtype="U8")
    for place, row in enumerate(rng.choice(TEST, CORRUPTED, replace=False)):
        liar[row] = name = names[rng.integers(len(names))]
        if place % 2:
            test[name][row] = NOISE * rng.normal(size=WIDTHS[name])
        else:
            test[name][row] = clean[name][rng.choice(np.flatnonzero(target != target[row]))]
    parts = MultiView(train), labels, MultiView(test), target, liar, MultiView(clean)
    return Sensors(*parts, means)


def bayes(data: Sensors) -> Measures:
    """Detect and name liars with the true densities, the best that can be done."""

    def logs(tables: MultiView, names: Sequence[str]) -> Array:
        """Log densities (n, K) of some groups of a row, given its class."""
        values = np.concatenate([dense(tables[name]) for name in names], axis=1)
        centres = np.concatenate([data.means[name] for name in names], axis=1)
        width = values.shape[1]
        normal = multivariate_normal(np.zeros(width), np.eye(width) + COMMON**2)
        return np.stack([normal.logpdf(values - centre) for centre in centres], axis=1)

    def odds(tables: MultiView) -> Array:
        """Log odds (n, N) that each group alone lies, but for a constant."""
        whole, result = logsumexp(logs(tables, tables.names), axis=1), []
        for name in tables.names:
            own, rest = logs(tables, [name]), logs(tables, [n for n in tables.names if n != name])
            total = np.exp(own).sum(axis=1, keepdims=True)
            swapped = np.log((total - np.exp(own)) / (CLASSES - 1))  # of another class
            width = WIDTHS[name]
            noise = multivariate_normal(np.zeros(width), NOISE**2 * np.eye(width))
            drawn = np.asarray(noise.logpdf(dense(tables[name])))[:, None]
            result.append(logsumexp(rest + np.logaddexp(swapped, drawn), axis=1) - whole)
        return np.stack(result, axis=1)

    return detected(odds(data.test), odds(data.clean.take(slice(CLEAN))), data.liar, WIDTHS)


def detected(gains: Array, clean: Array, liar: Names, names: Sequence[str] | Any) -> Measures:
    """Measure gains (n, N) of rows with liars, and of clean rows that set a limit."""
    largest, corrupted = gains.max(axis=1), liar != ""
    right = np.array(list(names))[gains.argmax(axis=1)] == liar
    limit = np.quantile(clean.max(axis=1), 1 - ACCUSED)
    return {
        "AUROC, largest gain": auroc(largest, corrupted),
        "liar has the largest gain": float(right[corrupted].mean()),
        "liar named, 5 % accused": float((right & (largest > limit))[corrupted].mean()),
    }


def gains_of(opinion: MultiViewOpinion) -> Array:
    """Gains (n, N) of views, below all others where a row lacks the view."""
    if opinion.view_gains is None:
        raise SystemExit("the method has no gains of views")
    return np.nan_to_num(opinion.view_gains, nan=-2.0)


def accuracy(opinion: MultiViewOpinion, target: NDArray[Any], rows: Any = slice(None)) -> float:
    """Accuracy on some of the rows."""
    return float((opinion.predicted == target)[rows].mean())


def without(views: MultiView, liar: Names) -> MultiView:
    """Leave each row's true liar out."""
    tables = {name: dense(array).copy() for name, array in views.items()}
    for name, table in tables.items():
        table[liar == name] = np.nan
    return MultiView(tables)


def measured(
    model: Any, test: MultiView, clean: MultiView, target: NDArray[Any], liar: Names
) -> Measures:
    """Measure what a model says of rows of which some have a liar, and of their clean selves."""
    said, usual = model.predict_opinion(test), model.predict_opinion(clean)
    corrupted = liar != ""
    best = model.predict_opinion(without(test, liar))
    measures = detected(gains_of(said), gains_of(usual)[:CLEAN], liar, test.names)
    measures |= {
        "AUROC, uncertainty": auroc(said.uncertainty, corrupted),
        "AUROC, conflict": auroc(said.conflict, corrupted),
        "suspect == liar": float((said.suspect == liar)[corrupted].mean()),
        "clean rows accused": float((usual.suspect != "").mean()),
        "clean, report": accuracy(usual, target),
        "clean, exclude": accuracy(usual.without_suspect, target),
        "corrupted, report": accuracy(said, target, corrupted),
        "corrupted, exclude": accuracy(said.without_suspect, target, corrupted),
        "corrupted, true liar left out": accuracy(best, target, corrupted),
        "corrupted, own clean selves": accuracy(usual, target, corrupted),
    }
    if getattr(model, "membership_", None) is not None:
        with patch.object(model, "membership_", None):
            plain = accuracy(model.predict_opinion(test), target, corrupted)
        measures["corrupted, by agreement"] = plain
        rise = measures["corrupted, exclude"] - plain
        measures["corrupted, exclude - by agreement"] = rise
    measures["clean, exclude - report"] = measures["clean, exclude"] - measures["clean, report"]
    return measures


def shifted(model: Any, clean: MultiView, target: NDArray[Any]) -> Measures:
    """Shift one group of all rows by five deviations, each group in turn."""
    each: list[Measures] = []
    usual = float(model.predict_opinion(clean).uncertainty.mean())
    for name in clean.names:
        table = dense(clean[name])
        said = model.predict_opinion(clean.replace({name: table + SHIFT * table.std(axis=0)}))
        absent = model.predict_opinion(clean.replace({name: np.full_like(table, np.nan)}))
        each.append(
            {
                "shifted group named, least": float((said.suspect == name).mean()),
                "uncertainty, clean": usual,
                "uncertainty, shifted": float(said.uncertainty.mean()),
                "uncertainty, shifted, exclude": float(said.without_suspect.uncertainty.mean()),
                "uncertainty, group absent": float(absent.uncertainty.mean()),
                "shifted, report": accuracy(said, target),
                "shifted, exclude": accuracy(said.without_suspect, target),
                "group absent": accuracy(absent, target),
            }
        )
    result = {key: float(np.mean([one[key] for one in each])) for key in each[0]}
    least = "shifted group named, least"
    result[least] = min(measures[least] for measures in each)
    result["shifted, exclude - group absent"] = result["shifted, exclude"] - result["group absent"]
    return result


def configured(method: str) -> Recipe:
    """Configure a method; its limits are set on rows that it is not fitted on."""
    plain = recipe(method)
    apart = plain.build(0).get_params(deep=False).get("calibration_fraction") == 0
    return recipe(method, options=[SETS_APART]) if apart else plain


@contextmanager
def timed_memberships() -> Iterator[list[float]]:
    """Collect the seconds of every `Membership.fit`."""
    seconds: list[float] = []
    plain = Membership.fit

    def fit(self: Membership, *args: Any, **options: Any) -> Membership:
        started = time.perf_counter()
        result = plain(self, *args, **options)
        seconds.append(time.perf_counter() - started)
        return result

    with patch.object(Membership, "fit", fit):
        yield seconds


def cost(model: Any, rows: MultiView, whole: float, inner: Sequence[float]) -> Measures:
    """Seconds of a fit, the share of `Membership` in them, and the cost of predicting gains.

    Opinions about the rows are asked with gains, without them, and without `Membership`, in turns;
    ratios are of medians.
    """
    forms: dict[str, dict[str, Any]] = {"with gains": {}}
    if isinstance(model, PoolingClassifier):
        plain = partial(model._fuse, leave_out=False)
        forms["without gains"] = {"_fuse": plain}
        forms["without Membership"] = {"_fuse": plain, "membership_": None}
    else:
        forms["without gains"] = {"_without_each": lambda *_: (None, None)}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(TURNS + 1):
        for name, values in forms.items():
            with patch.multiple(model, **values) if values else nullcontext():
                started = time.perf_counter()
                model.predict_opinion(rows)
            if turn:  # the first warms up
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    base = median.pop("with gains")
    measures = {"fit, s": whole, "fit, share of Membership": sum(inner) / whole}
    measures["predict 1000 rows, ms"] = 1e6 * base / rows.n_samples
    return measures | {f"predict, over {name}": base / time_ for name, time_ in median.items()}


def sensors(methods: Sequence[str], seeds: int, costs: bool) -> dict[str, list[Measures]]:
    """Measure every method, and the Bayes detector, on every seed."""
    results: dict[str, list[Measures]] = {method: [] for method in methods}
    results["Bayes"] = []
    for seed in range(seeds):
        data = make_sensors(seed)
        for method in methods:
            model = configured(method).build(seed)
            started = time.perf_counter()
            with timed_memberships() as inner:
                model.fit(data.train, data.labels)
            whole = time.perf_counter() - started
            measures = measured(model, data.test, data.clean, data.target, data.liar)
            measures |= shifted(model, data.clean, data.target)
            if costs:
                measures |= cost(model, data.test, whole, inner)
            results[method].append(measures)
        results["Bayes"].append(bayes(data))
    return results


def real(method: str, dataset: str, runs: int, costs: bool) -> dict[str, list[Measures]]:
    """Measure a method on a data set's test rows with corrupted views, by the kind of these."""
    results: dict[str, list[Measures]] = {"another class": [], "shuffled": [], "shifted": []}
    data = load_dataset(dataset)
    for run in range(runs):
        with timed_memberships() as inner:
            fitted = fit_task(data, Task(configured(method), 0, run, run, Protocol()))
        part, model, target = fitted.part, fitted.estimator, data.target[fitted.part.test]
        codes = np.searchsorted(model.classes_, target)
        clean, count = data.views.take(part.test), len(part.test)
        rng = np.random.default_rng(run)
        rows = rng.choice(count, size=round(SHARE * count), replace=False)
        view = rng.integers(clean.n_views, size=len(rows))
        liar = np.full(count, "", dtype="U32")
        liar[rows] = np.array(clean.names)[view]
        other, anyone = (np.tile(np.arange(count)[:, None], clean.n_views) for _ in range(2))
        other[rows, view] = [rng.choice(np.flatnonzero(codes != codes[row])) for row in rows]
        anyone[rows, view] = (rows + rng.integers(1, count, size=len(rows))) % count
        far = far_views(data.views, train=part.train, rows=part.test, deviations=SHIFT)
        moved = {
            name: np.where((liar == name)[:, None], dense(far[name]), dense(array))
            for name, array in clean.items()
        }
        tests = take_each(clean, other), take_each(clean, anyone), MultiView(moved)
        for kind, test in zip(results, tests, strict=True):
            said = measured(model, fitted.scaled(test), fitted.scaled(clean), target, liar)
            if costs and kind == "another class":
                said |= cost(model, fitted.scaled(test), fitted.seconds, inner)
            results[kind].append(said)
    return results


def conflicts(method: str, dataset: str, runs: int) -> list[Measures]:
    """Find the false positive rates of the published conflictive copy of a data set."""
    data, results = load_dataset(dataset), []
    for run in range(runs):
        fitted = fit_task(data, Task(configured(method), 0, run, run, Protocol()))
        made = fitted.test_set("conflict")
        said, usual = (
            fitted.estimator.predict_opinion(fitted.scaled(views))
            for views in (made.views, fitted.test_set("clean").views)
        )
        rates: Measures = {}
        every = np.ones(len(said.evidence), dtype=bool)
        altered = every if made.altered is None else made.altered
        for word, rows in (("replaced rows", altered), ("all rows", every)):
            positive = np.repeat([True, False], rows.sum())
            for name in ("uncertainty", "suspect_gain"):
                scores = [getattr(opinion, name)[rows] for opinion in (said, usual)]
                rates[f"{name}, {word}"] = fpr95(np.concatenate(scores), positive)
        results.append(rates)
    return results


def published(dataset: str) -> dict[str, list[Measures]]:
    """Look up the published rates of a data set."""
    figures = published_figures(dataset=dataset)
    return {
        figure.name: [{"uncertainty, replaced rows": figure.conflict_fpr95 / 100}]
        for figure in figures
        if figure.conflict_fpr95 is not None
    }


def table(title: str, results: Mapping[str, Sequence[Measures]], *, each: bool) -> Table:
    """Lay out the means of measures, a column for each of the results, also of each seed."""
    measures = dict.fromkeys(key for runs in results.values() for one in runs for key in one)
    barred = bool(set(measures) & set(BARS)) and "Bayes" in results

    def cell(runs: Sequence[Measures], measure: str) -> Number | Numbers:
        values = [one.get(measure, float("nan")) for one in runs]
        mean = Number(float(np.mean(values)), digits=3)
        if not each or len(values) < 2:
            return mean
        numbers = (mean, *(Number(value, digits=3) for value in values))
        return Numbers(numbers, "{} (" + " ".join(["{}"] * len(values)) + ")")

    rows = [
        [
            measure,
            *([BARS.get(measure, "")] if barred else []),
            *(cell(runs, measure) for runs in results.values()),
        ]
        for measure in measures
    ]
    headings = ["measure", *(["bar"] if barred else []), *results]
    return Table.of(title, headings, rows)


def main() -> None:
    """Measure what is asked for, and print a table as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="rcml-misa")
    parser.add_argument("--seeds", type=int, default=5, help="of the sensors, from 0")
    parser.add_argument("--datasets", default="PIE,HandWritten,Scene15")
    parser.add_argument("--conflict", default="HandWritten,Scene15,LandUse21")
    parser.add_argument("--runs", type=int, default=3, help="of the real sets, seeds from 0")
    parser.add_argument("--parts", default="sensors,cost,sets,fpr95")
    parser.add_argument("--each", action="store_true", help="print every seed beside the mean")
    given = parser.parse_args()
    methods, parts = given.methods.split(","), given.parts.split(",")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)

    def show(title: str, results: Mapping[str, Sequence[Measures]]) -> None:
        print(render([table(title, results, each=given.each)], "text", width=WIDE), flush=True)

    with threadpool_limits(1):
        if "sensors" in parts:
            show(
                f"Sensors, {given.seeds} seed(s)",
                sensors(methods, given.seeds, "cost" in parts),
            )
        for name in given.datasets.split(",") if "sets" in parts else ():
            for method in methods:
                title = f"{name}, {method}, {given.runs} run(s)"
                show(title, real(method, name, given.runs, "cost" in parts))
        for name in given.conflict.split(",") if "fpr95" in parts else ():
            rates = {method: conflicts(method, name, given.runs) for method in methods}
            show(f"{name}: FPR95 of conflict, {given.runs} run(s)", rates | published(name))


if __name__ == "__main__":
    main()
