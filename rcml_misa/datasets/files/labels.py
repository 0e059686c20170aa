"""Labels of a file as they stand, and as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError

__all__ = ["as_labels", "as_texts", "class_codes"]


def as_labels(values: Any, *, name: str, path: Any) -> NDArray[Any]:
    """Check labels of shape (n,), (n, 1) or (1, n): texts, or whole numbers as int64.

    A missing label or a fraction is a DataError.

    Examples
    --------
    >>> as_labels(["1", "2.0"], name="y", path="a.csv")
    array([1, 2])
    """
    import pandas as pd

    labels = np.asarray(values)
    if labels.size != max(labels.shape, default=0):
        raise DataError(
            f"{path}: {name!r} must hold one label per row, but its shape is {labels.shape}."
        )
    labels = labels.ravel()
    if not labels.size:
        raise DataError(f"{path} has no rows, only names.")
    kind = labels.dtype.kind
    missing = np.isinf(labels) if kind == "f" else kind in "OU" and labels == ""
    rows = np.flatnonzero(pd.isna(labels) | missing)
    if len(rows):
        raise DataError(
            f"{path}: {len(rows)} of {len(labels)} rows have no label in {name!r} (the first is "
            f"row {rows[0]}); fill these labels in, or leave these rows out."
        )
    if kind in "iu":
        return labels.astype(np.int64)
    if kind == "f":
        fractions = labels[(labels != np.round(labels)) | (np.abs(labels) > 2**53)]
        if len(fractions):
            raise DataError(
                f"{path}: {name!r} holds fractions such as {fractions[0]}; a class label is a text "
                "or a whole number, and --task regression predicts numbers."
            )
        return labels.astype(np.int64)
    texts = np.array(as_texts(labels))
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return texts
    return as_labels(numbers, name=name, path=path)  # texts that are all numbers, as a csv has them


def as_texts(values: Any) -> list[str]:
    """Turn identifiers or labels into texts; HDF5 has them as bytes."""
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in np.ravel(values).tolist()
    ]


def class_codes(labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number labels 0 .. K-1, and list the K labels in order."""
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(value) for value in values.tolist())
