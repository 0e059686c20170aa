"""Tables of a folder that are views, the column of labels and the identifier that joins them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.layout import (
    IDS,
    TARGETS,
    UNNAMED,
    USUAL,
    FileLayout,
    items_of,
    left_out_items,
    listed_names,
    usual_column,
    without_items,
)
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.exceptions import OptionError, nearest

__all__ = ["folder_layout"]


def folder_layout(
    folder: Path,
    columns: Mapping[str, Sequence[str]],
    options: FileOptions,
    *,
    nameless: Collection[str] = (),
) -> tuple[FileLayout, str]:
    """Deal out a folder with one table per view, joined by an identifier that each table has.

    The target is a column of one of them, or of a table of its own, which is returned beside the
    layout. With ``options.views`` only the tables that it names, separated by commas, are views.
    `columns` are those of each table; ``options.leave_out`` names columns and tables. The columns
    of the tables `nameless` are positions. Where all views are such tables, none of them an
    identifier by option, rows are joined by position: the layout's `id` is None. A nameless table
    of one column that is called as a target holds it.
    """
    roles = Roles.of(options)
    every = {name for names in columns.values() for name in names}
    items = left_out_items(options, every)
    without_items(
        dict.fromkeys(columns, ("",)), [item for item in items if item not in every], every
    )
    roles.without([name for name in every if name not in items], options)
    aims = TARGETS if options.target is None else (options.target.lower(),)
    whole = {
        name: [column for column in names if column not in items]
        for name, names in columns.items()
        if name not in items or any(column.lower() in aims for column in names)
    }
    if not whole:
        raise OptionError(f"--leave-out {listed_names(items, 5)} leaves no table; keep one.")
    columns = {name: [n for n in names if n not in roles.names] for name, names in whole.items()}
    by_position = options.id is None and all(
        name in nameless or len(names) == 1 for name, names in columns.items()
    )
    identifier = None
    if not (by_position and nameless):
        identifier = _common_id(folder, columns, options, nameless)
    unused = {identifier, UNNAMED}
    free = {name: [n for n in names if n not in unused] for name, names in columns.items()}
    targets = {
        name: target
        for name, names in free.items()
        if (target := _table_target(name, names, options.target, named=name not in nameless))
    }
    if not targets:
        wanted = options.target or USUAL
        raise OptionError(
            f"no table of {folder} has a column {wanted}; name it with --target: "
            f"{listed_names(sorted({name for names in free.values() for name in names}), 8)}."
            if not nameless or identifier is not None
            else f"no table of {folder} is called {wanted}, and their columns have no names; put "
            "the labels into a table labels.csv of one column."
        )
    if len(targets) > 1:
        raise OptionError(f"{' and '.join(targets)} of {folder} both have a target; keep one.")
    ((owner, target),) = targets.items()
    for name in roles.names:
        if name not in whole[owner]:
            raise OptionError(
                f"the column {name!r} of {folder} must stand in the table with the target, "
                f"{owner}; put it there."
            )
    tables = {
        name: tuple(n for n in names if n != target or (name in nameless and name != owner))
        for name, names in free.items()
    }
    views = {name: names for name, names in tables.items() if names}
    if options.views is not None:
        chosen = items_of(options.views)
        for name in chosen:
            if name not in views:
                raise OptionError(f"there is no table {name!r} of a view; {nearest(name, views)}")
        views = {name: views[name] for name in chosen}
    tables_left_out = [item for item in items if item in views and item not in every]
    return FileLayout(without_items(views, tables_left_out, every), target, identifier), owner


def _common_id(
    folder: Path,
    columns: Mapping[str, Sequence[str]],
    options: FileOptions,
    nameless: Collection[str],
) -> str:
    """Choose the identifier that each table of a folder has."""
    shared = set.intersection(*map(set, columns.values()))
    if nameless and options.id is None:
        shared = set()  # equal positions are no equal columns
    common = [name for name in next(iter(columns.values())) if name in shared]
    identifier = usual_column(options.id, IDS, common) if common else None
    identifier = common[0] if identifier is None and len(common) == 1 else identifier
    if identifier is None:
        raise OptionError(
            f"the tables of {folder} are joined by an id column that each of them has; name it "
            f"with --id{': ' + listed_names(common) if common else ', once they have one'}."
        )
    return identifier


def _table_target(
    table: str, names: Sequence[str], given: str | None, *, named: bool
) -> str | None:
    """Find the column of labels in one table of a folder."""
    called = table.lower() in TARGETS if given is None else table == given
    if called and not named and len(names) == 1:
        return names[0]
    if given is not None:
        return given if given in names else None
    return usual_column(None, TARGETS, names) if named else None
