"""A user's own file, or folder of tables: whole with labels, or in chunks of rows to predict."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rcml_misa import storage
from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.formats import (
    KINDS,
    frame_chunks,
    frame_columns,
    is_array_file,
    is_frame_file,
    is_hdf5_file,
    opened_arrays,
)
from rcml_misa.datasets.files.layout import (
    SEPARATOR,
    FileLayout,
    array_layout,
    as_labels,
    as_texts,
    folder_layout,
    table_layout,
)
from rcml_misa.exceptions import DataError, RcmlMisaError
from rcml_misa.views import MultiView

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FileRows", "OwnFile", "file_rows", "file_sha256", "is_own_file", "read_own_file"]

ROWS = 2048


@dataclass(frozen=True, eq=False)
class OwnFile:
    """Content of a user's file of n rows.

    Attributes
    ----------
    labels : ndarray of str or int64 of shape (n,)
        Labels as they stand in the file; float64 where the task is a regression.
    layout : FileLayout
        Columns or arrays that were taken for views, target and identifier.
    notes : tuple of str
        Rows that were left out and arrays that were turned around.
    """

    views: MultiView
    labels: NDArray[Any]
    layout: FileLayout
    ids: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    task: Literal["classification", "regression"] = "classification"


@dataclass(frozen=True)
class FileRows:
    """Some consecutive rows of a file.

    `start` is the number of the first, from 0; `views` are arrays by name, None where the file
    lacks one; `labels` stand as in the file, None where it lacks the target.
    """

    start: int
    views: Mapping[str, Any]
    ids: list[str] | None
    labels: NDArray[Any] | None

    def __len__(self) -> int:
        return next(int(view.shape[0]) for view in self.views.values() if view is not None)


def is_own_file(name: str) -> bool:
    """Tell a path from the name of a data set: ``faces.csv`` and ``data/faces`` are paths."""
    path = Path(name)
    named = is_frame_file(path) or is_array_file(path) or name in (".", "..")
    return named or "/" in name or "\\" in name or path.is_dir()


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file; of a folder, of the names and sha256 of its tables."""
    try:
        if path.is_dir():
            return storage.files_sha256(_folder_files(path).values())
        return storage.file_sha256(path)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its name.") from error


def read_own_file(path: Path, options: FileOptions) -> OwnFile:
    """Read views and labels from a file or folder of any known kind.

    One that is missing, damaged or of an unknown kind, or whose rows are no views and labels, is a
    DataError; options that name what does not exist are an OptionError.
    """
    _refuse_unknown(path)
    try:
        if path.is_dir():
            return _read_folder(path, options)
        return (_read_table if is_frame_file(path) else _read_arrays)(path, options)
    except RcmlMisaError as error:
        text = str(error)
        raise type(error)(text if str(path) in text else f"{path}: {text}") from error


def _refuse_unknown(path: Path) -> None:
    if not path.exists():
        raise DataError(f"there is no file {path}; check its name.")
    if not (path.is_dir() or is_frame_file(path) or is_array_file(path)):
        raise DataError(f"{path} is of no known kind; give a {KINDS}.")


def file_rows(
    path: Path, layout: FileLayout, widths: Mapping[str, int], *, rows: int = ROWS
) -> Iterator[FileRows]:
    """Yield the rows of a file in chunks: csv, tsv, parquet and HDF5 without reading it whole.

    A view none of whose columns are there is missing; the target is not needed.

    `layout` is that of the file that the model was fitted on: the columns of a view may be an array
    of its name here, and an array the columns ``name__0`` and so on; `widths` are the columns of
    each view. A file that is missing, damaged, of an unknown kind, or lacks some of a view's
    columns or every view, is a DataError.
    """
    _refuse_unknown(path)
    if path.is_dir():
        return _rows_of_folder(path, layout, rows)
    views = dict(layout.views)
    if is_frame_file(path):
        for view, columns in layout.views.items():
            if len(columns) != widths[view]:
                views[view] = tuple(f"{view}{SEPARATOR}{number}" for number in range(widths[view]))
        return _rows_of_table(path, replace(layout, views=views), rows)
    views |= {view: (view,) for view, columns in views.items() if len(columns) != 1}
    return _rows_of_arrays(path, replace(layout, views=views), widths, rows)


def _require_views(path: Path, layout: FileLayout, present: Collection[str]) -> None:
    if not present:
        first = next(iter(layout.views.values()))[0]
        raise DataError(
            f"{path} has none of the model's views ({', '.join(layout.views)}); it needs columns "
            f"or arrays such as {first!r}."
        )


# tables


def _read_table(path: Path, options: FileOptions) -> OwnFile:
    layout = table_layout(frame_columns(path), options)
    (rows,) = _rows_of_table(path, layout, None)
    return _labelled(path, layout, rows)


def _labelled(
    path: Path, layout: FileLayout, rows: FileRows, notes: tuple[str, ...] = ()
) -> OwnFile:
    labels = as_labels(rows.labels, name=str(layout.target), path=path)
    ids = None if rows.ids is None else np.array(rows.ids)
    return OwnFile(MultiView(rows.views), labels, layout, ids, notes)


def _rows_of_table(path: Path, layout: FileLayout, rows: int | None) -> Iterator[FileRows]:
    names = set(frame_columns(path))
    present: dict[str, list[str]] = {}
    for view, columns in layout.views.items():
        lacking = [column for column in columns if column not in names]
        if lacking and len(lacking) < len(columns):
            raise DataError(
                f"{path} has only some columns of view {view!r}: {lacking[0]!r} is missing, with "
                f"{len(lacking)} of {len(columns)} in all; add them, or leave all of them out."
            )
        if not lacking:
            present[view] = list(columns)
    _require_views(path, layout, present)
    texts = [name for name in (layout.target, layout.id) if name in names and name is not None]
    wanted = [*chain.from_iterable(present.values()), *texts]
    start = 0
    for frame in frame_chunks(path, wanted, rows, texts=texts):
        yield FileRows(
            start,
            {view: frame[present[view]] if view in present else None for view in layout.views},
            [str(value) for value in frame[layout.id]] if layout.id in names else None,
            frame[layout.target].to_numpy() if layout.target in names else None,
        )
        start += len(frame)


# arrays


def _read_arrays(path: Path, options: FileOptions) -> OwnFile:
    with opened_arrays(path) as content:
        layout = array_layout({name: np.shape(content[name]) for name in content}, options)
        names = [*(key for (key,) in layout.views.values()), layout.target, layout.id]
        stored = {name: content[name] for name in names if name is not None}
        arrays = {name: a[()] if is_hdf5_file(path) else a for name, a in stored.items()}
    labels = as_labels(arrays[str(layout.target)], name=str(layout.target), path=path)
    views, notes = {}, []
    for name, (key,) in layout.views.items():
        shape = np.shape(arrays[key])
        # MATLAB's arrays often lie as features by samples
        turned = shape[:1] != (len(labels),) and path.suffix.lower() == ".mat"
        if len(shape) != 2 or shape[1 if turned else 0] != len(labels):
            raise DataError(
                f"{path}: {key!r} has shape {shape}, but there are {len(labels)} labels; choose "
                "the arrays that are views with --views."
            )
        views[name] = arrays[key].T if turned else arrays[key]
        if turned:
            notes.append(f"{key} is features by samples and was turned around")
    ids = None if layout.id is None else np.ravel(arrays[layout.id]).astype(str)
    return OwnFile(MultiView(views), labels, layout, ids, tuple(notes))


def _rows_of_arrays(
    path: Path, layout: FileLayout, widths: Mapping[str, int], rows: int
) -> Iterator[FileRows]:
    """Cut arrays, read or not yet read, into rows."""
    with opened_arrays(path) as content:
        keys = {view: key for view, (key,) in layout.views.items() if key in content}
        _require_views(path, layout, keys)
        arrays = {view: content[key] for view, key in keys.items()}
        if path.suffix.lower() == ".mat":  # MATLAB's arrays may lie as features by samples
            arrays = {
                view: array if array.shape[1:] == (widths[view],) else array.T
                for view, array in arrays.items()
            }
        counts = {array.shape[0] if array.shape else 0 for array in arrays.values()}
        if len(counts) > 1:
            listed = ", ".join(f"{keys[view]} {array.shape}" for view, array in arrays.items())
            raise DataError(f"{path}: the views have different numbers of rows ({listed}).")
        count = counts.pop()
        others = [content.get(name) if name else None for name in (layout.id, layout.target)]
        if not is_hdf5_file(path):
            others = [None if array is None else np.ravel(array) for array in others]
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            ids, labels = (None if array is None else np.ravel(array[part]) for array in others)
            yield FileRows(
                start,
                {view: arrays[view][part] if view in arrays else None for view in layout.views},
                None if ids is None else as_texts(ids),
                labels,
            )


# folders


def _read_folder(path: Path, options: FileOptions) -> OwnFile:
    columns = {name: frame_columns(file) for name, file in _folder_files(path).items()}
    layout, owner = folder_layout(path, columns, options)
    return _labelled(path, layout, *_join_tables(path, layout, owner=owner))


def _folder_files(folder: Path) -> dict[str, Path]:
    """List the tables of a folder by the name before the first dot, sorted."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_frame_file(path) and not path.name.startswith("."):
            name = path.name.partition(".")[0]
            if name in files:
                raise DataError(f"{folder} has two tables called {name}; keep one of them.")
            files[name] = path
    if not files:
        raise DataError(f"{folder} has no csv, tsv or parquet file; put one per view into it.")
    return files


def _join_tables(
    folder: Path, layout: FileLayout, *, owner: str | None = None
) -> tuple[FileRows, tuple[str, ...]]:
    """Join the tables of a folder, and note the rows that are left out.

    The rows are those of `owner`, the table with the target; those of all tables without it. A row
    that a table lacks is NaN in it.
    """
    views: dict[str, pd.DataFrame] = {}
    labels: Any = None
    for name, path in _folder_files(folder).items():
        own = layout.views.get(name, ())
        more = (str(layout.target),) if name == owner else ()
        if own or more:
            frame = _indexed(path, str(layout.id), own, more)
            labels = frame[more[0]] if more else labels
            views |= {name: frame[list(own)]} if own else {}
    if not views:
        raise DataError(f"{folder} has none of the tables {', '.join(layout.views)}.")
    if labels is not None:
        ids = list(labels.index)
    else:  # in the order of the longest table, then those that it lacks
        longest = sorted(views.values(), key=len, reverse=True)
        ids = list(dict.fromkeys(name for table in longest for name in table.index))
    notes = tuple(
        f"{extra} rows of {name} have no label and are left out"
        for name, table in views.items()
        if (extra := len(table.index.difference(ids)))
    )
    return FileRows(
        0, {name: view.reindex(ids) for name, view in views.items()}, ids, labels
    ), notes


def _indexed(
    path: Path, identifier: str, columns: tuple[str, ...], texts: tuple[str, ...]
) -> pd.DataFrame:
    lacking = [name for name in (identifier, *columns) if name not in frame_columns(path)]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}, which is in the layout.")
    wanted = [identifier, *columns, *texts]
    (frame,) = frame_chunks(path, wanted, None, texts=[identifier, *texts])
    frame = frame.set_index(identifier)
    frame.index = frame.index.astype(str)
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise DataError(f"{path} has the {identifier} {twice!r} twice; give each row its own.")
    return frame


def _rows_of_folder(path: Path, layout: FileLayout, rows: int) -> Iterator[FileRows]:
    joined, _ = _join_tables(path, layout)
    for start in range(0, len(joined), rows):
        part = slice(start, start + rows)
        present = {name: table.iloc[part] for name, table in joined.views.items()}
        views = {name: present.get(name) for name in layout.views}
        yield FileRows(start, views, (joined.ids or [])[part], None)
