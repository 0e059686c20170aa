"""A user's own file, or folder of tables, read as views and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rcml_misa import storage
from rcml_misa.datasets.files.formats import (
    KINDS,
    array_shapes,
    frame_columns,
    is_array_file,
    is_frame_file,
    read_arrays,
    read_frame,
)
from rcml_misa.datasets.files.layout import (
    FileLayout,
    FileOptions,
    array_layout,
    folder_layout,
    table_layout,
)
from rcml_misa.exceptions import DataError, RcmlMisaError
from rcml_misa.views import MultiView

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "OwnFile",
    "as_labels",
    "class_codes",
    "file_sha256",
    "is_own_file",
    "join_tables",
    "read_own_file",
]


@dataclass(frozen=True, eq=False)
class OwnFile:
    """Content of a user's file.

    Attributes
    ----------
    views : MultiView
    labels : ndarray of str or int64 of shape (n,)
        Labels as they stand in the file; float64 where the task is a regression.
    layout : FileLayout
        Columns or arrays that were taken for views, target and identifier.
    ids : ndarray of str of shape (n,) or None
    notes : tuple of str
        Rows that were left out and arrays that were turned around.
    task : {"classification", "regression"}
    """

    views: MultiView
    labels: NDArray[Any]
    layout: FileLayout
    ids: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    task: Literal["classification", "regression"] = "classification"


def is_own_file(name: str) -> bool:
    """Tell a path from the name of a data set: ``faces.csv`` and ``data/faces`` are paths."""
    path = Path(name)
    named = is_frame_file(path) or is_array_file(path) or name in (".", "..")
    return named or "/" in name or "\\" in name or path.is_dir()


def file_sha256(path: Path) -> str:
    """Sha256 of a file; of a folder, of the names and sha256 of its tables."""
    try:
        if path.is_dir():
            return storage.files_sha256(_folder_files(path).values())
        return storage.file_sha256(path)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its name.") from error


def read_own_file(path: Path, options: FileOptions) -> OwnFile:
    """Read views and labels from a file or folder of any known kind.

    Raises
    ------
    DataError
        If it is missing, damaged, of an unknown kind, or its rows are no views and labels.
    OptionError
        If the options name what does not exist.
    """
    try:
        if path.is_dir():
            return _read_folder(path, options)
        if not path.exists():
            raise DataError(f"there is no file {path}; check its name.")
        if is_frame_file(path):
            return _read_table(path, options)
        if is_array_file(path):
            return _read_arrays(path, options)
    except RcmlMisaError as error:
        text = str(error)
        raise type(error)(text if str(path) in text else f"{path}: {text}") from error
    raise DataError(f"{path} is of no known kind; give a {KINDS}.")


def _read_table(path: Path, options: FileOptions) -> OwnFile:
    layout = table_layout(frame_columns(path), options)
    texts = [name for name in (layout.target, layout.id) if name is not None]
    columns = [name for view in layout.views.values() for name in view]
    frame = read_frame(path, [*columns, *texts], texts=texts)
    labels = as_labels(frame[layout.target], name=str(layout.target), path=path)
    views = MultiView({name: frame[list(own)] for name, own in layout.views.items()})
    ids = None if layout.id is None else frame[layout.id].astype(str).to_numpy()
    return OwnFile(views, labels, layout, ids)


def _read_arrays(path: Path, options: FileOptions) -> OwnFile:
    layout = array_layout(array_shapes(path), options)
    keys = [key for (key,) in layout.views.values()]
    others = [name for name in (layout.target, layout.id) if name is not None]
    arrays = read_arrays(path, [*keys, *others])
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


# folders


def _read_folder(path: Path, options: FileOptions) -> OwnFile:
    columns = {name: frame_columns(file) for name, file in _folder_files(path).items()}
    layout, owner = folder_layout(path, columns, options)
    views, ids, column, notes = join_tables(path, layout, owner=owner)
    labels = as_labels(column, name=str(layout.target), path=path)
    return OwnFile(MultiView(views), labels, layout, np.array(ids), notes)


def _folder_files(folder: Path) -> dict[str, Path]:
    """Tables of a folder by the name before the first dot, sorted."""
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


def join_tables(
    folder: Path, layout: FileLayout, *, owner: str | None = None
) -> tuple[dict[str, pd.DataFrame], list[str], Any, tuple[str, ...]]:
    """Join the tables of a folder: views, identifiers, labels, and notes on rows left out.

    The rows are those of `owner`, the table with the target; those of all tables without it. A row
    that a table lacks is NaN in it.
    """
    tables: dict[str, pd.DataFrame] = {}
    labels = None
    for name, path in _folder_files(folder).items():
        own = layout.views.get(name, ())
        more = (str(layout.target),) if name == owner else ()
        if own or more:
            frame = _indexed(path, str(layout.id), own, more)
            labels = frame[more[0]] if more else labels
            tables[name] = frame[list(own)]
    views = {name: table for name, table in tables.items() if name in layout.views}
    if not views:
        raise DataError(f"{folder} has none of the tables {', '.join(layout.views)}.")
    if labels is not None:
        ids = list(labels.index)
    else:  # in the order of the longest table, then those that it lacks
        longest = sorted(views.values(), key=len, reverse=True)
        ids = list(dict.fromkeys(name for table in longest for name in table.index))
    notes = [
        f"{extra} rows of {name} have no label and are left out"
        for name, table in views.items()
        if (extra := len(table.index.difference(ids)))
    ]
    aligned = {name: table.reindex(ids) for name, table in views.items()}
    return aligned, ids, labels, tuple(notes)


def _indexed(
    path: Path, identifier: str, columns: tuple[str, ...], texts: tuple[str, ...]
) -> pd.DataFrame:
    lacking = [name for name in (identifier, *columns) if name not in frame_columns(path)]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}, which is in the layout.")
    wanted = [identifier, *columns, *texts]
    frame = read_frame(path, wanted, texts=[identifier, *texts]).set_index(identifier)
    frame.index = frame.index.astype(str)
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise DataError(f"{path} has the {identifier} {twice!r} twice; give each row its own.")
    return frame


# labels


def as_labels(values: Any, *, name: str, path: Any) -> NDArray[Any]:
    """Check labels of shape (n,), (n, 1) or (1, n): texts, or whole numbers as int64.

    A missing label or a fraction is a DataError.

    Examples
    --------
    >>> as_labels(["1", "2.0"], name="y", path="a.csv")
    array([1, 2])
    """
    labels = np.asarray(values)
    if labels.size != max(labels.shape, default=0):
        raise DataError(
            f"{path}: {name!r} must hold one label per row, but its shape is {labels.shape}."
        )
    labels = labels.ravel()
    if not labels.size:
        raise DataError(f"{path} has no rows, only names.")
    missing = _missing(labels)
    if missing.any():
        raise DataError(
            f"{path}: {int(missing.sum())} of {len(labels)} rows have no label in {name!r} (the "
            f"first is row {int(np.flatnonzero(missing)[0])}); fill these labels in, or leave "
            "these rows out."
        )
    kind = labels.dtype.kind
    if kind in "biu":
        return labels.astype(np.int64) if kind != "b" else labels.astype(str)
    if kind == "f":
        if (labels != np.round(labels)).any() or np.abs(labels).max() > 2**53:
            raise DataError(
                f"{path}: {name!r} holds fractions such as {labels[labels != np.round(labels)][0]}"
                "; a class label is a text or a whole number."
            )
        return labels.astype(np.int64)
    texts = np.array([_text(label) for label in labels.tolist()])
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return texts
    return as_labels(numbers, name=name, path=path)  # texts that are all numbers, as a csv has them


def _missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    import pandas as pd

    if labels.dtype.kind == "f":
        return np.asarray(~np.isfinite(labels), dtype=np.bool_)
    if labels.dtype.kind in "OU":
        return np.array([bool(pd.isna(label)) or label == "" for label in labels.tolist()])
    return np.zeros(len(labels), dtype=np.bool_)


def _text(label: Any) -> str:
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)


def class_codes(labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Numbers 0 .. K-1 of labels, and the K labels in order."""
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(value) for value in values.tolist())
