"""Matching by name: rows of several tables by their index, columns and views by their names."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
from rcml_misa.views.arrays import present_rows
from rcml_misa.views.containers import unwrapped

if TYPE_CHECKING:
    import pandas as pd

    from rcml_misa.views.multiview import MultiView

__all__ = [
    "ColumnNames",
    "align_rows",
    "check_view_names",
    "column_names",
    "match_columns",
    "match_target",
    "named_views",
    "row_labels",
]

ColumnNames: TypeAlias = "tuple[str | int, ...] | None"


def row_labels(value: Any) -> pd.Index[Any] | None:
    """Return the index of a pandas table or column; None for anything else."""
    value = unwrapped(value)
    return value.index if hasattr(value, "iloc") and hasattr(value, "index") else None


def column_names(frame: Any) -> ColumnNames:
    """Return a frame's names of columns, texts or whole numbers; None for anything else.

    Examples
    --------
    >>> import pandas as pd
    >>> column_names(pd.DataFrame({"x": [1.0], 7: [2.0]})), column_names([[1.0]])
    (('x', 7), None)
    """
    if not hasattr(frame, "columns"):
        return None
    plain = (str, int)  # looked at first: `Integral` is slow
    return tuple(
        c if type(c) in plain else int(c) if isinstance(c, Integral) else str(c)
        for c in frame.columns
    )


def named_views(arrays: Any, names: Sequence[str] | None) -> tuple[tuple[str, ...], list[Any]]:
    """Return the names and tables of a mapping or a list, in order; refuse names that are none."""
    if isinstance(arrays, Mapping):
        if names is not None:
            raise OptionError("names= belongs to a list of arrays; a mapping already names them.")
        labels, values = tuple(arrays), list(arrays.values())
        if labels and all(isinstance(label, Integral) for label in labels):
            raise OptionError(
                f"the views are numbered (the first is {labels[0]!r}) but need names; name the "
                "views, for instance {f'view{k}': x for k, x in X.items()}."
            )
    elif isinstance(arrays, list | tuple):
        values = list(arrays)
        labels = tuple(names or (f"view{i}" for i in range(1, len(values) + 1)))
    else:
        raise DataError(
            f"MultiView takes a mapping or a list of views, not one {type(arrays).__name__}; "
            "cut one table into views with MultiView.from_array."
        )
    if not values:
        raise DataError("there is no view; give at least one 2-D array.")
    if len(labels) != len(values):
        raise OptionError(f"{len(labels)} names for {len(values)} views; give one name per view.")
    for label in labels:
        if not isinstance(label, str) or not label:
            raise OptionError(
                f"a view's name must be a non-empty word, not {shortened(repr(label))}."
            )
        if labels.count(label) > 1:
            raise OptionError(f"two views are called {label!r}; give each its own name.")
    return labels, values


def check_view_names(given: Iterable[Any], names: Sequence[str]) -> None:
    """Refuse views, by a `DataError`, that are not among the `names` that fit saw."""
    for name in given:
        if name not in names:
            raise DataError(
                f"X has the view {shortened(repr(name), 60)}, which fit did not see; "
                f"{nearest(str(name), names)}"
            )


def align_rows(
    names: Sequence[str], values: Sequence[Any], reference: pd.Index[Any] | None = None
) -> tuple[list[Any], pd.Index[Any] | None]:
    """Put the rows of pandas tables into the order of the first one's index, and return that.

    Tables without an index, and tables that are all numbered from 0, are joined by position.

    Parameters
    ----------
    names : sequence of str
        Names of the views, for sentences.
    values : sequence
        Tables and columns of any kind.
    reference : Index, optional
        Index to follow instead of the first table's.

    Raises
    ------
    DataError
        If two indices differ in more than their order, or in their order while labels repeat.

    Examples
    --------
    >>> import pandas as pd
    >>> first = pd.DataFrame({"x": [1.0, 2.0]}, index=["p", "q"])
    >>> tables, index = align_rows(("a", "b"), (first, first[::-1]))
    >>> tables[1]["x"].tolist(), index.tolist()
    ([1.0, 2.0], ['p', 'q'])
    """
    aligned = list(values)
    first = "X"
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        index = row_labels(value)
        if index is None:
            continue
        if reference is None:
            first, reference = name, index
        elif not (index.equals(reference) or (_numbered(index) and _numbered(reference))):
            places = _places(f"view {shortened(name, 40)!r}", index, first, reference)
            aligned[place] = unwrapped(value).iloc[places]
    return aligned, reference


def match_target(
    index: pd.Index[Any] | None, column: Any, what: str, *, one_table: bool = False
) -> Any:
    """Put a pandas column of one value per row into the order of the rows of X.

    A column without an index is returned as it is, and so is one of another length, for others to
    refuse.

    Parameters
    ----------
    index : Index or None
        Labels of the rows of X.
    column : array-like
        Target or weights.
    what : str
        Name of the column, for sentences.
    one_table : bool
        Whether X is one table: then an index numbered from 0, of X or of the column, that is not
        the other one in another order means position, as everywhere in scikit-learn.

    Raises
    ------
    DataError
        If the indices differ in more than their order, or in their order while labels repeat.

    Examples
    --------
    >>> import pandas as pd
    >>> match_target(pd.Index(["p", "q"]), pd.Series([1, 2], index=["q", "p"]), "y").tolist()
    [2, 1]
    """
    labels = row_labels(column)
    if index is None or labels is None or len(labels) != len(index) or labels.equals(index):
        return column
    if one_table and (_numbered(labels) or _numbered(index)):
        unique = labels.is_unique and index.is_unique
        if not (unique and (labels.get_indexer(index) >= 0).all()):
            return column
    return unwrapped(column).iloc[_places(what, labels, "X", index)]


def _numbered(index: pd.Index[Any]) -> bool:
    """Recognise the default index: 0, 1, 2, ..."""
    import pandas as pd

    return bool(index.equals(pd.RangeIndex(len(index))))


def _places(what: str, index: pd.Index[Any], first: str, reference: pd.Index[Any]) -> Any:
    """Find the rows of `index` in the order of `reference`, or refuse them."""
    owner = "X" if first == "X" else f"view {shortened(first, 40)!r}"
    for name, labels in ((owner, reference), (what, index)):
        if not labels.is_unique:
            label = shortened(repr(labels[labels.duplicated()][0]), 40)
            raise DataError(
                f"{what} and {owner} differ in their index, and the label {label} stands twice in "
                f"{name}; make it unique, or give both with reset_index(drop=True) to join by "
                "position."
            )
    places = index.get_indexer(reference)
    if (places < 0).any() or len(index) != len(reference):
        lacking, having = (what, owner) if (places < 0).any() else (owner, what)
        rest = reference[places < 0] if lacking == what else index.difference(reference, sort=False)
        raise DataError(
            f"{lacking} has no row {shortened(repr(rest[0]), 40)}, which {having} has; give both "
            "the same index (reindex fills gaps with NaN), or reset_index(drop=True) to join by "
            "position."
        )
    return places


def match_columns(
    views: MultiView, seen: Sequence[ColumnNames] | None, *, warn: bool = False
) -> MultiView:
    """Put the columns of each view into the order that `fit` saw, by their names.

    Names that are missing on one side, or are the numbers 0, 1, 2, ... there, leave the columns as
    they are.

    Parameters
    ----------
    views : MultiView
        Views in the order of `fit`.
    seen : sequence of tuple, or None
        Names of each view's columns at `fit`.
    warn : bool
        Whether to warn of a view without names where `fit` saw some.

    Raises
    ------
    DataError
        If a view lacks a column, has another one, or repeats a name in another order.

    Examples
    --------
    >>> import pandas as pd
    >>> from rcml_misa.views import as_multiview
    >>> views = as_multiview({"a": pd.DataFrame({"y": [2.0], "x": [1.0]})})
    >>> match_columns(views, (("x", "y"),))["a"].tolist()
    [[1.0, 2.0]]
    """
    orders: dict[str, list[int]] = {}
    for name, array, given, fitted in zip(
        views.names, views.arrays, views.column_names, seen or [None] * len(views), strict=True
    ):
        if fitted is None or given == fitted:
            continue
        if given is None or set(given) != set(fitted):
            if _unnamed(fitted):
                continue
            if given is None or _unnamed(given):
                if warn and present_rows(array).any():
                    warnings.warn(
                        f"view {name!r} has no column names but fit saw some; its columns are read "
                        "in the order of fit.",
                        UserWarning,
                        stacklevel=4,
                    )
                continue
        orders[name] = _order(name, given, fitted)
    return views.with_columns(orders) if orders else views


def _unnamed(columns: tuple[str | int, ...]) -> bool:
    """Recognise the default names of columns: 0, 1, 2, ..."""
    return columns == tuple(range(len(columns)))


def _order(name: str, given: tuple[str | int, ...], seen: tuple[str | int, ...]) -> list[int]:
    """Find the columns of fit among those given."""
    expected, offered = set(seen), set(given)
    extra = [column for column in given if column not in expected]
    missing = [column for column in seen if column not in offered]
    if missing or extra:
        facts = [f"lacks the {_columns(missing)} that fit saw"] if missing else []
        facts += [f"has the {_columns(extra)} that fit did not see"] if extra else []
        choice = "give the columns of fit, in any order."
        if missing and extra:
            closest = nearest(str(extra[0]), map(str, missing))
            choice = closest if closest.startswith("did") else choice
        raise DataError(f"view {name!r} {' and '.join(facts)}; {choice}")
    places = {column: place for place, column in enumerate(given)}
    if len(places) != len(given) or len(given) != len(seen):
        twice = next(column for column in (*given, *seen) if (*given, *seen).count(column) > 2)
        raise DataError(
            f"view {name!r} has the column {shortened(repr(twice), 60)} twice, and its columns are "
            "not in the order of fit; give each its own name."
        )
    return [places[column] for column in seen]


def _columns(names: Iterable[str | int]) -> str:
    """Quote the first of some columns."""
    listed = list(names)
    shown = shortened(", ".join(shortened(repr(name), 40) for name in listed[:3]), 90)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return f"column{'s' if len(listed) > 1 else ''} {shown}{more}"
