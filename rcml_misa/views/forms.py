"""The forms that samples may come in, and how each becomes views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse

from rcml_misa.exceptions import OptionError
from rcml_misa.views.multiview import MultiView

__all__ = ["as_multiview", "holds_views"]


def as_multiview(X: Any, views: Any = None) -> MultiView:
    """Turn any accepted form of X into a `MultiView`.

    Parameters
    ----------
    X : MultiView, mapping, list of 2-D arrays, 2-D array, sparse matrix or DataFrame
        The samples.
    views : list, dict or str, optional
        Column groups of a 2-D X, as in `MultiView.from_array`.

    Returns
    -------
    MultiView

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
    return MultiView(X) if cut else MultiView.from_array(X, views=views)


def holds_views(X: Any) -> bool:
    """Tell an X that is cut into views already from one table.

    Examples
    --------
    >>> holds_views({"a": [[1.0]]}), holds_views([[1.0, 2.0]])
    (True, False)
    """
    if issparse(X):  # one form of a sparse matrix is a mapping too
        return False
    return isinstance(X, MultiView | Mapping) or _is_list_of_views(X)


def _is_list_of_views(X: Any) -> bool:
    """Tell a list of tables from a table given as a list of rows."""
    if not isinstance(X, list | tuple):
        return False
    if not X:
        return True
    first = next((one for one in X if one is not None), None)
    if isinstance(first, list | tuple):
        return bool(first) and isinstance(first[0], list | tuple | np.ndarray)
    return getattr(first, "ndim", 1) >= 2
