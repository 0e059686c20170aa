"""Rows to predict, from a file of any kind, in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.files.arrays import (
    HDF5,
    array_shapes,
    hdf5_datasets,
    is_array_file,
    open_hdf5,
    read_arrays,
)
from rcml_misa.datasets.files.folder import joined
from rcml_misa.datasets.files.frames import frame_chunks, frame_columns, is_frame_file
from rcml_misa.datasets.files.layout import SEPARATOR, FileLayout
from rcml_misa.datasets.files.reading import KINDS
from rcml_misa.exceptions import DataError

__all__ = ["FileRows", "file_rows"]

ROWS = 2048


@dataclass(frozen=True)
class FileRows:
    """Some consecutive rows of a file.

    Attributes
    ----------
    start : int
        Number of the first one, from 0.
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
        return next(int(one.shape[0]) for one in self.views.values() if one is not None)


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
        return _of_folder(path, layout, rows)
    if not path.exists():
        raise DataError(f"there is no file {path}; check its name.")
    if is_frame_file(path):
        return _of_table(path, _spread(layout, widths), rows)
    if is_array_file(path):
        layout = _gathered(layout)
        if path.suffix.lower() in HDF5:
            return _of_hdf5(path, layout, rows)
        return _of_arrays(path, layout, widths, rows)
    raise DataError(f"{path} is of no known kind; give a {KINDS}.")


def _spread(layout: FileLayout, widths: Mapping[str, int]) -> FileLayout:
    """Columns of a table, ``name__0`` and so on, for views that were arrays when fitted."""
    views = {
        view: columns
        if len(columns) == widths[view]
        else tuple(f"{view}{SEPARATOR}{number}" for number in range(widths[view]))
        for view, columns in layout.views.items()
    }
    return replace(layout, views=views)


def _gathered(layout: FileLayout) -> FileLayout:
    """Arrays with the views' names, for views that were columns of a table when fitted."""
    views = {
        view: columns if len(columns) == 1 else (view,) for view, columns in layout.views.items()
    }
    return replace(layout, views=views)


def _of_table(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    names = set(frame_columns(path))
    found: dict[str, list[str] | None] = {}
    for view, columns in layout.views.items():
        lacking = [one for one in columns if one not in names]
        if lacking and len(lacking) < len(columns):
            raise DataError(
                f"{path} has only some columns of view {view!r}: {lacking[0]!r} is missing, with "
                f"{len(lacking)} of {len(columns)} in all; add them, or leave all of them out."
            )
        found[view] = None if lacking else list(columns)
    _some(path, layout, found)
    texts = [one for one in (layout.target, layout.id) if one in names and one is not None]
    wanted = [one for own in found.values() for one in own or ()] + texts
    start = 0
    for frame in frame_chunks(path, wanted, rows, texts=texts):
        yield FileRows(
            start,
            {view: None if own is None else frame[own] for view, own in found.items()},
            [str(one) for one in frame[layout.id]] if layout.id in names else None,
            frame[layout.target].to_numpy(dtype=object) if layout.target in names else None,
        )
        start += len(frame)


def _some(path: Path, layout: FileLayout, found: Mapping[str, Any]) -> None:
    if all(one is None for one in found.values()):
        first = next(iter(layout.views.values()))[0]
        raise DataError(
            f"{path} has none of the model's views ({', '.join(layout.views)}); it needs columns "
            f"or arrays such as {first!r}."
        )


def _of_hdf5(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    with open_hdf5(path) as file:
        known = hdf5_datasets(file)
        keys = {view: key if key in known else None for view, (key,) in layout.views.items()}
        _some(path, layout, keys)
        count = _count(path, {k: known[k].shape for k in keys.values() if k is not None})
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            yield FileRows(
                start,
                {view: None if key is None else known[key][part] for view, key in keys.items()},
                _ids(known, layout, part),
                np.ravel(known[layout.target][part]) if layout.target in known else None,
            )


def _ids(known: Mapping[str, Any], layout: FileLayout, part: slice) -> list[str] | None:
    if layout.id is None or layout.id not in known:
        return None
    values = np.ravel(known[layout.id][part]).tolist()
    return [
        one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in values
    ]


def _count(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(counts) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise DataError(f"{path}: the views have different numbers of rows ({listed}).")
    return counts.pop()


def _of_arrays(
    path: Path, layout: FileLayout, widths: Mapping[str, int], rows: int
) -> Iterator[FileRows]:
    known = array_shapes(path)
    keys = {view: key if key in known else None for view, (key,) in layout.views.items()}
    _some(path, layout, keys)
    others = [one for one in (layout.target, layout.id) if one in known and one is not None]
    arrays = read_arrays(path, [*(key for key in keys.values() if key is not None), *others])
    for view, key in keys.items():
        if key is not None and path.suffix.lower() == ".mat":
            as_fitted = arrays[key].shape[1:] == (widths[view],)
            arrays[key] = arrays[key] if as_fitted else arrays[key].T
    count = _count(path, {k: arrays[k].shape for k in keys.values() if k is not None})
    for name in others:
        arrays[name] = np.ravel(arrays[name])
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        yield FileRows(
            start,
            {view: None if key is None else arrays[key][part] for view, key in keys.items()},
            _ids(arrays, layout, part),
            arrays[layout.target][part] if layout.target in others else None,
        )


def _of_folder(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    tables = joined(path, layout)
    for start in range(0, len(tables.ids), rows):
        part = slice(start, start + rows)
        yield FileRows(
            start,
            {
                view: tables.views[view].iloc[part] if view in tables.views else None
                for view in layout.views
            },
            tables.ids[part],
            None,
        )
