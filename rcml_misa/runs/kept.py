"""What a run keeps for figures beside its record: codes, attention and opinions of test rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.runs.watching import asking
from rcml_misa.storage import whole_file

if TYPE_CHECKING:
    from rcml_misa.views import MultiView

__all__ = [
    "KEEPABLE",
    "Kept",
    "check_keep",
    "kept_path",
    "loss_recorder",
    "parse_keep",
    "read_kept",
    "write_kept",
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
Array = NDArray[Any]


def parse_keep(text: str | None) -> tuple[str, ...]:
    """Names given with commas between them, or ``all``.

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


def kept_path(record: Path) -> Path:
    """Where a run keeps arrays, from where its record is."""
    return record.with_name(f"{record.stem}-kept.npz")


@dataclass(frozen=True)
class Kept:
    """What one run kept.

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


def check_keep(estimator: Any, keep: Sequence[str]) -> None:
    """Refuse, before anything is trained, to keep what a method does not have.

    Raises
    ------
    OptionError
        That names it.

    Examples
    --------
    >>> from rcml_misa.estimators import RCMLClassifier
    >>> check_keep(RCMLClassifier(), ("opinions", "codes"))
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: RCMLClassifier has no codes to keep; leave codes out of ...
    """
    for name, method in NEEDED.items():
        if name in keep and not hasattr(estimator, method):
            raise OptionError(
                f"{type(estimator).__name__} has no {name} to keep; leave {name} out of --keep."
            )


def write_kept(
    path: Path,
    estimator: Any,
    views: Mapping[str, MultiView],
    *,
    keep: Sequence[str],
    target: NDArray[np.int64] | None = None,
    classes: int = 0,
    replaced: NDArray[np.bool_] | None = None,
) -> None:
    """Ask a fitted estimator about test rows and write what figures need.

    Parameters
    ----------
    path : Path
    estimator : estimator
        With what `check_keep` looks for.
    views : mapping of str to MultiView
        ``"clean"`` and, where there is one, ``"conflict"``: the test rows and their copy.
    keep : sequence of str
        Keys of `KEEPABLE`.
    target : ndarray of int, optional
        Class numbers of these rows; None where scores are predicted.
    classes : int
        K.
    replaced : ndarray of bool, optional
        Rows of the copy with a replaced view.

    Raises
    ------
    DataError
        If the file can't be written.
    """
    arrays: dict[str, Array] = {}
    if "codes" in keep:
        found = estimator.extract_features(views["clean"])
        arrays |= {"private": _small(found.private), "shared": _small(found.shared)}
    if "attention" in keep:
        arrays["attention"] = estimator.mean_attention(views["clean"])
    if "opinions" in keep and target is not None:
        for name, rows in views.items():
            arrays |= _opinions(name, estimator, rows, target, classes)
        if replaced is not None:
            arrays["replaced"] = replaced
    meta = json.dumps({"views": list(views["clean"].names)})
    arrays["meta"] = np.frombuffer(meta.encode("utf-8"), dtype=np.uint8)
    with whole_file(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _small(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _opinions(
    name: str, estimator: Any, views: MultiView, target: NDArray[np.int64], classes: int
) -> dict[str, Array]:
    from rcml_misa.metrics.answers import ask

    answers = ask(estimator, views, classes)
    found: dict[str, Array] = {
        f"{name}.probability": _small(answers.probability),
        f"{name}.uncertainty": answers.uncertainty,
        f"{name}.right": answers.predicted == target,
    }
    if hasattr(estimator, "predict_opinion"):
        opinion = estimator.predict_opinion(views)
        found[f"{name}.evidence"] = _small(opinion.evidence)
        found[f"{name}.views"] = _small(np.stack(list(opinion.views.values()), axis=1))
    return found


def read_kept(path: Path) -> Kept:
    """Read what `write_kept` wrote.

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


def loss_recorder(
    estimator: Any,
    views: MultiView,
    target: NDArray[Any],
    parts: Mapping[str, NDArray[np.int64]],
    history: dict[str, list[float]],
) -> Callable[[Any], None]:
    """A callback for `fit` that notes the loss terms of some rows after each epoch.

    Each part is cut to as many rows as the smallest has, since discrepancies and overlaps of
    codes depend on how many rows they are taken over. What is found selects nothing: the
    estimator never sees it.

    Parameters
    ----------
    estimator : estimator
        With `loss_terms`.
    views : MultiView
        All rows.
    target : ndarray of shape (n,)
    parts : mapping of str to ndarray of int
        Row numbers, by the name that stands before each term's in `history`.
    history : dict
        Receives a list per part and term.
    """
    least = min(map(len, parts.values()))
    drawn = {
        name: np.random.default_rng(0).permutation(rows)[:least] for name, rows in parts.items()
    }
    taken = {name: (views.take(rows), target[rows]) for name, rows in drawn.items()}

    def record(_: Any) -> None:
        with asking(estimator):
            for name, (rows, wanted) in taken.items():
                for term, value in estimator.loss_terms(rows, wanted).items():
                    history.setdefault(f"{name} {term}", []).append(value)

    return record
