"""Views that a file holds as numbers in the order of memory, mapped where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from rcml_misa.datasets.files.containers import is_array_file, opened_arrays
from rcml_misa.datasets.files.layout import FileLayout

__all__ = ["arrays_in_place"]


def arrays_in_place(
    path: Path, layout: FileLayout, widths: Mapping[str, int], rows: int
) -> dict[str, Any] | None:
    """Map the views of a file of arrays; None where one of them is not stored so.

    Stored so are members of an npz file that are not packed, and contiguous data sets of HDF5, of
    float32 or float64 in the machine's order, samples first.
    """
    if not is_array_file(path):
        return None
    views: dict[str, Any] = {}
    with opened_arrays(path, by_rows=True) as stored:
        for view, (key,) in layout.views.items():
            array = _mapped(path, stored.arrays.get(key))
            if array is None or array.shape != (rows, widths[view]):
                return None
            views[view] = array
    return views


def _mapped(path: Path, array: Any) -> Any:
    """Map an array of an opened file, or return None."""
    dtype = getattr(array, "dtype", None)
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        return None
    if not isinstance(array, np.memmap):
        place = _place(array)
        if place is None:
            return None
        array = np.memmap(path, dtype, "r", place, array.shape)
    return array if array.flags["C_CONTIGUOUS"] else None


def _place(array: Any) -> int | None:
    """Find where the values of a contiguous data set of HDF5 begin in the file."""
    if not hasattr(array, "id") or array.chunks is not None:
        return None
    size = prod(array.shape) * array.dtype.itemsize
    place = array.id.get_offset()
    return place if place is not None and array.id.get_storage_size() == size else None
