"""Rows of zeros that stand for a missing view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.views import MultiView, RawTable, Sequences, Texts

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["describe_zero_rows", "without_zero_rows", "zeros_to_missing"]

LEAST, MOST = 0.01, 0.9  # shares of rows of zeros between which they are noticed


def describe_zero_rows(views: MultiView) -> tuple[str, ...]:
    """Tell which views have rows of zeros that look like missing ones.

    A view is named if 1 % to 90 % of its rows are zero in every one of its two or more columns, and
    these rows stand apart: fewer rows have an entry in at most half as many columns as the median
    row with entries. Counts of words, where rows with few entries are as usual as empty ones, are
    not named.

    Examples
    --------
    >>> values = np.ones((4, 2))
    >>> values[1] = 0
    >>> describe_zero_rows(MultiView({"a": values}))
    ('view a has 1 row of zeros only; --zero-is-missing reads it as missing',)
    """
    notes = []
    for name, view in views.items():
        counts = _entries_per_row(view)
        if counts is None or view.shape[1] < 2:
            continue
        zero = int((counts == 0).sum())
        if not LEAST * len(counts) <= zero <= MOST * len(counts) or not zero:
            continue
        entries = counts[counts > 0]
        middle = float(np.median(entries))
        if middle >= 2 and int((entries <= middle / 2).sum()) < zero:
            rows, them = ("row", "it") if zero == 1 else ("rows", "them")
            notes.append(
                f"view {name} has {zero} {rows} of zeros only; --zero-is-missing reads {them} as "
                "missing"
            )
    return tuple(notes)


def without_zero_rows(views: MultiView) -> tuple[MultiView, tuple[str, ...]]:
    """Mark the rows of zeros of every view as missing, and tell how many these are.

    Examples
    --------
    >>> views, notes = without_zero_rows(MultiView({"a": [[0.0, 0.0], [1.0, 0.0]]}))
    >>> views.present.tolist(), notes
    ([[False], [True]], ('view a: 1 row of zeros was read as missing',))
    """
    arrays: dict[str, Any] = {}
    notes = []
    for name, view in views.items():
        counts = _entries_per_row(view)
        zero = 0 if counts is None or view.shape[1] < 2 else int((counts == 0).sum())
        arrays[name] = zeros_to_missing(view) if zero else view
        if zero:
            rows = "1 row of zeros was" if zero == 1 else f"{zero} rows of zeros were"
            notes.append(f"view {name}: {rows} read as missing")
    return MultiView(arrays), tuple(notes)


def zeros_to_missing(view: Any) -> Any:
    """Set rows of zeros to NaN in a table of two columns or more of any kind; in one, 0 is a value.

    Examples
    --------
    >>> zeros_to_missing(np.array([[0, 0], [1, 0]]))
    array([[nan, nan],
           [ 1.,  0.]])
    """
    counts = _entries_per_row(view)
    if counts is None or view.shape[1] < 2 or counts.all():
        return view
    zero = counts == 0
    if isinstance(view, RawTable):
        return RawTable(zeros_to_missing(view.frame))
    if hasattr(view, "iloc"):
        return view.mask(np.broadcast_to(zero[:, None], view.shape))
    if issparse(view):
        rows = _rows(view).astype(np.float64)
        rows.eliminate_zeros()
        full = np.where(zero, rows.shape[1], np.diff(rows.indptr))
        ends = np.concatenate([[0], np.cumsum(full)])
        data, indices = np.full(ends[-1], np.nan), np.empty(ends[-1], dtype=np.int64)
        missing = np.repeat(zero, full)
        data[~missing], indices[~missing] = rows.data, rows.indices
        indices[missing] = np.tile(np.arange(rows.shape[1]), int(zero.sum()))
        return csr_array((data, indices, ends), shape=rows.shape)
    return np.where(zero[:, None], np.nan, view)


def _entries_per_row(view: Any) -> NDArray[np.int64] | None:
    """Count the entries of each row that are not 0, (n,); None for what is no table of numbers."""
    if view is None or isinstance(view, Sequences | Texts):
        return None
    if isinstance(view, RawTable):
        view = view.frame
    if hasattr(view, "iloc"):
        return _frame_entries(view)
    if issparse(view):
        rows = _rows(view)
        owners = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        return np.bincount(owners[rows.data != 0], minlength=rows.shape[0])
    return np.asarray(np.count_nonzero(view, axis=1))


def _rows(matrix: Any) -> Any:
    return csr_array(matrix)


def _frame_entries(frame: pd.DataFrame) -> NDArray[np.int64] | None:
    if any(getattr(dtype, "kind", "O") not in "biuf" for dtype in frame.dtypes):
        return None
    return np.asarray((frame != 0).to_numpy(dtype=bool, na_value=True).sum(axis=1))
