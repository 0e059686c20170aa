"""Missing views: named ones that X lacks, and tables without gaps for methods that need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.exceptions import DataError
from rcml_misa.views.arrays import ViewArray, present_rows
from rcml_misa.views.multiview import MultiView

__all__ = ["ViewMeans", "with_absent_views"]


def with_absent_views(X: Any, *, names: Sequence[str], widths: Sequence[int]) -> Any:
    """Put views of NaN where X has None or lacks a name.

    Parameters
    ----------
    X : MultiView, mapping, list of tables, or any other form of X
        A mapping or `MultiView` may lack names; a list has None in place of a view.
    names : sequence of str
        All views, in order.
    widths : sequence of int
        Their columns.

    Returns
    -------
    MultiView, mapping, list, or X itself
        X as it was if nothing is absent, or if its names are not some of `names` in their order:
        that is for others to refuse.

    Raises
    ------
    DataError
        If X has none of the views.

    Examples
    --------
    >>> filled = with_absent_views({"a": [[1.0]], "b": None}, names=("a", "b"), widths=(1, 2))
    >>> MultiView(filled).present.tolist()
    [[True, False]]
    """
    if isinstance(X, MultiView | Mapping) and not issparse(X):
        given = dict(X.items())
        if not set(given) <= set(names) or [name for name in names if name in given] != list(given):
            return X
        tables = [given.get(name) for name in names]
    elif isinstance(X, list | tuple) and len(X) == len(names) and any(one is None for one in X):
        tables = list(X)
    else:
        return X
    known = [table for table in tables if table is not None]
    if len(known) == len(names):
        return X
    if not known:
        raise DataError(f"X has none of the views {', '.join(names)}; give at least one of them.")
    rows = known[0].shape[0] if hasattr(known[0], "shape") else len(known[0])
    return {
        # a broadcast NaN: a view that is missing for every row takes no memory
        name: np.broadcast_to(np.nan, (rows, width)) if table is None else table
        for name, table, width in zip(names, tables, widths, strict=True)
    }


@dataclass(frozen=True)
class ViewMeans:
    """Column means of each view over the rows that have it.

    Methods that know nothing of missing views read these in their place.

    Parameters
    ----------
    means : tuple of ndarray of shape (d_v,)

    Examples
    --------
    >>> views = MultiView({"a": [[1.0], [np.nan], [3.0]]})
    >>> ViewMeans.fit(views).fill(views)["a"].ravel().tolist()
    [1.0, 2.0, 3.0]
    """

    means: tuple[NDArray[np.float64], ...]

    @classmethod
    def fit(cls, views: MultiView) -> Self:
        """Measure on train rows, of which each view has at least one."""
        return cls(tuple(_means(array) for array in views.arrays))

    def fill(self, views: MultiView) -> MultiView:
        """Views without gaps: the same object where nothing is missing."""
        if views.present.all():
            return views
        arrays = zip(views.items(), self.means, strict=True)
        return MultiView({name: _filled(array, mean) for (name, array), mean in arrays})


def _means(array: ViewArray) -> NDArray[np.float64]:
    present = present_rows(array)
    rows = array if present.all() else array[present]
    return np.asarray(rows.mean(axis=0), dtype=np.float64).ravel()


def _filled(array: ViewArray, mean: NDArray[np.float64]) -> ViewArray:
    missing = np.flatnonzero(~present_rows(array))
    if not missing.size:
        return array
    if isinstance(array, np.ndarray):
        filled = array.copy()
        filled[missing] = mean
        return filled
    rows = np.diff(array.indptr)
    gaps = np.repeat(np.isin(np.arange(array.shape[0]), missing), rows)
    values = array.data.copy()
    values[gaps] = np.tile(mean, missing.size)  # a missing row is stored in full, in order
    return csr_array((values, array.indices, array.indptr), shape=array.shape)
