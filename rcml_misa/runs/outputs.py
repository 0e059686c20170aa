"""Files of a run beside its record: answers, features, and the arrays that figures need."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.metrics.answers import ask
from rcml_misa.results import record_stem
from rcml_misa.runs.tasks import RunOutputs, Task
from rcml_misa.storage import whole_file, write_text
from rcml_misa.views import MultiView

__all__ = [
    "KEEPABLE",
    "Kept",
    "RunOutputs",
    "check_outputs",
    "kept_path",
    "parse_keep",
    "read_kept",
    "write_outputs",
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
REMEDY = "give another --out folder"
Array = NDArray[Any]


def parse_keep(text: str | None) -> tuple[str, ...]:
    """Read names with commas between them, or ``all``.

    Raises
    ------
    OptionError
        If one does not exist.

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
    """Refuse, before anything is trained, files that a method has nothing for.

    Raises
    ------
    OptionError
        If the method lacks codes, attention, loss terms or features that are asked for.

    Examples
    --------
    >>> from rcml_misa.estimators import RCMLClassifier
    >>> check_outputs(RCMLClassifier(), RunOutputs(keep=("opinions", "codes")))
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: RCMLClassifier has no codes to keep; leave codes out of ...
    """
    method = type(estimator).__name__
    for name, needed in NEEDED.items():
        if name in outputs.keep and not hasattr(estimator, needed):
            raise OptionError(f"{method} has no {name} to keep; leave {name} out of --keep.")
    if outputs.features and not hasattr(estimator, "extract_features"):
        raise OptionError(
            f"{method} has no private, shared and fused features; leave --save-features out."
        )


def kept_path(record: Path) -> Path:
    """Path of a run's arrays, from that of its record."""
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
    """Read the arrays that a run kept.

    Raises
    ------
    DataError
        If the file is not there or is damaged.
    """
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

    Parameters
    ----------
    dataset : Dataset
        Data set in the units that the estimator is given.
    task : Task
    estimator : estimator
        Fitted.
    test : ndarray of int
        Numbers of the test rows.
    views : mapping of str to MultiView
        ``"clean"`` and, where there is one, ``"conflict"``: the test rows and their copy.
    replaced : ndarray of bool, optional
        Rows of the copy with a replaced view.

    Raises
    ------
    DataError
        If a file can't be written.
    """
    recipe, outputs = task.recipe, task.outputs
    stem = record_stem(dataset.name, recipe.method, recipe.variant, task.seed)
    folder = outputs.folder or Path()
    if outputs.keep:
        arrays = _kept_arrays(dataset, estimator, test, outputs.keep, views, replaced)
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


def _kept_arrays(
    dataset: Dataset,
    estimator: Any,
    test: NDArray[np.int64],
    keep: Sequence[str],
    views: Mapping[str, MultiView],
    replaced: NDArray[np.bool_] | None,
) -> dict[str, Array]:
    """Ask a fitted estimator about test rows for the arrays of `Kept`."""
    arrays: dict[str, Array] = {}
    if "codes" in keep:
        codes = estimator.extract_features(views["clean"])
        arrays |= {"private": _small(codes.private), "shared": _small(codes.shared)}
    if "attention" in keep:
        arrays["attention"] = estimator.mean_attention(views["clean"])
    if "opinions" in keep and dataset.task == "classification":
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
    return arrays


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
