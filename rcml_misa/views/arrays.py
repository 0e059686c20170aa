"""The array of a view: accepted inputs, their checks, and arrays that cannot be written to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.views.sequences import Sequences, Texts, as_sequences_or_texts, read_only

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ViewArray",
    "as_array",
    "as_view",
    "dense",
    "frozen",
    "is_frame",
    "present_rows",
    "shape_message",
]

ViewArray: TypeAlias = "NDArray[np.float64] | csr_array[np.float64] | Sequences | Texts"


class _NotNumericError(DataError, TypeError):
    """Values that are no numbers; a `TypeError` too, as scikit-learn's own checks expect."""


def as_view(name: str, value: Any) -> ViewArray:
    """Validate one view, of whatever kind."""
    what = f"view {name!r}"
    if value is None:
        raise DataError(f"{what} is None; give its table, or leave the view out.")
    if (other := as_sequences_or_texts(what, value)) is not None:
        return other
    if is_frame(value):
        value = _frame_values(what, value)
    sparse = issparse(value)
    if not sparse:
        value = as_array(what, value)
    shape = value.shape
    if len(shape) != 2:
        raise DataError(shape_message(what, shape))
    if 0 in shape:
        unit = "sample(s)" if shape[0] == 0 else "feature(s)"
        raise DataError(f"{what} has 0 {unit} (shape={shape}) while a minimum of 1 is required.")
    view = _sparse_floats(what, value) if sparse else _floats(what, value)
    _check_finite(what, view)
    return frozen(view)


def as_array(what: str, value: Any) -> NDArray[Any]:
    """Turn an array-like into an array; a masked entry counts as missing."""
    if isinstance(value, np.ma.MaskedArray):
        return np.ma.filled(value.astype(np.float64), np.nan)
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{what} is no table, its rows differ in length ({shortened(error)})."
        ) from error


def _floats(what: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.dtype.kind == "c":
        raise DataError(
            f"{what} is complex: Complex data not supported; give the real and imaginary parts, "
            "or magnitudes, as columns."
        )
    if array.dtype.kind not in "biufO":
        raise _NotNumericError(_not_numeric(what, str(array.dtype)))
    try:
        return np.asarray(array, dtype=np.float64)
    except TypeError as error:
        raise _NotNumericError(_not_numeric(what, str(error))) from error
    except ValueError as error:
        raise DataError(_not_numeric(what, str(error))) from error


def _sparse_floats(what: str, matrix: Any) -> csr_array[np.float64]:
    rows = csr_array(matrix)
    result = csr_array((_floats(what, rows.data), rows.indices, rows.indptr), shape=matrix.shape)
    if not result.has_canonical_format:
        result = result.copy()
        result.sum_duplicates()
    return result


def _frame_values(what: str, frame: pd.DataFrame) -> NDArray[np.float64]:
    kinds = [(str(column), getattr(dtype, "kind", "O")) for column, dtype in frame.dtypes.items()]
    wrong = [column for column, kind in kinds if kind in "cmMSU"]
    cause = ""
    if not wrong:
        try:
            return frame.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            wrong = [column for column, kind in kinds if kind not in "biuf"]
            cause = f" ({error})"
    raise _NotNumericError(_not_numeric(what, f"column {', '.join(wrong)}{cause}"))


def _check_finite(what: str, view: NDArray[np.float64] | csr_array[np.float64]) -> None:
    """Refuse infinity, and NaN unless a row has nothing else: that is a missing view."""
    values = view if isinstance(view, np.ndarray) else view.data
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):  # one pass without a temporary array; nearly always enough
            return
    counts = _per_row(view, ~np.isfinite(values))
    nans = _per_row(view, np.isnan(values))
    rows = np.flatnonzero((counts > 0) & (nans < view.shape[1]))
    if rows.size:
        raise DataError(
            f"{what} has NaN or infinity in {rows.size} of {view.shape[0]} rows (the first is row "
            f"{rows[0]}); impute these values, for instance by a SimpleImputer in a Pipeline, or "
            "leave these rows out; where the whole view is missing, all its columns are NaN."
        )


def _per_row(
    view: NDArray[np.float64] | csr_array[np.float64], flags: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Count the flagged entries of each row."""
    if isinstance(view, np.ndarray):
        return np.asarray(flags.sum(axis=1))
    owners = np.repeat(np.arange(view.shape[0]), np.diff(view.indptr))
    return np.bincount(owners[flags], minlength=view.shape[0])


def present_rows(view: ViewArray) -> NDArray[np.bool_]:
    """Flag the rows of a validated view that are present; a missing one is NaN throughout."""
    if isinstance(view, np.ndarray):
        return ~np.isnan(view[:, 0])
    if isinstance(view, Sequences | Texts):
        return np.ones(view.shape[0], dtype=np.bool_)
    filled = np.flatnonzero(np.diff(view.indptr))
    present = np.ones(view.shape[0], dtype=np.bool_)
    present[filled] = ~np.isnan(view.data[view.indptr[filled]])
    return present


def dense(view: ViewArray, rows: slice | NDArray[Any] = slice(None)) -> NDArray[np.float64]:
    """Return some rows of a table as a dense array; all rows of a dense one without a copy."""
    if isinstance(view, Sequences | Texts):
        raise DataError("a sequence or text view is no table; pool it with MultiView.pooled().")
    some = view[rows]
    return some if isinstance(some, np.ndarray) else np.asarray(some.toarray())


def frozen(view: ViewArray) -> ViewArray:
    """Share the values, but through arrays that cannot be written to."""
    if isinstance(view, Sequences | Texts):
        return view
    if isinstance(view, np.ndarray):
        return read_only(view)
    parts = (read_only(view.data), read_only(view.indices), read_only(view.indptr))
    shared: csr_array[np.float64] = csr_array(parts, shape=view.shape)
    return shared


def is_frame(X: Any) -> bool:
    """Recognise a pandas DataFrame by its attributes, without importing pandas."""
    return hasattr(X, "columns") and hasattr(X, "iloc")


def shape_message(what: str, shape: tuple[int, ...]) -> str:
    """Word the error for an array that is no table."""
    return (
        f"{what} is {len(shape)}-D (shape={shape}) but must be 2-D, samples by features: Reshape "
        "your data, with reshape(1, -1) for one sample or reshape(-1, 1) for one feature."
    )


def _not_numeric(what: str, cause: str) -> str:
    return f"{what} is not numeric ({shortened(cause)}); encode or leave out what is no number."
