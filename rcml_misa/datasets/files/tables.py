"""Tables, alone or one per view in a folder: whole with labels, or in chunks of rows to predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.content import FileRows, OwnFile, require_views
from rcml_misa.datasets.files.frames import frame_chunks, frame_columns, is_frame_file
from rcml_misa.datasets.files.layout import FileLayout, folder_layout, table_layout
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.roles import read_target, with_roles
from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView, numbers_or_raw

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["folder_files", "read_folder", "read_table", "rows_of_folder", "rows_of_table"]


def read_table(path: Path, options: FileOptions) -> OwnFile:
    """Read a table with its labels."""
    layout = table_layout(frame_columns(path), options)
    (rows,) = rows_of_table(path, layout, None, roles=Roles.of(options).names)
    return _labelled(path, layout, options, rows)


def _labelled(
    path: Path,
    layout: FileLayout,
    options: FileOptions,
    rows: FileRows,
    notes: tuple[str, ...] = (),
) -> OwnFile:
    labels = read_target(rows.labels, options, name=str(layout.target), path=path)
    ids = None if rows.ids is None else np.array(rows.ids)
    views = {name: numbers_or_raw(frame) for name, frame in rows.views.items()}
    own = OwnFile(MultiView(views), labels, layout, ids, notes, options.task)
    return with_roles(own, rows.roles, options, path=path)


def rows_of_table(
    path: Path,
    layout: FileLayout,
    rows: int | None,
    *,
    written: Mapping[str, Sequence[str]] = MappingProxyType({}),
    roles: Sequence[str] = (),
) -> Iterator[FileRows]:
    """Cut a table into rows, with its columns of `roles`; whole for None.

    Columns that `written` lists per view are read as they are written.
    """
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
    require_views(path, layout, present)
    texts = [name for name in (layout.target, layout.id) if name in names and name is not None]
    texts += roles
    wanted = [*chain.from_iterable(present.values()), *texts]
    start = 0
    texts += chain.from_iterable(written.get(view, ()) for view in present)
    for frame in frame_chunks(path, wanted, rows, texts=texts):
        yield FileRows(
            start,
            {view: frame[present[view]] if view in present else None for view in layout.views},
            [str(value) for value in frame[layout.id]] if layout.id in names else None,
            frame[layout.target].to_numpy() if layout.target in names else None,
            {name: frame[name].to_numpy() for name in roles},
        )
        start += len(frame)


def read_folder(path: Path, options: FileOptions) -> OwnFile:
    """Read the tables of a folder, joined by their identifier, with the labels."""
    columns = {name: frame_columns(file) for name, file in folder_files(path).items()}
    layout, owner = folder_layout(path, columns, options)
    roles = Roles.of(options).names
    return _labelled(path, layout, options, *_join_tables(path, layout, owner=owner, roles=roles))


def folder_files(folder: Path) -> dict[str, Path]:
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
    folder: Path,
    layout: FileLayout,
    *,
    owner: str | None = None,
    written: Mapping[str, Sequence[str]] = MappingProxyType({}),
    roles: Sequence[str] = (),
) -> tuple[FileRows, tuple[str, ...]]:
    """Join the tables of a folder, and note the rows that are left out.

    The rows are those of `owner`, the table with the target and the columns of `roles`; those of
    all tables without it. A row that a table lacks is NaN in it.
    """
    views: dict[str, pd.DataFrame] = {}
    labels: Any = None
    told: dict[str, Any] = {}
    for name, path in folder_files(folder).items():
        own = layout.views.get(name, ())
        more = (str(layout.target), *roles) if name == owner else ()
        if own or more:
            frame = _indexed(path, str(layout.id), own, more, written.get(name, ()))
            labels = frame[more[0]] if more else labels
            told |= {role: frame[role].to_numpy() for role in more[1:]}
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
        0, {name: view.reindex(ids) for name, view in views.items()}, ids, labels, told
    ), notes


def _indexed(
    path: Path,
    identifier: str,
    columns: tuple[str, ...],
    texts: tuple[str, ...],
    written: Sequence[str],
) -> pd.DataFrame:
    lacking = [name for name in (identifier, *columns) if name not in frame_columns(path)]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}, which is in the layout.")
    wanted = [identifier, *columns, *texts]
    (frame,) = frame_chunks(path, wanted, None, texts=[identifier, *texts, *written])
    frame = frame.set_index(identifier)
    frame.index = frame.index.astype(str)
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise DataError(f"{path} has the {identifier} {twice!r} twice; give each row its own.")
    return frame


def rows_of_folder(
    path: Path, layout: FileLayout, rows: int, written: Mapping[str, Sequence[str]]
) -> Iterator[FileRows]:
    """Join the tables of a folder and cut them into rows."""
    joined, _ = _join_tables(path, layout, written=written)
    for start in range(0, len(joined), rows):
        part = slice(start, start + rows)
        present = {name: table.iloc[part] for name, table in joined.views.items()}
        views = {name: present.get(name) for name in layout.views}
        yield FileRows(start, views, (joined.ids or [])[part], None)
