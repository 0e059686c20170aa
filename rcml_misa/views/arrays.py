"""The array of a view: accepted inputs, their checks, rows made dense; all read-only."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.views.containers import as_pandas, is_frame, is_pandas, numeric_values
from rcml_misa.views.mapped import MappedRows, is_mapped, read, row_slices
from rcml_misa.views.raw import RawTable, columns_of, numbers_alone, numbers_or_raw
from rcml_misa.views.sequences import (
    LARGEST,
    Sequences,
    Texts,
    as_sequences_or_texts,
    read_only,
)

__all__ = ["ViewArray", "dense", "present_rows", "refuse_huge"]

# a dense table may be a memory map, or `MappedRows` of one, which is read like an array of rows
ViewArray: TypeAlias = "NDArray[np.float64] | csr_array[np.float64] | Sequences | Texts | RawTable"


class _NotNumericError(DataError, TypeError):
    """Values that are no numbers; a `TypeError` too, as scikit-learn's own checks expect."""


def as_view(name: str, value: Any, *, raw: bool = False) -> ViewArray:
    """Validate one `opened` view of any kind; with `raw` a table that is no numbers stays one."""
    what = f"view {name!r}"
    if value is None:
        raise DataError(f"{what} is None; give its table, or leave the view out.")
    if isinstance(value, RawTable):
        return value
    if isinstance(value, MappedRows):
        return cast(ViewArray, value)
    if is_mapped(value):
        _check_finite(what, value)
        return frozen(value)
    whole = isinstance(value, Sequences | Texts | list | tuple)
    if not (whole or is_frame(value) or issparse(value)):
        value = as_array(what, value)
    if (other := as_sequences_or_texts(what, value)) is not None:
        return other
    if raw:
        value = _numbers_or_raw(what, value)
        if isinstance(value, RawTable):
            return value
    if is_frame(value):
        value = _frame_values(what, value)
    elif not issparse(value):
        value = as_array(what, value)
    shape = value.shape
    if len(shape) != 2:
        raise DataError(shape_message(what, shape))
    if 0 in shape:
        raise DataError(_empty(what, shape))
    view = _sparse_floats(what, value) if issparse(value) else _floats(what, value)
    _check_finite(what, view)
    return frozen(view)


def as_array(what: str, value: Any, *, raw: bool = False) -> NDArray[Any]:
    """Turn an array-like into an array; a masked entry counts as missing.

    With `raw` numbers beside texts stay numbers.
    """
    if isinstance(value, np.ma.MaskedArray):
        return np.ma.filled(value.astype(np.float64), np.nan)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{what} is no table, its rows differ in length ({shortened(error)})."
        ) from error
    if not array.ndim and array.dtype.kind == "O":
        raise DataError(
            f"{what} is one {type(value).__name__} and no table; give a 2-D array or a frame, and "
            "for several views a dict or a list of these."
        )
    if raw and array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        return np.array(value, dtype=object)
    return array


def _empty(what: str, shape: tuple[int, ...]) -> str:
    unit = "sample(s)" if shape[0] == 0 else "feature(s)"
    return f"{what} has 0 {unit} (shape={shape}) while a minimum of 1 is required."


def _numbers_or_raw(what: str, value: Any) -> Any:
    """Return the numbers of a table, or a `RawTable`; what is no table stays for other checks."""
    if is_frame(value):
        if 0 in value.shape:
            raise DataError(_empty(what, value.shape))
        return numbers_or_raw(as_pandas(value))
    if issparse(value):
        return value
    array = as_array(what, value, raw=True)
    if array.ndim != 2 or not array.size or array.dtype.kind == "c":
        return array
    if array.dtype.kind in "biuf":
        numbers = np.asarray(array, dtype=np.float64)
        return numbers if numbers_alone(numbers) else RawTable(columns_of(array))
    return numbers_or_raw(columns_of(array))


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
    except (TypeError, ValueError) as error:
        kind = _NotNumericError if isinstance(error, TypeError) else DataError
        raise kind(_not_numeric(what, str(error))) from error


def _sparse_floats(what: str, matrix: Any) -> csr_array[np.float64]:
    rows = csr_array(matrix)
    result = csr_array((_floats(what, rows.data), rows.indices, rows.indptr), shape=rows.shape)
    if not result.has_canonical_format:
        result = result.copy()
        result.sum_duplicates()
    return result


def _frame_values(what: str, frame: Any) -> NDArray[np.float64]:
    if not is_pandas(frame):
        try:
            return numeric_values(frame)
        except TypeError as error:
            raise _NotNumericError(_not_numeric(what, str(error))) from error
    kinds = [getattr(dtype, "kind", "O") for dtype in frame.dtypes]
    names = frame.columns
    wrong = [str(name) for name, kind in zip(names, kinds, strict=True) if kind in "cmMSU"]
    cause = ""
    if not wrong:
        try:
            return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError) as error:
            pairs = zip(names, kinds, strict=True)
            wrong = [str(name) for name, kind in pairs if kind not in "biuf"]
            cause = f" ({error})"
    raise _NotNumericError(_not_numeric(what, f"column {', '.join(wrong)}{cause}"))


def _check_finite(what: str, view: NDArray[np.float64] | csr_array[np.float64]) -> None:
    """Refuse infinity, and NaN unless a row has nothing else: that is a missing view."""
    count, first = 0, 0
    # an array block by block, a sparse matrix at once
    for block in row_slices(*view.shape) if isinstance(view, np.ndarray) else (slice(0, None),):
        part: Any = view
        if isinstance(view, np.ndarray):
            part = read(view, block) if is_mapped(view) else view[block]
        values = _entries(part)
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()):  # without a temporary array; nearly always enough
                continue
        counts = _per_row(part, ~np.isfinite(values))
        nans = _per_row(part, np.isnan(values))
        rows = np.flatnonzero((counts > 0) & (nans < part.shape[1]))
        if rows.size and not count:
            first = block.start + int(rows[0])
        count += rows.size
    if count:
        raise DataError(
            f"{what} has NaN or infinity in {count} of {view.shape[0]} rows (the first is row "
            f"{first}); impute these values, for instance by a rcml_misa.TablePreparer "
            "or a SimpleImputer in a Pipeline, or leave these rows out; where the whole view is "
            "missing, all its columns are NaN."
        )


def _per_row(
    view: NDArray[np.float64] | csr_array[np.float64], flags: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Count the flagged entries of each row."""
    if isinstance(view, np.ndarray):
        return np.asarray(flags.sum(axis=1))
    owners = np.repeat(np.arange(view.shape[0]), np.diff(view.indptr))
    return np.bincount(owners[flags], minlength=view.shape[0])


def refuse_huge(name: str, view: ViewArray) -> None:
    """Refuse train rows with a value of a size above 1e100, whose statistics may overflow.

    Examples
    --------
    >>> refuse_huge("a", np.array([[1.0], [-1e100]]))
    >>> refuse_huge("a", np.array([[1.0], [1e300]]))
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: view 'a' has the value 1e+300 in train row 1, above 1e+100 in...
    """
    if isinstance(view, Texts | RawTable):
        return
    if isinstance(view, np.ndarray | MappedRows):
        for block in row_slices(*view.shape):
            _refuse_huge(name, dense(view, block), block.start)
    else:
        _refuse_huge(name, view, 0)


def _refuse_huge(
    name: str, view: NDArray[np.float64] | csr_array[np.float64] | Sequences, start: int
) -> None:
    """Refuse huge values in rows that are numbered from `start`."""
    values = np.asarray(view.values if isinstance(view, Sequences) else _entries(view))
    # without a temporary array; missing views are NaN
    if not values.size or not (
        np.fmax.reduce(values, axis=None) > LARGEST or np.fmin.reduce(values, axis=None) < -LARGEST
    ):
        return
    flags = np.abs(values) > LARGEST
    if isinstance(view, csr_array):
        row = int(np.flatnonzero(_per_row(view, flags))[0])
    else:
        row = int(np.flatnonzero(flags.reshape(len(values), -1).any(axis=1))[0])
    raise DataError(
        f"view {name!r} has the value {values[flags][0]:.6g} in train row {start + row}, above "
        f"{LARGEST:g} in size; correct it, leave the row out, or, where the whole view is missing, "
        "make all its columns NaN."
    )


def _entries(view: NDArray[np.float64] | csr_array[np.float64]) -> NDArray[np.float64]:
    return view if isinstance(view, np.ndarray) else view.data


def present_rows(view: ViewArray) -> NDArray[np.bool_]:
    """Flag the rows of a validated view that are present; a missing one is NaN throughout."""
    if is_mapped(view):
        return _mapped_presence(view)
    if isinstance(view, np.ndarray):
        return ~np.isnan(view[:, 0])
    if isinstance(view, RawTable):
        return view.present
    present = np.ones(view.shape[0], dtype=np.bool_)
    if not isinstance(view, Sequences | Texts):
        filled = np.flatnonzero(np.diff(view.indptr))
        present[filled] = ~np.isnan(view.data[view.indptr[filled]])
    return present


def _mapped_presence(view: NDArray[Any] | MappedRows) -> NDArray[np.bool_]:
    if isinstance(view, MappedRows):
        if view.fill is not None:
            return np.ones(len(view), dtype=np.bool_)
        present = _mapped_presence(view.table)
        return present if view.rows is None else present[view.rows]
    present = np.empty(len(view), dtype=np.bool_)
    for block in row_slices(*view.shape):
        present[block] = ~np.isnan(read(view[:, :1], block)[:, 0])
    return present


def dense(
    view: ViewArray,
    rows: slice | NDArray[Any] = slice(None),
    dtype: type[np.floating[Any]] = np.float64,
) -> NDArray[np.float64]:
    """Return some rows of a table as a dense array in memory.

    Rows of a dense float64 table are not copied where NumPy needs no copy. Those of a memory map
    always are, and its pages are let go of: a map may be larger than the memory.
    """
    if isinstance(view, Sequences | Texts):
        raise DataError("a sequence or text view is no table; pool it with MultiView.pooled().")
    if isinstance(view, RawTable):
        raise DataError("a raw table is not prepared; turn it into numbers with TablePreparer.")
    if is_mapped(view):
        return read(view, rows, dtype)
    some = view[rows]
    values = some if isinstance(some, np.ndarray) else np.asarray(some.toarray())
    return values.astype(dtype, copy=False)


def frozen(view: ViewArray) -> ViewArray:
    """Share the values, but through arrays that cannot be written to."""
    if isinstance(view, np.ndarray):
        return read_only(view)
    if not isinstance(view, csr_array):
        return view
    parts = (read_only(view.data), read_only(view.indices), read_only(view.indptr))
    shared: csr_array[np.float64] = csr_array(parts, shape=view.shape)
    return shared


def shape_message(what: str, shape: tuple[int, ...]) -> str:
    """Word the error for an array that is no table."""
    return (
        f"{what} is {len(shape)}-D (shape={shape}) but must be 2-D, samples by features: Reshape "
        "your data, with reshape(1, -1) for one sample or reshape(-1, 1) for one feature."
    )


def _not_numeric(what: str, cause: str) -> str:
    return (
        f"{what} is not numeric ({shortened(cause)}); put a rcml_misa.TablePreparer before "
        "the estimator, which reads texts, categories, dates and gaps, or leave out what is no "
        "number."
    )
