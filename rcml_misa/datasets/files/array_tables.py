"""Arrays as tables of samples and columns: turned, flattened, and told from their copies."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse

__all__ = ["ArrayTable", "find_joins", "find_twins", "lies_turned", "lies_turned_for", "listed"]

SAMPLE = 8  # rows whose values tell tables apart before they are compared as a whole
MANY = ("have", "were", "their samples", "them")
BLOCK = 2**22  # values compared at once


@dataclass(frozen=True)
class ArrayTable:
    """An array of two axes or more, read as one row per sample.

    The samples lie along the first axis, or the last one where it is `turned`; the others are
    flattened into columns. An HDF5 dataset is read by the rows that are asked for.

    Examples
    --------
    >>> ArrayTable(np.arange(6).reshape(2, 3), turned=True)[:2]
    array([[0, 3],
           [1, 4]])
    """

    array: Any
    turned: bool = False

    def __post_init__(self) -> None:
        matrix = self.array
        if _is_sparse(matrix):
            object.__setattr__(self, "array", csr_array(matrix.T if self.turned else matrix))
            object.__setattr__(self, "turned", False)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and of columns."""
        axes = tuple(self.array.shape)
        rows, others = (axes[-1], axes[:-1]) if self.turned else (axes[0], axes[1:])
        return int(rows), int(prod(others))

    def __getitem__(self, rows: slice) -> Any:
        if not self.turned:
            block = self.array[rows]
            return block if _is_sparse(block) else block.reshape(len(block), -1)
        block = np.moveaxis(self.array[..., rows], -1, 0)
        return block.reshape(len(block), -1)

    def values(self, rows: slice) -> NDArray[Any]:
        """Read some rows as a dense array."""
        block = self[rows]
        return np.asarray(block.toarray() if _is_sparse(block) else block)


def _is_sparse(array: Any) -> bool:
    return bool(issparse(array))


def lies_turned(
    shapes: Mapping[str, tuple[int, ...]], rows: int
) -> tuple[dict[str, bool], tuple[str, ...]]:
    """Tell which arrays have the samples along their last axis; each has `rows` along one.

    Where the first and the last axis both have as many entries, the other arrays of the file
    decide: if all of those that tell are turned, so is this one; else it stands as it is.

    Returns
    -------
    turned : dict of str to bool
    notes : tuple of str
        Sentences about what was turned, or could not be told.

    Examples
    --------
    >>> lies_turned({"a": (3, 9), "b": (9, 9)}, 9)[0]
    {'a': True, 'b': True}
    >>> lies_turned({"a": (9, 3), "b": (9, 9)}, 9)[0]
    {'a': False, 'b': False}
    """
    square = [name for name, shape in shapes.items() if shape[0] == shape[-1] == rows]
    turned = {n: shape[0] != rows for n, shape in shapes.items() if n not in square}
    whole = bool(turned) and all(turned.values())
    turned |= dict.fromkeys(square, whole)
    turned = {name: turned[name] for name in shapes}
    notes = []
    if around := [name for name, flag in turned.items() if flag]:
        verb = (
            "is features by samples and was"
            if len(around) == 1
            else ("are features by samples and were")
        )
        notes.append(f"{listed(around)} {verb} turned around")
    if square and whole:
        notes.append(f"{listed(square)}, as wide as long, was turned around as the others were")
    elif square and (len(square) == len(shapes) or any(turned.values())):
        words = ("has", "was", "its samples", "it") if len(square) == 1 else MANY
        notes.append(
            f"{listed(square)} {words[0]} as many columns as rows and {words[1]} read as samples "
            f"by features; if {words[2]} are the columns, save {words[3]} transposed"
        )
    return turned, tuple(notes)


def lies_turned_for(
    shapes: Mapping[str, tuple[int, ...]], widths: Mapping[str, int], fitted: Collection[str]
) -> dict[str, bool]:
    """Tell which arrays of a new file have the samples along their last axis.

    The widths that the model was fitted on decide. An array that fits both ways lies as in the file
    of the fit, where the views in `fitted` were turned; or the other way, if all arrays that tell
    lie so.

    Examples
    --------
    >>> lies_turned_for({"a": (4, 4), "b": (2, 4)}, {"a": 4, "b": 2}, {"a", "b"})
    {'a': True, 'b': True}
    """
    turned: dict[str, bool | None] = {}
    for view, shape in shapes.items():
        upright = prod(shape[1:]) == widths[view]
        around = len(shape) > 1 and prod(shape[:-1]) == widths[view]
        turned[view] = around if upright != around else None if upright else False
    certain = [(flag, view in fitted) for view, flag in turned.items() if flag is not None]
    reverse = bool(certain) and all(flag != before for flag, before in certain)
    return {
        view: (view in fitted) != reverse if flag is None else flag for view, flag in turned.items()
    }


def find_twins(tables: Mapping[str, ArrayTable]) -> dict[str, str]:
    """Find the tables that hold the same data as an earlier one, which is named.

    A square table is also compared with the other ones turned around. Values that one of both
    keeps in single precision are compared in it.

    Examples
    --------
    >>> values = np.arange(6.0).reshape(3, 2)
    >>> find_twins({"a": ArrayTable(values), "b": ArrayTable(values.T.copy(), turned=True)})
    {'b': 'a'}
    """
    firsts: dict[bytes, list[str]] = {}
    twins: dict[str, str] = {}
    for name, table in tables.items():
        forms = [table, _transposed(table)] if table.shape[0] == table.shape[1] else [table]
        for form in forms:
            alike = firsts.get(_digest(form), [])
            twin = next((other for other in alike if _equal(form, tables[other])), None)
            if twin is not None:
                twins[name] = twin
                break
        else:
            firsts.setdefault(_digest(table), []).append(name)
    return twins


def find_joins(tables: Mapping[str, ArrayTable]) -> dict[str, list[str]]:
    """Find a table that is all the others side by side, in their order.

    Examples
    --------
    >>> a, b = np.ones((3, 2)), np.zeros((3, 1))
    >>> find_joins({n: ArrayTable(t) for n, t in (("a", a), ("b", b), ("all", np.c_[a, b]))})
    {'all': ['a', 'b']}
    """
    for name, table in tables.items():
        parts = {other: part for other, part in tables.items() if other != name}
        width = sum(part.shape[1] for part in parts.values())
        if len(parts) < 2 or width != table.shape[1]:
            continue
        every = (table, *parts.values())
        single = any(part.array.dtype == np.float32 for part in every)
        blocks = ((whole, np.hstack(rest)) for whole, *rest in _blocks(*every))
        if all(_alike(whole, rest, single=single) for whole, rest in blocks):
            return {name: list(parts)}
    return {}


def _transposed(table: ArrayTable) -> ArrayTable:
    if _is_sparse(table.array):
        return ArrayTable(table.array.T)
    return ArrayTable(table.array, turned=not table.turned)


def _digest(table: ArrayTable) -> bytes:
    """Hash the shape and some evenly spread rows, in single precision."""
    digest = blake2b(repr(table.shape).encode(), digest_size=16)
    with np.errstate(all="ignore"):
        for row in np.unique(np.linspace(0, table.shape[0] - 1, SAMPLE).astype(int)).tolist():
            values = table.values(slice(row, row + 1)).astype(np.float32) + np.float32(0)
            digest.update(values.tobytes())  # without -0
    return digest.digest()


def _equal(first: ArrayTable, second: ArrayTable) -> bool:
    single = np.float32 in (first.array.dtype, second.array.dtype)
    return all(_alike(a, b, single=single) for a, b in _blocks(first, second))


def _alike(first: NDArray[Any], second: NDArray[Any], *, single: bool) -> bool:
    """Compare values, in single precision where one of both has no other."""
    if single:
        with np.errstate(all="ignore"):
            first, second = first.astype(np.float32), second.astype(np.float32)
    return np.array_equal(first, second, equal_nan=True)


def _blocks(*tables: ArrayTable) -> Iterator[list[NDArray[Any]]]:
    count, width = tables[0].shape
    size = max(1, BLOCK // max(1, width))
    with np.errstate(all="ignore"):
        for start in range(0, count, size):
            yield [table.values(slice(start, start + size)) for table in tables]


def listed(names: Collection[str], most: int = 6) -> str:
    """List names in a sentence: ``a, b and c``, the first ones of many.

    Examples
    --------
    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    shown = list(names)
    if len(shown) > most:
        rest = len(shown) - most
        return f"{', '.join(shown[:most])} and {rest} other{'s' if rest > 1 else ''}"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
