"""Kinds of the columns of a raw table: numbers, dates, categories, and what is not read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "GAP_WORDS",
    "MIXED",
    "ColumnKinds",
    "column_kinds",
    "numbering_columns",
    "read_dates",
]

DISTINCT = 0.9  # share of different values from which texts identify their rows
FEW = 10  # rows below which no values are taken for an identifier
COUNTED = 50  # rows from which whole numbers that all differ are taken for a counter
RANKS = 2  # columns that may number the rows by their range, all of a table
SEEN = 64  # rows that tell most columns of fractions
EMPTY, NUMBERING = "without a value in train rows", "numbering the rows"
DIFFERING = "differing in nearly every row"
MIXED = "numbers and words mixed, and differing in nearly every row"
SPAN = 2  # range of a counter over the number of its rows, at most
STRAY = 0.1  # share of other words among numbers, at most, that are taken for gaps
MEASURED = 20  # different numbers, at least, of a column with such words
GAP_WORDS = frozenset({"?", "-", ".", "n.a.", "missing", "unknown", "none", "na", "nan", "null"})
ID_NAME = re.compile(r"(^|[_\W])(id|uuid|guid|index|idx|row_?(number|id|nr|no))$", re.IGNORECASE)
DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
DATE_OF_WORDS = re.compile(r"\s*\d{1,2}[- ][a-z]{3}[- ]\d{4}", re.IGNORECASE)
DAYS = (
    *("%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%b-%Y", "%d %b %Y"),
)
TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p")
DATE_FORMATS = ("ISO8601", *(day + time for time in TIMES for day in DAYS))
# those in which no other one can be meant
CLEAR = ("%d.%m.%Y", "%Y/%m/%d", "%d-%b-%Y", "%d %b %Y")
CLEAR_FORMATS = ("ISO8601", *(day + time for time in TIMES for day in CLEAR))
PROBED = 50  # dates that rule formats out before all are read


@dataclass(frozen=True)
class ColumnKinds:
    """Kinds of a table's columns; those that no other kind names are numbers.

    Parameters
    ----------
    names : tuple of str
        All columns in their order.
    dates, categories : tuple of str
        Columns of these kinds.
    formats : mapping of str to str
        Formats of dates that are texts.
    words : mapping of str to tuple of str
        Words that are gaps among numbers, in small letters.
    aside : mapping of str to str
        Columns that are not read, and why.
    """

    names: tuple[str, ...]
    dates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers, in their order."""
        others = {*self.dates, *self.categories, *self.aside}
        return tuple(name for name in self.names if name not in others)

    def summary(self) -> str:
        """Count the columns of each kind, such as ``3 of numbers, 1 of dates``."""
        counts = {
            "numbers": len(self.numbers),
            "dates": len(self.dates),
            "categories or texts": len(self.categories),
        }
        parts = [f"{count} of {kind}" for kind, count in counts.items() if count]
        return ", ".join([*parts, *([f"{len(self.aside)} set aside"] if self.aside else [])])


def column_kinds(frame: pd.DataFrame, *, of: int | None = None) -> ColumnKinds:
    """Decide what each column of a table (n, p) is taken for; of a sample `of` so many rows.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age": [41.0, None], "seen": ["2024-05-01", "2024-06-30"]})
    >>> kinds = column_kinds(table.assign(sex=["f", "m"], note=None))
    >>> kinds.numbers, kinds.dates, kinds.categories, dict(kinds.aside)
    (('age',), ('seen',), ('sex',), {'note': 'without a value in train rows'})
    """
    names = [str(name) for name in frame.columns]
    numeric = np.array([getattr(dtype, "kind", "O") in "biuf" for dtype in frame.dtypes], bool)
    kinds: dict[str, tuple[str, Any]] = {}
    for place in np.flatnonzero(~numeric).tolist():
        kinds[names[place]] = _kind(names[place], frame.iloc[:, place])
    if numeric.any():
        part = frame if numeric.all() else frame.loc[:, numeric]
        values = part.to_numpy(dtype=np.float64, na_value=np.nan)
        chosen = [name for name, number in zip(names, numeric, strict=True) if number]
        empty = np.isnan(values).all(axis=0)
        kinds |= {name: ("aside", EMPTY) for name, none in zip(chosen, empty, strict=True) if none}
        kinds |= {name: ("aside", NUMBERING) for name in numbering_columns(chosen, values, of=of)}

    def details(kind: str) -> dict[str, Any]:
        return {name: kinds[name][1] for name in names if kinds.get(name, ("",))[0] == kind}

    return ColumnKinds(
        tuple(names),
        tuple(details("date")),
        tuple(details("category")),
        formats={name: form for name, form in details("date").items() if form},
        words={name: words for name, words in details("number").items() if words},
        aside=details("aside"),
    )


def numbering_columns(
    names: Sequence[str], values: NDArray[np.float64], *, of: int | None = None
) -> list[str]:
    """Find columns of different whole numbers that identify the rows, by name or by their range.

    The range is that of a table `of` so many rows, where these are a sample. Where most of more
    than `RANKS` columns have such a range, they are ranks and tell nothing by it.

    Examples
    --------
    >>> rows = np.arange(60.0)
    >>> numbering_columns(["row", "weight"], np.column_stack([rows[::-1] + 7, rows / 3]))
    ['row']
    """
    rows = len(values)
    if rows < FEW:
        return []
    some = values[:SEEN]
    with np.errstate(invalid="ignore"):
        differing = (np.diff(np.sort(some, axis=0), axis=0) > 0).all(axis=0)
        whole = (some == np.round(some)).all(axis=0)
    numbering: list[str] = []
    by_range: list[str] = []
    for place in np.flatnonzero(whole & differing).tolist():
        column = values[:, place]
        named = ID_NAME.search(names[place]) is not None
        if not named and (rows < COUNTED or np.ptp(column) > SPAN * (of or rows)):
            continue
        if (column == np.round(column)).all() and len(np.unique(column)) == rows:
            numbering.append(names[place])
            by_range += [] if named else [names[place]]
    if len(by_range) > max(RANKS, len(names) / 2):
        return [name for name in numbering if name not in by_range]
    return numbering


def _kind(name: str, column: pd.Series[Any]) -> tuple[str, Any]:
    """Take a column that is not stored as numbers for one kind, with its format or words."""
    from pandas import CategoricalDtype

    values = column.dropna()
    if values.empty:
        return "aside", EMPTY
    kind = getattr(column.dtype, "kind", "O")
    if kind == "M":
        return "date", None
    if kind == "m":
        return "number", None
    if kind == "c":
        raise DataError(f"column {name!r} holds complex numbers; give real and imaginary parts.")
    if isinstance(column.dtype, CategoricalDtype):
        return "category", None
    if values.map(lambda value: isinstance(value, bool | np.bool_)).all():
        return "number", None
    if values.map(lambda value: not np.isscalar(value) and not hasattr(value, "year")).any():
        return "aside", "holding lists or objects"
    if values.map(lambda value: hasattr(value, "year")).all():
        return "date", None
    return _kind_of_texts(name, values.astype(str).str.strip())


def _kind_of_texts(name: str, texts: pd.Series[str]) -> tuple[str, Any]:
    from pandas import to_numeric

    numbers = to_numeric(texts, errors="coerce").notna()
    others = {text.lower() for text in texts[~numbers].unique()}
    coded = texts.str.match(r"[+-]?0\d").any()  # such as 007
    stray = len(texts) - int(numbers.sum()) <= STRAY * len(texts)
    measured = others <= GAP_WORDS or (stray and texts[numbers].nunique() >= MEASURED)
    if numbers.any() and not coded and measured:
        return "number", tuple(sorted(others))
    if texts.str.match(DATE).all():
        return _date_format(texts)
    if texts.str.match(DATE_OF_WORDS).all() and (form := _date_format(texts))[0] == "date":
        return form
    distinct = texts.nunique()
    named = bool(ID_NAME.search(name)) and distinct == len(texts)
    if len(texts) >= FEW and (named or distinct >= DISTINCT * len(texts)):
        return "aside", MIXED if numbers.mean() >= 0.5 and not coded else DIFFERING
    return "category", None


def read_dates(column: pd.Series[Any], form: str | None) -> pd.Series[Any]:
    """Read dates one by one, in UTC: dates as such, texts of one form or of a form that is clear.

    Any other value is NaT.

    Examples
    --------
    >>> import pandas as pd
    >>> texts = pd.Series(["03.04.2025", "2025-04-03", "3/4/2025", None])
    >>> read_dates(texts, None).dt.strftime("%d %b").tolist()
    ['03 Apr', '03 Apr', nan, nan]
    >>> read_dates(texts, "%m/%d/%Y").dt.strftime("%d %b").tolist()[2]
    '04 Mar'
    """
    from pandas import to_datetime

    if getattr(column.dtype, "kind", "O") == "M":
        return to_datetime(column, utc=True)
    texts = column.map(str, na_action="ignore")
    dates = to_datetime(texts, format=form or CLEAR_FORMATS[0], errors="coerce", utc=True)
    for clear in CLEAR_FORMATS:
        rest = dates.isna() & texts.notna()
        if not rest.any():
            break
        dates[rest] = to_datetime(texts[rest], format=clear, errors="coerce", utc=True)
    return dates


def _date_format(texts: pd.Series[str]) -> tuple[str, Any]:
    from pandas import to_datetime

    fitting = {}
    for form in DATE_FORMATS:
        if to_datetime(texts[:PROBED], format=form, errors="coerce", utc=True).isna().any():
            continue
        dates = to_datetime(texts, format=form, errors="coerce", utc=True)
        if dates.notna().all():
            fitting[form] = dates
    if not fitting:
        return "aside", "dates of no known form"
    (form, dates), *others = fitting.items()
    if any((dates != other).any() for _, other in others):
        return "aside", "dates whose day and month can't be told apart"
    return "date", form
