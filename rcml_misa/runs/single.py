"""One run of any data set: split, train, and score every test set on the one trained model."""

from __future__ import annotations

import inspect
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.calibration import recalibrate, temperature_scaled
from rcml_misa.datasets import Dataset, keep_views
from rcml_misa.estimators.registry import check_weights
from rcml_misa.exceptions import PresenceWarning, RcmlMisaError
from rcml_misa.metrics.answers import (
    Answers,
    ScoreAnswers,
    ask,
    ask_scores,
    confidence_bins,
    detection,
    ranking,
    ranking_above,
    risk_curve,
    score,
    uncertainty_scores,
)
from rcml_misa.metrics.scores import ause, class_scores, error_correlation, interval_scores
from rcml_misa.protocols import (
    BEST_TEST,
    EvaluationSet,
    Partition,
    RunSeeds,
    make_test_set,
    noise_views,
    only_tables,
    partition_rows,
    scale_leaky,
    spawn_seeds,
)
from rcml_misa.reading.preparer import TablePreparer
from rcml_misa.results import AFTER_SCALING, RunRecord
from rcml_misa.runs.tasks import (
    Event,
    Task,
    check_outputs,
    run_identity,
    throttled,
    write_outputs,
)
from rcml_misa.runs.watching import Watcher, epoch_recorders, target_scores
from rcml_misa.views import MultiView

__all__ = ["FittedTask", "current_versions", "fit_task", "run_task"]

WATCHED = ("clean", "conflict")  # test sets that checkpoints and best-test-epoch look at
LIBRARIES = ("rcml-misa", "numpy", "scipy", "scikit-learn", "torch")


@dataclass(frozen=True)
class FittedTask:
    """A trained estimator with the parts of the data that it belongs to.

    The data set has the views that the recipe keeps, prepared by what the train rows say where they
    are raw tables; the task has a protocol that is settled for it; `seconds` is the time of the
    training without that of looks at it, and `history` has measures of train, validation and test
    rows after each epoch, on request.
    """

    dataset: Dataset
    task: Task
    seeds: RunSeeds
    part: Partition
    estimator: Any
    watcher: Watcher
    seconds: float
    history: Mapping[str, Sequence[float]]

    def ask(self, views: MultiView) -> Answers:
        """Ask the estimator about rows of classes, in raw units."""
        return ask(self.estimator, self.scaled(views), len(self.dataset.classes))

    def predict(self, views: MultiView) -> ScoreAnswers:
        """Ask the estimator about rows of scores, in raw units."""
        return ask_scores(self.estimator, self.scaled(views))

    def scaled(self, views: MultiView) -> MultiView:
        """Bring rows into the units that the estimator is given."""
        return _scaled(self.dataset, self.task, views)

    def test_set(self, name: str) -> EvaluationSet:
        """Make a test set of this run, in raw units."""
        data = self.dataset
        return make_test_set(name, data.views, data.target, part=self.part, seeds=self.seeds)


def _prepared(dataset: Dataset, train: NDArray[np.int64]) -> Dataset:
    """Turn raw tables into numbers by what the train rows say.

    What a column is, such as a number or a date, is said by all rows, lest a rare word among the
    test rows be unreadable.
    """
    if "raw" not in dataset.views.kinds:
        return dataset
    preparer = TablePreparer().fit(dataset.views.take(train), kinds_of=dataset.views)
    return replace(dataset, views=preparer.transform(dataset.views))


def _scaled(dataset: Dataset, task: Task, views: MultiView) -> MultiView:
    """Scale with the ranges of all rows, for the recipes that leak on purpose."""
    return scale_leaky(views, ranges_of=dataset.views) if task.recipe.leaky else views


def task_rows(dataset: Dataset, task: Task) -> Partition:
    """Cut the parts of a task whose protocol is settled for the data set."""
    return partition_rows(
        dataset.target,
        protocol=task.protocol,
        seed=task.seed,
        run=task.run,
        groups=dataset.groups,
        folds=dataset.folds,
        valid_from=dataset.valid_from,
    )


def fit_task(
    dataset: Dataset,
    task: Task,
    *,
    part: Partition | None = None,
    report: Callable[[Event], None] = lambda _: None,
) -> FittedTask:
    """Split, do to the train rows what the protocol says, and train.

    Test rows take no part, unless the recipe or the selection is one that leaks by name. A `part`
    takes the place of the protocol's rows. Weights of the data set's rows count in the training
    alone. It is an `OptionError` if the data set can't follow the protocol, or the method lacks
    what is to be kept or takes no weights.
    """
    dataset = keep_views(dataset, task.recipe.keep)
    task = replace(task, protocol=task.protocol.for_dataset(dataset))
    seeds, protocol = spawn_seeds(task.seed), task.protocol
    part = task_rows(dataset, task) if part is None else part
    dataset = _prepared(dataset, part.train)
    estimator = task.recipe.build(seeds.model)
    check_outputs(estimator, task.outputs)

    def rows(numbers: NDArray[np.int64]) -> tuple[MultiView, NDArray[Any]]:
        return _scaled(dataset, task, dataset.views.take(numbers)), dataset.target[numbers]

    valid = rows(part.valid) if len(part.valid) else None
    tests: dict[str, tuple[MultiView, NDArray[Any]]] = {}
    if protocol.checkpoints or protocol.selection == BEST_TEST:
        for name in (name for name in protocol.test_sets if name in WATCHED):
            made = make_test_set(name, dataset.views, dataset.target, part=part, seeds=seeds)
            tests[name] = (_scaled(dataset, task, made.views), dataset.target[part.test])
    history: dict[str, list[float]] = {}
    parts = {"train": part.train, "valid": part.valid, "test": part.test}
    given = dataset
    if task.outputs.names:
        given = replace(dataset, views=_scaled(dataset, task, dataset.views))
    watcher = Watcher(
        estimator,
        protocol=protocol,
        valid=valid,
        tests=tests,
        also=throttled(task, report),
        others=epoch_recorders(estimator, given, task.outputs, parts, history),
    )
    taken = inspect.signature(estimator.fit).parameters
    options: dict[str, Any] = {"callback": watcher} if "callback" in taken else {}
    if "validation" in taken and valid is not None:
        options["validation"] = valid
    if dataset.weights is not None:
        check_weights(estimator, method=task.recipe.label)
        options["sample_weight"] = dataset.weights[part.train]
    train = rows(part.train)[0]
    started = time.perf_counter()
    with warnings.catch_warnings():  # who starts the runs says it once, of all rows
        warnings.simplefilter("ignore", PresenceWarning)
        estimator.fit(train, part.codes, **options)
    seconds = time.perf_counter() - started - watcher.seconds
    return FittedTask(dataset, task, seeds, part, estimator, watcher, seconds, history)


def run_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> RunRecord:
    """Train one variant on one split and score it on every test set of the protocol.

    Tables, sequences and texts, classes and scores, drawn and given splits all go this way.
    Nothing is chosen on test rows, but by name. The split and the test sets depend on the seed
    alone, so that variants compared share them. A test set that the method can't answer about is
    kept as a failure of that test set. A regression is scored on its validation rows too, as
    ``"valid"``; it has no conflictive copy, which takes classes. Errors are those of `fit_task`,
    and a `DataError` if a part is empty or the clean test rows get no answer.
    """
    fitted = fit_task(dataset, task, report=report)
    dataset, task, part, watcher = fitted.dataset, fitted.task, fitted.part, fitted.watcher
    classes = dataset.task == "classification"
    answer = fitted.ask if classes else fitted.predict
    answers: dict[str, Any] = {}
    made: dict[str, EvaluationSet] = {}
    failures: dict[str, str] = {}
    seconds = 0.0
    for name in task.protocol.test_sets:
        if name == "conflict" and not classes:
            continue
        watcher.load_best(name)
        started = time.perf_counter()
        try:
            made[name] = fitted.test_set(name)
            answers[name] = answer(made[name].views)
        except ValueError as error:
            if name == "clean":
                raise
            failures[name] = " ".join(str(error).split())
        if name == "clean":
            seconds = time.perf_counter() - started
    watcher.load_best("clean")
    outputs: dict[str, str] = {}
    if task.outputs.names:
        copy = made.get("conflict")
        outputs = write_outputs(
            replace(dataset, views=fitted.scaled(dataset.views)),
            task,
            fitted.estimator,
            test=part.test,
            views={name: fitted.scaled(made[name].views) for name in WATCHED if name in made},
            replaced=None if copy is None else copy.altered,
        )
    scored = _score_classes(fitted, answers, made) if classes else _score_scores(fitted, answers)
    return make_record(
        fitted,
        timing={"fit_seconds": fitted.seconds, "predict_seconds": seconds},
        history={**getattr(fitted.estimator, "history_", {}), **fitted.history},
        checkpoints=watcher.checkpoints,
        chosen=watcher.chosen,
        outputs=outputs,
        **{**scored, "failures": failures | scored.get("failures", {})},
    )


def make_record(fitted: FittedTask, **fields: Any) -> RunRecord:
    """Make the record of a task: what it depends on, and the other `fields`, measured ones."""
    task, part = fitted.task, fitted.part
    return RunRecord(
        default=task.recipe.default,
        versions=current_versions(),
        train_rows=len(part.train),
        test_rows=len(part.test),
        rows=part.test.tolist(),
        **run_identity(fitted.dataset, task, fitted.estimator),
        **fields,
    )


def current_versions() -> dict[str, str]:
    """Look up the versions of Python, this package and its libraries, as records state them."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def _score_scores(fitted: FittedTask, answers: Mapping[str, ScoreAnswers]) -> dict[str, Any]:
    """Fill the fields of a record from predicted scores; those about classes stay empty."""
    data, part = fitted.dataset, fitted.part
    metrics = {name: score_measures(data, answer, part.test) for name, answer in answers.items()}
    if len(part.valid):
        valid = fitted.predict(data.views.take(part.valid))
        metrics["valid"] = score_measures(data, valid, part.valid)
    return {"metrics": metrics}


def score_measures(
    data: Dataset, answer: ScoreAnswers, rows: NDArray[np.int64]
) -> dict[str, float]:
    """Measure predicted scores of some rows, and their intervals where there are some."""
    target, low, high = data.target[rows], answer.low, answer.high
    values = target_scores(data, answer.predicted, rows)
    if low is not None and high is not None:
        width, error = high - low, answer.predicted - target
        values |= interval_scores(low, high, target)
        values |= {"ause": ause(width, error), "doubt_corr": error_correlation(width, error)}
    return values


def sentiment_measures(data: Dataset, answer: Answers, rows: NDArray[np.int64]) -> dict[str, float]:
    """Measure answers about classes cut from scores by that scale; nothing for other classes."""
    if data.scores is None or data.class_values is None:
        return {}
    return class_scores(
        answer.probability, data.scores[rows], data.class_values, predicted=answer.predicted
    )


def _score_classes(
    fitted: FittedTask, answers: Mapping[str, Answers], made: Mapping[str, EvaluationSet]
) -> dict[str, Any]:
    """Fill the fields of a record from answers about rows of classes."""
    data, part, clean = fitted.dataset, fitted.part, answers["clean"]
    target = data.target[part.test]
    metrics: dict[str, dict[str, float]] = {}
    scores: dict[str, Any] = {}
    failures: dict[str, str] = {}
    for name, answer in answers.items():
        altered, copied = made[name].altered, made[name].copied
        metrics[name] = score(answer, target)
        scores[name] = {"errors": ranking(uncertainty_scores(answer), answer.predicted != target)}
        if altered is not None:
            ranked = ranking_above(answer, clean, altered)
            metrics[name] |= detection(ranked)
            if altered.any():
                scores[name]["altered"] = ranked
                if copied is not None:
                    metrics[name] |= _copies(answer.predicted == target, altered, copied)
        metrics[name] |= sentiment_measures(data, answer, part.test)
    if only_tables(data.views):
        rng = np.random.default_rng(fitted.seeds.noise)
        noise = noise_views(data.views, train=part.train, rows=len(part.test), rng=rng)
        flagged = fitted.ask(noise).uncertainty > np.quantile(clean.uncertainty, 0.95)
        metrics["clean"]["noise_flagged"] = float(flagged.mean())
    if len(part.held_out):
        unknown = fitted.ask(data.views.take(part.held_out))
        scores["clean"]["held_out"] = ranking_above(unknown, clean)
    bins = {name: confidence_bins(answer, target) for name, answer in answers.items()}
    if len(part.valid):
        try:
            valid, held = fitted.ask(data.views.take(part.valid)), data.target[part.valid]
            for name, answer in answers.items():
                metrics[name] |= recalibrate(valid, held, answer, target)
                scaled = replace(answer, probability=temperature_scaled(valid, held, answer))
                bins[name + AFTER_SCALING] = confidence_bins(scaled, target)
        except RcmlMisaError as error:
            failures["valid"] = str(error)
    return {
        "metrics": metrics,
        "bins": bins,
        "correct": {
            name: "".join("01"[int(right)] for right in answer.predicted == target)
            for name, answer in answers.items()
        },
        "scores": scores,
        "curves": {name: risk_curve(answer, target) for name, answer in answers.items()},
        "failures": failures,
    }


def _copies(
    right: NDArray[np.bool_], altered: NDArray[np.bool_], copied: NDArray[np.bool_]
) -> dict[str, float]:
    """Measure how much of a conflict is copies of train rows, and the accuracy on those."""
    measures = {"copied_share": float(copied.sum() / altered.sum())}
    for word, rows in (("copied", copied), ("not_copied", altered & ~copied)):
        measures[f"accuracy_{word}"] = float(right[rows].mean()) if rows.any() else float("nan")
    return measures
