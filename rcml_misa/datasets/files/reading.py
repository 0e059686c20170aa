"""A user's own file, or folder of files, with labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.files.arrays import array_shapes, is_array_file, read_arrays
from rcml_misa.datasets.files.folder import join_folder
from rcml_misa.datasets.files.frames import frame_columns, is_frame_file, read_frame
from rcml_misa.datasets.files.labels import as_labels
from rcml_misa.datasets.files.layout import FileLayout, FileOptions, array_layout, table_layout
from rcml_misa.exceptions import DataError, RcmlMisaError
from rcml_misa.views import MultiView

__all__ = ["KINDS", "OwnFile", "file_sha256", "is_own_file", "read_own_file"]

KINDS = "csv, tsv, parquet, npz, mat or hdf5, or a folder with one table per view"


@dataclass(frozen=True, eq=False)
class OwnFile:
    """What was read from a user's file.

    Attributes
    ----------
    views : MultiView
    labels : ndarray of str or int64 of shape (n,)
        As they stand in the file.
    layout : FileLayout
        What was taken for what.
    ids : ndarray of str of shape (n,) or None
    notes : tuple of str
        What was left out or turned around.
    """

    views: MultiView
    labels: NDArray[Any]
    layout: FileLayout
    ids: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()


def is_own_file(name: str) -> bool:
    """Tell a path from the name of a data set.

    Examples
    --------
    >>> is_own_file("digits"), is_own_file("faces.csv"), is_own_file("data/faces")
    (False, True, True)
    """
    path = Path(name)
    return (
        is_frame_file(path)
        or is_array_file(path)
        or "/" in name
        or "\\" in name
        or name in (".", "..")
        or path.is_dir()
    )


def file_sha256(path: Path) -> str:
    """Sha256 of a file; of a folder, of the names and sha256 of its tables.

    Raises
    ------
    DataError
        If it can't be read.
    """
    from rcml_misa.datasets.files.folder import folder_files

    try:
        if path.is_dir():
            lines = [f"{one.name} {file_sha256(one)}\n" for one in folder_files(path).values()]
            return hashlib.sha256("".join(lines).encode()).hexdigest()
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its name.") from error


def read_own_file(path: Path, options: FileOptions) -> OwnFile:
    """Read views and labels from a file or folder of any known kind.

    Parameters
    ----------
    path : Path
        A csv, tsv, parquet, npz, mat (also version 7.3) or hdf5 file, or a folder.
    options : FileOptions

    Returns
    -------
    OwnFile

    Raises
    ------
    DataError
        If it is missing, damaged, of an unknown kind, or its rows are no views and labels.
    OptionError
        If the options name what is not there.
    """
    try:
        if path.is_dir():
            return _folder(path, options)
        if not path.exists():
            raise DataError(f"there is no file {path}; check its name.")
        if is_frame_file(path):
            return _table(path, options)
        if is_array_file(path):
            return _arrays(path, options)
    except RcmlMisaError as error:
        text = str(error)
        raise type(error)(text if str(path) in text else f"{path}: {text}") from error
    raise DataError(f"{path} is of no known kind; give a {KINDS}.")


def _table(path: Path, options: FileOptions) -> OwnFile:
    layout = table_layout(frame_columns(path), options)
    texts = [name for name in (layout.target, layout.id) if name is not None]
    columns = [name for view in layout.views.values() for name in view]
    frame = read_frame(path, [*columns, *texts], texts=texts)
    labels = as_labels(frame[layout.target], name=str(layout.target), path=path)
    views = MultiView({name: frame[list(own)] for name, own in layout.views.items()})
    ids = None if layout.id is None else frame[layout.id].astype(str).to_numpy()
    return OwnFile(views, labels, layout, ids)


def _arrays(path: Path, options: FileOptions) -> OwnFile:
    layout = array_layout(array_shapes(path), options)
    keys = [key for (key,) in layout.views.values()]
    others = [name for name in (layout.target, layout.id) if name is not None]
    arrays = read_arrays(path, [*keys, *others])
    labels = as_labels(arrays[str(layout.target)], name=str(layout.target), path=path)
    views, notes = {}, []
    for name, (key,) in layout.views.items():
        views[name], turned = oriented(arrays[key], key, rows=len(labels), path=path)
        if turned:
            notes.append(f"{key} is features by samples and was turned around")
    ids = None if layout.id is None else np.ravel(arrays[layout.id]).astype(str)
    return OwnFile(MultiView(views), labels, layout, ids, tuple(notes))


def oriented(array: Any, key: str, *, rows: int, path: Path) -> tuple[Any, bool]:
    """Return an array as samples by features, and whether it was turned, as MATLAB's often are."""
    shape = np.shape(array)
    if len(shape) == 2 and shape[0] == rows:
        return array, False
    if len(shape) == 2 and shape[1] == rows and path.suffix.lower() == ".mat":
        return array.T, True
    raise DataError(
        f"{path}: {key!r} has shape {shape}, but there are {rows} labels; choose the arrays that "
        "are views with --views."
    )


def _folder(path: Path, options: FileOptions) -> OwnFile:
    tables = join_folder(path, options)
    labels = as_labels(tables.labels, name=str(tables.layout.target), path=path)
    views: Mapping[str, Any] = tables.views
    return OwnFile(MultiView(views), labels, tables.layout, np.array(tables.ids), tables.notes)
