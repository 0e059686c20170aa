"""Runs on given splits: classes or scores, views of any kind, and files beside the record."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rcml_misa.datasets import Dataset
from rcml_misa.metrics.answers import ask, confidence_bins, detection, score
from rcml_misa.metrics.intervals import ause, error_correlation, interval_scores
from rcml_misa.metrics.sentiment import class_scores
from rcml_misa.protocols import conflict_views, noise_views, scale_leaky, spawn_seeds
from rcml_misa.protocols.folds import Split, keep_views, split_of, swap_views
from rcml_misa.results import RunRecord, plain
from rcml_misa.runs import Event, Task, protocol_config, recipe_config, throttled, versions
from rcml_misa.runs.kept import check_keep
from rcml_misa.runs.outputs import (
    epoch_recorders,
    in_turn,
    keep_for_figures,
    target_scores,
    write_outputs,
)

__all__ = ["run_split_task"]


def run_split_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> RunRecord:
    """Train one variant on the data set's own split, or a random one, and score it.

    The test rows choose nothing. Classes are scored on clean rows and on their conflictive copy,
    a regression on clean rows, and also on the validation rows (``"valid"``) where there are any.

    Parameters
    ----------
    dataset : Dataset
    task : Task
        Its recipe's `keep` names the views that are used; its `outputs` what is written.
    report : callable
        Called with the training's progress.
    """
    seeds = spawn_seeds(task.seed)
    dataset = keep_views(dataset, task.recipe.keep)
    split = split_of(dataset, rng=np.random.default_rng(seeds.split))
    estimator = task.recipe.build(seeds.model)
    check_keep(estimator, task.outputs.keep)
    history: dict[str, list[float]] = {}
    options = _fit_options(dataset, task, estimator, split, history, report)
    if dataset.task == "regression":
        found = _run_regression(dataset, task, split, estimator, options)
    else:
        found = _run_classification(dataset, task, split, estimator, options)
    write_outputs(dataset, task, estimator, split.test)
    return RunRecord(
        dataset=dataset.name,
        method=task.recipe.method,
        variant=task.recipe.variant,
        default=task.recipe.default,
        run=task.run,
        seed=task.seed,
        config=plain(recipe_config(task.recipe, estimator)),
        versions=versions(),
        data_sha256=dataset.sha256,
        train_rows=len(split.train),
        test_rows=len(split.test),
        metrics=found.metrics,
        bins=found.bins,
        timing=found.timing,
        history={**getattr(estimator, "history_", {}), **history},
        protocol=protocol_config(task.protocol),
        rows=[int(row) for row in split.test],
    )


@dataclass(frozen=True)
class _Found:
    """What a run scored, and how long it took."""

    metrics: Mapping[str, Mapping[str, float]]
    timing: Mapping[str, float]
    bins: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)


def _fit_options(
    dataset: Dataset,
    task: Task,
    estimator: Any,
    split: Split,
    history: dict[str, list[float]],
    report: Callable[[Event], None],
) -> dict[str, Any]:
    """What else than rows the estimator's `fit` takes: validation rows, a callback."""
    known = inspect.signature(estimator.fit).parameters
    options: dict[str, Any] = {}
    if "validation" in known and len(split.valid):
        options["validation"] = (dataset.views.take(split.valid), dataset.target[split.valid])
    if "callback" in known:
        parts = {"train": split.train, "valid": split.valid, "test": split.test}
        recorders = epoch_recorders(estimator, dataset, task.outputs, parts, history)
        options["callback"] = in_turn([throttled(task, report), *recorders])
    return options


def _run_regression(
    dataset: Dataset, task: Task, split: Split, estimator: Any, options: Mapping[str, Any]
) -> _Found:
    """Scores on the clean test rows, and on the validation rows that selected the epoch."""
    started = time.perf_counter()
    estimator.fit(dataset.views.take(split.train), dataset.target[split.train], **options)
    fitted = time.perf_counter()
    metrics = {"clean": _target_scores(dataset, estimator, split.test)}
    predicted = time.perf_counter()
    if len(split.valid):
        metrics["valid"] = _target_scores(dataset, estimator, split.valid)
    if task.outputs.keep:
        views = {"clean": dataset.views.take(split.test)}
        keep_for_figures(dataset, task, estimator, views)
    timing = {"fit_seconds": fitted - started, "predict_seconds": predicted - fitted}
    return _Found(metrics, timing)


def _target_scores(dataset: Dataset, estimator: Any, rows: np.ndarray) -> dict[str, float]:
    views = dataset.views.take(rows)
    if not hasattr(estimator, "predict_interval"):
        return target_scores(dataset, estimator.predict(views), rows)
    low, high = estimator.predict_interval(views)
    guess, doubt = (low + high) / 2, high - low
    error = guess - dataset.target[rows]
    found = interval_scores(low, high, dataset.target[rows])
    found |= {"ause": ause(doubt, error), "doubt_corr": error_correlation(doubt, error)}
    return target_scores(dataset, guess, rows) | found


def _run_classification(
    dataset: Dataset, task: Task, split: Split, estimator: Any, options: Mapping[str, Any]
) -> _Found:
    """Scores on the clean test rows and on their conflictive copy."""
    seeds, target, classes = spawn_seeds(task.seed), dataset.target, len(dataset.classes)
    train, test = split.train, split.test
    tables = not {"sequence", "text"} & set(dataset.views.kinds)
    rng = np.random.default_rng(seeds.corruption)
    copy = (
        conflict_views(dataset.views, target, train=train, test=test, rng=rng)
        if tables
        else swap_views(dataset.views, target, test=test, rng=rng)
    )
    parts = [dataset.views.take(train), dataset.views.take(test), copy.views]
    if tables:
        chance = np.random.default_rng(seeds.noise)
        parts.append(noise_views(dataset.views, train=train, rows=len(test), rng=chance))
    if task.recipe.leaky:
        parts = [scale_leaky(part, ranges_of=dataset.views) for part in parts]
    started = time.perf_counter()
    estimator.fit(parts[0], target[train], **options)
    fitted = time.perf_counter()
    clean = ask(estimator, parts[1], classes)
    predicted = time.perf_counter()
    conflict = ask(estimator, parts[2], classes)
    metrics = {
        "clean": score(clean, target[test]),
        "conflict": {**score(conflict, target[test]), **detection(clean, conflict, copy.replaced)},
    }
    if tables:
        threshold = np.quantile(clean.uncertainty, 0.95)
        unsure = ask(estimator, parts[3], classes).uncertainty > threshold
        metrics["clean"]["noise_flagged"] = float(unsure.mean())
    if dataset.scores is not None and dataset.class_values is not None:
        for name, answers in (("clean", clean), ("conflict", conflict)):
            metrics[name] |= class_scores(
                answers.probability,
                dataset.scores[test],
                dataset.class_values,
                predicted=answers.predicted,
            )
    if task.outputs.keep:
        views = {"clean": parts[1], "conflict": parts[2]}
        keep_for_figures(
            dataset, task, estimator, views, target=target[test], replaced=copy.replaced
        )
    return _Found(
        metrics=metrics,
        bins={
            "clean": confidence_bins(clean, target[test]),
            "conflict": confidence_bins(conflict, target[test]),
        },
        timing={"fit_seconds": fitted - started, "predict_seconds": predicted - fitted},
    )
