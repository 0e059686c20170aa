"""Findings about the columns of raw tables that the preparation of tables does not tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rcml_misa.exceptions import shortened
from rcml_misa.views import RawTable
from rcml_misa.views.column_kinds import GAP_WORDS, MIXED, ColumnKinds

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Finding", "raw_findings"]

LEVELS = 50  # of a category, above which the rarer ones share a column
NUMERIC = 0.5  # share of numbers among levels from which a category is called mixed
HUGE = 1e15  # size of a number above which a float loses its whole digits


@dataclass(frozen=True)
class Finding:
    """An observation about a data set, and its treatment or advice, which facts have none of."""

    level: Literal["fact", "note", "warning"]
    what: str
    consequence: str = ""


def raw_findings(name: str, view: RawTable) -> Iterator[Finding]:
    """Describe the columns of a raw table, every oddity at once.

    `TablePreparer` describes what is done about them.

    Examples
    --------
    >>> import pandas as pd
    >>> view = RawTable(pd.DataFrame({"age": [41.0, None, 3.0], "sex": ["f", "m", "f"]}))
    >>> for finding in raw_findings("a", view):
    ...     print(finding.what)
    view a: 2 columns: 1 of numbers, 1 of categories or texts
    view a: 1 of 2 columns has gaps, at most 33 % ('age')
    """
    frame = view.frame[view.present] if not view.present.all() else view.frame
    names = [str(column) for column in frame.columns]
    frame = frame.set_axis(names, axis=1)
    some = "1 column" if len(names) == 1 else f"{len(names)} columns"
    yield Finding("fact", f"view {name}: {some}: {view.kinds.summary()}")
    yield from _gaps(name, names, frame)
    yield from _values(name, frame, view.kinds)


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
        )


def _values(name: str, frame: pd.DataFrame, kinds: ColumnKinds) -> Iterator[Finding]:
    """Tell columns of one value, of infinite or huge numbers, of mixed types and of many levels."""
    constant: list[str] = []
    infinite: list[str] = []
    huge: list[str] = []
    mixed: list[str] = [title for title, why in kinds.aside.items() if why == MIXED]
    many: list[str] = []
    for title, (_, column) in zip(kinds.names, frame.items(), strict=True):
        values = column.dropna()
        if not len(values):
            continue
        if getattr(column.dtype, "kind", "O") in "iuf":
            numbers = values.to_numpy(dtype=np.float64)
            finite = numbers[np.isfinite(numbers)]
            infinite += [title] * (len(finite) < len(numbers))
            huge += [title] * bool(len(finite) and np.abs(finite).max() > HUGE)
            constant += [title] * bool((numbers == numbers[0]).all())
            continue
        levels = values.astype(str).str.strip().unique()
        constant += [title] * (len(levels) == 1)
        mixed += [title] * bool(set(kinds.words.get(title, ())) - GAP_WORDS)
        if title in kinds.categories:
            mixed += [title] * _is_mixed(levels)
            many += [title] * (len(levels) > LEVELS)
    width = len(kinds.names)
    told: list[tuple[list[str], Literal["note", "warning"], str, str]] = [
        (constant, "note", "of one value", "Kept; scaled to 0 they tell nothing."),
        (infinite, "warning", "with infinite numbers", "Correct them."),
        (huge, "note", f"with numbers above {HUGE:g}", "Kept; an id among them is no number."),
        (mixed, "warning", "of numbers and words mixed", "Correct the words, or leave them empty."),
        (many, "note", f"of more than {LEVELS} levels", "The rarer ones share a column."),
    ]
    for chosen, level, what, consequence in told:
        if chosen:
            columns = "1 column" if width == 1 else f"{len(chosen)} of {width} columns"
            yield Finding(level, f"view {name}: {columns} {what} ({_named(chosen)})", consequence)


def _is_mixed(levels: Any) -> bool:
    """Ask whether most levels of a category are numbers, but not all of them."""
    import pandas as pd

    share = float(pd.to_numeric(pd.Series(levels), errors="coerce").notna().mean())
    return NUMERIC <= share < 1


def _named(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(shortened(name, 40)) for name in names[:most]) + more
