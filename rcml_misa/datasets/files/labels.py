"""Labels as a file holds them: texts or whole numbers, one per row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError

__all__ = ["as_labels", "class_codes"]


def as_labels(values: Any, *, name: str, path: Any) -> NDArray[Any]:
    """Check labels: an array of str or int64 of shape (n,).

    Parameters
    ----------
    values : array of shape (n,), (n, 1) or (1, n)
    name, path
        The column's name and its file, for the errors.

    Raises
    ------
    DataError
        If a label is missing, or they are measurements rather than classes.

    Examples
    --------
    >>> as_labels([1.0, 2.0], name="y", path="a.csv")
    array([1, 2])
    >>> as_labels(["no", "yes"], name="y", path="a.csv").tolist()
    ['no', 'yes']
    """
    labels = np.asarray(values)
    if labels.size != max(labels.shape, default=0):
        raise DataError(
            f"{path}: {name!r} must hold one label per row, but its shape is {labels.shape}."
        )
    labels = labels.ravel()
    if not labels.size:
        raise DataError(f"{path} has no rows, only names.")
    missing = _missing(labels)
    if missing.any():
        raise DataError(
            f"{path}: {int(missing.sum())} of {len(labels)} rows have no label in {name!r} (the "
            f"first is row {int(np.flatnonzero(missing)[0])}); fill these labels in, or leave "
            "these rows out."
        )
    kind = labels.dtype.kind
    if kind in "biu":
        return labels.astype(np.int64) if kind != "b" else labels.astype(str)
    if kind == "f":
        if (labels != np.round(labels)).any() or np.abs(labels).max() > 2**53:
            raise DataError(
                f"{path}: {name!r} holds fractions such as {labels[labels != np.round(labels)][0]}"
                "; a class label is a text or a whole number."
            )
        return labels.astype(np.int64)
    texts = np.array([_text(label) for label in labels.tolist()])
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return texts
    return as_labels(numbers, name=name, path=path)  # texts that are all numbers, as a csv has them


def _missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.dtype.kind == "f":
        return np.asarray(~np.isfinite(labels), dtype=np.bool_)
    if labels.dtype.kind == "O":
        # NaN is what differs from itself
        return np.array([one is None or one != one or one == "" for one in labels.tolist()])  # noqa: PLR0124
    empty = labels == "" if labels.dtype.kind == "U" else np.zeros(len(labels))
    return np.asarray(empty, dtype=np.bool_)


def _text(label: Any) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def class_codes(labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers 0 .. K-1 and the K labels in order.

    Examples
    --------
    >>> codes, classes = class_codes(np.array([10, 2, 10]))
    >>> codes.tolist(), classes
    ([1, 0, 1], ('2', '10'))
    """
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(value) for value in values.tolist())
