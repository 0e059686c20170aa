"""Columns or arrays of a file that are views, target and identifier."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.stored import one_per_row
from rcml_misa.exceptions import DataError, OptionError, nearest, shortened, validated

__all__ = [
    "FileLayout",
    "array_id",
    "array_layout",
    "array_target",
    "table_layout",
    "usual_column",
    "usual_target",
    "without_left_out",
]

SEPARATOR = "__"
#: Usual names of targets, in small letters; the first one that a file has counts.
TARGETS = (
    *("target", "label", "labels", "class", "y", "gt"),
    *("targets", "classes", "cls", "gnd", "truth", "groundtruth", "ground_truth"),
    *("truelabel", "true_label", "truelabels", "true_labels", "y_true", "class_label"),
    *("gt_train", "target_names"),
)
USUAL = "target, label, class, y, gt or another usual name"
UNNAMED = ""  # name of the index that pandas writes without a name
IDS = ("id", "sample_id", "patient_id", "subject_id", "row_id", "uuid", UNNAMED)
OTHERS = "others"  # view of the columns that belong to no other one


@dataclass(frozen=True)
class FileLayout:
    """Columns or arrays of views, target and identifier in files of one kind.

    Attributes
    ----------
    views : mapping of str to tuple of str
        Columns of each view; of a file of arrays the array's name alone.
    target, id : str or None
    turned : tuple of str
        Views whose arrays have the samples along their last axis.
    zero_is_missing : bool
        Whether a row of zeros lacks the view.
    """

    views: Mapping[str, tuple[str, ...]]
    target: str | None = None
    id: str | None = None
    turned: tuple[str, ...] = ()
    zero_is_missing: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the form that a model file keeps, without flags that are not set."""
        flags = ("turned", "zero_is_missing")
        return {key: value for key, value in asdict(self).items() if value or key not in flags}

    def without(self, columns: Iterable[str]) -> FileLayout:
        """Leave columns out of the views; a view of which none would be left stays as it is."""
        gone = set(columns)
        views = {
            view: tuple(name for name in names if name not in gone) or names
            for view, names in self.views.items()
        }
        return replace(self, views=views)

    @classmethod
    def from_json(cls, value: Any) -> FileLayout:
        """Read that form; anything else is a DataError."""
        problem = "the model file does not tell which columns are views and target"
        layout = validated(cls, value, where=f"{problem}: its layout")
        if not all(layout.views.values()):
            raise DataError(f"{problem}: a view has no columns; fit the model again.")
        return layout


def usual_column(given: str | None, usual: Sequence[str], names: Sequence[str]) -> str | None:
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
    target = usual_column(options.target, TARGETS, names)
    if target is None:
        if list(names) == [str(place) for place in range(len(names))]:
            raise OptionError(
                f"the {kind}s have no names, and none is known to hold labels; name it with "
                f"--target, {kind}s are called 0 to {len(names) - 1}."
            )
        raise OptionError(
            f"no {kind} is called {USUAL}; name the {kind} of labels with --target: "
            f"{listed_names(names)}."
        )
    return target, usual_column(options.id, IDS, [name for name in flat if name != target])


def table_layout(columns: Sequence[str], options: FileOptions) -> FileLayout:
    """Deal out the columns of a table.

    Without ``options.views`` columns called ``view__column`` go to the view before the ``__``, and
    the others make up a last one, `OTHERS`; where none is called so, all make one view. With it,
    views are separated by commas, each a name, ``=`` and columns: one name; ``first:last``; or the
    beginning of names, such as ``face_``. A part without ``=`` belongs to the view before it.
    ``options.leave_out`` names columns and whole views that are not read. An OptionError tells a
    name that does not exist, a column of two views, a missing target, or that nothing is left.

    Examples
    --------
    >>> table_layout(["id", "a__0", "b__0", "a__1", "y"], FileOptions()).views
    {'a': ('a__0', 'a__1'), 'b': ('b__0',)}
    >>> table_layout(["x1", "x2", "x3", "y"], FileOptions(views="u=x1:x2,v=x3")).views
    {'u': ('x1', 'x2'), 'v': ('x3',)}
    >>> table_layout(["a__0", "a__1", "b__0", "y"], FileOptions(leave_out="a__0,b")).views
    {'a': ('a__1',)}
    """
    items = left_out_items(options, columns)
    columns = Roles.of(options).without(columns, options)
    rest = [name for name in columns if name not in items]
    target, identifier = _target_and_id("column", rest, rest, options)
    free = [name for name in columns if name not in (target, identifier, UNNAMED)]
    if not free:
        raise OptionError("there is no column beside target and id; a view needs at least one.")
    if options.views is None:
        views = _by_prefix([name for name in free if name not in items])
    else:
        views = _by_option(options.views, free)
    return FileLayout(without_items(views, items, columns), target, identifier)


def without_left_out(
    views: Mapping[str, tuple[str, ...]], options: FileOptions
) -> dict[str, tuple[str, ...]]:
    """Leave views and columns that ``options.leave_out`` names out; a view's name comes first."""
    items = items_of(options.leave_out or "")
    rest = {view: names for view, names in views.items() if view not in items}
    every = {name for names in rest.values() for name in names}
    return without_items(rest, [item for item in items if item not in views], every)


def left_out_items(options: FileOptions, columns: Collection[str]) -> list[str]:
    """List the columns and views that are left out; neither target nor id can be."""
    text = options.leave_out or ""
    items = [text] if text and text in columns else items_of(text)
    for role, name in (("target", options.target), ("id", options.id)):
        if name is not None and name in items:
            raise OptionError(f"--leave-out names {name!r}, which is --{role}; drop one of both.")
    return items


def without_items(
    views: Mapping[str, tuple[str, ...]], items: Sequence[str], columns: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Leave columns, and views by their names, out of all views."""
    for item in items:
        if item not in columns and item not in views:
            raise OptionError(
                f"--leave-out has {item!r}, which is no column or view; "
                f"{nearest(item, [*views, *columns])}"
            )
    rest = {
        view: tuple(name for name in names if name not in items)
        for view, names in views.items()
        if view not in items or view in columns  # a column's name comes before a view's
    }
    rest = {view: names for view, names in rest.items() if names}
    if not rest:
        raise OptionError(f"--leave-out {listed_names(items, 5)} leaves no view; keep one column.")
    return rest


def listed_names(names: Sequence[str], most: int = 12) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(shortened(name, 40) for name in names[:most]) + more


def _by_prefix(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if not columns:
        return {}
    groups: dict[str, list[str]] = {}
    for column in columns:
        name, separator, _ = column.partition(SEPARATOR)
        groups.setdefault(name if separator else "", []).append(column)
    without = groups.pop("", [])
    if not groups:
        return {"view1": tuple(columns)}
    if without:
        groups.setdefault(OTHERS, []).extend(without)
    return {name: tuple(group) for name, group in groups.items()}


def items_of(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _by_option(text: str, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Deal out columns to the views that ``a=x,y,b=z`` names."""
    owner: dict[str, str] = {}
    places = {column: place for place, column in enumerate(columns)}
    views: dict[str, list[str]] = {}
    name = ""
    for item in items_of(text):
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


def array_target(arrays: Mapping[str, tuple[int, ...]], options: FileOptions) -> str:
    """Choose the target among a file's arrays, given by name and shape.

    Of usual names, those of arrays with one value per row come first; a field ``s.y`` of a
    structure has the usual name y. A name that does not exist, or no target, is an OptionError.

    Examples
    --------
    >>> array_target({"X": (9, 4), "Y": (9, 2), "s.gt": (9, 1)}, FileOptions())
    's.gt'
    """
    names = list(arrays)
    if options.target is not None:
        if options.target not in arrays:
            raise OptionError(
                f"there is no array {options.target!r}; {nearest(options.target, names)}"
            )
        return options.target
    flat = [name for name in names if one_per_row(arrays[name])]
    several = [name for name in flat if max(arrays[name]) > 1]
    counts = _row_counts(arrays)
    fitting = [name for name in several if max(arrays[name]) in counts]
    for pool in (fitting, several, names):
        for usual in TARGETS:
            for name in pool:
                if usual_target(name) == usual:
                    return name
    if len(names) == 1:
        raise OptionError(
            f"no array is called {USUAL}: the only one is {names[0]!r}; add an array with one "
            "label per row, such as y."
        )
    raise OptionError(
        f"no array is called {USUAL}; name the array of labels with --target: "
        f"{listed_names([*flat, *(name for name in names if name not in flat)], 8)}."
    )


def array_id(
    arrays: Mapping[str, tuple[int, ...]], target: str, options: FileOptions
) -> str | None:
    """Choose the identifier, by option or by its name, among arrays of one value per row."""
    rows = max(arrays[target], default=0)
    flat = [name for name, shape in arrays.items() if one_per_row(shape) and max(shape) == rows]
    return options.id or usual_column(None, IDS, [name for name in flat if name != target])


def _row_counts(arrays: Mapping[str, tuple[int, ...]]) -> set[int]:
    """Collect the numbers of entries that each table has along its first or its last axis."""
    ends = [{s[0], s[-1]} for s in arrays.values() if len(s) > 1 and not one_per_row(s)]
    return set.intersection(*ends) if ends else set()


def usual_target(name: str) -> str | None:
    """Return the usual name of a target that an array has, itself or as a field or in a group."""
    end = re.split(r"[./]", name.lower())[-1]
    return end if end in TARGETS else None


def array_layout(
    arrays: Mapping[str, tuple[int, ...]],
    options: FileOptions,
    *,
    groups: Mapping[str, tuple[str, ...]] | None = None,
    barred: Collection[str] = (),
) -> FileLayout:
    """Deal out a file's arrays, given by name and shape.

    Without ``options.views`` every array of two axes or more is a view, but for those in `barred`.
    With it, views are separated by commas, each the name of an array, ``name=array``, or the name
    of one of the `groups` for all its arrays. ``options.leave_out`` names arrays, groups or views.
    Errors are those of `table_layout`.

    Examples
    --------
    >>> shapes = {"face": (9, 4), "voice": (9, 2), "y": (9,)}
    >>> array_layout(shapes, FileOptions()).views
    {'face': ('face',), 'voice': ('voice',)}
    """
    names, members = list(arrays), dict(groups or {})
    target = array_target(arrays, options)
    if options.id is not None and options.id not in names:
        raise OptionError(f"there is no array {options.id!r}; {nearest(options.id, names)}")
    identifier = array_id(arrays, target, options)
    others = {target, identifier, *Roles.of(options).names}
    if options.views is None:
        chosen = {
            name: name
            for name, shape in arrays.items()
            if len(shape) > 1 and name not in others and name not in barred
        }
    else:
        chosen = _arrays_by_option(options.views, arrays, members)
    for name in items_of(options.leave_out or ""):
        left = {name, *members.get(name, ())}
        if not left & {*names, *chosen}:
            choices = [*names, *members, *chosen]
            raise OptionError(f"there is no array {name!r} to leave out; {nearest(name, choices)}")
        chosen = {view: key for view, key in chosen.items() if not left & {view, key}}
    if not chosen:
        raise OptionError(
            "no array has two axes, samples and columns, beside target and id: "
            f"{listed_names(names)}."
        )
    return FileLayout({name: (key,) for name, key in chosen.items()}, target, identifier)


def _arrays_by_option(
    text: str, arrays: Collection[str], groups: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    """Deal out arrays to the views that ``x,b=z`` names."""
    chosen: dict[str, str] = {}
    for item in items_of(text):
        name, _, key = (part.strip() for part in item.partition("="))
        key = key or name
        if key in arrays:
            chosen[name] = key
        elif key not in groups:
            raise OptionError(f"there is no array {key!r}; {nearest(key, [*arrays, *groups])}")
        elif name != key and len(groups[key]) > 1:
            raise OptionError(
                f"--views has {item!r}, but {key} is a group of {len(groups[key])} arrays; name "
                f"one of them, such as {name}={groups[key][0]}."
            )
        else:
            one = len(groups[key]) == 1
            chosen |= {(name if one else member): member for member in groups[key]}
    return chosen
