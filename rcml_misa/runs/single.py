"""One run: split, train, and score every test set on the one trained model."""

from __future__ import annotations

import inspect
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import OptionError, RcmlMisaError
from rcml_misa.metrics.answers import (
    Answers,
    ask,
    confidence_bins,
    detection,
    mend,
    ranking,
    risk_curve,
    score,
    uncertainty_scores,
)
from rcml_misa.protocols import (
    BEST_TEST,
    EvaluationSet,
    Partition,
    Protocol,
    RunSeeds,
    make_test_set,
    noise_views,
    partition_rows,
    scale_leaky,
    spawn_seeds,
)
from rcml_misa.protocols.folds import keep_views
from rcml_misa.results import RunRecord, plain
from rcml_misa.runs.kept import check_keep
from rcml_misa.runs.outputs import epoch_recorders, keep_for_figures, write_outputs
from rcml_misa.runs.tasks import Event, Task, protocol_config, recipe_config, throttled
from rcml_misa.runs.watching import Watcher
from rcml_misa.views import MultiView

__all__ = ["FittedTask", "fit_task", "run_task", "versions"]

WATCHED = ("clean", "conflict")  # test sets that checkpoints and best-test-epoch look at
LIBRARIES = ("rcml-misa", "numpy", "scipy", "scikit-learn", "torch")


def versions() -> dict[str, str]:
    """Versions of Python, this package and its libraries."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


@dataclass(frozen=True)
class FittedTask:
    """A trained estimator with the parts of the data that it belongs to.

    Attributes
    ----------
    dataset : Dataset
    task : Task
    seeds : RunSeeds
    part : Partition
    estimator : estimator
    watcher : Watcher
    seconds : float
        Of training, without those of looking on.
    history : dict of str to list of float
        What was noted of train, validation and test rows after each epoch, on request.
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
        """What the estimator says of rows in raw units."""
        return ask(self.estimator, _scaled(self.dataset, self.task, views), self.classes)

    @property
    def classes(self) -> int:
        """Number of classes of the data set."""
        return len(self.dataset.classes)

    def test_set(self, name: str) -> EvaluationSet:
        """Make a test set of this run, in raw units."""
        data = self.dataset
        return make_test_set(name, data.views, data.target, part=self.part, seeds=self.seeds)


def _scaled(dataset: Dataset, task: Task, views: MultiView) -> MultiView:
    """Scale with the ranges of all rows, for the recipes that leak on purpose."""
    return scale_leaky(views, ranges_of=dataset.views) if task.recipe.leaky else views


def _as_fitted(dataset: Dataset, task: Task) -> Dataset:
    """The data set in the units that the estimator is given."""
    return replace(dataset, views=_scaled(dataset, task, dataset.views))


def fit_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> FittedTask:
    """Split, do to the train rows what the protocol says, and train.

    Test rows take no part, unless the recipe or the selection is one that leaks by name.
    """
    seeds, protocol = spawn_seeds(task.seed), task.protocol
    dataset = keep_views(dataset, task.recipe.keep)
    part = partition_rows(
        dataset.target,
        protocol=protocol,
        seed=task.seed,
        run=task.run,
        groups=dataset.groups,
        folds=dataset.folds,
    )
    estimator = task.recipe.build(seeds.model)

    def rows(numbers: NDArray[np.int64]) -> tuple[MultiView, NDArray[np.int64]]:
        return _scaled(dataset, task, dataset.views.take(numbers)), dataset.target[numbers]

    valid = rows(part.valid) if len(part.valid) else None
    tests: dict[str, tuple[MultiView, NDArray[np.int64]]] = {}
    if protocol.checkpoints or protocol.selection == BEST_TEST:
        for name in (one for one in protocol.test_sets if one in WATCHED):
            made = make_test_set(name, dataset.views, dataset.target, part=part, seeds=seeds)
            tests[name] = (_scaled(dataset, task, made.views), dataset.target[part.test])
    check_keep(estimator, task.outputs.keep)
    history: dict[str, list[float]] = {}
    numbers = {"train": part.train, "valid": part.valid, "test": part.test}
    watcher = Watcher(
        estimator,
        protocol=protocol,
        valid=valid,
        tests=tests,
        also=throttled(task, report),
        others=epoch_recorders(
            estimator, _as_fitted(dataset, task), task.outputs, numbers, history
        ),
    )
    taken = inspect.signature(estimator.fit).parameters
    options: dict[str, Any] = {"callback": watcher} if "callback" in taken else {}
    if "validation" in taken and valid is not None:
        options["validation"] = valid
    train = rows(part.train)[0]
    started = time.perf_counter()
    estimator.fit(train, part.codes, **options)
    seconds = time.perf_counter() - started - watcher.seconds
    return FittedTask(dataset, task, seeds, part, estimator, watcher, seconds, history)


def run_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> RunRecord:
    """Train one variant on one split and score it on every test set of the protocol.

    Nothing is chosen on test rows, but by name. The split and the test sets depend on the seed
    alone, so that variants compared share them. A test set that the method can't answer about is
    kept as a failure of that test set.
    """
    if _splits_itself(dataset, task):
        from rcml_misa.runs.splits import run_split_task  # which needs this module

        return run_split_task(dataset, task, report=report)
    fitted = fit_task(dataset, task, report=report)
    part, protocol, watcher = fitted.part, task.protocol, fitted.watcher
    target = dataset.target[part.test]
    answers: dict[str, Answers] = {}
    made: dict[str, EvaluationSet] = {}
    failures: dict[str, str] = {}
    seconds = 0.0
    for name in protocol.test_sets:
        watcher.load_best(name)
        started = time.perf_counter()
        try:
            made[name] = fitted.test_set(name)
            answers[name] = fitted.ask(made[name].views)
        except ValueError as error:
            if name == "clean":
                raise
            failures[name] = " ".join(str(error).split())
        if name == "clean":
            seconds = time.perf_counter() - started
    watcher.load_best("clean")
    _leave(fitted, made)
    record = RunRecord(
        dataset=dataset.name,
        method=task.recipe.method,
        variant=task.recipe.variant,
        default=task.recipe.default,
        run=task.run,
        seed=task.seed,
        config=plain(recipe_config(task.recipe, fitted.estimator)),
        versions=versions(),
        data_sha256=dataset.sha256,
        train_rows=len(part.train),
        test_rows=len(part.test),
        metrics={name: _measures(name, answers, made, target) for name in answers},
        bins={name: confidence_bins(one, target) for name, one in answers.items()},
        timing={"fit_seconds": fitted.seconds, "predict_seconds": seconds},
        history={**getattr(fitted.estimator, "history_", {}), **fitted.history},
        protocol=protocol_config(protocol),
        rows=[int(row) for row in part.test],
        correct={name: _digits(one.predicted == target) for name, one in answers.items()},
        scores={name: _rankings(name, answers, made, target) for name in answers},
        curves={name: risk_curve(one, target) for name, one in answers.items()},
        checkpoints=watcher.checkpoints,
        chosen=watcher.chosen,
        failures=failures,
    )
    return _with_extras(record, fitted, answers)


def _leave(fitted: FittedTask, made: Mapping[str, EvaluationSet]) -> None:
    """Write what the task asks for beside its record."""
    dataset, task, test = fitted.dataset, fitted.task, fitted.part.test
    if task.outputs.keep:
        views = {name: _scaled(dataset, task, made[name].views) for name in WATCHED if name in made}
        copy = made.get("conflict")
        keep_for_figures(
            dataset,
            task,
            fitted.estimator,
            views,
            target=dataset.target[test],
            replaced=None if copy is None else copy.altered,
        )
    write_outputs(_as_fitted(dataset, task), task, fitted.estimator, test)


def _splits_itself(dataset: Dataset, task: Task) -> bool:
    """Whether the data set brings its split, or something else that the protocols don't know.

    Raises
    ------
    OptionError
        If a protocol is asked for that such a data set can't follow.
    """
    plain = task.protocol == Protocol()
    tables = not {"sequence", "text"} & set(dataset.views.kinds)
    known = dataset.task == "classification" and tables and dataset.scores is None
    if known:
        return dataset.folds is not None and plain
    if not plain:
        raise OptionError(
            f"{dataset.name} with these options keeps its own split and test sets; leave --split, "
            "--test-sets and the other options of the protocol out."
        )
    return True


def _digits(flags: NDArray[np.bool_]) -> str:
    """One digit per row, 1 for right."""
    return "".join("1" if flag else "0" for flag in flags)


def _measures(
    name: str,
    answers: dict[str, Answers],
    made: dict[str, EvaluationSet],
    target: NDArray[np.int64],
) -> dict[str, float]:
    found = score(answers[name], target)
    altered, copied = made[name].altered, made[name].copied
    if altered is None:
        return found
    found |= detection(answers["clean"], answers[name], altered)
    if copied is not None and altered.any():
        right = answers[name].predicted == target
        found["copied_share"] = float(copied.sum() / altered.sum())
        for word, rows in (("copied", copied), ("not_copied", altered & ~copied)):
            found[f"accuracy_{word}"] = float(right[rows].mean()) if rows.any() else float("nan")
    return found


def _rankings(
    name: str,
    answers: dict[str, Answers],
    made: dict[str, EvaluationSet],
    target: NDArray[np.int64],
) -> dict[str, dict[str, dict[str, float]]]:
    """How each uncertainty score ranks errors, and altered rows above their clean selves."""
    doubts = uncertainty_scores(answers[name])
    found = {"errors": ranking(doubts, answers[name].predicted != target)}
    altered = made[name].altered
    if altered is not None and altered.any():
        clean = uncertainty_scores(answers["clean"])
        both = {key: np.concatenate([doubts[key][altered], clean[key][altered]]) for key in doubts}
        found["altered"] = ranking(both, np.repeat([True, False], int(altered.sum())))
    return found


def _with_extras(record: RunRecord, fitted: FittedTask, answers: dict[str, Answers]) -> RunRecord:
    """Add what noise rows, rows of unknown classes and rows held back tell."""
    data, part, clean = fitted.dataset, fitted.part, answers["clean"]
    target = data.target[part.test]
    metrics = {name: dict(found) for name, found in record.metrics.items()}
    scores = {name: dict(found) for name, found in record.scores.items()}
    failures = dict(record.failures)
    rng = np.random.default_rng(fitted.seeds.noise)
    noise = noise_views(data.views, train=part.train, rows=len(part.test), rng=rng)
    unsure = fitted.ask(noise).uncertainty > np.quantile(clean.uncertainty, 0.95)
    metrics["clean"]["noise_flagged"] = float(unsure.mean())
    if len(part.held_out):
        strange = uncertainty_scores(fitted.ask(data.views.take(part.held_out)))
        known = uncertainty_scores(clean)
        both = {key: np.concatenate([strange[key], known[key]]) for key in known}
        flags = np.repeat([True, False], [len(part.held_out), len(part.test)])
        scores["clean"]["held_out"] = ranking(both, flags)
    if len(part.valid):
        try:
            valid = fitted.ask(data.views.take(part.valid))
            for name, found in answers.items():
                metrics[name] |= mend(valid, data.target[part.valid], found, target)
        except RcmlMisaError as error:
            failures["valid"] = str(error)
    return replace(record, metrics=metrics, scores=scores, failures=failures)
