"""The table type: captioned rows of typed cells, whatever form they are shown in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rcml_misa.exceptions import printable

__all__ = ["Cell", "Column", "Number", "Numbers", "Row", "Spec", "Table", "Text", "joined"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Number:
    """A number and its format.

    Attributes
    ----------
    value : float
        At full precision, as in CSV and JSON; NaN is shown as ``-``.
    digits, scale, signed : int, float, bool
        Decimal places, factor (100 for percent) and whether a plus is shown.
    least : float
        Smaller values are shown as being below it, as p values are.

    Examples
    --------
    >>> str(Number(0.98765, scale=100)), str(Number(0.0001, digits=3, least=0.001))
    ('98.77', '<0.001')
    """

    value: float
    digits: int = 2
    scale: float = 1.0
    signed: bool = False
    least: float = -math.inf

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        if self.value < self.least:
            return f"<{self.least:g}"
        shown = self.scale * self.value
        kind = "f" if abs(shown) < 1e12 else "e"
        return f"{shown:{'+' if self.signed else ''}z.{self.digits}{kind}}"


@dataclass(frozen=True)
class Numbers:
    """Several numbers in one cell and their format; ``-`` where all are NaN.

    Examples
    --------
    >>> str(Numbers((Number(1.5), Number(0.25)), "{} ± {}"))
    '1.50 ± 0.25'
    """

    numbers: tuple[Number, ...]
    form: str

    def __str__(self) -> str:
        if all(math.isnan(number.value) for number in self.numbers):
            return "-"
        return self.form.format(*self.numbers)


def joined(numbers: Iterable[Number], separator: str) -> Numbers:
    """Put numbers in one cell."""
    numbers = tuple(numbers)
    return Numbers(numbers, separator.join(["{}"] * len(numbers)))


@dataclass(frozen=True)
class Text:
    """A text and the mark of its footnote, such as ``*``; control characters become spaces."""

    text: str
    mark: str = ""

    def __str__(self) -> str:
        return printable(f"{self.text} {self.mark}" if self.mark else self.text)


Cell = Number | Numbers | Text
Row = Sequence[Cell | str]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    heading : str
    align : {"right", "left"}
        Cells on the left may be wrapped at spaces, those on the right are not.
    name : str
        Key in CSV and JSON; by default the heading without its unit, ``%``.
    parts : tuple of str
        Endings of the keys where cells hold several numbers.
    """

    heading: str
    align: Literal["right", "left"] = "right"
    name: str = ""
    parts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Key in CSV and JSON."""
        return self.name or self.heading.removesuffix(" %")


#: Column or its heading, and the cell that it has for an item.
Spec = tuple[Column | str, Callable[[Item], Cell | str]]


@dataclass(frozen=True)
class Table:
    """A captioned table with notes below it.

    Attributes
    ----------
    title : str
    columns : tuple of Column
    rows : tuple of tuple of Cell
    notes : tuple of str
    level : int
        Depth of the title's heading in Markdown.
    stubs : int
        First columns, which name the row; each block of a wide table repeats them.

    Examples
    --------
    >>> table = Table.of("Accuracy", ["method", "clean %"], [["lda", Number(0.9, scale=100)]])
    >>> table.plain()
    (['method', 'clean'], [['lda', 0.9]])
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    level: int = 3
    stubs: int = 1

    @classmethod
    def of(
        cls,
        title: str,
        columns: Sequence[Column | str],
        rows: Sequence[Row],
        notes: Sequence[str] = (),
        *,
        level: int = 3,
        stubs: int = 1,
    ) -> Table:
        """Make a table of columns or their headings, and of cells or texts.

        A heading alone is aligned on the left where its column names rows, else on the right.
        """
        made = tuple(
            Column(column, "left" if place < stubs else "right")
            if isinstance(column, str)
            else column
            for place, column in enumerate(columns)
        )
        cells = tuple(
            tuple(Text(cell) if isinstance(cell, str) else cell for cell in row) for row in rows
        )
        return cls(title, made, cells, tuple(notes), level, stubs)

    @classmethod
    def of_items(
        cls,
        title: str,
        specs: Sequence[Spec[Item]],
        items: Iterable[Item],
        *notes: str,
        **form: int,
    ) -> Table:
        """Make a table with a row per item; `form` is the level and the number of stubs."""
        rows = [[cell(item) for _, cell in specs] for item in items]
        return cls.of(title, [column for column, _ in specs], rows, notes, **form)

    def plain(self) -> tuple[list[str], list[list[Any]]]:
        """Give keys and rows of values for machines: a column per number, None for NaN."""
        values = [[_values(cell) for cell in row] for row in self.rows]
        counts = [
            max((len(row[place]) for row in values), default=1)
            for place in range(len(self.columns))
        ]
        keys = [
            printable(column.key if count == 1 else f"{column.key}_{part}")
            for column, count in zip(self.columns, counts, strict=True)
            for part in (column.parts or range(1, count + 1))[:count]
        ]
        rows = [
            [
                value
                for cell, count in zip(row, counts, strict=True)
                for value in cell + [None] * (count - len(cell))
            ]
            for row in values
        ]
        return keys, rows


def _values(cell: Cell) -> list[Any]:
    """Values of one cell for machines."""
    if isinstance(cell, Text):
        return [str(cell)]
    numbers = cell.numbers if isinstance(cell, Numbers) else (cell,)
    return [number.value if math.isfinite(number.value) else None for number in numbers]
