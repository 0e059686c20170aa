"""What a run can leave behind beside its record: epochs, answers and features per sample."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.metrics.answers import ask
from rcml_misa.metrics.sentiment import class_scores, regression_scores, sims_scores
from rcml_misa.results import record_stem
from rcml_misa.runs.kept import loss_recorder, write_kept
from rcml_misa.runs.watching import asking
from rcml_misa.storage import write_text

if TYPE_CHECKING:
    from rcml_misa.runs.tasks import Task
    from rcml_misa.views import MultiView

__all__ = [
    "RunOutputs",
    "epoch_recorders",
    "in_turn",
    "keep_for_figures",
    "target_scores",
    "write_features",
    "write_outputs",
    "write_samples",
]

Callback = Callable[[Any], None]


@dataclass(frozen=True)
class RunOutputs:
    """What to keep of each run.

    Attributes
    ----------
    folder : Path, optional
        Where files go.
    per_epoch : bool
        Score train, validation and test rows after each epoch, into the record's history.
    samples, features : bool
        Write a CSV of the test rows' answers; an npz of all rows' features.
    keep : tuple of str
        What figures need: keys of `rcml_misa.runs.kept.KEEPABLE`.
    """

    folder: Path | None = None
    per_epoch: bool = False
    samples: bool = False
    features: bool = False
    keep: tuple[str, ...] = ()


def _guess(estimator: Any, views: MultiView) -> NDArray[Any]:
    """Scores of a regression (n,), or scores of classes (n, K), at any time of the training."""
    if not hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict(views))
    if hasattr(estimator, "predict_opinion"):
        return np.asarray(estimator.predict_opinion(views).evidence)
    return np.asarray(estimator.predict_proba(views))


def target_scores(
    dataset: Dataset, guess: NDArray[Any], rows: NDArray[np.int64]
) -> dict[str, float]:
    """Score answers to some rows: accuracy of classes, and what the sentiment scale allows."""
    if dataset.task == "regression":
        measure = sims_scores if dataset.score_limit == 1 else regression_scores
        return measure(guess, dataset.target[rows])
    found = {"accuracy": float((guess.argmax(axis=1) == dataset.target[rows]).mean())}
    if dataset.scores is not None and dataset.class_values is not None:
        found |= class_scores(guess, dataset.scores[rows], dataset.class_values)
    return found


def epoch_recorders(
    estimator: Any,
    dataset: Dataset,
    outputs: RunOutputs,
    parts: Mapping[str, NDArray[np.int64]],
    history: dict[str, list[float]],
) -> list[Callback]:
    """Callbacks for `fit` that write into `history` what `outputs` asks for after each epoch.

    What they find selects nothing: the estimator never sees it.

    Parameters
    ----------
    estimator : estimator
    dataset : Dataset
    outputs : RunOutputs
    parts : mapping of str to ndarray of int
        Row numbers of ``train``, ``valid`` and ``test``; empty parts are left out.
    history : dict
        Receives a list per part and measure.
    """
    found = []
    if outputs.per_epoch:
        used = {name: rows for name, rows in parts.items() if len(rows)}
        found.append(_scores_recorder(estimator, dataset, used, history))
    if "history" in outputs.keep:
        held = "valid" if len(parts["valid"]) else "test"
        pair = {name: parts[name] for name in ("train", held)}
        found.append(loss_recorder(estimator, dataset.views, dataset.target, pair, history))
    return found


def in_turn(callbacks: Sequence[Callback]) -> Callback:
    """One callback that calls each of them."""

    def callback(progress: Any) -> None:
        for one in callbacks:
            one(progress)

    return callback


def _scores_recorder(
    estimator: Any,
    dataset: Dataset,
    parts: Mapping[str, NDArray[np.int64]],
    history: dict[str, list[float]],
) -> Callback:
    def record(_: Any) -> None:
        with asking(estimator):
            for name, rows in parts.items():
                guess = _guess(estimator, dataset.views.take(rows))
                for measure, value in target_scores(dataset, guess, rows).items():
                    history.setdefault(f"{name} {measure}", []).append(value)

    return record


def write_samples(
    path: Path,
    dataset: Dataset,
    rows: NDArray[np.int64],
    *,
    predicted: NDArray[Any],
    uncertainty: NDArray[np.float64] | None = None,
) -> None:
    """A CSV of some rows: id, label, prediction, and uncertainty where the method states one.

    Raises
    ------
    DataError
        If it can't be written.
    """
    names = rows if dataset.ids is None else dataset.ids[rows]
    labels: Any = dataset.target[rows]
    if dataset.task == "classification":
        labels = [dataset.classes[code] for code in labels]
        predicted = np.array([dataset.classes[int(code)] for code in predicted])
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "label", "prediction", "uncertainty"])
    doubts = [""] * len(rows) if uncertainty is None else [f"{one:.6g}" for one in uncertainty]
    for name, label, guess, doubt in zip(names, labels, predicted, doubts, strict=True):
        writer.writerow([name, label, guess, doubt])
    write_text(path, stream.getvalue())


def write_features(path: Path, estimator: Any, dataset: Dataset, views: MultiView) -> None:
    """An npz of all rows: id, target, and the private, shared and fused features.

    Raises
    ------
    OptionError
        If the method has no such features.
    DataError
        If it can't be written.
    """
    if not hasattr(estimator, "extract_features"):
        raise OptionError(
            f"{type(estimator).__name__} has no private, shared and fused features; leave "
            "--save-features out."
        )
    found = estimator.extract_features(views)
    ids = np.arange(views.n_samples) if dataset.ids is None else dataset.ids
    temporary = path.with_name(f".writing-{uuid4().hex}.npz")
    try:
        np.savez_compressed(
            temporary,
            allow_pickle=False,
            id=ids,
            target=dataset.target,
            private=found.private.astype(np.float32),
            shared=found.shared.astype(np.float32),
            fused=found.fused.astype(np.float32),
        )
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path} can't be written ({error.strerror}); give another --out folder."
        ) from error


def keep_for_figures(
    dataset: Dataset, task: Task, estimator: Any, views: Mapping[str, MultiView], **rows: Any
) -> None:
    """Write what figures need beside the run's record; see `write_kept`."""
    path = _beside(dataset, task, "kept.npz")
    write_kept(path, estimator, views, keep=task.outputs.keep, classes=len(dataset.classes), **rows)


def write_outputs(dataset: Dataset, task: Task, estimator: Any, test: NDArray[np.int64]) -> None:
    """Write the test rows' answers and all rows' features, where a task asks for them."""
    if task.outputs.samples:
        views = dataset.views.take(test)
        doubt = None
        if dataset.task == "regression":
            predicted = estimator.predict(views)
        else:
            answers = ask(estimator, views, len(dataset.classes))
            predicted, doubt = answers.predicted, answers.uncertainty
        path = _beside(dataset, task, "samples.csv")
        write_samples(path, dataset, test, predicted=predicted, uncertainty=doubt)
    if task.outputs.features:
        write_features(_beside(dataset, task, "features.npz"), estimator, dataset, dataset.views)


def _beside(dataset: Dataset, task: Task, end: str) -> Path:
    """Where a file beside the run's record goes."""
    recipe = task.recipe
    stem = record_stem(dataset.name, recipe.method, recipe.variant, task.seed)
    return (task.outputs.folder or Path()) / f"{stem}-{end}"
