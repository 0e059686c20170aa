"""Tasks to run, their progress, and the files that a run leaves beside its record."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import Recipe
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.metrics.answers import ask
from rcml_misa.protocols import Protocol, spawn_seeds
from rcml_misa.results import RunRecord, plain, record_stem
from rcml_misa.storage import whole_file, write_text
from rcml_misa.views import MultiView

__all__ = [
    "KEEPABLE",
    "Event",
    "Kept",
    "RunFailure",
    "RunOutputs",
    "Task",
    "kept_path",
    "parse_keep",
    "plan_tasks",
    "read_kept",
    "split_known",
]

#: what can be kept -> the figures that it is for.
KEEPABLE = {
    "history": "losses",
    "codes": "subspaces",
    "attention": "attention",
    "opinions": "conflict, uncertainty, calibration",
}
# what an estimator must have for it
NEEDED = {"history": "loss_terms", "codes": "extract_features", "attention": "mean_attention"}
QUIET = 0.2  # least seconds between two events of one task
REMEDY = "give another --out folder"
Array = NDArray[Any]


@dataclass(frozen=True)
class RunOutputs:
    """Files that each run leaves beside its record."""

    folder: Path | None = None
    per_epoch: bool = False  # scores of train, validation and test rows, into the record's history
    samples: bool = False  # a CSV of the test rows' answers
    features: bool = False  # an npz of all rows' features
    keep: tuple[str, ...] = ()  # arrays for figures: keys of `KEEPABLE`


@dataclass(frozen=True)
class Task:
    """One run: a recipe, a data set's number, the run, the protocol, and its files.

    With `parts`, names of `rcml_misa.runs.audit.PARTS`, it is an audit of the method. With `inner`
    it is a trial of a search, see `rcml_misa.runs.tuning`: scored on so many inner folds of the
    train rows, or on the validation rows where it is 1.
    """

    recipe: Recipe
    dataset: int
    run: int
    seed: int
    protocol: Protocol = field(default_factory=Protocol)
    outputs: RunOutputs = field(default_factory=RunOutputs)
    parts: tuple[str, ...] = ()
    inner: int = 0


@dataclass(frozen=True)
class Event:
    """Progress of a task: epoch 0 of 0 when it starts; `done` when it ends."""

    task: Task
    epoch: int = 0
    epochs: int = 0
    loss: float = float("nan")
    done: bool = False


@dataclass(frozen=True)
class RunFailure:
    """A task that ended in an error that is no user's mistake."""

    task: Task
    message: str


def plan_tasks(
    recipes: Sequence[Recipe],
    *,
    datasets: int,
    runs: int,
    seed: int,
    protocol: Protocol | None = None,
    outputs: RunOutputs | None = None,
    parts: Sequence[str] = (),
) -> list[Task]:
    """List every recipe's R runs on every data set; run r uses seed S + r whatever the recipe."""
    rules, files = protocol or Protocol(), outputs or RunOutputs()
    return [
        Task(recipe, dataset, run, seed + run, rules, files, tuple(parts))
        for dataset in range(datasets)
        for run in range(runs)
        for recipe in recipes
    ]


def task_config(task: Task, estimator: Any, protocol: Protocol) -> dict[str, Any]:
    """Describe in a record's form what a task depends on, but the seed's draws and the data."""
    views = {"keep": task.recipe.keep} if task.recipe.keep else {}
    parts = {"parts": task.parts} if task.parts else {}
    inner = {"inner": task.inner} if task.inner else {}
    config = {**estimator.get_params(deep=False), "leaky": task.recipe.leaky}
    config |= {**views, **parts, **inner}
    return {"run": task.run, "config": plain(config), "protocol": plain(asdict(protocol))}


def split_known(
    datasets: Sequence[Dataset], tasks: Sequence[Task], earlier: Sequence[RunRecord]
) -> tuple[list[RunRecord], list[Task]]:
    """Part tasks into the records of those done before, and the rest.

    A record stands for a task if options, data and protocol are the same.
    """
    done = {(old.dataset, old.method, old.variant, old.seed): old for old in earlier}
    records, missing = [], []
    for task in tasks:
        data, recipe = datasets[task.dataset], task.recipe
        record = done.get((data.name, recipe.method, recipe.variant, task.seed))
        estimator = recipe.build(spawn_seeds(task.seed).model)
        wanted = task_config(task, estimator, task.protocol.for_dataset(data))
        wanted["data_sha256"] = data.sha256
        if record is not None and wanted == {name: getattr(record, name) for name in wanted}:
            records.append(record)
        else:
            missing.append(task)
    return records, missing


def throttled(task: Task, report: Callable[[Event], None]) -> Callable[[Any], None]:
    """Make a callback for `fit` that reports at most five times a second."""
    last = 0.0

    def callback(progress: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET:
            last = now
            report(Event(task, progress.epoch, progress.epochs, progress.loss))

    return callback


def parse_keep(text: str | None) -> tuple[str, ...]:
    """Read names of `KEEPABLE` with commas between them, or ``all``; others are an `OptionError`.

    Examples
    --------
    >>> parse_keep("codes,history"), parse_keep(None)
    (('codes', 'history'), ())
    """
    if not text:
        return ()
    names = [name.strip() for name in text.split(",")]
    if names == ["all"]:
        return tuple(KEEPABLE)
    for name in names:
        if name not in KEEPABLE:
            raise OptionError(f"--keep {name} does not exist; {nearest(name, [*KEEPABLE, 'all'])}")
    return tuple(dict.fromkeys(names))


def check_outputs(estimator: Any, outputs: RunOutputs) -> None:
    """Refuse with `OptionError`, before a training, files that a method has nothing for."""
    method = type(estimator).__name__
    for name, needed in NEEDED.items():
        if name in outputs.keep and not hasattr(estimator, needed):
            raise OptionError(f"{method} has no {name} to keep; leave {name} out of --keep.")
    if outputs.features and not hasattr(estimator, "extract_features"):
        raise OptionError(
            f"{method} has no private, shared and fused features; leave --save-features out."
        )


def kept_path(record: Path) -> Path:
    """Name the file of a run's arrays, given that of its record."""
    return record.with_name(f"{record.stem}-kept.npz")


@dataclass(frozen=True)
class Kept:
    """Arrays that one run kept for figures.

    Attributes
    ----------
    views : tuple of str
        The run's views.
    arrays : mapping of str to ndarray
        ``private`` and ``shared`` (n, N, H); ``attention`` (L, M, M); and, for ``clean`` and
        ``conflict`` with a dot after it, ``probability`` (n, K), ``uncertainty`` (n,), ``right``
        (n,), and for methods with opinions ``evidence`` (n, K), ``views`` (n, N, K); ``replaced``
        (n,), the rows of which a view was replaced.
    """

    views: tuple[str, ...]
    arrays: Mapping[str, Array] = field(default_factory=dict)


def read_kept(path: Path) -> Kept:
    """Read the arrays that a run kept; a `DataError` if the file is not there or is damaged."""
    if not path.is_file():
        raise DataError(
            f"the run of {path.name} kept nothing; run it again with --keep all --out DIR."
        )
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        meta = json.loads(arrays.pop("meta").tobytes().decode("utf-8"))
        return Kept(tuple(meta["views"]), arrays)
    except Exception as error:  # a damaged zip fails in many ways
        raise DataError(f"{path} is damaged ({error}); run it again with --keep.") from error


def write_outputs(
    dataset: Dataset,
    task: Task,
    estimator: Any,
    *,
    test: NDArray[np.int64],
    views: Mapping[str, MultiView],
    replaced: NDArray[np.bool_] | None = None,
) -> None:
    """Write the files that a task asks for beside the run's record.

    Data set and views are in the units that the fitted estimator is given; `test` has the numbers
    of the test rows, `views` the rows themselves (``"clean"``) and, where there is one, their
    conflictive copy (``"conflict"``), of whose rows `replaced` flags those with a replaced view.
    """
    recipe, outputs = task.recipe, task.outputs
    stem = record_stem(dataset.name, recipe.method, recipe.variant, task.seed)
    folder = outputs.folder or Path()
    if outputs.keep:
        arrays: dict[str, Array] = {}
        if "codes" in outputs.keep:
            codes = estimator.extract_features(views["clean"])
            arrays |= {"private": _small(codes.private), "shared": _small(codes.shared)}
        if "attention" in outputs.keep:
            arrays["attention"] = estimator.mean_attention(views["clean"])
        if "opinions" in outputs.keep and dataset.task == "classification":
            for name, rows in views.items():
                answers = ask(estimator, rows, len(dataset.classes))
                arrays[f"{name}.probability"] = _small(answers.probability)
                arrays[f"{name}.uncertainty"] = answers.uncertainty
                arrays[f"{name}.right"] = answers.predicted == dataset.target[test]
                if hasattr(estimator, "predict_opinion"):
                    opinion = estimator.predict_opinion(rows)
                    arrays[f"{name}.evidence"] = _small(opinion.evidence)
                    arrays[f"{name}.views"] = _small(np.stack(list(opinion.views.values()), axis=1))
            if replaced is not None:
                arrays["replaced"] = replaced
        meta = json.dumps({"views": list(views["clean"].names)})
        arrays["meta"] = np.frombuffer(meta.encode("utf-8"), dtype=np.uint8)
        _write_arrays(folder / f"{stem}-kept.npz", arrays)
    if outputs.samples:
        _write_samples(folder / f"{stem}-samples.csv", dataset, estimator, test)
    if outputs.features:
        codes = estimator.extract_features(dataset.views)
        ids = np.arange(dataset.views.n_samples) if dataset.ids is None else dataset.ids
        arrays = {"id": ids, "target": dataset.target}
        arrays |= {name: _small(getattr(codes, name)) for name in ("private", "shared", "fused")}
        _write_arrays(folder / f"{stem}-features.npz", arrays)


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    with whole_file(path, remedy=REMEDY) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _small(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _write_samples(path: Path, dataset: Dataset, estimator: Any, test: NDArray[np.int64]) -> None:
    """Write a CSV of test rows: id, label, prediction, uncertainty where the method states one."""
    views, labels = dataset.views.take(test), dataset.target[test]
    predicted: Any
    if dataset.task == "classification":
        answers = ask(estimator, views, len(dataset.classes))
        labels = np.array(dataset.classes)[labels]
        predicted = [dataset.classes[int(code)] for code in answers.predicted]
        uncertainty = [f"{value:.6g}" for value in answers.uncertainty]
    else:
        predicted, uncertainty = estimator.predict(views), [""] * len(test)
    ids = test if dataset.ids is None else dataset.ids[test]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "label", "prediction", "uncertainty"])
    writer.writerows(zip(ids, labels, predicted, uncertainty, strict=True))
    write_text(path, stream.getvalue(), remedy=REMEDY)
