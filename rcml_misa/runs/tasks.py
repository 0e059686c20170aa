"""Tasks to run, their progress, and the files that a run leaves beside its record."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.bounds import check_total
from rcml_misa.datasets import Dataset, keep_views
from rcml_misa.estimators.registry import Recipe
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.metrics.answers import ask
from rcml_misa.protocols import Protocol, spawn_seeds
from rcml_misa.results import plain, record_stem, run_key
from rcml_misa.storage import file_sha256, whole_file, write_text
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
    "record_path",
    "task_key",
]

#: what can be kept -> the figures that it is for.
KEEPABLE = {
    "history": "losses",
    "codes": "subspaces",
    "attention": "attention",
    "opinions": "conflict, uncertainty, calibration",
}
#: Output to the ending of its file beside the record; the others stand in the record's history.
ENDINGS = {
    "samples": "samples.csv",
    "features": "features.npz",
    **dict.fromkeys(("codes", "attention", "opinions"), "kept.npz"),
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

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is asked for, as a record has them in its `outputs`."""
        asked = ("per_epoch", "samples", "features")
        return (*(name for name in asked if getattr(self, name)), *self.keep)

    def joined(self, names: Iterable[str]) -> RunOutputs:
        """Ask for what a record names in its `outputs` too."""
        names = set(names)
        return replace(
            self,
            per_epoch=self.per_epoch or "per_epoch" in names,
            samples=self.samples or "samples" in names,
            features=self.features or "features" in names,
            keep=tuple(name for name in KEEPABLE if name in {*names, *self.keep}),
        )


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
    """List every recipe's R runs on every data set; run r uses seed S + r whatever the recipe.

    More runs than `rcml_misa.bounds.check_total` lets pass are an OptionError.
    """
    check_total(datasets=datasets, variants=len(recipes), runs=runs)
    rules, files = protocol or Protocol(), outputs or RunOutputs()
    return [
        Task(recipe, dataset, run, seed + run, rules, files, tuple(parts))
        for dataset in range(datasets)
        for run in range(runs)
        for recipe in recipes
    ]


def run_identity(dataset: Dataset, task: Task, estimator: Any) -> dict[str, Any]:
    """Describe what a run is, in the form of its record, for a task whose protocol is settled."""
    recipe = task.recipe
    views = {"keep": recipe.keep} if recipe.keep else {}
    parts = {"parts": task.parts} if task.parts else {}
    inner = {"inner": task.inner} if task.inner else {}
    config = {**estimator.get_params(deep=False), "leaky": recipe.leaky}
    config |= {**views, **parts, **inner}
    return {
        "dataset": dataset.name,
        "method": recipe.method,
        "variant": recipe.variant,
        "config": plain(config),
        "data_sha256": dataset.sha256,
        "run": task.run,
        "seed": task.seed,
        "protocol": plain(asdict(task.protocol)),
    }


def task_key(dataset: Dataset, task: Task) -> str:
    """Compute the key of the record that a task on a data set leaves; see `RunRecord.key`."""
    protocol = task.protocol.for_dataset(keep_views(dataset, task.recipe.keep))
    estimator = task.recipe.build(spawn_seeds(task.seed).model)
    return run_key(**run_identity(dataset, replace(task, protocol=protocol), estimator))


def record_path(folder: Path, dataset: Dataset, task: Task) -> Path:
    """Name the file of the record that a task on a data set leaves."""
    recipe = task.recipe
    stem = record_stem(
        dataset=dataset.name,
        method=recipe.method,
        variant=recipe.variant,
        seed=task.seed,
        key=task_key(dataset, task),
    )
    return folder / f"{stem}.json"


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
    return output_path(record, "codes")


def output_path(record: Path, name: str) -> Path:
    """Name the file of one of a run's outputs, given that of its record."""
    return record.with_name(f"{record.stem}-{ENDINGS[name]}")


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
) -> dict[str, str]:
    """Write the files that a task asks for beside the run's record; their sha256 by output.

    Data set and views are in the units that the fitted estimator is given; `test` has the numbers
    of the test rows, `views` the rows themselves (``"clean"``) and, where there is one, their
    conflictive copy (``"conflict"``), of whose rows `replaced` flags those with a replaced view.
    """
    outputs = task.outputs
    identity = run_identity(dataset, task, estimator)
    named = {name: identity[name] for name in ("dataset", "method", "variant", "seed")}
    stem = record_stem(**named, key=run_key(**identity))
    record = (outputs.folder or Path()) / f"{stem}.json"
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
        _write_arrays(kept_path(record), arrays)
    if outputs.samples:
        _write_samples(output_path(record, "samples"), dataset, estimator, test)
    if outputs.features:
        codes = estimator.extract_features(dataset.views)
        ids = np.arange(dataset.views.n_samples) if dataset.ids is None else dataset.ids
        arrays = {"id": ids, "target": dataset.target}
        arrays |= {name: _small(getattr(codes, name)) for name in ("private", "shared", "fused")}
        _write_arrays(output_path(record, "features"), arrays)
    files = {name: output_path(record, name) for name in outputs.names if name in ENDINGS}
    return {name: file_sha256(files[name]) if name in files else "" for name in outputs.names}


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
