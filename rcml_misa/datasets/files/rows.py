"""Rows to predict, from a file of any kind, in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.files.formats import (
    KINDS,
    array_shapes,
    arrays_of_hdf5,
    frame_chunks,
    frame_columns,
    is_array_file,
    is_frame_file,
    is_hdf5_file,
    open_hdf5,
    read_arrays,
)
from rcml_misa.datasets.files.layout import SEPARATOR, FileLayout
from rcml_misa.datasets.files.reading import join_tables
from rcml_misa.exceptions import DataError

__all__ = ["FileRows", "file_rows"]

ROWS = 2048


@dataclass(frozen=True)
class FileRows:
    """Some consecutive rows of a file.

    Attributes
    ----------
    start : int
        Number of the first row, from 0.
    views : dict of str to array or None
        None for a view that the file lacks.
    ids : list of str or None
    labels : ndarray or None
        As they stand in the file, if it has the target; a text or number each, or None.
    """

    start: int
    views: Mapping[str, Any]
    ids: list[str] | None
    labels: NDArray[Any] | None

    def __len__(self) -> int:
        return next(int(view.shape[0]) for view in self.views.values() if view is not None)


def file_rows(
    path: Path, layout: FileLayout, widths: Mapping[str, int], *, rows: int = ROWS
) -> Iterator[FileRows]:
    """Yield the rows of a file in chunks: csv, tsv, parquet and HDF5 without reading it whole.

    A view none of whose columns are there is missing; the target is not needed.

    Parameters
    ----------
    path : Path
    layout : FileLayout
        Of the file that the model was fitted on.
    widths : mapping of str to int
        Columns of each view.
    rows : int
        Largest chunk.

    Raises
    ------
    DataError
        If the file is missing, damaged, of an unknown kind, or lacks some of a view's columns or
        every view.
    """
    if path.is_dir():
        return _rows_of_folder(path, layout, rows)
    if not path.exists():
        raise DataError(f"there is no file {path}; check its name.")
    if is_frame_file(path):
        return _rows_of_table(path, _as_columns(layout, widths), rows)
    if is_hdf5_file(path):
        return _rows_of_hdf5(path, _as_arrays(layout), rows)
    if is_array_file(path):
        return _rows_of_arrays(path, _as_arrays(layout), widths, rows)
    raise DataError(f"{path} is of no known kind; give a {KINDS}.")


def _as_columns(layout: FileLayout, widths: Mapping[str, int]) -> FileLayout:
    """Columns of a table, ``name__0`` and so on, for views that were arrays when fitted."""
    views = {
        view: columns
        if len(columns) == widths[view]
        else tuple(f"{view}{SEPARATOR}{number}" for number in range(widths[view]))
        for view, columns in layout.views.items()
    }
    return replace(layout, views=views)


def _as_arrays(layout: FileLayout) -> FileLayout:
    """Arrays with the views' names, for views that were columns of a table when fitted."""
    views = {
        view: columns if len(columns) == 1 else (view,) for view, columns in layout.views.items()
    }
    return replace(layout, views=views)


def _require_views(path: Path, layout: FileLayout, present: Mapping[str, Any]) -> None:
    if all(view is None for view in present.values()):
        first = next(iter(layout.views.values()))[0]
        raise DataError(
            f"{path} has none of the model's views ({', '.join(layout.views)}); it needs columns "
            f"or arrays such as {first!r}."
        )


def _rows_of_table(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    names = set(frame_columns(path))
    present: dict[str, list[str] | None] = {}
    for view, columns in layout.views.items():
        lacking = [column for column in columns if column not in names]
        if lacking and len(lacking) < len(columns):
            raise DataError(
                f"{path} has only some columns of view {view!r}: {lacking[0]!r} is missing, with "
                f"{len(lacking)} of {len(columns)} in all; add them, or leave all of them out."
            )
        present[view] = None if lacking else list(columns)
    _require_views(path, layout, present)
    texts = [name for name in (layout.target, layout.id) if name in names and name is not None]
    wanted = [column for columns in present.values() for column in columns or ()] + texts
    start = 0
    for frame in frame_chunks(path, wanted, rows, texts=texts):
        yield FileRows(
            start,
            {view: None if own is None else frame[own] for view, own in present.items()},
            [str(value) for value in frame[layout.id]] if layout.id in names else None,
            frame[layout.target].to_numpy(dtype=object) if layout.target in names else None,
        )
        start += len(frame)


def _rows_of_hdf5(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    with open_hdf5(path) as file:
        yield from _chunks(path, arrays_of_hdf5(file), layout, rows)


def _rows_of_arrays(
    path: Path, layout: FileLayout, widths: Mapping[str, int], rows: int
) -> Iterator[FileRows]:
    present = array_shapes(path)
    keys = [key for (key,) in layout.views.values() if key in present]
    others = [name for name in (layout.target, layout.id) if name in present and name is not None]
    arrays = read_arrays(path, [*keys, *others])
    for view, (key,) in layout.views.items():
        # MATLAB's arrays may lie as features by samples
        if key in arrays and path.suffix.lower() == ".mat":
            as_fitted = arrays[key].shape[1:] == (widths[view],)
            arrays[key] = arrays[key] if as_fitted else arrays[key].T
    for name in others:
        arrays[name] = np.ravel(arrays[name])
    yield from _chunks(path, arrays, layout, rows)


def _chunks(
    path: Path, arrays: Mapping[str, Any], layout: FileLayout, rows: int
) -> Iterator[FileRows]:
    """Cut arrays, read or not yet read, into rows."""
    keys = {view: key if key in arrays else None for view, (key,) in layout.views.items()}
    _require_views(path, layout, keys)
    shapes = {key: arrays[key].shape for key in keys.values() if key is not None}
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(counts) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"{path}: the views have different numbers of rows ({listed}).")
    count = counts.pop()
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        yield FileRows(
            start,
            {view: None if key is None else arrays[key][part] for view, key in keys.items()},
            _ids(arrays[str(layout.id)][part]) if layout.id in arrays else None,
            np.ravel(arrays[str(layout.target)][part]) if layout.target in arrays else None,
        )


def _ids(values: Any) -> list[str]:
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in np.ravel(values).tolist()
    ]


def _rows_of_folder(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    tables, ids, *_ = join_tables(path, layout)
    for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        views = {view: tables[view].iloc[part] if view in tables else None for view in layout.views}
        yield FileRows(start, views, ids[part], None)
