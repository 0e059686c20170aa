"""The array of a view: accepted inputs, their checks, columns of one table; all read-only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
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
ColumnGroup: TypeAlias = "slice | NDArray[np.intp]"


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
    kinds = [(str(column), getattr(dtype, "kind", "O")) for column, dtype in frame.dtypes.items()]
    wrong = [column for column, kind in kinds if kind in "cmMSU"]
    cause = ""
    if not wrong:
        try:
            return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError) as error:
            wrong = [column for column, kind in kinds if kind not in "biuf"]
            cause = f" ({error})"
    raise _NotNumericError(_not_numeric(what, f"column {', '.join(wrong)}{cause}"))


def _check_finite(what: str, view: NDArray[np.float64] | csr_array[np.float64]) -> None:
    """Refuse infinity, and NaN unless a row has nothing else: that is a missing view."""
    count, first = 0, 0
    # an array block by block, a sparse matrix at once
    slices = row_slices(*view.shape) if isinstance(view, np.ndarray) else iter([slice(None)])
    for block in slices:
        part = dense(view, block) if isinstance(view, np.ndarray) else view
        values = _entries(part)
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()):  # without a temporary array; nearly always enough
                continue
        counts = _per_row(part, ~np.isfinite(values))
        nans = _per_row(part, np.isnan(values))
        rows = np.flatnonzero((counts > 0) & (nans < part.shape[1]))
        if rows.size and not count:
            first = (block.start or 0) + int(rows[0])
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


def column_groups(
    views: Any, *, n_columns: int, labels: Sequence[Any] | None
) -> dict[str, ColumnGroup]:
    """Resolve the `views=` option of `MultiView.from_array` to each view's columns.

    `labels` are the table's column names, if it has any; tuples are those of a MultiIndex.
    Consecutive columns come as a slice, which NumPy cuts without copying. Columns that do not
    exist, overlap or do not add up raise an `OptionError`.
    """
    if views is None:
        if labels and all(isinstance(label, tuple) for label in labels):
            return _slices(_positions_of(str(label[0]) for label in labels))
        return {"view1": slice(0, n_columns)}
    if isinstance(views, str):
        return _by_prefix(views, labels)
    if isinstance(views, list | tuple):
        views = {f"view{i}": spec for i, spec in enumerate(views, start=1)}
    if not isinstance(views, Mapping):
        raise OptionError(
            f"views={shortened(repr(views))} is not a list, a dict or a separator; give for "
            "instance a list of column counts, one per view."
        )
    if not views:
        raise OptionError("views= is empty; name the columns of at least one view.")
    specs = {str(name): spec for name, spec in views.items()}
    counts = [_is_integer(spec) for spec in specs.values()]
    if all(counts):
        return _by_width({name: int(spec) for name, spec in specs.items()}, n_columns)
    if any(counts):
        raise OptionError(
            "views= mixes column counts with choices of columns; use one or the other for all."
        )
    places = None if labels is None else _positions_of(labels)
    groups = {name: _chosen(name, spec, n_columns, places) for name, spec in specs.items()}
    owners: dict[int, str] = {}
    for name, group in groups.items():
        for column in group:
            if column in owners:
                raise OptionError(
                    f"views {owners[column]!r} and {name!r} overlap: column {column} is in both; "
                    "give each column to one view, once."
                )
            owners[column] = name
    return _slices(groups)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _positions_of(labels: Iterable[Any]) -> dict[Any, list[int]]:
    """Collect the columns of each label, in the order in which the labels appear."""
    positions: dict[Any, list[int]] = {}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    return positions


def _slices(groups: Mapping[str, Sequence[int]]) -> dict[str, ColumnGroup]:
    """Turn consecutive columns into slices, other ones into arrays."""
    return {
        name: slice(group[0], group[0] + len(group))
        if list(group) == list(range(group[0], group[0] + len(group)))
        else np.array(group, dtype=np.intp)
        for name, group in groups.items()
    }


def _by_width(widths: Mapping[str, int], n_columns: int) -> dict[str, ColumnGroup]:
    for name, width in widths.items():
        if width < 1:
            raise OptionError(f"view {name!r} is given {width} columns; a view needs at least 1.")
    if (total := sum(widths.values())) != n_columns:
        raise OptionError(
            f"views= counts {total} columns ({shortened(' + '.join(map(str, widths.values())))}) "
            f"but X has {n_columns}; the counts must add up to all columns."
        )
    ends = np.cumsum(list(widths.values())).tolist()
    return {
        name: slice(end - width, end)
        for (name, width), end in zip(widths.items(), ends, strict=True)
    }


def _by_prefix(separator: str, labels: Sequence[Any] | None) -> dict[str, ColumnGroup]:
    if labels is None:
        raise OptionError(
            f"views={shortened(repr(separator))} splits column names, but X has none; give a "
            'DataFrame (in a Pipeline, set_output(transform="pandas")) or a list of column counts.'
        )
    if not separator:
        raise OptionError("views='' is no separator; give for instance views='__'.")
    for label in labels:
        if str(label).find(separator) < 1:
            raise OptionError(
                f"column {shortened(repr(label))} has no view before {shortened(repr(separator))}; "
                "rename it, leave it out, or list the columns of each view."
            )
    return _slices(_positions_of(str(label).partition(separator)[0] for label in labels))


def _chosen(
    name: str, spec: Any, n_columns: int, places: Mapping[Any, Sequence[int]] | None
) -> list[int]:
    """Resolve a view's choice of columns to positions, 0 .. n_columns-1."""
    if isinstance(spec, slice):
        _check_slice(name, spec, n_columns)
        items: list[Any] = list(range(n_columns)[spec])
    elif isinstance(spec, str):
        items = [spec]
    else:
        try:
            items = list(spec)
        except TypeError:
            raise OptionError(
                f"view {name!r} is given {shortened(repr(spec))}; give a slice, a list of columns "
                "or a count."
            ) from None
    if items and all(isinstance(item, str) for item in items):
        items = [_position(name, item, places) for item in items]
    elif items and all(isinstance(item, bool | np.bool_) for item in items):
        if len(items) != n_columns:
            raise OptionError(
                f"view {name!r} has a column mask of length {len(items)} but X has "
                f"{n_columns} columns."
            )
        items = np.flatnonzero(items).tolist()
    elif not all(_is_integer(item) for item in items):
        raise OptionError(
            f"view {name!r} mixes kinds of columns; list positions or names, not both."
        )
    if not items:
        raise OptionError(f"view {name!r} selects no column; a view needs at least 1.")
    for item in items:
        _check_range(name, item, n_columns, most=n_columns - 1)
    return [int(item) % n_columns for item in items]


def _check_slice(name: str, spec: slice, n_columns: int) -> None:
    for bound in (spec.start, spec.stop, spec.step):
        if bound is not None and not _is_integer(bound):
            raise OptionError(
                f"view {name!r} has a slice with {shortened(repr(bound))}; slices count columns "
                "from 0."
            )
    for bound in (spec.start, spec.stop):
        _check_range(name, bound or 0, n_columns, most=n_columns)
    if spec.step == 0:
        raise OptionError(f"view {name!r} has a slice with step 0; leave the step out.")


def _check_range(name: str, column: int, n_columns: int, *, most: int) -> None:
    if not -n_columns <= column <= most:
        raise OptionError(
            f"view {name!r} asks for column {column}, out of range: X has {n_columns} columns, "
            f"0 to {n_columns - 1}."
        )


def _position(name: str, label: str, places: Mapping[Any, Sequence[int]] | None) -> int:
    asks = f"view {name!r} asks for column {shortened(repr(label), 60)}"
    if places is None:
        raise OptionError(
            f"{asks} but X has no column names; give a DataFrame or column positions."
        )
    positions = places.get(label, ())
    if len(positions) != 1:
        problem = "twice or more in X" if positions else "not in X"
        choice = nearest(label, map(str, list(places)[:50]))
        raise OptionError(f"{asks}, which is {problem}; {choice}")
    return positions[0]
