"""Files of arrays: whole with labels, or in chunks of rows to predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.array_roles import (
    join_split,
    left_out_arrays,
    no_views,
    one_target,
    split_text,
    stacked_cells,
    stored_vector,
    stored_view,
)
from rcml_misa.datasets.files.array_sample import sample_arrays
from rcml_misa.datasets.files.array_tables import (
    ArrayTable,
    find_joins,
    find_twins,
    lies_turned,
    lies_turned_for,
    listed,
)
from rcml_misa.datasets.files.containers import opened_arrays
from rcml_misa.datasets.files.content import FileRows, OwnFile, require_views
from rcml_misa.datasets.files.guesses import unread_notes
from rcml_misa.datasets.files.label_forms import numbered_folds, read_one_hot
from rcml_misa.datasets.files.labels import as_texts
from rcml_misa.datasets.files.layout import FileLayout, array_layout, array_target
from rcml_misa.datasets.files.npz_members import release_pages
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.roles import read_target, with_roles
from rcml_misa.datasets.files.split_parts import row_folds
from rcml_misa.datasets.files.stored import StoredArrays, one_per_row, vector, with_way_out
from rcml_misa.datasets.files.survey import RowSurvey
from rcml_misa.exceptions import DataError, shortened
from rcml_misa.views import MultiView

__all__ = ["read_arrays", "rows_of_arrays"]


def read_arrays(path: Path, options: FileOptions, survey: RowSurvey | None = None) -> OwnFile:
    """Read a file of arrays with its labels; with a `survey` a sample of its rows.

    Notes tell what was joined, turned, flattened and left out.
    """
    notes: list[str] = []
    with opened_arrays(path, by_rows=survey is not None) as stored:
        _refuse_empty(path, stored)
        if survey is not None:
            sample_arrays(path, stored, options, survey, notes)
        read_one_hot(stored, options.target, notes)
        counts, options = join_split(stored, options, notes)
        options = one_target(stored, options, notes)
        Roles.of(options).without(list(stored.arrays), options, kind="array")
        target = array_target(stored.shapes, options)
        options = replace(options, target=target)
        values = stored.arrays[target] = split_text(stored, target)
        raw = vector(values) if one_per_row(np.shape(values)) else _no_labels(target, values)
        labels = read_target(raw, options, name=target, path=path)
        stacked_cells(stored, len(labels), notes)
        folds = row_folds(counts) if len(counts) > 1 else None
        numbers: tuple[str, ...] = ()
        if folds is None and options.split_column is None:
            taken = {target, *Roles.of(options).names, *left_out_arrays(stored, options)}
            folds, numbers = numbered_folds(stored, len(labels), taken, notes)
        barred = no_views(stored, target, raw, options, numbers=numbers)
        if options.views is None:
            _refuse_no_view(path, stored, {target, *barred.names})
        layout = array_layout(stored.shapes, options, groups=stored.groups, barred=barred.names)
        several = [name for name, shape in stored.shapes.items() if len(shape) > 1]
        others = [name for name in several if name not in barred.names]
        notes += unread_notes(others, layout, options, "array")
        tables, turned = _tables(path, stored, layout, len(labels), notes)
        if options.views is None:
            for view, first in find_twins(tables).items():
                notes.append(f"{view} holds the same data as {first} and is left out")
                del tables[view]
            for view, parts in find_joins(tables).items():
                notes.append(f"{view} holds the columns of {listed(parts)} and is left out")
                del tables[view]
        views = {view: table[:] for view, table in tables.items()}
        ids = None if layout.id is None else np.array(as_texts(vector(stored.arrays[layout.id])))
        told = {
            name: vector(stored.arrays[name])
            if one_per_row(stored.shapes[name])
            else np.empty(stored.shapes[name], dtype=np.int8)  # refused by its shape
            for name in Roles.of(options).names
        }
    if ids is not None and len(ids) != len(labels):
        raise DataError(
            f"{path}: {layout.id!r} has {len(ids)} entries, but there are {len(labels)} labels; "
            "name another array with --id."
        )
    notes += barred.notes
    kept = {view: layout.views[view] for view in views}
    layout = replace(layout, views=kept, turned=tuple(view for view in views if turned[view]))
    own = OwnFile(
        MultiView(views, raw=True), labels, layout, ids, tuple(notes), options.task, folds
    )
    return with_roles(own, told, options, path=path)


def _no_labels(target: str, values: Any) -> NoReturn:
    """Refuse a target of several values per row."""
    raise DataError(
        f"{target!r} must hold one label per row, or one-hot columns with a single 1 in each row, "
        f"but its shape is {np.shape(values)}; name another array with --target, or save one "
        "column of it."
    )


def _refuse_no_view(path: Path, stored: StoredArrays, others: set[str]) -> None:
    """Refuse a file whose only views may be what can't be read."""
    tables = [name for name, shape in stored.shapes.items() if len(shape) > 1]
    if stored.left_out and not set(tables) - others:
        name, reason = next(iter(stored.left_out.items()))
        what = f"{shortened(name, 40)} can't be read: {with_way_out(reason)}"
        raise DataError(f"{path} has no view; {what}.")


def _refuse_empty(path: Path, stored: StoredArrays) -> None:
    """Refuse a file without any array."""
    if stored.arrays:
        return
    if stored.left_out:
        name, reason = next(iter(stored.left_out.items()))
        what = f"{shortened(name, 40)} is {with_way_out(reason)}"
        raise DataError(f"{path} has no array that can be read: {what}.")
    raise DataError(f"{path} holds no array; give one per view and one of labels.")


def _tables(
    path: Path, stored: StoredArrays, layout: FileLayout, rows: int, notes: list[str]
) -> tuple[dict[str, ArrayTable], dict[str, bool]]:
    """Read the arrays of views as tables, and tell which of them are turned."""
    keys = {view: key for view, (key,) in layout.views.items()}
    shapes = {view: stored.shapes[key] for view, key in keys.items()}
    for key in keys.values():
        if stored.arrays[key].dtype.kind not in "biuf":
            raise DataError(f"{path}: {key!r} holds texts, and a view numbers; leave it out.")
    misfits = [
        keys[view]
        for view, shape in shapes.items()
        if len(shape) < 2 or rows not in (shape[0], shape[-1])
    ]
    if misfits:
        names = ",".join(_by_group(misfits, stored.groups))
        more = f" (and {len(misfits) - 1} more do not fit)" if len(misfits) > 1 else ""
        raise DataError(
            f"{path}: {misfits[0]!r} has shape {stored.shapes[misfits[0]]}, but there are {rows} "
            f"labels{more}; choose the arrays that are views with --views, or leave out what is "
            f"none with --leave-out {shortened(names, 90)}."
        )
    turned, said = lies_turned(shapes, rows)
    notes += said
    tables = {view: ArrayTable(stored.arrays[key], turned[view]) for view, key in keys.items()}
    for view, shape in shapes.items():
        if len(shape) > 2:
            notes.append(
                f"{view} of shape {shape} was flattened to {tables[view].shape[1]} columns per "
                "row; sequences are given to MultiView in Python"
            )
    return tables, turned


def _by_group(names: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Replace the names of all the arrays of a cell or structure by its own name."""
    whole = {
        member: group
        for group, members in groups.items()
        for member in members
        if set(members) <= set(names)
    }
    return list(dict.fromkeys(whole.get(name, name) for name in names))


def rows_of_arrays(
    path: Path, layout: FileLayout, widths: Mapping[str, int], rows: int
) -> Iterator[FileRows]:
    """Cut arrays, read or not yet read, into rows; they are looked up and turned as in reading."""
    with opened_arrays(path, by_rows=True) as stored:
        arrays: dict[str, Any] = {}
        for view, (key,) in layout.views.items():
            if (array := stored_view(stored, key, widths[view])) is not None:
                arrays[view] = array
        require_views(path, layout, arrays)
        for view, array in arrays.items():
            if not np.shape(array):
                raise DataError(f"{path}: {layout.views[view][0]!r} is a single value; give rows.")
        shapes = {view: tuple(np.shape(array)) for view, array in arrays.items()}
        turned = lies_turned_for(shapes, widths, layout.turned)
        tables = {view: ArrayTable(array, turned[view]) for view, array in arrays.items()}
        counts = {table.shape[0] for table in tables.values()}
        if len(counts) > 1:
            listed = ", ".join(f"{layout.views[view][0]} {s}" for view, s in shapes.items())
            raise DataError(f"{path}: the views have different numbers of rows ({listed}).")
        count = counts.pop()
        if layout.target is not None:
            read_one_hot(stored, layout.target, [], rows=count)
        others = [stored_vector(stored, name, count) for name in (layout.id, layout.target)]
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            ids, labels = (None if array is None else array[part] for array in others)
            yield FileRows(
                start,
                {
                    view: _read(tables[view], part) if view in tables else None
                    for view in layout.views
                },
                None if ids is None else as_texts(ids),
                labels,
            )


def _read(table: ArrayTable, rows: slice) -> Any:
    """Read some rows; of an array in a memory map a copy, whose pages are let go of."""
    block = table[rows]
    if not isinstance(table.array, np.memmap):
        return block
    block = np.array(block)
    release_pages(table.array)
    return block
