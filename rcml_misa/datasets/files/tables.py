"""Tables, alone or one per view in a folder: whole with labels, or in chunks of rows to predict."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.content import FileRows, OwnFile, require_views
from rcml_misa.datasets.files.folder_layout import folder_layout
from rcml_misa.datasets.files.frames import (
    TableHead,
    frame_chunks,
    frame_head,
    is_loose,
    shared_columns,
    table_files,
)
from rcml_misa.datasets.files.guesses import unread_notes
from rcml_misa.datasets.files.layout import (
    TARGETS,
    UNNAMED,
    FileLayout,
    table_layout,
    usual_column,
)
from rcml_misa.datasets.files.merging import merged_rows
from rcml_misa.datasets.files.omics import is_omics, omics_rows, read_omics
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.roles import describe_split_like, read_target, with_roles
from rcml_misa.datasets.files.survey import RowSurvey, block_rows
from rcml_misa.exceptions import DataError, OptionError, shortened
from rcml_misa.views import MultiView

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "folder_files",
    "is_parted",
    "read_folder",
    "read_table",
    "rows_of_folder",
    "rows_of_table",
]


def read_table(path: Path, options: FileOptions, survey: RowSurvey | None = None) -> OwnFile:
    """Read a table, or a folder of its parts, with its labels; with a `survey` a sample of it."""
    head = frame_head(path)
    layout = table_layout(head.names, options)
    size = None if survey is None else block_rows(len(head.names))
    roles = Roles.of(options).names
    blocks = rows_of_table(path, layout, size, roles=roles, head=head, coded=True)
    if survey is None:
        (rows,) = blocks
    else:
        rows = survey.gather(blocks, str(layout.target))
    notes = head.notes
    if UNNAMED in head.names and layout.target != UNNAMED:
        use = "holds the ids of the rows" if layout.id == UNNAMED else "is left out"
        notes += (f"The column of {path.name} without a name, an index, {use}; it is no feature.",)
    notes += unread_notes(head.names, layout, options, "column")
    return _labelled(path, layout, options, rows, notes)


def _labelled(
    path: Path,
    layout: FileLayout,
    options: FileOptions,
    rows: FileRows,
    notes: tuple[str, ...] = (),
) -> OwnFile:
    labels = read_target(rows.labels, options, name=str(layout.target), path=path)
    ids = None if rows.ids is None else np.array(rows.ids)
    if options.split_column is None and options.test_file is None:
        notes += describe_split_like(rows.views)
    own = OwnFile(MultiView(rows.views, raw=True), labels, layout, ids, notes, options.task)
    return with_roles(own, rows.roles, options, path=path)


def rows_of_table(
    path: Path,
    layout: FileLayout,
    rows: int | None,
    *,
    written: Mapping[str, Sequence[str]] = MappingProxyType({}),
    roles: Sequence[str] = (),
    head: TableHead | None = None,
    coded: bool = False,
) -> Iterator[FileRows]:
    """Cut a table into rows, with its columns of `roles`; whole for None.

    With `coded` codes with a leading zero stay texts, as where nobody has read the table. Columns
    that `written` lists per view come as texts, but for gaps.
    """
    head = head or frame_head(path)
    names = set(head.names)
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
    categories = list(chain.from_iterable(written.get(view, ()) for view in present))
    frames = frame_chunks(
        path, wanted, rows, texts=texts, categories=categories, head=head, coded=coded
    )
    for frame in frames:
        yield FileRows(
            start,
            {view: frame[present[view]] if view in present else None for view in layout.views},
            [str(value) for value in frame[layout.id]] if layout.id in names else None,
            frame[layout.target].to_numpy() if layout.target in names else None,
            {name: frame[name].to_numpy() for name in roles},
        )
        start += len(frame)


def read_folder(path: Path, options: FileOptions, survey: RowSurvey | None = None) -> OwnFile:
    """Read the tables of a folder, joined by their identifier or position, with the labels.

    With a `survey` a sample of it, for which the tables have to come in the same order. A folder
    laid out as MOGONET's is read with its own split; see `read_omics`.
    """
    if is_parted(path, options):
        return read_table(path, options, survey)
    files = folder_files(path)
    notes = _left_out(path, files)
    if is_omics(files, options):
        if survey is not None:
            raise DataError(
                f"{shortened(path, 120)}, laid out as MOGONET's, is too large to be held; give one "
                "table per view and one of labels, or hold it with RCML_MISA_LARGEST_GB."
            )
        own = read_omics(path, files, options)
        return replace(own, notes=notes + own.notes)
    heads = {name: frame_head(file) for name, file in files.items()}
    unnamed = any(UNNAMED in head.names for head in heads.values())
    columns = {name: head.joining if unnamed else head.names for name, head in heads.items()}
    nameless = {name for name, head in heads.items() if not head.named}
    layout, owner = folder_layout(path, columns, options, nameless=nameless)
    for head in heads.values():
        notes += head.notes
    if layout.id is None:
        notes += (f"The tables of {path.name} have no id and are joined by position.",)
    elif layout.id == UNNAMED:
        if options.id is None and survey is None:
            _refuse_row_numbers(path, heads, {layout.target, UNNAMED})
        notes += (f"The tables of {path.name} are joined by their index, which has no name.",)
    notes += unread_notes([name for name in columns if name != owner], layout, options, "table")
    roles = Roles.of(options).names
    if survey is None:
        rows, more = _join_tables(path, layout, owner=owner, roles=roles)
    else:
        size = block_rows(sum(map(len, columns.values())))
        blocks = merged_rows(files, layout, size, owner=owner, roles=roles, coded=True)
        rows, more = survey.gather(blocks, str(layout.target)), ()
        survey.owner = owner
    return _labelled(path, layout, options, rows, notes + more)


def folder_files(folder: Path) -> dict[str, Path]:
    """List the tables of a folder by the name before the first dot, sorted.

    Files such as .txt, which may be no tables, count only where no others are there.
    """
    files: dict[str, Path] = {}
    for path in sorted(table_files(folder)):
        name = path.name.partition(".")[0]
        if name in files:
            raise DataError(
                f"{shortened(folder, 120)} has two tables called {shortened(name, 40)!r}; keep "
                "one, or give parts of one table the same columns, the target among them."
            )
        files[name] = path
    if not files:
        raise DataError(f"{folder} has no csv, tsv or parquet file; put one per view into it.")
    return files


def is_parted(folder: Path, options: FileOptions) -> bool:
    """Ask whether the tables of a folder are parts of one, of the same columns with the target."""
    names = shared_columns(folder)
    if names is None:
        return False
    if options.target is not None:
        return options.target in names
    return usual_column(None, TARGETS, names) is not None


def _left_out(folder: Path, files: Mapping[str, Path]) -> tuple[str, ...]:
    """Note the files beside tables that may be tables too."""
    names = [path.name for path in sorted(folder.iterdir()) if path.is_file() and is_loose(path)]
    if not names or is_loose(next(iter(files.values()))):
        return ()
    return (
        f"{shortened(', '.join(names))} of {folder.name} is left out; tables there are csv, "
        "tsv, parquet or feather files.",
    )


def _refuse_row_numbers(
    folder: Path, heads: Mapping[str, TableHead], unused: Collection[str | None]
) -> None:
    """Refuse to join by row numbers that disagree with a column of ids in each table."""
    import pandas as pd

    shared = set.intersection(*(set(head.names) for head in heads.values())) - set(unused)
    if not shared or len(heads) < 2:
        return
    wanted = [UNNAMED, *sorted(shared)]
    frames = []
    for head in heads.values():
        (frame,) = frame_chunks(head.path, wanted, None, head=head)
        if sorted(frame[UNNAMED].tolist(), key=str) != sorted(range(len(frame)), key=str):
            return
        frames.append(frame.set_index(UNNAMED))
    for name in wanted[1:]:
        columns = [frame[name] for frame in frames]
        if any(column.dtype.kind == "f" or not column.is_unique for column in columns):
            continue
        rows = pd.concat(columns)
        if (rows.groupby(level=0).nunique() > 1).any() and rows.nunique() < len(rows):
            raise OptionError(
                f"the tables of {folder} have row numbers without a name and ids in {name!r}, "
                f"which join them differently; name one with --id {name} or --id ''."
            )


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
    all tables without it. A row that a table lacks is NaN in it. Without an id rows are joined by
    position.
    """
    views: dict[str, pd.DataFrame] = {}
    labels: Any = None
    told: dict[str, Any] = {}
    lengths: dict[str, int] = {}
    for name, path in folder_files(folder).items():
        own = layout.views.get(name, ())
        more = (str(layout.target), *roles) if name == owner else ()
        if own or more:
            frame = _indexed(path, layout.id, own, more, written.get(name, ()))
            lengths[name] = len(frame)
            labels = frame[more[0]] if more else labels
            told |= {role: frame[role].to_numpy() for role in more[1:]}
            views |= {name: frame[list(own)]} if own else {}
    if not views:
        raise DataError(f"{folder} has none of the tables {', '.join(layout.views)}.")
    if layout.id is None and len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise DataError(
            f"the tables of {folder} have no id and different numbers of rows "
            f"({shortened(counts)}); give each an id column."
        )
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
    joined = {name: view.reindex(ids) for name, view in views.items()}
    return FileRows(0, joined, None if layout.id is None else ids, labels, told), notes


def _indexed(
    path: Path,
    identifier: str | None,
    columns: tuple[str, ...],
    texts: tuple[str, ...],
    written: Sequence[str],
) -> pd.DataFrame:
    """Read columns of one table of a folder; its index is the identifier, or else the position."""
    head = frame_head(path)
    key = [] if identifier is None else [identifier]
    present = set(head.joining)
    lacking = [name for name in (*key, *columns) if name not in present]
    if lacking:
        raise DataError(f"{path} has no column {lacking[0]!r}, which is in the layout.")
    wanted = [*key, *columns, *texts]
    kept = [*key, *texts]
    (frame,) = frame_chunks(path, wanted, None, texts=kept, categories=written, head=head)
    if identifier is None:
        return frame
    frame = frame.set_index(identifier)
    frame.index = frame.index.astype(str)
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise DataError(
            f"{path} has the {identifier or 'id'} {twice!r} twice; give each row its own."
        )
    return frame


def rows_of_folder(
    path: Path,
    layout: FileLayout,
    rows: int,
    written: Mapping[str, Sequence[str]],
    *,
    owner: str | None = None,
) -> Iterator[FileRows]:
    """Join the tables of a folder and cut them into rows; parts of one table follow each other.

    With an `owner`, the table with the target, the others are joined to its rows block by block.
    """
    columns = shared_columns(path)
    names = {file.name.partition(".")[0] for file in table_files(path)}
    if columns is not None and not names & set(layout.views):
        yield from rows_of_table(path, layout, rows, written=written)
        return
    files = folder_files(path)
    if owner is not None:
        yield from merged_rows(files, layout, rows, owner=owner, written=written)
        return
    if is_omics(files, FileOptions(id=layout.id)):
        joined = omics_rows(path, files, layout)
    else:
        joined, _ = _join_tables(path, layout, written=written)
    for start in range(0, len(joined), rows):
        part = slice(start, start + rows)
        present = {name: table.iloc[part] for name, table in joined.views.items()}
        views = {name: present.get(name) for name in layout.views}
        yield FileRows(start, views, joined.ids and joined.ids[part], None)
