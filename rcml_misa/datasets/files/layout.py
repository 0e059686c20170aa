"""Columns or arrays of a file that are views, target and identifier."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.exceptions import DataError, OptionError, nearest, validated

__all__ = ["FileLayout", "array_layout", "folder_layout", "table_layout"]

SEPARATOR = "__"
TARGETS = ("target", "label", "labels", "class", "y", "gt")
UNNAMED = ""  # name of the index that pandas writes without a name
IDS = ("id", UNNAMED)


@dataclass(frozen=True)
class FileLayout:
    """Columns or arrays of views, target and identifier in files of one kind.

    Attributes
    ----------
    views : mapping of str to tuple of str
        Columns of each view; of a file of arrays the array's name alone.
    target, id : str or None
    """

    views: Mapping[str, tuple[str, ...]]
    target: str | None = None
    id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that a model file keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> FileLayout:
        """Read that form; anything else is a DataError."""
        problem = "the model file does not tell which columns are views and target"
        layout = validated(cls, value, where=f"{problem}: its layout")
        if not all(layout.views.values()):
            raise DataError(f"{problem}: a view has no columns; fit the model again.")
        return layout


def _column(given: str | None, usual: Sequence[str], names: Sequence[str]) -> str | None:
    """Choose the name that was given, or the first usual one among the names of columns."""
    if given is not None:
        if given == "Unnamed: 0" and UNNAMED in names:  # as pandas reads the index
            return UNNAMED
        if given not in names:
            raise OptionError(f"there is no column {given!r}; {nearest(given, names)}")
        return given
    small = {name.lower(): name for name in reversed(names)}
    return next((small[name] for name in usual if name in small), None)


def _target_and_id(
    kind: str, names: Sequence[str], flat: Sequence[str], options: FileOptions
) -> tuple[str, str | None]:
    """Choose the target, and the identifier among columns or flat arrays."""
    target = _column(options.target, TARGETS, names)
    if target is None:
        if list(names) == [str(place) for place in range(len(names))]:
            raise OptionError(
                f"the {kind}s have no names, and none is known to hold labels; name it with "
                f"--target, {kind}s are called 0 to {len(names) - 1}."
            )
        raise OptionError(
            f"no {kind} is called {', '.join(TARGETS)}; name the {kind} of labels with --target: "
            f"{_listed(names)}."
        )
    return target, _column(options.id, IDS, [name for name in flat if name != target])


def table_layout(columns: Sequence[str], options: FileOptions) -> FileLayout:
    """Deal out the columns of a table.

    Without ``options.views`` columns called ``view__column`` go to the view before the ``__``;
    where no column is called so, all make one view. With it, views are separated by commas, each a
    name, ``=`` and columns: one name; ``first:last``; or the beginning of names, such as
    ``face_``. A part without ``=`` belongs to the view before it. An OptionError tells a name that
    does not exist, a column of two views, or a missing target.

    Examples
    --------
    >>> table_layout(["id", "a__0", "b__0", "a__1", "y"], FileOptions()).views
    {'a': ('a__0', 'a__1'), 'b': ('b__0',)}
    >>> table_layout(["x1", "x2", "x3", "y"], FileOptions(views="u=x1:x2,v=x3")).views
    {'u': ('x1', 'x2'), 'v': ('x3',)}
    """
    target, identifier = _target_and_id("column", columns, columns, options)
    free = [name for name in columns if name not in (target, identifier, UNNAMED)]
    if not free:
        raise OptionError("there is no column beside target and id; a view needs at least one.")
    views = _by_prefix(free) if options.views is None else _by_option(options.views, free)
    return FileLayout(views, target, identifier)


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _by_prefix(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for column in columns:
        name, separator, _ = column.partition(SEPARATOR)
        groups.setdefault(name if separator else "", []).append(column)
    without = groups.pop("", [])
    if not groups:
        return {"view1": tuple(columns)}
    if without:
        raise OptionError(
            f"some columns are called view__column, but {_listed(without, 5)} "
            f"{'belongs' if len(without) == 1 else 'belong'} to no view; name all views with "
            "--views, such as --views 'a=a__,b=age'."
        )
    return {name: tuple(group) for name, group in groups.items()}


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _by_option(text: str, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Deal out columns to the views that ``a=x,y,b=z`` names."""
    owner: dict[str, str] = {}
    places = {column: place for place, column in enumerate(columns)}
    views: dict[str, list[str]] = {}
    name = ""
    for item in _items(text):
        left, equals, right = (part.strip() for part in item.partition("="))
        if equals:
            if not left or not right:
                raise OptionError(f"--views has {item!r}; write a view as name=columns.")
            if left in views:
                raise OptionError(f"--views names {left!r} twice; give each view once.")
            name = left
            views[name] = []
        elif not name:
            raise OptionError(f"--views begins with {item!r}; write a view as name=columns.")
        chosen = _chosen(name, right or left, columns, places)
        for column in chosen:
            if column in owner:
                raise OptionError(
                    f"column {column!r} is in the views {owner[column]!r} and {name!r}; give each "
                    "column to one view, once."
                )
            owner[column] = name
        views[name] += chosen
    if not views:
        raise OptionError("--views is empty; write it as 'a=first:last,b=beginning_'.")
    return {view: tuple(chosen) for view, chosen in views.items()}


def _chosen(
    view: str, part: str, columns: Sequence[str], places: Mapping[str, int]
) -> Sequence[str]:
    """Choose the columns, in their `places`, that one part of a view asks for."""
    if part in places:
        return [part]
    first, colon, last = part.partition(":")
    if colon:
        ends = (first.strip() or columns[0], last.strip() or columns[-1])
        for end in ends:
            if end not in places:
                raise OptionError(
                    f"view {view!r} asks for columns {part}, but there is no {end!r}; "
                    f"{nearest(end, columns)}"
                )
        start, stop = (places[end] for end in ends)
        if start > stop:
            raise OptionError(f"view {view!r} asks for columns {part}, which run backwards.")
        return columns[start : stop + 1]
    chosen = [column for column in columns if column.startswith(part)]
    if not chosen:
        raise OptionError(
            f"view {view!r} asks for {part!r}, which is no column and begins none; "
            f"{nearest(part, columns)}"
        )
    return chosen


def array_layout(arrays: Mapping[str, tuple[int, ...]], options: FileOptions) -> FileLayout:
    """Deal out a file's arrays, given by name and shape.

    Without ``options.views`` every array of two axes is a view. With it, views are separated by
    commas, each the name of an array or ``name=array``. Errors are those of `table_layout`.

    Examples
    --------
    >>> shapes = {"face": (9, 4), "voice": (9, 2), "y": (9,)}
    >>> array_layout(shapes, FileOptions()).views
    {'face': ('face',), 'voice': ('voice',)}
    """
    names = list(arrays)
    flat = [name for name in names if len(arrays[name]) < 2 or 1 in arrays[name]]
    target, identifier = _target_and_id("array", names, flat, options)
    if options.views is None:
        tables = [name for name, shape in arrays.items() if len(shape) == 2]
        chosen = {name: name for name in tables if name not in (target, identifier)}
    else:
        chosen = {}
        for item in _items(options.views):
            name, _, key = item.partition("=")
            chosen[name.strip()] = key = key.strip() or name.strip()
            if key not in arrays:
                raise OptionError(f"there is no array {key!r}; {nearest(key, names)}")
    if not chosen:
        raise OptionError(f"no array has two axes, samples and columns: {_listed(names)}.")
    return FileLayout({name: (key,) for name, key in chosen.items()}, target, identifier)


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
    `columns` are those of each table; those of the tables `nameless` are positions. Where all views
    are such tables, none of them an identifier by option, rows are joined by position: the
    layout's `id` is None. A nameless table of one column that is called as a target holds it.
    """
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
        wanted = options.target or ", ".join(TARGETS)
        raise OptionError(
            f"no table of {folder} has a column {wanted}; name it with --target."
            if not nameless or identifier is not None
            else f"no table of {folder} is called {wanted}, and their columns have no names; put "
            "the labels into a table labels.csv of one column."
        )
    if len(targets) > 1:
        raise OptionError(f"{' and '.join(targets)} of {folder} both have a target; keep one.")
    ((owner, target),) = targets.items()
    tables = {
        name: tuple(n for n in names if n != target or (name in nameless and name != owner))
        for name, names in free.items()
    }
    views = {name: names for name, names in tables.items() if names}
    if options.views is not None:
        chosen = _items(options.views)
        for name in chosen:
            if name not in views:
                raise OptionError(f"there is no table {name!r} of a view; {nearest(name, views)}")
        views = {name: views[name] for name in chosen}
    return FileLayout(views, target, identifier), owner


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
    identifier = _column(options.id, IDS, common) if common else None
    identifier = common[0] if identifier is None and len(common) == 1 else identifier
    if identifier is None:
        raise OptionError(
            f"the tables of {folder} are joined by an id column that each of them has; name it "
            f"with --id{': ' + _listed(common) if common else ', once they have one'}."
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
    return _column(None, TARGETS, names) if named else None
