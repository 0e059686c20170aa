"""A folder with one table per view, joined by an identifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.files.frames import frame_columns, is_frame_file, read_frame
from rcml_misa.datasets.files.layout import IDS, TARGETS, FileLayout, FileOptions, known_name
from rcml_misa.exceptions import DataError, OptionError, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["JoinedTables", "folder_files", "join_folder", "joined"]


@dataclass(frozen=True)
class JoinedTables:
    """The tables of a folder, each with the same rows in the same order.

    Attributes
    ----------
    views : dict of str to DataFrame
        A row that a table lacks is NaN in it.
    ids : list of str
    labels : Series or None
    layout : FileLayout
    notes : tuple of str
        What was left out.
    """

    views: dict[str, pd.DataFrame]
    ids: list[str]
    labels: Any
    layout: FileLayout
    notes: tuple[str, ...]


def folder_files(folder: Path) -> dict[str, Path]:
    """Tables of a folder by the name before the first dot, sorted.

    Raises
    ------
    DataError
        If there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and is_frame_file(path) and not path.name.startswith("."):
            name = path.name.partition(".")[0]
            if name in found:
                raise DataError(f"{folder} has two tables called {name}; keep one of them.")
            found[name] = path
    if not found:
        raise DataError(f"{folder} has no csv, tsv or parquet file; put one per view into it.")
    return found


def join_folder(folder: Path, options: FileOptions) -> JoinedTables:
    """Read every view's table and bring all to the rows that have a label.

    Each table has the column of identifiers. The target is a column of one of them, or of a table
    of its own. A row without an entry in a view's table lacks that view.

    Raises
    ------
    DataError, OptionError
        If tables have no common identifier, an identifier appears twice in one, or there is no
        target.
    """
    files = folder_files(folder)
    columns = {name: frame_columns(path) for name, path in files.items()}
    common = [
        one for one in next(iter(columns.values())) if all(one in c for c in columns.values())
    ]
    identifier = known_name(options.id, IDS, common) if common else None
    if identifier is None:
        identifier = common[0] if len(common) == 1 else None
    if identifier is None:
        raise OptionError(
            f"the tables of {folder} are joined by an id column that each of them has; name it "
            f"with --id{': ' + ', '.join(common[:12]) if common else ', once they have one'}."
        )
    owners = [
        (name, found)
        for name, names in columns.items()
        if (found := _target(options.target, names, identifier)) is not None
    ]
    if not owners:
        wanted = options.target or ", ".join(TARGETS)
        raise OptionError(f"no table of {folder} has a column {wanted}; name it with --target.")
    if len(owners) > 1:
        raise OptionError(
            f"{' and '.join(name for name, _ in owners)} of {folder} both have a target; keep one."
        )
    owner, target = owners[0]
    views = {
        name: tuple(one for one in names if one not in (identifier, target))
        for name, names in columns.items()
    }
    layout = FileLayout(_chosen(views, options.views), target, identifier)
    return joined(folder, layout, owner=owner)


def _target(given: str | None, names: list[str], identifier: str) -> str | None:
    free = [name for name in names if name != identifier]
    if given is not None:
        return given if given in free else None
    return known_name(None, TARGETS, free)


def _chosen(views: dict[str, tuple[str, ...]], text: str | None) -> dict[str, tuple[str, ...]]:
    filled = {name: columns for name, columns in views.items() if columns}
    if text is None:
        return filled
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    for name in wanted:
        if name not in filled:
            raise OptionError(f"there is no table {name!r} of a view; {nearest(name, filled)}")
    return {name: filled[name] for name in wanted}


def joined(folder: Path, layout: FileLayout, *, owner: str | None = None) -> JoinedTables:
    """Read the tables of a layout; rows are those of the table with the target, or of all.

    Raises
    ------
    DataError
        If a table lacks a column, or an identifier appears twice in it.
    """
    files = folder_files(folder)
    identifier = str(layout.id)
    tables, labels = {}, None
    for name, path in files.items():
        own = list(layout.views.get(name, ()))
        more = [str(layout.target)] if name == owner else []
        if own or more:
            lacking = [one for one in (identifier, *own) if one not in frame_columns(path)]
            if lacking:
                raise DataError(f"{path} has no column {lacking[0]!r}, which is in the layout.")
            frame = _indexed(path, [identifier, *own, *more], identifier, more)
            labels = frame[more[0]] if more else labels
            tables[name] = frame[own]
    some = {name: table for name, table in tables.items() if name in layout.views}
    if not some:
        raise DataError(f"{folder} has none of the tables {', '.join(layout.views)}.")
    ids = list(labels.index if labels is not None else _union(some))
    notes = [
        f"{extra} rows of {name} have no label and are left out"
        for name, table in some.items()
        if (extra := len(table.index.difference(ids)))
    ]
    return JoinedTables(
        {name: table.reindex(ids) for name, table in some.items()},
        ids,
        labels,
        layout,
        tuple(notes),
    )


def _indexed(path: Path, columns: list[str], identifier: str, texts: list[str]) -> pd.DataFrame:
    frame = read_frame(path, columns, texts=[identifier, *texts]).set_index(identifier)
    frame.index = frame.index.astype(str)
    if frame.index.has_duplicates:
        twice = frame.index[frame.index.duplicated()][0]
        raise DataError(f"{path} has the {identifier} {twice!r} twice; give each row its own.")
    return frame


def _union(tables: dict[str, pd.DataFrame]) -> list[str]:
    """All identifiers in the order of the longest table, then those that it lacks."""
    ids: dict[str, None] = {}
    for table in sorted(tables.values(), key=len, reverse=True):
        ids |= dict.fromkeys(table.index)
    return list(ids)
