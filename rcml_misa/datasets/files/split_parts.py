"""Arrays that a file keeps in parts, such as ``x1_train`` and ``x1_test``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack, issparse, vstack

from rcml_misa.datasets.files.stored import StoredArrays, one_per_row, vector
from rcml_misa.exceptions import DataError

__all__ = [
    "PARTS",
    "join_part",
    "numbers_of_parts",
    "part_of",
    "parts_of",
    "row_folds",
    "split_names",
]

PARTS = ("train", "valid", "test")
_PART = r"(?P<part>(?i:train|test|valid|val))"
_FIRST = re.compile(rf"{_PART}(?:ing|ation)?(?:[_./ -]|(?=[A-Z0-9]|idx|ind))(?P<name>.+)")
_LAST = re.compile(rf"(?P<name>.+?)[_./ -]?{_PART}(?P<end>_?\d*)")
_ROW_NUMBERS = re.compile(r"(?i:(.*[_.])?(idxs?|inds?|index|indexes|indices|masks?|rows?))\d*")


def part_of(name: str) -> tuple[str, str] | None:
    """Part a name into that of the whole and the part of the rows; None where it names no part.

    Examples
    --------
    >>> part_of("x1_train"), part_of("X_test2"), part_of("train.x1"), part_of("face")
    (('x1', 'train'), ('X2', 'test'), ('x1', 'train'), None)
    """
    if match := _FIRST.fullmatch(name):
        whole, end = match["name"], ""
    elif match := _LAST.fullmatch(name):
        whole, end = match["name"], match["end"].lstrip("_")
    else:
        return None
    part = match["part"].lower()
    return whole.strip("_./ -") + end, "valid" if part == "val" else part


def parts_of(names: Collection[str]) -> dict[str, dict[str, str]]:
    """Collect the arrays that are parts of one, by the name of the whole and the part.

    No array has the name of the whole; numbers of rows are not joined.

    Examples
    --------
    >>> parts_of(["x1_train", "x1_test", "y"])
    {'x1': {'train': 'x1_train', 'test': 'x1_test'}}
    """
    wholes: dict[str, dict[str, str]] = {}
    for name in names:
        if (split := part_of(name)) is not None and split[0] not in names:
            wholes.setdefault(split[0], {}).setdefault(split[1], name)
    return {
        whole: {part: parts[part] for part in PARTS if part in parts}
        for whole, parts in wholes.items()
        if not _ROW_NUMBERS.fullmatch(whole)
    }


def split_names(names: Collection[str]) -> list[str]:
    """List the arrays that number, or flag, the rows of a part.

    Examples
    --------
    >>> split_names(["x_train", "trainIdx", "test_mask", "index"])
    ['trainIdx', 'test_mask']
    """
    splits = {name: part_of(name) for name in names}
    return [name for name, split in splits.items() if split and _ROW_NUMBERS.fullmatch(split[0])]


def numbers_of_parts(names: Collection[str]) -> dict[str, dict[str, str]]:
    """Collect arrays of row numbers by what they have in common, and by the part.

    Examples
    --------
    >>> numbers_of_parts(["testIdx", "trainIdx"])
    {'Idx': {'train': 'trainIdx', 'test': 'testIdx'}}
    """
    wholes: dict[str, dict[str, str]] = {}
    for name in split_names(names):
        whole, part = part_of(name) or ("", "")
        wholes.setdefault(whole, {}).setdefault(part, name)
    return {
        whole: {part: parts[part] for part in PARTS if part in parts}
        for whole, parts in wholes.items()
    }


def row_folds(counts: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Number the rows of each part, one part after the other.

    Examples
    --------
    >>> row_folds({"train": 2, "test": 1})
    {'train': array([0, 1]), 'test': array([2])}
    """
    folds, start = {}, 0
    for part, count in counts.items():
        folds[part] = np.arange(start, start + count, dtype=np.int64)
        start += count
    return folds


def join_part(
    stored: StoredArrays, parts: Mapping[str, str], *, rows: int | None = None, width: int = 0
) -> Any:
    """Join the parts of an array along the axis of its samples.

    `rows` of the first part, or the `width` of a table, tell the axis where the shapes allow both.
    Parts that fit along no axis are a DataError.
    """
    names = list(parts.values())
    arrays = [stored.arrays[name] for name in names]
    shapes = [stored.shapes[name] for name in names]
    upright = len({shape[1:] for shape in shapes}) == 1
    around = len({shape[:-1] for shape in shapes}) == 1
    if not upright and not around and all(map(one_per_row, shapes)):
        return np.concatenate([vector(array) for array in arrays])
    if not upright and not around:
        listed = ", ".join(f"{n} {shape}" for n, shape in zip(names, shapes, strict=True))
        raise DataError(
            f"the parts of an array differ in columns ({listed}); give all parts the same ones, or "
            f"leave them out with --leave-out {','.join(names)}."
        )
    if upright and around:
        first = shapes[0]
        upright = first[0] == rows or (first[-1] != rows and first[0] != width)
    if any(map(issparse, arrays)):
        return (vstack if upright else hstack)(arrays, format="csr")
    whole = [np.asarray(array[()]) for array in arrays]
    return np.concatenate(whole, axis=0 if upright else -1)
