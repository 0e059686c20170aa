"""Which columns or arrays of a file are views, target and identifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcml_misa.exceptions import DataError, OptionError, nearest

__all__ = ["FileLayout", "FileOptions", "array_layout", "known_name", "table_layout"]

SEPARATOR = "__"
TARGETS = ("target", "label", "labels", "class", "y", "gt")
IDS = ("id",)


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What a user says of a file; whatever is None is told by names.

    Attributes
    ----------
    target : str, optional
        Name of the label column or array.
    views : str, optional
        Such as ``"a=col1:col20,b=prefix_"``; see `table_layout` and `array_layout`.
    id : str, optional
        Name of the column that identifies rows.
    """

    target: str | None = None
    views: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class FileLayout:
    """Where views, target and identifier lie in files of one kind.

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
        views = {name: list(columns) for name, columns in self.views.items()}
        return {"views": views, "target": self.target, "id": self.id}

    @classmethod
    def from_json(cls, value: Any) -> FileLayout:
        """Read that form.

        Raises
        ------
        DataError
            If it is not one.
        """
        names = [value.get(key) for key in ("target", "id")] if isinstance(value, dict) else [0]
        views = value.get("views") if isinstance(value, dict) else None
        if not isinstance(views, dict) or not all(
            isinstance(columns, list) and columns and all(isinstance(one, str) for one in columns)
            for columns in views.values()
        ):
            raise DataError("the model file does not tell which columns are views.")
        if not all(name is None or isinstance(name, str) for name in names):
            raise DataError("the model file does not tell which column is the target.")
        return cls({name: tuple(columns) for name, columns in views.items()}, *names)


def known_name(given: str | None, choices: Sequence[str], names: Sequence[str]) -> str | None:
    """Find the name that was given, or the first usual one."""
    if given is not None:
        if given not in names:
            raise OptionError(f"there is no column {given!r}; {nearest(given, names)}")
        return given
    small = {name.lower(): name for name in reversed(names)}
    return next((small[choice] for choice in choices if choice in small), None)


def table_layout(
    columns: Sequence[str], options: FileOptions, *, labelled: bool = True
) -> FileLayout:
    """Deal out the columns of a table.

    Without ``options.views`` columns called ``view__column`` go to the view before the ``__``;
    where no column is called so, all make one view. With it, views are separated by commas, each a
    name, ``=`` and columns: one name; ``first:last``; or the beginning of names, such as
    ``face_``. A part without ``=`` belongs to the view before it.

    Parameters
    ----------
    columns : sequence of str
    options : FileOptions
    labelled : bool
        Whether a target is needed.

    Raises
    ------
    OptionError
        If a name does not exist, a column belongs to two views, or names do not tell.

    Examples
    --------
    >>> table_layout(["id", "a__0", "b__0", "a__1", "y"], FileOptions()).views
    {'a': ('a__0', 'a__1'), 'b': ('b__0',)}
    >>> table_layout(["x1", "x2", "x3", "y"], FileOptions(views="u=x1:x2,v=x3")).views
    {'u': ('x1', 'x2'), 'v': ('x3',)}
    """
    target = known_name(options.target, TARGETS, columns)
    if target is None and labelled:
        raise OptionError(
            f"no column is called {', '.join(TARGETS)}; name the column of labels with --target: "
            f"{_listed(columns)}."
        )
    identifier = known_name(options.id, IDS, [name for name in columns if name != target])
    free = [name for name in columns if name not in (target, identifier)]
    if not free:
        raise OptionError("there is no column beside target and id; a view needs at least one.")
    views = _by_prefix(free) if options.views is None else _by_option(options.views, free)
    return FileLayout(views, target, identifier)


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _by_prefix(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    without = []
    for column in columns:
        name, found, _ = column.partition(SEPARATOR)
        if found and name:
            groups.setdefault(name, []).append(column)
        else:
            without.append(column)
    if not groups:
        return {"view1": tuple(columns)}
    if without:
        raise OptionError(
            f"some columns are called view__column, but {_listed(without, 5)} "
            f"{'belongs' if len(without) == 1 else 'belong'} to no view; name all views with "
            "--views, such as --views 'a=a__,b=age'."
        )
    return {name: tuple(group) for name, group in groups.items()}


def _parts(text: str) -> dict[str, list[str]]:
    """Cut ``a=x,y,b=z`` into views and their parts."""
    views: dict[str, list[str]] = {}
    name = ""
    for item in filter(None, (part.strip() for part in text.split(","))):
        left, equals, right = item.partition("=")
        if equals:
            name = left.strip()
            if not name or not right.strip():
                raise OptionError(f"--views has {item!r}; write a view as name=columns.")
            if name in views:
                raise OptionError(f"--views names {name!r} twice; give each view once.")
            views[name] = [right.strip()]
        elif name:
            views[name].append(item)
        else:
            raise OptionError(f"--views begins with {item!r}; write a view as name=columns.")
    if not views:
        raise OptionError("--views is empty; write it as 'a=first:last,b=beginning_'.")
    return views


def _by_option(text: str, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    owner: dict[str, str] = {}
    views = {}
    for name, parts in _parts(text).items():
        chosen = [column for part in parts for column in _chosen(name, part, columns)]
        for column in chosen:
            if column in owner:
                raise OptionError(
                    f"column {column!r} is in the views {owner[column]!r} and {name!r}; give each "
                    "column to one view, once."
                )
            owner[column] = name
        views[name] = tuple(chosen)
    return views


def _chosen(view: str, part: str, columns: Sequence[str]) -> Sequence[str]:
    """Columns that one part of a view asks for."""
    if part in columns:
        return [part]
    first, colon, last = part.partition(":")
    if colon:
        ends = []
        for end, otherwise in ((first, columns[0]), (last, columns[-1])):
            if (wanted := end.strip() or otherwise) not in columns:
                raise OptionError(
                    f"view {view!r} asks for columns {part}, but there is no {wanted!r}; "
                    f"{nearest(wanted, columns)}"
                )
            ends.append(columns.index(wanted))
        if ends[0] > ends[1]:
            raise OptionError(f"view {view!r} asks for columns {part}, which run backwards.")
        return columns[ends[0] : ends[1] + 1]
    found = [column for column in columns if column.startswith(part)]
    if not found:
        raise OptionError(
            f"view {view!r} asks for {part!r}, which is no column and begins none; "
            f"{nearest(part, columns)}"
        )
    return found


def array_layout(
    arrays: Mapping[str, tuple[int, ...]], options: FileOptions, *, labelled: bool = True
) -> FileLayout:
    """Deal out a file's arrays, given by name and shape.

    Without ``options.views`` every array of two axes is a view. With it, views are separated by
    commas, each the name of an array or ``name=array``.

    Parameters
    ----------
    arrays : mapping of str to tuple of int
    options : FileOptions
    labelled : bool
        Whether a target is needed.

    Raises
    ------
    OptionError
        If a name does not exist, or there is no target or view.

    Examples
    --------
    >>> shapes = {"face": (9, 4), "voice": (9, 2), "y": (9,)}
    >>> array_layout(shapes, FileOptions()).views
    {'face': ('face',), 'voice': ('voice',)}
    """
    names = list(arrays)
    target = known_name(options.target, TARGETS, names)
    if target is None and labelled:
        raise OptionError(
            f"no array is called {', '.join(TARGETS)}; name the array of labels with --target: "
            f"{_listed(names)}."
        )
    flat = [name for name in names if len(arrays[name]) < 2 or 1 in arrays[name]]
    identifier = known_name(options.id, IDS, [name for name in flat if name != target])
    if options.views is None:
        chosen = {
            name: name
            for name, shape in arrays.items()
            if len(shape) == 2 and name not in (target, identifier)
        }
    else:
        chosen = {}
        for item in filter(None, (part.strip() for part in options.views.split(","))):
            name, _, key = item.partition("=")
            key = key.strip() or name.strip()
            if key not in arrays:
                raise OptionError(f"there is no array {key!r}; {nearest(key, names)}")
            chosen[name.strip()] = key
    if not chosen:
        raise OptionError(f"no array has two axes, samples and columns: {_listed(names)}.")
    return FileLayout({name: (key,) for name, key in chosen.items()}, target, identifier)
