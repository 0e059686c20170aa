"""Forms of labels other than one per row: one-hot columns, and row numbers of a split's parts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.files.array_tables import listed
from rcml_misa.datasets.files.correspondence import Classes
from rcml_misa.datasets.files.layout import TARGETS, usual_target
from rcml_misa.datasets.files.split_parts import numbers_of_parts, part_of, split_names
from rcml_misa.datasets.files.stored import StoredArrays, one_per_row, vector

__all__ = [
    "marks_classes",
    "numbered_folds",
    "one_hot_codes",
    "read_one_hot",
    "repeats_labels",
    "speaks_of_labels",
]

CHANCE = 1e-6  # probability below which chance does not make columns one-hot of the labels
MANY = 20  # rows from which a noisy copy of the labels is taken for one
WIDEST = 10_000  # columns of a one-hot target

Folds = dict[str, NDArray[np.int64]]


def one_hot_codes(array: Any, *, rows: int | None = None) -> NDArray[np.int64] | None:
    """Number the column that each row of one-hot values marks, from 0; None for other values.

    A row has one 1, and 0 or -1 in every other of its two columns or more. The rows lie along the
    axis of so many entries, else along the one with such rows, the longer one where both have.

    Examples
    --------
    >>> one_hot_codes(np.array([[0, 1], [1, 0], [0, 1]])).tolist()
    [1, 0, 1]
    >>> one_hot_codes(np.array([[0, 1, 0], [1, 0, 1]])).tolist()
    [1, 0, 1]
    >>> one_hot_codes(np.array([[1, 1], [1, 0], [0, 1]])) is None
    True
    """
    shape = np.shape(array)
    if len(shape) != 2 or min(shape) < 1 or array.dtype.kind not in "biuf":
        return None
    axes = [axis for axis in (0, 1) if rows in (None, shape[axis]) and shape[1 - axis] > 1]
    if not axes or min(shape[1 - axis] for axis in axes) > WIDEST:
        return None
    values = np.asarray(array.toarray() if hasattr(array, "toarray") else array[()])
    high = values == 1
    if not (high | (values == 0)).all() and not (high | (values == -1)).all():
        return None
    fitting = [axis for axis in axes if (high.sum(axis=1 - axis) == 1).all()]
    if not fitting:
        return None
    axis = max(fitting, key=lambda axis: shape[axis])  # the first of equal ones
    return np.asarray(high.argmax(axis=1 - axis), dtype=np.int64)


def read_one_hot(
    stored: StoredArrays, target: str | None, notes: list[str], *, rows: int | None = None
) -> None:
    """Put labels in the place of a one-hot target, whole or in parts, if no vector is the target.

    The `target` is that of the options or of the layout; without one it has a usual name. `rows`
    are those of the views, where they are known.
    """
    flat = [name for name, shape in stored.shapes.items() if one_per_row(shape) and max(shape) > 1]
    aims = [group for group in stored.groups if _aims(group, target)]
    members = {member for group in aims for member in stored.groups[group]}
    if target is None and any(_aims(name, None) or name in members for name in flat):
        return
    names: list[str] = []
    for name, array in list(stored.arrays.items()):
        if not _aims(name, target) and name not in members:
            continue
        count = rows if name == target else None  # parts have rows of their own
        codes = one_hot_codes(array, rows=count)
        if codes is None or (count is None and len(codes) <= min(np.shape(array))):
            continue
        stored.arrays[name] = codes
        names.append(f"{name} ({int(np.prod(np.shape(array))) // len(codes)} columns)")
    if names:
        verb = "is" if len(names) == 1 else "are"
        notes.append(
            f"{listed(names)} {verb} one-hot; the label of a row is the number of its column, from "
            "0"
        )


def _aims(name: str, target: str | None) -> bool:
    """Ask whether an array, or the whole that it is a part of, is the target or is called so."""
    whole = (part_of(name) or (name,))[0]
    return target in (name, whole) if target is not None else bool(usual_target(whole))


def repeats_labels(array: Any, labels: NDArray[Any]) -> bool:
    """Ask whether a vector has the values of three or more classes, mostly those of its rows.

    Cohen's kappa of 0.5 or more in 20 rows or more counts; so noisy copies of labels do.

    Examples
    --------
    >>> labels = np.arange(60) % 3
    >>> noisy = np.where(np.arange(60) < 10, 0, labels)
    >>> repeats_labels(noisy, labels), repeats_labels(labels[::-1], labels)
    (True, False)
    """
    values = vector(array)
    if len(values) < MANY or values.dtype.kind not in "biuf" or labels.dtype.kind not in "biuf":
        return False
    classes, counts = np.unique(labels, return_counts=True)
    own, own_counts = np.unique(values, return_counts=True)
    if len(classes) < 3 or not np.array_equal(classes, own):
        return False
    chance = float(counts @ own_counts) / len(labels) ** 2
    return bool(np.mean(values == labels) - chance >= 0.5 * (1 - chance))


def speaks_of_labels(name: str) -> bool:
    """Ask whether a word of an array's name is that of a target, as in ``noisy_label``.

    Examples
    --------
    >>> [speaks_of_labels(name) for name in ("coarseLabels", "y_noisy", "face", "yaw", "s.gt2")]
    [True, True, False, False, True]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return usual_target(name) is not None or any(word.lower() in TARGETS for word in words)


def marks_classes(array: Any, labels: NDArray[Any]) -> bool:
    """Ask whether an array is one-hot of the labels (n,), in more rows than chance explains.

    Examples
    --------
    >>> labels = np.arange(30) % 3
    >>> marks_classes(np.eye(3)[labels], labels), marks_classes(np.eye(3)[labels[::-1]], labels)
    (True, True)
    >>> marks_classes(np.eye(3)[np.roll(labels, 5) * (np.arange(30) > 4)], labels)
    False
    """
    shape = np.shape(array)
    if len(shape) != 2 or len(labels) not in shape:
        return False
    codes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    count = int(codes.max(initial=0)) + 1
    width = shape[1] if shape[0] == len(labels) else shape[0]
    if not count <= width <= 4 * count:
        return False
    marked = one_hot_codes(array, rows=len(labels))
    if marked is None or not Classes(codes, math.log(CHANCE)).tellable:
        return False
    pairs = np.unique(np.stack([codes, marked]), axis=1).shape[1]
    return bool(pairs == count == len(np.unique(marked)))


def numbered_folds(
    stored: StoredArrays, rows: int, taken: Collection[str | None], notes: list[str]
) -> tuple[Folds | None, tuple[str, ...]]:
    """Read the file's own split from row numbers or masks, such as ``trainIdx`` and ``testIdx``.

    Returns
    -------
    folds : dict of str to ndarray of int64, or None
        Row numbers from 0 of each part, if they divide all rows between them.
    names : tuple of str
        Arrays of row numbers, which are no views whether they were read or not.
    """
    names = [name for name in split_names(stored.arrays) if name not in taken]
    flat = [name for name in names if one_per_row(stored.shapes[name])]
    sets = numbers_of_parts(flat)
    parts = next((p for p in sets.values() if {"train", "test"} <= set(p)), None)
    if parts is None:
        if names:
            notes.append(
                f"{listed(names, 4)} may hold numbers of train or test rows, which were not read; "
                "give a split as an array of texts with --split-column"
            )
        return None, tuple(names)
    folds = _divided([vector(stored.arrays[name]) for name in parts.values()], rows)
    if folds is None:
        notes.append(
            f"{listed(list(parts.values()))} do not divide all {rows} rows between them and were "
            "not read; give a split as an array of texts with --split-column"
        )
        return None, tuple(names)
    counts = [f"{len(fold)} {part}" for part, fold in zip(parts, folds, strict=True)]
    notes.append(
        f"the file's own split was read from {listed(list(parts.values()))}: {listed(counts)} rows"
    )
    return dict(zip(parts, folds, strict=True)), tuple(names)


def _divided(values: list[NDArray[Any]], rows: int) -> list[NDArray[np.int64]] | None:
    """Turn masks, or row numbers from 0 or 1, into row numbers from 0 that divide all rows."""
    if any(array.dtype.kind not in "biuf" for array in values):
        return None
    numbers = np.concatenate(values)
    if all(len(array) == rows for array in values) and np.isin(numbers, (0, 1)).all():
        if (np.sum([array == 1 for array in values], axis=0) != 1).any():
            return None
        return [np.flatnonzero(array == 1) for array in values]
    ordered = np.sort(numbers)
    first = ordered[0] if len(ordered) else 0
    if len(numbers) != rows or first not in (0, 1):
        return None
    if not np.array_equal(ordered, np.arange(rows) + first):
        return None
    return [np.sort(array).astype(np.int64) - int(first) for array in values]
