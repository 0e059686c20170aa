"""A trial of a search: one setting, scored on train rows of a split and never on its test rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.metrics.answers import score
from rcml_misa.protocols import Partition, spawn_seeds
from rcml_misa.protocols.plan import NO_ROWS
from rcml_misa.protocols.splits import fold_rows
from rcml_misa.results import RunRecord
from rcml_misa.runs.single import (
    FittedTask,
    fit_task,
    make_record,
    score_measures,
    sentiment_measures,
    task_rows,
)
from rcml_misa.runs.tasks import Event, Task
from rcml_misa.runs.watching import Watcher, target_scores

__all__ = ["INNER", "check_metric", "inner_folds", "tune_task"]

INNER = "inner"  # name of the scored rows among a record's metrics
FOLDS = 3  # inner folds, where no validation rows are scored
CLASS_MEASURES = (
    *("accuracy", "nll", "macro_f1", "balanced_accuracy", "brier", "ece", "adaptive_ece"),
    *("aurc", "augrc", "accuracy_at_80", "accuracy_at_90", "auroc_errors"),
)


def tune_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> RunRecord:
    """Score one setting of a method on the train rows of a split.

    With ``task.inner`` of 2 or more the train rows are cut into so many folds, which keep groups
    together and else are stratified by class where every class has a row for each; with 1 the
    split's validation rows are scored. The split's test rows are left out before anything is
    fitted. No fit sees the rows that it is scored on.

    Returns
    -------
    RunRecord
        Its `metrics` hold the means over the folds, under ``"inner"``, and its `rows` the numbers
        of the scored rows. A setting that can't be fitted or scored has no metrics, and its
        `failures` say why under the same name.

    Raises
    ------
    OptionError
        If the protocol or the scaling looks at test rows.
    DataError
        If the split has no validation rows to score, or its train rows can't be cut.
    """
    task = replace(task, protocol=task.protocol.for_dataset(dataset))
    if task.recipe.leaky or task.protocol.leaky:
        what = "selection=best-test-epoch" if task.protocol.leaky else "scaling=paper-leaky"
        raise OptionError(f"{what} looks at test rows, which a search must not; leave it out.")
    part = task_rows(dataset, task)
    known = _without_test(dataset, part)
    pieces = list(_pieces(known, task, trained=len(part.train)))
    trial = replace(task, protocol=replace(task.protocol, checkpoints=()))
    seeds = spawn_seeds(task.seed)
    scored: list[dict[str, float]] = []
    seconds, failures = 0.0, {}
    try:
        for piece in pieces:
            fitted = fit_task(known, trial, part=piece, report=report)
            seconds += fitted.seconds
            scored.append(_measures(fitted))
    except ValueError as error:  # a setting that does not suit the data ends this trial alone
        failures[INNER] = " ".join(str(error).split())
    rows = np.concatenate([part.train, part.valid])[np.concatenate([each.test for each in pieces])]
    estimator = task.recipe.build(seeds.model)
    shell = FittedTask(
        dataset=dataset,
        task=task,
        seeds=seeds,
        part=replace(part, test=np.sort(rows)),
        estimator=estimator,
        watcher=Watcher(estimator, protocol=task.protocol, valid=None, tests={}),
        seconds=seconds,
        history={},
    )
    return make_record(
        shell,
        metrics={INNER: {} if failures else _means(scored)},
        timing={"fit_seconds": seconds},
        failures=failures,
    )


def inner_folds(dataset: Dataset, task: Task, *, asked: int | None = None) -> int:
    """Settle the inner folds of a search, and check that the task's split has rows for them.

    Without a number asked for it is 1, the validation rows, where the split has some that choose
    no epoch, else 3. Errors are those of `tune_task`, and a `DataError` for train rows of one
    class.
    """
    task = replace(task, protocol=task.protocol.for_dataset(dataset))
    part = task_rows(dataset, task)
    free = len(part.valid) and task.protocol.selection == "last"
    count = asked or (1 if free else FOLDS)
    known = _without_test(dataset, part)
    for piece in _pieces(known, replace(task, inner=count), trained=len(part.train)):
        if dataset.task == "classification" and len(np.unique(piece.codes)) < 2:
            raise DataError(
                f"{dataset.name} has train rows of one class only in an inner fold; a search needs "
                "two classes or more there."
            )
    return count


def check_metric(dataset: Dataset, metric: str | None) -> str:
    """Settle the measure that a search is after: accuracy of classes, mae of scores by default.

    A name that no trial on this data set measures is an `OptionError`.

    Examples
    --------
    >>> from rcml_misa.datasets import load_dataset
    >>> check_metric(load_dataset("digits"), None), check_metric(load_dataset("digits"), "nll")
    ('accuracy', 'nll')
    """
    rows = np.arange(min(len(dataset.target), 2))
    if dataset.task == "regression":
        names: Sequence[str] = list(target_scores(dataset, dataset.target[rows], rows))
    else:
        certain = np.eye(len(dataset.classes))[dataset.target[rows]]
        names = list(dict.fromkeys([*CLASS_MEASURES, *target_scores(dataset, certain, rows)]))
    metric = metric or ("accuracy" if dataset.task == "classification" else "mae")
    if metric not in names:
        raise OptionError(
            f"--metric {metric} is not measured on {dataset.name}; {nearest(metric, names)}"
        )
    return metric


def _without_test(dataset: Dataset, part: Partition) -> Dataset:
    """Reduce a data set to a split's train rows, then its validation rows.

    Train rows have the targets that they are trained on.
    """
    rows = np.concatenate([part.train, part.valid])

    def some(values: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if values is None else values[rows]

    return replace(
        dataset,
        views=dataset.views.take(rows),
        target=np.concatenate([part.codes, dataset.target[part.valid]]),
        groups=some(dataset.groups),
        scores=some(dataset.scores),
        ids=some(dataset.ids),
        weights=some(dataset.weights),
        folds=None,
        valid_from=None,
    )


def _pieces(known: Dataset, task: Task, *, trained: int) -> Iterator[Partition]:
    """Cut the first `trained` rows into folds, or score those after them."""
    train, valid = np.split(np.arange(len(known.target)), [trained])
    if task.inner == 1:
        if not len(valid):
            raise DataError(
                f"the split of {known.name} has no validation rows to score; give --inner 3, or "
                "hold some back with --valid-share 0.2."
            )
        yield Partition(train, known.target[train], NO_ROWS, valid, NO_ROWS)
        return
    strata = None
    if known.task == "classification":
        least = int(np.unique(known.target[train], return_counts=True)[1].min())
        strata = known.target[train] if least >= task.inner else None
    groups = None if known.groups is None else known.groups[train]
    for fold in range(task.inner):
        rng = spawn_seeds(task.seed).test_set("inner folds")
        rest, held = fold_rows(
            trained, folds=task.inner, fold=fold, rng=rng, target=strata, groups=groups
        )
        yield Partition(rest, known.target[rest], valid, held, NO_ROWS)


def _measures(fitted: FittedTask) -> dict[str, float]:
    """Measure the answers of a fit about the rows that it is scored on."""
    data, rows = fitted.dataset, fitted.part.test
    views = data.views.take(rows)
    if data.task == "regression":
        return score_measures(data, fitted.predict(views), rows)
    answers = fitted.ask(views)
    return {**score(answers, data.target[rows]), **sentiment_measures(data, answers, rows)}


def _means(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each measure over the folds; NaN where a fold's is."""
    return {name: float(np.mean([fold[name] for fold in scored])) for name in scored[0]}
