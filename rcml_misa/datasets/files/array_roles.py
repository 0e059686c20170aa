"""Roles of a file's arrays: one target, joined parts, and what is no view."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.array_tables import listed
from rcml_misa.datasets.files.label_forms import (
    marks_classes,
    repeats_labels,
    speaks_of_labels,
)
from rcml_misa.datasets.files.layout import array_id, usual_target
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.split_parts import join_part, part_of, parts_of
from rcml_misa.datasets.files.stored import StoredArrays, one_per_row, vector, with_way_out
from rcml_misa.exceptions import DataError, OptionError, shortened

__all__ = [
    "Barred",
    "join_split",
    "left_out_arrays",
    "no_views",
    "one_target",
    "split_text",
    "stacked_cells",
    "stored_vector",
    "stored_view",
]


@dataclass(frozen=True)
class Barred:
    """Names of the arrays that are no views unless they are asked for, and notes about them."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def join_split(
    stored: StoredArrays, options: FileOptions, notes: list[str]
) -> tuple[dict[str, int], FileOptions]:
    """Join arrays that stand in parts, such as x1_train and x1_test, if the target does.

    Returns
    -------
    counts : dict of str to int
        Rows of each part, in the order of the joined rows; empty where nothing was joined.
    options : FileOptions
        The same with the joined target.
    """
    wholes = parts_of(stored.arrays)
    target = _split_target(stored, wholes, options)
    if target is None:
        return {}, options
    counts = {part: vector(stored.arrays[name]).size for part, name in wholes[target].items()}
    first = next(iter(counts.values()))
    arrays: dict[str, Any] = {}
    joined: dict[str, str] = {}
    for name, array in stored.arrays.items():
        whole = (part_of(name) or ("",))[0]
        parts = wholes.get(whole, {})
        if name not in parts.values() or not set(counts) <= set(parts):
            arrays[name] = array
        elif whole not in arrays:
            chosen = {part: parts[part] for part in counts}
            if whole == target:
                arrays[whole] = np.concatenate([vector(stored.arrays[n]) for n in chosen.values()])
            elif len(stored.shapes[name]) > 0:
                arrays[whole] = join_part(stored, chosen, rows=first)
        if name in parts.values():
            joined[name] = whole
            if part_of(name) and (part_of(name) or ("", ""))[1] not in counts:
                arrays.pop(name, None)
                stored.left_out[name] = "rows without labels"
    stored.arrays = arrays
    _rename_groups(stored, joined)
    if len(counts) > 1:
        rows = listed([f"{count} {part} rows" for part, count in counts.items()])
        notes.append(
            f"the file's own split was read: {rows}, joined in this order from arrays such as "
            f"{listed(list(wholes[target].values()))}"
        )
    else:
        notes.append(f"names were read without {next(iter(counts))}: {listed(list(arrays))}")
    return counts, replace(options, target=target)


def _split_target(
    stored: StoredArrays, wholes: Mapping[str, Mapping[str, str]], options: FileOptions
) -> str | None:
    """Find the target that stands in parts; None where the file has a target as it is."""
    flat = {
        whole: parts
        for whole, parts in wholes.items()
        if all(one_per_row(stored.shapes[name]) for name in parts.values())
    }
    if options.target is not None:
        given = [w for w, parts in flat.items() if options.target in (w, *parts.values())]
        return given[0] if given else None
    names = [name for name in (*stored.arrays, *stored.groups) if part_of(name) is None]
    if any(map(usual_target, names)):
        return None
    return next((whole for whole in flat if usual_target(whole)), None)


def _rename_groups(stored: StoredArrays, joined: Mapping[str, str]) -> None:
    """Let groups such as the cell X_train name the joined arrays, as the group X does."""
    groups: dict[str, tuple[str, ...]] = {}
    for group, members in stored.groups.items():
        wholes = dict.fromkeys(joined.get(name, name) for name in members)
        present = tuple(name for name in wholes if name in stored.arrays)
        split = part_of(group)
        groups[split[0] if split and present != members else group] = present
    stored.groups = {group: members for group, members in groups.items() if members}


def one_target(stored: StoredArrays, options: FileOptions, notes: list[str]) -> FileOptions:
    """Turn a cell or structure of label vectors, such as one per view, into one target.

    Label vectors that differ are an OptionError, unless one of them is chosen.
    """
    for group, members in list(stored.groups.items()):
        chosen = options.target in (group, *members)
        if not chosen and (options.target is not None or not usual_target(group)):
            continue
        shapes = [stored.shapes.get(name, ()) for name in members]
        if not all(map(one_per_row, shapes)) or max(map(max, shapes)) < 2:
            continue
        values = [vector(stored.arrays[name]) for name in members]
        differing = [
            name
            for name, array in zip(members, values, strict=True)
            if not np.array_equal(array, values[0])
        ]
        if not differing:
            stored.replace_group(group, values[0])
            if len(members) > 1:
                notes.append(
                    f"{group} holds the same labels {len(members)} times; they were read once, as "
                    "the target"
                )
            if chosen:
                return replace(options, target=group)
        elif options.target in members:
            for name in members:
                if name != options.target:
                    del stored.arrays[name]
                    stored.left_out[name] = f"labels as {options.target} is"
        else:
            raise OptionError(
                f"the label vectors of {group} differ ({members[0]} and {differing[0]}); name one "
                f"of them with --target, such as --target {members[0]}."
            )
    return _refuse_unread(stored, options)


def split_text(stored: StoredArrays, target: str) -> Any:
    """Part a text of one character per row, MATLAB's char vector, into labels of the rows."""
    values = stored.arrays[target]
    if np.size(values) != 1 or values.dtype.kind != "U":
        return values
    text = str(values.item())
    tables = [shape for shape in stored.shapes.values() if len(shape) > 1 and max(shape) > 1]
    rows = [len(text) in (shape[0], shape[-1]) for shape in tables]
    return np.array(list(text)) if len(text) > 1 and rows and all(rows) else values


def _refuse_unread(stored: StoredArrays, options: FileOptions) -> FileOptions:
    """Refuse a target that can't be read, with the reason."""
    name = options.target
    if name is None and not any(map(usual_target, stored.arrays)):
        name = next(filter(usual_target, stored.left_out), None)
    if name in stored.left_out and name not in stored.arrays:
        reason = with_way_out(stored.left_out[str(name)])
        raise DataError(f"the target {name!r} can't be read: {reason}.")
    return options


def stacked_cells(stored: StoredArrays, rows: int, notes: list[str]) -> None:
    """Turn a cell of one array per sample into one array; shapes that differ are a DataError."""
    for group, members in list(stored.groups.items()):
        shapes = [stored.shapes[name] for name in members if name in stored.shapes]
        if len(members) != rows or rows < 3 or any(rows in shape for shape in shapes):
            continue
        array = _stacked(stored, members)
        if array is None:
            raise DataError(
                f"{group} has one array per sample, of different shapes; a file's view has the "
                f"same columns in each row: leave it out with --leave-out {group}, or give "
                "sequences to MultiView in Python."
            )
        stored.replace_group(group, array)
        notes.append(f"{group} has one array per sample, which make up its rows")


def _stacked(stored: StoredArrays, members: tuple[str, ...]) -> NDArray[Any] | None:
    arrays: list[Any] = [stored.arrays.get(name) for name in members]
    kinds = {getattr(getattr(array, "dtype", None), "kind", "O") for array in arrays}
    same = len({np.shape(array) for array in arrays}) == 1
    if not same or not kinds <= set("biuf") or any(map(issparse, arrays)):
        return None
    return np.stack([np.asarray(array) for array in arrays])


def left_out_arrays(stored: StoredArrays, options: FileOptions) -> set[str]:
    """Collect the names that ``--leave-out`` has, and those of the arrays of its groups."""
    given = {name.strip() for name in (options.leave_out or "").split(",")}
    return given | {member for name in given for member in stored.groups.get(name, ())}


def no_views(
    stored: StoredArrays,
    target: str,
    labels: NDArray[Any],
    options: FileOptions,
    *,
    numbers: Collection[str] = (),
) -> Barred:
    """List the arrays that are no tables of as many rows as there are labels.

    The arrays `numbers` hold numbers of rows, and are spoken of elsewhere.
    """
    identifier = array_id(stored.shapes, target, options)
    roles = {target, identifier, *Roles.of(options).names}
    given = left_out_arrays(stored, options)
    reasons: dict[str, str] = {}
    copies: list[str] = []
    for name, array in stored.arrays.items():
        if name in roles or name in numbers:
            continue
        shape = stored.shapes[name]
        flat = one_per_row(shape) and max(shape) == len(labels)
        copied = flat and (
            speaks_of_labels(name)
            or np.array_equal(vector(array), labels)
            or repeats_labels(array, labels)
        )
        if copied or marks_classes(array, labels):
            copies.append(name)
        elif getattr(array, "dtype", np.dtype("V")).kind not in "biuf":
            reasons[name] = "texts"
        elif not one_per_row(shape) or (flat and len(shape) > 1):
            if 0 in shape or not shape:
                reasons[name] = "empty" if shape else "a single value"
        else:
            many = "a single axis, where a view has two" if flat else f"shape {shape}"
            reasons[name] = "a single value" if max(shape) == 1 else many
    names = (*copies, *reasons, *numbers)
    notes = []
    if options.views is None:
        copies = [name for name in copies if name not in given]
        if copies:
            verbs = ("holds", "is") if len(copies) == 1 else ("hold", "are")
            notes.append(
                f"{listed(copies)} {verbs[0]} labels, as the target {target} does, and {verbs[1]} "
                "left out"
            )
        reasons |= {n: why for n, why in stored.left_out.items() if n not in stored.arrays}
        reasons = {name: why for name, why in reasons.items() if name not in given | roles}
        if reasons:
            notes.append(f"left out, being no views: {listed(_items(reasons, stored.groups), 8)}")
    return Barred(names, tuple(notes))


def _items(reasons: Mapping[str, str], groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    """List names with reasons; arrays of a cell or structure of the same reason together."""
    items: dict[str, str] = {}
    for name, why in reasons.items():
        group = next((g for g, members in groups.items() if name in members), None)
        alike = [n for n in groups.get(group or "", ()) if reasons.get(n) == why]
        if group is None or len(alike) < 3:
            items[name] = f"{shortened(name, 40)} ({why})"
        else:
            items[f"{group} {why}"] = f"{len(alike)} arrays of {shortened(group, 40)} ({why})"
    return list(items.values())


def stored_view(stored: StoredArrays, key: str, width: int) -> Any:
    """Look an array up as reading found it: by name, as a cell of rows, or in parts; or None."""
    key = stored.paths.get(key, key)
    if key in stored.arrays:
        return stored.arrays[key]
    members = stored.groups.get(key, ())
    if members and prod(stored.shapes[members[0]]) == width:
        return _stacked(stored, members)
    parts = parts_of(stored.arrays).get(key)
    return None if parts is None else join_part(stored, parts, width=width)


def stored_vector(stored: StoredArrays, key: str | None, rows: int) -> Any:
    """Look an array of one value per row up as reading found it; None where there is none.

    One that has not as many entries as `rows` belongs to other rows, and counts as absent.
    """
    key = stored.paths.get(str(key), key)
    members = stored.groups.get(str(key), ())
    parts = parts_of(stored.arrays).get(str(key), {})
    names = [key] if key in stored.arrays else members[:1] or list(parts.values())
    values = [vector(stored.arrays[str(name)]) for name in names]
    if len(names) == 1 and len(values[0]) == 1 < rows:
        values = [np.ravel(split_text(stored, str(names[0])))]
    joined = np.concatenate(values) if values else np.empty(0)
    return joined if len(joined) == rows and values else None
