"""Columns of each view of one table: the `views=` option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import OptionError, nearest, shortened

__all__ = ["ColumnGroup", "column_groups"]

ColumnGroup: TypeAlias = "slice | NDArray[np.intp]"


def column_groups(
    views: Any, *, n_columns: int, labels: Sequence[Any] | None
) -> list[tuple[str, ColumnGroup]]:
    """Resolve the `views=` option of `MultiView.from_array` to each view's name and columns.

    `labels` are the table's column names, if it has any; tuples are those of a MultiIndex.
    Consecutive columns come as a slice. Columns that do not exist, overlap or do not add up raise
    an `OptionError`.

    Examples
    --------
    >>> column_groups([1, 2], n_columns=3, labels=None)
    [('view1', slice(0, 1, None)), ('view2', slice(1, 3, None))]
    >>> column_groups("__", n_columns=2, labels=["a__0", "b__0"])
    [('a', slice(0, 1, None)), ('b', slice(1, 2, None))]
    >>> column_groups(None, n_columns=2, labels=[("a", "x"), ("b", "x")])
    [('a', slice(0, 1, None)), ('b', slice(1, 2, None))]
    """
    if views is None:
        if labels and all(isinstance(label, tuple) for label in labels):
            return _grouped([str(label[0]) for label in labels])
        return [("view1", slice(0, n_columns))]
    if isinstance(views, str):
        return _by_prefix(views, labels)
    if isinstance(views, Mapping):
        names, specs = [str(name) for name in views], list(views.values())
    elif isinstance(views, list | tuple):
        names, specs = [f"view{i}" for i in range(1, len(views) + 1)], list(views)
    else:
        raise OptionError(
            f"views={shortened(repr(views))} is not a list, a dict or a separator; give for "
            "instance a list of column counts, one per view."
        )
    if not specs:
        raise OptionError("views= is empty; name the columns of at least one view.")
    counts = [_is_integer(spec) for spec in specs]
    if all(counts):
        return _by_width(names, [int(spec) for spec in specs], n_columns)
    if any(counts):
        raise OptionError(
            "views= mixes column counts with choices of columns; use one or the other for all."
        )
    chosen = [
        _positions(name, spec, n_columns, labels) for name, spec in zip(names, specs, strict=True)
    ]
    _check_overlap(names, chosen)
    return [(name, _as_slice(group)) for name, group in zip(names, chosen, strict=True)]


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _by_width(names: list[str], widths: list[int], n_columns: int) -> list[tuple[str, ColumnGroup]]:
    for name, width in zip(names, widths, strict=True):
        if width < 1:
            raise OptionError(f"view {name!r} is given {width} columns; a view needs at least 1.")
    if sum(widths) != n_columns:
        raise OptionError(
            f"views= counts {sum(widths)} columns ({shortened(' + '.join(map(str, widths)))}) but "
            f"X has {n_columns}; the counts must add up to all columns."
        )
    ends = np.cumsum(widths).tolist()
    return [
        (name, slice(end - width, end))
        for name, width, end in zip(names, widths, ends, strict=True)
    ]


def _by_prefix(separator: str, labels: Sequence[Any] | None) -> list[tuple[str, ColumnGroup]]:
    if labels is None:
        raise OptionError(
            f"views={shortened(repr(separator))} splits column names, but X has none; give a "
            'DataFrame (in a Pipeline, set_output(transform="pandas")) or a list of column counts.'
        )
    if not separator:
        raise OptionError("views='' is no separator; give for instance views='__'.")
    prefixes = []
    for label in labels:
        prefix, middle, _ = str(label).partition(separator)
        if not middle or not prefix:
            raise OptionError(
                f"column {shortened(repr(label))} has no view before {shortened(repr(separator))}; "
                "rename it, leave it out, or list the columns of each view."
            )
        prefixes.append(prefix)
    return _grouped(prefixes)


def _grouped(owners: list[str]) -> list[tuple[str, ColumnGroup]]:
    """Collect the columns of each owner, in the order in which the owners appear."""
    groups: dict[str, list[int]] = {}
    for position, owner in enumerate(owners):
        groups.setdefault(owner, []).append(position)
    return [(name, _as_slice(np.array(group, dtype=np.intp))) for name, group in groups.items()]


def _positions(
    name: str, spec: Any, n_columns: int, labels: Sequence[Any] | None
) -> NDArray[np.intp]:
    """Resolve a view's choice of columns to positions, 0 .. n_columns-1."""
    if isinstance(spec, slice):
        positions = np.arange(n_columns)[_checked_slice(name, spec, n_columns)]
    else:
        wanted: list[Any] = [spec] if isinstance(spec, str) else _listed(name, spec)
        if wanted and all(isinstance(item, str) for item in wanted):
            positions = np.array([_position(name, item, labels) for item in wanted])
        elif wanted and all(isinstance(item, bool | np.bool_) for item in wanted):
            if len(wanted) != n_columns:
                raise OptionError(
                    f"view {name!r} has a column mask of length {len(wanted)} but X has "
                    f"{n_columns} columns."
                )
            positions = np.flatnonzero(wanted)
        elif all(_is_integer(item) for item in wanted):
            for item in wanted:
                if not -n_columns <= item < n_columns:
                    raise _out_of_range(name, item, n_columns)
            positions = np.array([int(item) % n_columns for item in wanted])
        else:
            raise OptionError(
                f"view {name!r} mixes kinds of columns; list positions or names, not both."
            )
    if positions.size == 0:
        raise OptionError(f"view {name!r} selects no column; a view needs at least 1.")
    return positions.astype(np.intp)


def _listed(name: str, spec: Any) -> list[Any]:
    try:
        return list(spec)
    except TypeError:
        raise OptionError(
            f"view {name!r} is given {shortened(repr(spec))}; give a slice, a list of columns or a "
            "count."
        ) from None


def _checked_slice(name: str, spec: slice, n_columns: int) -> slice:
    for bound in (spec.start, spec.stop, spec.step):
        if bound is not None and not _is_integer(bound):
            raise OptionError(
                f"view {name!r} has a slice with {shortened(repr(bound))}; slices count columns "
                "from 0."
            )
    for bound in (spec.start, spec.stop):
        if bound is not None and not -n_columns <= bound <= n_columns:
            raise _out_of_range(name, bound, n_columns)
    if spec.step == 0:
        raise OptionError(f"view {name!r} has a slice with step 0; leave the step out.")
    return spec


def _position(name: str, label: str, labels: Sequence[Any] | None) -> int:
    if labels is None:
        raise OptionError(
            f"view {name!r} asks for column {shortened(repr(label))} but X has no column names; "
            "give a DataFrame or column positions."
        )
    columns = list(labels)
    if columns.count(label) != 1:
        problem = "twice or more in X" if label in columns else "not in X"
        raise OptionError(
            f"view {name!r} asks for column {shortened(repr(label))}, which is {problem}; "
            f"{nearest(label, map(str, columns[:50]))}"
        )
    return columns.index(label)


def _out_of_range(name: str, column: int, n_columns: int) -> OptionError:
    return OptionError(
        f"view {name!r} asks for column {column}, out of range: X has {n_columns} columns, "
        f"0 to {n_columns - 1}."
    )


def _check_overlap(names: list[str], groups: list[NDArray[np.intp]]) -> None:
    owner: dict[int, str] = {}
    for name, group in zip(names, groups, strict=True):
        for column in group.tolist():
            if column in owner:
                raise OptionError(
                    f"views {owner[column]!r} and {name!r} overlap: column {column} is in both; "
                    "give each column to one view, once."
                )
            owner[column] = name


def _as_slice(group: NDArray[np.intp]) -> ColumnGroup:
    """Turn consecutive columns into a slice, which NumPy cuts without copying."""
    first, size = int(group[0]), group.size
    if np.array_equal(group, np.arange(first, first + size)):
        return slice(first, first + size)
    return group
