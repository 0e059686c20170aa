"""Arrays of a file by name, with the cells and structures that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["StoredArrays", "Unread", "one_per_row", "vector", "with_way_out"]

DEPTH = 2  # structures within one another that are read


@dataclass(frozen=True)
class Unread:
    """A variable that can't be read, and the reason."""

    reason: str


@dataclass
class StoredArrays:
    """Named arrays of a file, in its order.

    Attributes
    ----------
    arrays : dict of str to array
        Numbers or texts, sparse matrices, and datasets of HDF5 that are not yet read.
    groups : dict of str to tuple of str
        Arrays of each cell array (``X1``, ``X2`` of ``X``) and structure (``s.face`` of ``s``).
    left_out : dict of str to str
        Variables that are no arrays, and the reason.
    paths : dict of str to str
        Whole path in a file of HDF5 to the name of its array.
    """

    arrays: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array."""
        return {name: tuple(np.shape(array)) for name, array in self.arrays.items()}

    def add_all(self, variables: Mapping[str, Any]) -> None:
        """Add variables: arrays, lists for cells, mappings for structures, or `Unread`.

        Examples
        --------
        >>> stored = StoredArrays()
        >>> stored.add_all({"X": [np.ones((3, 2)), np.ones((3, 4))], "s": {"y": np.arange(3)}})
        >>> stored.shapes, stored.groups
        ({'X1': (3, 2), 'X2': (3, 4), 's.y': (3,)}, {'X': ('X1', 'X2'), 's': ('s.y',)})
        """
        for name, value in variables.items():
            self._add(name, value, 0, variables)

    def _add(self, name: str, value: Any, depth: int, taken: Mapping[str, Any]) -> tuple[str, ...]:
        """Add a variable and return the names of its arrays; none replaces a name in `taken`."""
        if isinstance(value, list) and (column := _column_of(value)) is not None:
            value = column
        if isinstance(value, Mapping) and depth == DEPTH:
            value = Unread("a structure within structures")
        if isinstance(value, list | Mapping):
            members: list[str] = []
            for part, item in self._parts(name, value, taken):
                members += self._add(part, item, depth + isinstance(value, Mapping), taken)
            if members:
                self.groups[name] = tuple(members)
            elif not value:
                self.left_out[name] = "empty"
            return tuple(members)
        if reason := value.reason if isinstance(value, Unread) else _unfit(value):
            self.left_out[name] = reason
            return ()
        self.arrays[name] = value
        return (name,)

    def _parts(self, name: str, value: Any, taken: Mapping[str, Any]) -> list[tuple[str, Any]]:
        if isinstance(value, Mapping):
            return [(f"{name}.{part}", item) for part, item in value.items()]
        # a cell in a cell is X1_2; where a variable has the name of a cell, that one is X{1}
        end = "_" if name[-1:].isdigit() and name not in taken else ""
        names = [f"{name}{end}{number}" for number in range(1, len(value) + 1)]
        if any(part in taken for part in names):
            names = [f"{name}{{{number}}}" for number in range(1, len(value) + 1)]
        return list(zip(names, value, strict=True))

    def replace_group(self, name: str, array: Any) -> None:
        """Put one array of the group's name in the place of its members."""
        members = self.groups.pop(name)
        arrays: dict[str, Any] = {}
        for key, value in self.arrays.items():
            if key not in members:
                arrays[key] = value
            elif name not in arrays:
                arrays[name] = array
        self.arrays = arrays


def _column_of(cells: Sequence[Any]) -> Any:
    """Join a cell of texts, or of many single numbers, into one array; None for another cell."""
    arrays = [cell for cell in cells if isinstance(cell, np.ndarray)]
    if not cells or len(arrays) < len(cells):
        return None
    kinds = {cell.dtype.kind for cell in arrays if cell.size}
    if kinds == {"U"} and all(cell.size <= 1 for cell in arrays):
        return np.array([str(cell.item()) if cell.size else "" for cell in arrays])
    if kinds <= set("biuf") and len(cells) > 1 and all(cell.size == 1 for cell in arrays):
        return np.array([cell.item() for cell in arrays])
    return None


def _unfit(array: Any) -> str | None:
    """Say why an array can be neither view nor label, or None."""
    kind = getattr(getattr(array, "dtype", None), "kind", "V")
    if len(np.shape(array)) > 1 and not any(np.shape(array)):
        return "empty"
    if kind == "c":
        return "complex numbers"
    return None if kind in "biufUSO" else "no numbers or texts"


def with_way_out(reason: str) -> str:
    """Add advice to the reason why a variable can't be read, unless it has some.

    Examples
    --------
    >>> with_way_out("empty")
    'empty; save it as an array of numbers, or of texts with astype(str)'
    """
    if "save" in reason:
        return reason
    return f"{reason}; save it as an array of numbers, or of texts with astype(str)"


def one_per_row(shape: tuple[int, ...]) -> bool:
    """Tell the shape of a vector: (n,), (n, 1) or (1, n).

    Examples
    --------
    >>> one_per_row((5, 1)), one_per_row((5, 2)), one_per_row(())
    (True, False, False)
    """
    return len(shape) > 0 and int(np.prod(shape)) == max(shape)


def vector(array: Any) -> Any:
    """Read an array of one value per row as an ndarray of shape (n,)."""
    if hasattr(array, "toarray"):
        return np.ravel(array.toarray())
    return np.ravel(array[()])
