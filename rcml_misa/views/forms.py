"""From any accepted form of X to views, and what methods need of them: tables, means, a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.exceptions import DataError, OptionError, shortened
from rcml_misa.views.alignment import check_view_names, row_labels
from rcml_misa.views.arrays import ViewArray, dense, present_rows
from rcml_misa.views.containers import axes, opened
from rcml_misa.views.mapped import MappedRows, is_mapped, row_slices
from rcml_misa.views.multiview import MultiView
from rcml_misa.views.raw import RawTable
from rcml_misa.views.sequences import Sequences, Texts

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ViewMeans",
    "as_multiview",
    "check_target",
    "data_sha256",
    "holds_views",
    "refuse_raw",
    "refuse_sequences",
    "row_index",
    "with_absent_views",
]

BLOCK = 8192  # labels hashed at once
SURROGATES = "surrogatepass"  # halves of a character, which a text of Python may hold


def as_multiview(X: Any, views: Any = None, *, raw: bool = False) -> MultiView:
    """Turn any accepted form of X into a `MultiView`.

    Parameters
    ----------
    X : MultiView, mapping, list of 2-D arrays, 2-D array, sparse matrix, tensor or DataFrame
        The samples; tables of pandas, polars, pyarrow or whatever else narwhals reads. Rows of
        pandas tables are matched by index, see `MultiView`.
    views : list, dict or str, optional
        Column groups of a 2-D X, as in `MultiView.from_array`.
    raw : bool
        Whether a table that is not numbers without gaps becomes a `RawTable`, which
        `TablePreparer` reads, instead of an error.

    Raises
    ------
    OptionError
        If `views` does not fit X, or is given for an X that is already cut into views.
    DataError
        If X is not valid; see `MultiView`.

    Examples
    --------
    >>> as_multiview([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], views=[1, 2]).widths
    (1, 2)
    >>> as_multiview({"a": [[1.0], [2.0]]}).names
    ('a',)
    """
    cut = holds_views(X)
    if cut and views is not None:
        raise OptionError(
            "views= cuts the columns of one 2-D table, but X already holds separate views; "
            "leave views=None."
        )
    if isinstance(X, MultiView):
        return X
    return MultiView(X, raw=raw) if cut else MultiView.from_array(X, views=views, raw=raw)


def holds_views(X: Any) -> bool:
    """Distinguish an X that is cut into views already from one table.

    Examples
    --------
    >>> holds_views({"a": [[1.0]]}), holds_views([[1.0, 2.0]])
    (True, False)
    """
    if issparse(X):  # one form of a sparse matrix is a mapping too
        return False
    if isinstance(X, list | tuple):  # of tables, or of the rows of one table
        tables = [table for table in X if table is not None]
        if tables and isinstance(tables[0], list | tuple):
            rows = tables[0]
            if rows and isinstance(rows[0], list | tuple | np.ndarray):
                return True
        several = any(axes(table) >= 2 for table in tables)
        return not X or several or bool(tables and _is_text_column(tables[0]))
    return isinstance(X, MultiView | Mapping)


def _is_text_column(table: Any) -> bool:
    """Recognise an array or column of texts, but no list: that may be a row of a table."""
    if isinstance(table, list | tuple | str) or not hasattr(table, "__array__"):
        return False
    column = np.asarray(opened("X", table))
    return column.ndim == 1 and any(isinstance(text, str) for text in column.tolist())


def refuse_sequences(views: MultiView, reader: str) -> None:
    """Refuse views that are no tables, on behalf of a method that reads tables only.

    Examples
    --------
    >>> refuse_sequences(MultiView({"words": ["yes", "no"]}), "RCMLClassifier")
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: view 'words' is a text view but RCMLClassifier reads tables ...
    """
    for name, kind in zip(views.names, views.kinds, strict=True):
        if kind in ("sequence", "text"):
            raise DataError(
                f"view {name!r} is a {kind} view but {reader} reads tables only; pool it first "
                "with MultiView.pooled(), or leave it out."
            )


def refuse_raw(views: MultiView) -> None:
    """Refuse views that hold columns of any type, which `TablePreparer` turns into numbers."""
    for name, kind in zip(views.names, views.kinds, strict=True):
        if kind == "raw":
            raise DataError(
                f"view {name!r} is a raw table, with gaps or columns that are no numbers; put a "
                "TablePreparer before the estimator."
            )


def with_absent_views(
    X: Any, *, names: Sequence[str], widths: Sequence[int], raw: bool = False
) -> Any:
    """Match views by name: put them into the order of `names`, and NaN for those that X lacks.

    A mapping or `MultiView` may lack some of the `names` or have None for them, in any order; a
    list has None in place of a view. Any other X is returned as it is. `widths` are the views'
    numbers of columns, `raw` is as in `as_multiview`.

    Raises
    ------
    DataError
        If X has a view of another name, or none at all.

    Examples
    --------
    >>> filled = with_absent_views({"b": None, "a": [[1.0]]}, names=("a", "b"), widths=(1, 2))
    >>> filled, filled.present.tolist()
    (MultiView(1 samples: a 1, b 2), [[True, False]])
    """
    if isinstance(X, list | tuple) and len(X) == len(names) and any(table is None for table in X):
        X = dict(zip(names, X, strict=True))
    if isinstance(X, Mapping) and not issparse(X):
        given = {name: table for name, table in X.items() if table is not None}
        if not given:
            listed = shortened(", ".join(names))
            raise DataError(f"X has none of the views {listed}; give at least one of them.")
        views = MultiView(given, raw=raw)
        check_view_names(X, names)  # also those that are None
        X = views
    return X.arranged(names, widths) if isinstance(X, MultiView) else X


def row_index(X: Any) -> pd.Index[Any] | None:
    """Return the labels of the rows of any form of X; None where no part of it has some.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"x": [1.0, 2.0]}, index=["p", "q"])
    >>> row_index({"a": [[0.0], [1.0]], "b": table}).tolist()
    ['p', 'q']
    """
    if isinstance(X, MultiView):
        return X.row_index
    if not holds_views(X):
        return row_labels(X)
    tables = X.values() if isinstance(X, Mapping) else X
    return next((index for index in map(row_labels, tables) if index is not None), None)


@dataclass(frozen=True)
class ViewMeans:
    """Column means of each view over the rows that have it.

    Methods that know nothing of missing views read these in their place.

    Examples
    --------
    >>> views = MultiView({"a": [[1.0], [np.nan], [3.0]]})
    >>> ViewMeans.fit(views).fill(views)["a"].ravel().tolist()
    [1.0, 2.0, 3.0]
    """

    means: tuple[NDArray[np.float64], ...]  # of shape (d_v,), one per view

    @classmethod
    def fit(cls, views: MultiView) -> Self:
        """Compute the means of train rows, of which each view has at least one."""
        return cls(tuple(_mean(array, views.present[:, i]) for i, array in enumerate(views.arrays)))

    def fill(self, views: MultiView) -> MultiView:
        """Fill the gaps of views; return the same object where nothing is missing."""
        if views.complete:
            return views
        means = dict(zip(views.names, self.means, strict=True))
        return views.map(lambda name, array: _filled(array, means[name]))


def _mean(array: ViewArray, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute column means over the rows that have a view."""
    if isinstance(array, Sequences | Texts | RawTable):
        return np.empty(0)  # no row of these is ever missing
    if not isinstance(array, np.ndarray | MappedRows):
        rows = array if present.all() else array[present]
        return np.asarray(rows.mean(axis=0), dtype=np.float64).ravel()
    total, count = np.zeros(array.shape[1]), 0
    for block in row_slices(*array.shape):
        part = dense(array, block)
        part = part if present[block].all() else part[present[block]]
        total += part.sum(axis=0)
        count += len(part)
    return total / count


def _filled(array: ViewArray, mean: NDArray[np.float64]) -> ViewArray:
    if is_mapped(array):
        rows = array if isinstance(array, MappedRows) else MappedRows(array)
        return cast(ViewArray, replace(rows, fill=mean))
    missing = np.flatnonzero(~present_rows(array))
    if not missing.size or isinstance(array, Sequences | Texts | RawTable):
        return array
    if isinstance(array, np.ndarray):
        filled = array.copy()
        filled[missing] = mean
        return filled
    values = array.data.copy()
    values[np.isnan(values)] = np.tile(mean, missing.size)  # a missing row is stored in full
    return csr_array((values, array.indices, array.indptr), shape=array.shape)


def check_target(target: ArrayLike, classes: Sequence[str]) -> None:
    """Refuse class codes, 0 .. K-1 of K `classes`, that allow no training and testing.

    Raises
    ------
    DataError
        If there is one class only, a class has fewer than two samples, or a code has no class.

    Examples
    --------
    >>> check_target([0, 1, 1, 0], ("no", "yes"))
    >>> check_target([0, 1, 1], ("no", "yes"))
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: class 'no' has 1 sample; every class needs at least 2, ...
    """
    codes = np.asarray(target)
    n, k = codes.size, len(classes)
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or n == 0:
        raise DataError(f"the target must be a 1-D list of class codes, not {codes.shape}.")
    if codes.min() < 0 or codes.max() >= k:
        raise DataError(
            f"the target's codes run from {codes.min()} to {codes.max()} but there are {k} "
            f"classes, 0 to {k - 1}."
        )
    if n < k:
        raise DataError(
            f"there are fewer rows ({n}) than classes ({k}); check that the target is a class "
            "label and not a measurement."
        )
    counts = np.bincount(codes, minlength=k)
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"the target holds one class only ({classes[int(codes[0])]!r}); a classifier needs "
            "two or more."
        )
    rarest = int(counts.argmin())
    if counts[rarest] < 2:
        samples = "1 sample" if counts[rarest] else "0 samples"
        raise DataError(
            f"class {classes[rarest]!r} has {samples}; every class needs at least 2, one to "
            "train and one to test: add samples, merge it or leave it out."
        )


def data_sha256(views: MultiView, labels: NDArray[Any]) -> str:
    """Compute the sha256 of names, shapes and values of all views, and of the labels.

    Its 64 hexadecimal digits differ between a sparse view and the same values in a dense one.

    Examples
    --------
    >>> len(data_sha256(MultiView({"a": [[1.0], [2.0]]}), np.array(["x", "y"])))
    64
    """
    digest = hashlib.sha256()
    for name, array in views.items():
        digest.update(f"{name} {array.shape};".encode(errors=SURROGATES))
        if isinstance(array, Sequences):
            parts: Iterable[Any] = [array.values, array.lengths]
        elif isinstance(array, Texts):
            parts = [
                np.frombuffer("\0".join(array.values).encode(errors=SURROGATES), dtype=np.uint8)
            ]
        elif isinstance(array, RawTable):
            parts = [array.digests()]
        elif isinstance(array, np.ndarray | MappedRows):
            parts = (dense(array, block) for block in row_slices(*array.shape))
        else:  # the numbers of columns are of either width
            parts = [array.indptr.astype(np.int64), array.indices.astype(np.int64), array.data]
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
    for start in range(0, len(labels), BLOCK):
        lines = "\n".join(map(str, labels[start : start + BLOCK].tolist()))
        digest.update(("\n" * bool(start) + lines).encode(errors=SURROGATES))
    return digest.hexdigest()
