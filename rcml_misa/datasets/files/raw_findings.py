"""Findings about the columns of raw tables: kinds, gaps, constants, identifiers, dates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rcml_misa.exceptions import shortened
from rcml_misa.views import RawTable
from rcml_misa.views.column_kinds import numbering_columns

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "raw_findings"]

Kind = Literal["numbers", "booleans", "dates", "categories", "ids", "mixed", "empty"]

DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
DISTINCT = 0.9  # share of different values from which texts identify their rows
FEW = 10  # rows below which no texts are taken for identifiers
LEVELS = 50  # of a category, above which the rarer ones share a column
NUMERIC = 0.5  # share of texts that are numbers from which a column is mixed
HUGE = 1e15  # size of a number above which a float loses its whole digits


@dataclass(frozen=True)
class Finding:
    """An observation about a data set, and its treatment or advice, which facts have none of."""

    level: Literal["fact", "note", "warning"]
    what: str
    consequence: str = ""


def raw_findings(name: str, view: RawTable) -> Iterator[Finding]:
    """Describe the columns of a raw table, every oddity at once, with what is done about each.

    Examples
    --------
    >>> import pandas as pd
    >>> view = RawTable(pd.DataFrame({"age": [41.0, None, 3.0], "sex": ["f", "m", "f"]}))
    >>> for finding in raw_findings("a", view):
    ...     print(finding.what)
    view a: 2 columns of any type: 1 of numbers, 1 of categories
    view a: 1 of 2 columns has gaps, at most 33 % ('age')
    view a: 1 column of categories or texts ('sex')
    """
    frame = view.frame[view.present] if not view.present.all() else view.frame
    names = [str(column) for column in frame.columns]
    columns = [frame.iloc[:, place] for place in range(len(names))]
    kinds = [_kind(column) for column in columns]
    counts = Counter(kinds)
    listed = ", ".join(f"{count} of {kind}" for kind, count in counts.items())
    count = "1 column" if len(names) == 1 else f"{len(names)} columns"
    yield Finding("fact", f"view {name}: {count} of any type: {listed}")
    yield from _gaps(name, names, frame)
    yield from _values(name, names, columns, kinds)
    told: dict[Kind, tuple[str, str]] = {
        "categories": (
            "of categories or texts",
            "One-hot, with one column for rare and other levels.",
        ),
        "booleans": ("of truth values", "Read as 0 and 1."),
        "dates": (
            "of dates",
            "Turned into numbers of days; set aside where day and month can't be told apart.",
        ),
        "ids": ("of texts that differ in nearly every row", "Set aside: they identify rows."),
        "empty": ("without any value", "Set aside."),
    }
    for kind, (what, consequence) in told.items():
        chosen = [column for column, own in zip(names, kinds, strict=True) if own == kind]
        if chosen:
            some = "1 column" if len(chosen) == 1 else f"{len(chosen)} columns"
            yield Finding("note", f"view {name}: {some} {what} ({_named(chosen)})", consequence)
    measured = [
        place
        for place, column in enumerate(columns)
        if kinds[place] == "numbers" and getattr(column.dtype, "kind", "O") in "iuf"
    ]
    values = frame.iloc[:, measured].to_numpy(dtype=np.float64, na_value=np.nan)
    if chosen := numbering_columns([names[place] for place in measured], values):
        some = "1 column that numbers" if len(chosen) == 1 else f"{len(chosen)} columns that number"
        yield Finding("note", f"view {name}: {some} the rows ({_named(chosen)})", "Set aside.")


def _kind(column: pd.Series[Any]) -> Kind:
    """Take a column for one kind."""
    from pandas import CategoricalDtype, to_numeric

    kind = getattr(column.dtype, "kind", "O")
    values = column.dropna()
    if values.empty:
        return "empty"
    if kind in "iuf":
        return "numbers"
    if kind == "b" or values.map(lambda value: isinstance(value, bool | np.bool_)).all():
        return "booleans"
    if kind in "mM" or values.map(lambda value: hasattr(value, "year")).all():
        return "dates"
    if isinstance(column.dtype, CategoricalDtype):
        return "categories"
    texts = values.astype(str).str.strip()
    if texts.str.match(DATE).all():
        return "dates"
    numeric = to_numeric(texts, errors="coerce").notna().mean()
    if NUMERIC <= numeric < 1:
        return "mixed"
    ids = len(texts) >= FEW and texts.nunique() >= DISTINCT * len(texts)
    return "numbers" if numeric == 1 else "ids" if ids else "categories"


def _gaps(name: str, names: Sequence[str], frame: pd.DataFrame) -> Iterator[Finding]:
    shares = frame.isna().to_numpy().mean(axis=0) if len(frame) else np.zeros(len(names))
    gaps = np.flatnonzero((shares > 0) & (shares < 1))
    if len(gaps):
        worst = int(gaps[shares[gaps].argmax()])
        has = "column has" if len(names) == 1 else f"columns {'has' if len(gaps) == 1 else 'have'}"
        yield Finding(
            "note",
            f"view {name}: {len(gaps)} of {len(names)} {has} gaps, at most "
            f"{100 * shares[worst]:.2g} % ({_named([names[worst]])})",
            "Numbers and dates: the median of train rows and an indicator column; categories: no "
            "level.",
        )


def _values(
    name: str, names: Sequence[str], columns: Sequence[pd.Series[Any]], kinds: Sequence[Kind]
) -> Iterator[Finding]:
    """Tell columns of one value, of infinite or huge numbers, of mixed types and of many levels."""
    constant, infinite, huge, mixed, many = [], [], [], [], []
    for title, column, kind in zip(names, columns, kinds, strict=True):
        values = column.dropna()
        if kind == "numbers" and getattr(column.dtype, "kind", "O") in "iuf":
            numbers = values.to_numpy(dtype=np.float64)
            infinite += [title] * bool(np.isinf(numbers).any())
            finite = numbers[np.isfinite(numbers)]
            huge += [title] * bool(len(finite) and np.abs(finite).max() > HUGE)
            constant += [title] * bool(len(numbers) and (numbers == numbers[0]).all())
            continue
        levels = values.astype(str).nunique()
        constant += [title] * (levels == 1)
        mixed += [title] * (kind == "mixed")
        many += [title] * (kind == "categories" and levels > LEVELS)
    width = len(names)
    told: list[tuple[list[str], Literal["note", "warning"], str, str]] = [
        (constant, "note", "of one value", "Kept; scaled to 0 they tell nothing."),
        (infinite, "warning", "with infinite numbers", "They count as gaps; correct them."),
        (huge, "note", f"with numbers above {HUGE:g}", "Kept; an id among them is no number."),
        (
            mixed,
            "warning",
            "of numbers and words mixed",
            "Words that stand for a gap, such as '?' or 'unknown', count as gaps; with others it "
            "is read as categories: correct it.",
        ),
        (many, "note", f"of more than {LEVELS} levels", "The rarer ones share a column."),
    ]
    for chosen, level, what, consequence in told:
        if chosen:
            count = f"{len(chosen)} of {width} columns"
            yield Finding(level, f"view {name}: {count} {what} ({_named(chosen)})", consequence)


def _named(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(shortened(name, 40)) for name in names[:most]) + more
