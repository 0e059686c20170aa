"""Tables as text: their separator, names and comments as the first lines tell, and their rows."""

from __future__ import annotations

import csv
import io
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from rcml_misa.datasets.files.text_streams import COMPRESSIONS, opened_text
from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MARK",
    "TextForm",
    "has_names",
    "strict_parser",
    "text_chunks",
    "text_ending",
    "unmarked",
]

# endings of text tables, and the separator that each usually has
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "", ".data": ""}
CANDIDATES = (",", "\t", ";", "|", " ")
SNIFFED = 2**16  # characters after the first line from which the form is told
WORDS = {"\t": "tabs", ";": "semicolons", "|": "pipes", " ": "spaces", ",": "commas"}
DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+(e[-+]?\d+)?\s*", re.IGNORECASE)
DECIMAL_POINT = re.compile(r"\s*[-+]?\d*\.\d+\s*")
EXCEL_LINE = re.compile(r'\s*"?sep=([,;|\t])"?\s*', re.IGNORECASE)  # before a table, for Excel
CODE = re.compile(r"0\d+")
COMMENTS = "#%"
MONOTONE = 8  # so many rising numbers in the first line alone are names, such as wavelengths
MARK = "="  # before entries that stay as written
_strict: ContextVar[bool] = ContextVar("strict", default=False)
GAPS = {"", "na", "nan", "n/a", "null", "none", "?"}


@dataclass(frozen=True)
class TextForm:
    """Form of a text table, as its first lines tell it.

    Attributes
    ----------
    names : list of str
        Names of the columns as they stand; positions where no line has names.
    named : bool
        Whether a line holds the names.
    skipped : int
        Lines before the table, or before its rows where `header` is false.
    header : bool
        Whether the line of names follows these.
    options : mapping of str to Any
        Separator and such, for `pandas.read_csv`.
    notes : tuple of str
    coded : tuple of int
        Places of columns of codes such as 007, which are no numbers.
    """

    names: list[str]
    named: bool
    skipped: int
    header: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    coded: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> TextForm:
        """Read the first line of a table, and at most 64 kB more."""
        with opened_text(path) as stream:
            return _form(path, stream)


def text_ending(path: Path) -> str | None:
    """Return the ending of a text table's name, such as ``.csv``, without that of a compression."""
    name = path.name.lower()
    name = next((name.removesuffix(end) for end in COMPRESSIONS if name.endswith(end)), name)
    return next((end for end in SEPARATORS if name.endswith(end)), None)


def _form(path: Path, stream: TextIO) -> TextForm:
    comments: list[str] = []
    stated = ""
    for first in iter(stream.readline, ""):
        if line := EXCEL_LINE.fullmatch(first):
            stated = line[1]
        elif first.strip() and first.lstrip()[0] not in COMMENTS:
            break
        comments.append("" if line else first)
    else:
        raise DataError(f"{path} is empty; give a table with names of columns and rows.")
    if first.lstrip().lower().startswith("@relation"):
        raise DataError(f"{path} is an ARFF file, which is not read; save the table as csv.")
    sample = stream.read(SNIFFED)
    lines = [line for line in sample.splitlines() if line.strip()]
    cut = len(sample) == SNIFFED  # within the last of these lines
    if cut and len(lines) > 1:
        lines.pop()
        cut = False
    usual = SEPARATORS[text_ending(path) or ".csv"]
    separator = stated or _separator(first, [] if cut else lines, usual)
    text = "\n".join(lines) or first
    spaced = separator != " " and re.search(f"{re.escape(separator)}(?! )", text) is None
    rows = [row[:-1] if cut else row for row in _split(lines, separator, spaced=spaced)]
    rest = () if separator == " " else chain(io.StringIO(sample), stream)
    reader = _reader(chain([first], rest), separator, spaced=spaced)
    names = next(reader)
    decimal = "," if separator != "," and _decimal_commas([names, *rows]) else "."
    form = TextForm(
        names,
        named=has_names(names, rows, decimal=decimal),
        skipped=len(comments),
        header=True,
        options={
            "sep": r"\s+" if separator == " " else separator,
            "decimal": decimal,
            "skipinitialspace": spaced,
        },
    )
    notes = []
    if not form.named:
        form = _positions(form, comments, separator)
        notes.append(
            f"The names of the columns of {path.name} stand in a comment line."
            if form.named
            else f"{path.name} has no line of names; its columns are called by their positions, "
            f"0 to {len(names) - 1}."
        )
    elif _has_row_names(separator, names, [] if cut else rows):
        # R writes the names of rows without a name of their own
        skipped = form.skipped + reader.line_num
        form = replace(form, names=["", *names], header=False, skipped=skipped)
    if any(comment.strip() for comment in comments):
        notes.append(f"The comment lines at the beginning of {path.name} are skipped.")
    if usual and separator != usual:
        notes.append(f"The columns of {path.name} are separated by {WORDS[separator]}.")
    if decimal == ",":
        notes.append(f"The numbers of {path.name} are read with decimal commas.")
    return replace(form, notes=tuple(notes), coded=_coded(rows))


def _coded(rows: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Find columns of digits with a leading zero; where most are so, numbers are padded.

    Examples
    --------
    >>> _coded([["007", "1", "0.5"], ["120", "2", "10"]]), _coded([["007", "010"]])
    ((0,), ())
    """
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=False)]
    coded = [
        place
        for place, cells in enumerate(columns)
        if any(map(CODE.fullmatch, cells)) and all(cell.isdigit() for cell in cells if cell)
    ]
    return tuple(coded) if 2 * len(coded) <= len(columns) else ()


def _positions(form: TextForm, comments: list[str], separator: str) -> TextForm:
    """Name columns by position, or by the last comment, where NumPy writes the names."""
    if comments:
        heading = _split([comments[-1].strip().lstrip(COMMENTS).strip()], separator, spaced=True)
        if heading and len(heading[0]) == len(form.names) > 1 and has_names(heading[0], []):
            comments.pop()
            return replace(form, names=heading[0], named=True, header=False)
    names = [str(place) for place in range(len(form.names))]
    return replace(form, names=names, header=False)


def _has_row_names(separator: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether each row has one entry more than there are names, as R writes tables."""
    more = all(len(row) == len(names) + 1 and row[-1].strip() for row in rows)
    return separator in "\t " and bool(rows) and more


def _separator(first: str, lines: Sequence[str], usual: str) -> str:
    """Choose the separator of columns.

    The usual one of the file's ending counts where the first line has it, unless another one alone
    splits the lines evenly, or its marks are those of decimals.
    """
    order = [usual, *(mark for mark in CANDIDATES if mark != usual)] if usual else CANDIDATES
    present = [mark for mark in order if mark in first.strip()]
    if len(first) > SNIFFED:
        counts = {mark: first.count(mark, 0, SNIFFED) for mark in present if mark != " "}
        return usual if usual in present else max(counts, key=counts.__getitem__, default=" ")
    rows_by = {mark: _split([first, *lines], mark) for mark in present}
    even = [
        mark
        for mark, rows in rows_by.items()
        if len(rows[0]) > 1
        and len({len(row) for row in rows}) == 1
        and (mark != " " or all(any(map(_is_number, row)) for row in rows[1:]))
        and (mark != "\t" or not any(map(_is_list, rows[0])))
    ]
    decimals = [mark for mark in even if mark != "," and _decimal_commas(rows_by[mark])]
    if decimals:
        return decimals[0]
    if usual in present and (usual in even or not set(even) - {" "}):
        return usual
    if even:
        return even[0]
    r_tables = (
        mark for mark in present if _has_row_names(mark, rows_by[mark][0], rows_by[mark][1:])
    )
    return next(chain(r_tables, (mark for mark in present if mark != " ")), usual or ",")


def _reader(lines: Iterable[str], separator: str, *, spaced: bool = False) -> Any:
    if separator == " ":  # runs of spaces and tabs
        lines = (line.strip().replace("\t", " ") for line in lines)
        spaced = True
    return csv.reader(lines, delimiter=separator, skipinitialspace=spaced)


def _split(lines: Iterable[str], separator: str, *, spaced: bool = False) -> list[list[str]]:
    return [row for row in _reader(lines, separator, spaced=spaced) if row]


def _decimal_commas(rows: Iterable[Sequence[str]]) -> bool:
    """Tell whether a column below the first row has decimal commas, and no cell a decimal point."""
    first, *others = rows
    below = others or [first]
    if any(DECIMAL_POINT.fullmatch(cell) for cell in chain.from_iterable(below)):
        return False
    columns = zip(*below, strict=False)
    return any(
        any("," in cell for cell in column)
        and all(DECIMAL_COMMA.fullmatch(cell) for cell in column if "," in cell)
        and all(map(_is_number, filter(str.strip, column)))
        for column in columns
    )


def _is_list(cell: str) -> bool:
    """Tell whether a cell holds several numbers, of columns that spaces separate."""
    parts = cell.split()
    return len(parts) > 1 and all(map(_is_number, parts))


def _is_number(cell: str) -> bool:
    text = cell.strip()
    if text[:1] not in "+-.0123456789" or not text or "_" in text:
        return False
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return False
    return True


def has_names(first: Sequence[str], rows: Sequence[Sequence[str]], *, decimal: str = ".") -> bool:
    """Tell whether the first line of a table holds the names of its columns.

    It does unless all its cells are numbers, or a text beside numbers stands again below, such as
    a class, or there are fractions beside it. Numbers are names still where they count the columns
    from 0, or rise or fall steadily while those of no other row do, such as wavelengths.

    Examples
    --------
    >>> has_names(["a", "b"], [["1", "2"]]), has_names(["3", "1"], [["1", "2"]])
    (True, False)
    """
    numbers = [cell.strip() for cell in first if _is_number(cell)]
    if not numbers:
        return True
    texts = [
        place
        for place, cell in enumerate(first)
        if not _is_number(cell) and cell.strip().lower() not in GAPS
    ]
    if texts:
        # the line of names itself may stand twice where files were put together
        others = [row for row in rows if list(row) != list(first)]
        if "." in "".join(numbers) and len(numbers) > 1 and not _steady(first, decimal):
            return False
        below = [{row[place] for row in others if len(row) > place} for place in texts]
        return not any(first[place] in cells for place, cells in zip(texts, below, strict=True))
    if len(numbers) > 1 and numbers == [str(number) for number in range(len(numbers))]:
        cells = chain.from_iterable(rows)
        return len(numbers) > 2 or not all(cell.strip().isdigit() for cell in cells)
    whole = all(number.isdigit() for number in numbers) and len(set(numbers)) == len(numbers)
    if not first[0].strip() and len(numbers) == len(first) - 1 and whole:
        return bool(rows) and all(row[:1] and row[0].strip() for row in rows)
    names = len(numbers) >= MONOTONE and bool(rows) and _steady(first, decimal)
    return names and not any(_steady(row, decimal) for row in rows)


def _steady(cells: Sequence[str], decimal: str) -> bool:
    values = [float(cell.replace(decimal, ".")) for cell in cells if _is_number(cell)]
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def text_chunks(
    path: Path,
    form: TextForm,
    stored: Sequence[str],
    rows: int | None,
    *,
    texts: Sequence[str],
    categories: Sequence[str],
) -> Iterator[pd.DataFrame]:
    """Yield all columns of a text table, named `stored`, in chunks of so many rows.

    Entries of `texts` have `MARK` before them.
    """
    import pandas as pd

    converters: dict[str, Callable[[str], str]] = dict.fromkeys(categories, str)
    converters |= dict.fromkeys(texts, MARK.__add__)
    with opened_text(path) as stream:
        for _ in islice(iter(stream.readline, ""), form.skipped):
            pass
        try:
            # all columns are read: with some left out, a row of too many entries goes unnoticed
            chunks = pd.read_csv(
                stream,
                names=list(stored),
                header=0 if form.header else None,
                # faster than types, of which pandas makes one for each column
                converters=converters,
                index_col=False,  # else entries beyond the names would be an index
                low_memory=False,
                chunksize=rows or sys.maxsize,
                **form.options,
            )
        except pd.errors.EmptyDataError:  # the names are all there is
            yield pd.DataFrame(columns=list(stored))
            return
        while True:
            with strict_parser():
                try:
                    parts = [next(chunks)]
                except StopIteration:
                    return
                except pd.errors.ParserWarning as warning:
                    raise DataError(
                        f"{path} has more entries in a row than names of columns; mend it."
                    ) from warning
            yield parts.pop()  # none is held here while it is used


@contextmanager
def strict_parser() -> Iterator[None]:
    """Turn what pandas' parser warns of into errors.

    Filters of warnings belong to all threads: whoever reads in another thread turns them into
    errors in the main one, with that thread in a copy of its context.
    """
    from pandas.errors import ParserWarning

    if _strict.get():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        token = _strict.set(True)
        try:
            yield
        finally:
            _strict.reset(token)


def unmarked(column: pd.Series[Any]) -> pd.Series[Any]:
    """Take the mark off texts that were read, of which pandas would drop those such as NA."""
    values = column.astype(str).str[len(MARK) :]
    return values.where(values != "")
