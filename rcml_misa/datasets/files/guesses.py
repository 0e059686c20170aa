"""Notes about the target, the identifier and the views that no option names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.layout import (
    OTHERS,
    SEPARATOR,
    TARGETS,
    FileLayout,
    items_of,
    listed_names,
)
from rcml_misa.datasets.files.role_names import Roles

__all__ = ["guess_notes", "is_guess", "unread_notes"]

Kind = Literal["column", "array", "table"]


def guess_notes(layout: FileLayout, options: FileOptions, kind: Kind) -> tuple[str, ...]:
    """Note which target, id and views were chosen without an option that names them.

    Examples
    --------
    >>> from rcml_misa.datasets.files.layout import table_layout
    >>> layout = table_layout(["a__0", "b__0", "b__y", "y"], FileOptions())
    >>> guess_notes(layout, FileOptions(), "column")
    ("target: column 'y' (by its name)", 'views: a, b (columns called view__column)')
    >>> layout = table_layout(["a__0", "age", "y"], FileOptions())
    >>> guess_notes(layout, FileOptions(), "column")[1]
    'views: a, others (columns called view__column; others: age)'
    """
    notes = []
    part = "array" if kind == "array" else "column"
    if options.target is None and layout.target is not None:
        names = dict.fromkeys(name for columns in layout.views.values() for name in columns)
        others = [repr(name) for name in names if name.lower() in TARGETS]
        more = f"; {' and '.join(others[:2])}, of a usual name too, is read as data"
        notes.append(f"target: {part} {layout.target!r} (by its name{more if others else ''})")
    if options.id is None and layout.id:  # an index without a name is told by reading
        notes.append(f"id: {part} {layout.id!r} (by its name)")
    if options.views is None:
        rest = [
            name
            for view, names in layout.views.items()
            for name in names
            if not name.startswith(f"{view}{SEPARATOR}")
        ]
        named = "columns called view__column"
        if rest:
            alone = len(layout.views) == 1
            named = "all other columns" if alone else f"{named}; {OTHERS}: {listed_names(rest, 5)}"
        how = {
            "array": "arrays with a row per label",
            "table": "one per table",
            "column": named,
        }[kind]
        notes.append(f"views: {listed_names(list(layout.views), 8)} ({how})")
    return tuple(notes)


def unread_notes(
    names: Iterable[str], layout: FileLayout, options: FileOptions, kind: Kind
) -> tuple[str, ...]:
    """Note the columns, arrays or tables that no view of ``options.views`` takes.

    Examples
    --------
    >>> from rcml_misa.datasets.files.layout import table_layout
    >>> options = FileOptions(views="a=x")
    >>> layout = table_layout(["x", "age", "y"], options)
    >>> unread_notes(["x", "age", "y"], layout, options, "column")
    ('column age is in no view of --views and is left out',)
    """
    if options.views is None:
        return ()
    taken = {layout.target, layout.id, *Roles.of(options).names, *items_of(options.leave_out or "")}
    taken |= {name for view, columns in layout.views.items() for name in (view, *columns)}
    rest = [name for name in names if name and name not in taken]
    if not rest:
        return ()
    if len(rest) == 1:
        return (f"{kind} {rest[0]} is in no view of --views and is left out",)
    return (f"{kind}s {listed_names(rest, 5)} are in no view of --views and are left out",)


def is_guess(note: str) -> bool:
    """Ask whether a note of a file is one of `guess_notes`."""
    return note.startswith(("target: ", "id: ", "views: "))
