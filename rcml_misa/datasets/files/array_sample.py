"""A sample of the rows of a file of arrays, with the labels, weights and split of all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.array_roles import left_out_arrays
from rcml_misa.datasets.files.label_forms import numbered_folds, read_one_hot
from rcml_misa.datasets.files.layout import array_target
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.split_parts import parts_of
from rcml_misa.datasets.files.stored import StoredArrays, one_per_row, vector
from rcml_misa.datasets.files.survey import RowSurvey, block_rows
from rcml_misa.exceptions import DataError, shortened

__all__ = ["sample_arrays"]

WAY_OUT = (
    "write one array of all rows per view, samples first, or hold it with RCML_MISA_LARGEST_GB"
)


def sample_arrays(
    path: Path, stored: StoredArrays, options: FileOptions, survey: RowSurvey, notes: list[str]
) -> None:
    """Cut the arrays of an opened file down to some rows, and survey the labels of all rows.

    A DataError tells arrays of parts, cells and sparse matrices, which are not read row by row.
    """
    rows = _rows(stored.shapes)
    what = f"{shortened(path, 100)} is too large to be held, and"
    sparse = [name for name, array in stored.arrays.items() if issparse(array)]
    if sparse or stored.groups:
        name = shortened([*sparse, *stored.groups][0], 40)
        kind = "is a sparse matrix" if sparse else "consists of several arrays"
        raise DataError(f"{what} {name!r} in it {kind}; {WAY_OUT}.")
    whole = replace(stored, arrays=dict(stored.arrays))
    read_one_hot(whole, options.target, [], rows=rows)
    wholes = parts_of(stored.arrays)
    target = array_target(whole.shapes, options)
    roles = Roles.of(options).names
    if not one_per_row(whole.shapes[target]) or prod(whole.shapes[target]) != rows:
        parts = next((list(names.values()) for names in wholes.values()), [target])
        raise DataError(
            f"{what} its rows stand in parts, or {shortened(parts[0], 40)!r} has not one entry for "
            f"each of {rows} rows; {WAY_OUT}."
        )
    told = {name: vector(whole.arrays[name]) for name in roles if name in whole.arrays}
    survey.add(vector(whole.arrays[target]), told, target=target)
    chosen = np.ones(rows, dtype=bool)
    if options.split_column is None:
        taken = {target, *roles, *left_out_arrays(stored, options)}
        folds, numbers = numbered_folds(whole, rows, taken, notes)
        if folds is not None:
            survey.leave_out(folds["test"])
            chosen[folds["test"]] = False
            for name in numbers:
                del stored.arrays[name]
    places = survey.evenly(np.flatnonzero(chosen), _width(stored.shapes, rows))
    for name, array in stored.arrays.items():
        stored.arrays[name] = _cut(array, places, rows)


def _rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Tell the number of samples: that which most arrays have along their first or last axis."""
    counts: Counter[int] = Counter()
    for shape in shapes.values():
        counts.update({shape[0], shape[-1]} if shape else ())
    return max(counts, key=lambda size: (counts[size], size), default=0)


def _width(shapes: Mapping[str, tuple[int, ...]], rows: int) -> int:
    return sum(prod(shape) // rows for shape in shapes.values() if rows in shape[:1] + shape[-1:])


def _cut(array: Any, places: NDArray[np.int64], rows: int) -> Any:
    """Take some rows along the axis of the samples, block by block where they are not yet read."""
    shape = tuple(np.shape(array))
    if rows not in shape[:1] + shape[-1:]:
        return array
    first = shape[0] == rows
    if isinstance(array, np.ndarray):
        return np.array(array[places] if first else array[..., places])
    size = block_rows(max(1, prod(shape) // rows))
    parts = []
    for start in range(0, rows, size):
        inside = places[(places >= start) & (places < start + size)] - start
        if len(inside):
            part = slice(start, start + size)
            parts.append(array[part][inside] if first else array[..., part][..., inside])
    return np.concatenate(parts, axis=0 if first else -1)
