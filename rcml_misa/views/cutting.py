"""The columns of one table that belong to each view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import OptionError, nearest, shortened

__all__ = ["column_groups"]

ColumnGroup: TypeAlias = "slice | NDArray[np.intp]"


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
