"""Tables in memory maps: read block by block, whose pages are let go of after each."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rcml_misa.exceptions import DataError, shortened

__all__ = ["Address", "Mapped", "MappedRows", "address", "is_mapped", "read", "row_slices"]

MOST_ROWS = 8192  # of a block
MOST_BYTES = 1 << 25  # of a block in float64
SCATTERED = 64  # rows read one by one before pages are let go of: each brings its neighbours
GRAIN = 1 << 21  # bytes; pages are let go of in multiples, with the neighbours that came along
TEMPORARY = "joblib_memmapping_folder_"  # files of joblib's, which end with the call they serve


@dataclass(frozen=True, eq=False, repr=False)
class MappedRows:
    """Rows of a memory map in an order of their own, where they are too many to copy.

    Parameters
    ----------
    table : memmap of shape (n_rows, width)
        A table that `is_mapped`.
    rows : ndarray of int of shape (n,), optional
        Numbers of the rows, from 0; all rows by default.
    fill : ndarray of shape (width,), optional
        Values of a row that is NaN, a missing view.
    """

    table: NDArray[Any]
    rows: NDArray[Any] | None = None
    fill: NDArray[np.float64] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        rows = len(self.table) if self.rows is None else len(self.rows)
        return rows, int(self.table.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[Any]) -> MappedRows | NDArray[np.float64]:
        """Select rows: those of a slice stay in the file, those of an array are read."""
        if not isinstance(rows, slice):
            return read(self, rows)
        if self.rows is None:
            return replace(self, table=self.table[rows])
        return replace(self, rows=self.rows[rows])

    def __reduce__(self) -> tuple[Any, ...]:
        place = address(self.table)
        if place is None:
            return (MappedRows, (self.table, self.rows, self.fill))
        return (_mapped_rows, (place, self.rows, self.fill))

    def __repr__(self) -> str:
        return f"MappedRows({self.shape[0]} samples, {self.shape[1]} columns)"


Mapped: TypeAlias = "NDArray[Any] | MappedRows"


def row_slices(rows: int, width: int) -> Iterator[slice]:
    """Cut the rows of a table into blocks of at most 8192 rows and 32 MiB of float64.

    Examples
    --------
    >>> list(row_slices(10_000, 2))
    [slice(0, 8192, None), slice(8192, 10000, None)]
    """
    step = max(1, min(MOST_ROWS, MOST_BYTES // (8 * max(width, 1))))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _owner(array: Any) -> np.memmap[Any, Any] | None:
    """Find the memory map whose pages an array shares; None for an array in memory."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and getattr(array, "_mmap", None) is not None:
            return array
        array = array.base
    return None


def is_mapped(view: Any) -> TypeGuard[Any]:
    """Recognise a table in a memory map: float32 or float64, 2-D, the columns of a row together.

    A map that is copied on write counts as memory, since its changes are in no file.

    Examples
    --------
    >>> is_mapped(np.ones((2, 3)))
    False
    """
    if not isinstance(view, np.ndarray):
        return isinstance(view, MappedRows)
    if view.base is None or (owner := _owner(view)) is None or owner.mode == "c":
        return False
    if view.ndim != 2 or not view.size or view.dtype not in (np.float32, np.float64):
        return False
    stride, step = view.strides
    return step == view.itemsize and stride >= view.shape[1] * view.itemsize


def read(view: Mapped, rows: slice | NDArray[Any], dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Copy some rows of a mapped table into memory, and let go of the pages read for it."""
    if isinstance(view, MappedRows):
        chosen = rows if view.rows is None else view.rows[rows]
        values = read(view.table, chosen, dtype)
        if view.fill is not None:
            values[np.isnan(values[:, 0])] = view.fill
        return values
    if isinstance(rows, slice):
        some = view[rows]
        values = np.empty(some.shape, dtype=dtype)
        for block in row_slices(*some.shape):
            values[block] = some[block]
            _release(some[block])
        return values
    count = len(view)
    numbers = np.arange(count)[rows] if rows.dtype == bool else rows
    if (outside := numbers[(numbers < -count) | (numbers >= count)]).size:
        raise IndexError(f"row {outside[0]} does not exist: the table has {count} rows")
    numbers = numbers % count
    least, largest = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
    if largest - least < 2 * len(numbers):  # most of a block
        values = read(view, slice(least, largest + 1), dtype)
        return np.asarray(values[numbers - least])
    values = np.empty((len(numbers), view.shape[1]), dtype=dtype)
    order = np.argsort(numbers, kind="stable")  # in the order of the file
    for start in range(0, len(numbers), SCATTERED):
        places = order[start : start + SCATTERED]
        piece = numbers[places]
        values[places] = view[piece]
        _release(view[piece[0] : piece[-1] + 1])
    return values


def _bounds(array: NDArray[Any], mapping: mmap.mmap) -> tuple[int, int]:
    """Find the first byte of a table within a mapping, and the one after its last."""
    first = np.frombuffer(mapping, dtype=np.uint8).__array_interface__["data"][0]
    start = array.__array_interface__["data"][0] - first
    size = (len(array) - 1) * array.strides[0] + array.shape[1] * array.itemsize
    return start, start + size


def _release(array: NDArray[Any]) -> None:
    """Let go of the pages of a part of a memory map; its file keeps the values."""
    owner = _owner(array)
    if owner is None or not array.size or not hasattr(mmap, "MADV_DONTNEED"):
        return
    mapping: mmap.mmap = owner._mmap  # type: ignore[attr-defined]
    start, end = _bounds(array, mapping)
    start -= start % GRAIN
    with suppress(OSError):  # locked pages stay
        mapping.madvise(mmap.MADV_DONTNEED, start, -(-end // GRAIN) * GRAIN - start)


class Address(NamedTuple):
    """Place of a table within a file: what another process maps it by."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    stride: int  # bytes from row to row
    offset: int

    def open(self) -> NDArray[Any]:
        """Map the table; a DataError where the file is gone or shorter."""
        dtype = np.dtype(self.dtype)
        size = (self.shape[0] - 1) * self.stride // dtype.itemsize + self.shape[1]
        try:
            flat = np.memmap(self.path, dtype=dtype, mode="r", offset=self.offset, shape=(size,))
        except (OSError, ValueError) as error:
            raise DataError(
                f"the memory map {shortened(self.path, 120)} can't be opened "
                f"({shortened(error, 80)}); keep it where every worker sees it."
            ) from error
        strides = (self.stride, dtype.itemsize)
        return np.lib.stride_tricks.as_strided(
            flat, self.shape, strides, subok=True, writeable=False
        )


def address(array: Any) -> Address | None:
    """Name the file and the place of a mapped table; None where another process can't open it."""
    if isinstance(array, MappedRows) or not is_mapped(array):
        return None
    owner = _owner(array)
    if owner is None or owner.filename is None or TEMPORARY in str(owner.filename):
        return None
    # a mapping starts at a multiple of the granularity, a table within it anywhere
    start, _ = _bounds(array, owner._mmap)  # type: ignore[attr-defined]
    start += owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
    stride = array.strides[0] if len(array) > 1 else array.shape[1] * array.itemsize
    if stride % array.itemsize:
        return None
    path = os.path.abspath(os.fspath(owner.filename))
    return Address(path, array.dtype.str, array.shape, stride, start)


def _mapped_rows(
    place: Address, rows: NDArray[Any] | None, fill: NDArray[np.float64] | None
) -> MappedRows:
    return MappedRows(place.open(), rows, fill)
