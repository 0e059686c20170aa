"""Columns of a raw table: what each is taken for, and their turn into numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.reading.features import evenly
from rcml_misa.views.column_kinds import GAP_WORDS, ColumnKinds, column_kinds, read_dates

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RawColumns", "Surprises", "describe_surprises", "listed"]

Array = NDArray[np.float64]
#: Number of values per view, column and what was done to them.
Surprises = Counter[tuple[str, str, str]]
FILLED, FIRST_GAPS, INFINITE = "filled", "filled, without gaps in training", "infinite"
WORDS = "words"
NEW_LEVEL = "new level "
NAMED = 3  # columns with new levels that have a sentence of their own

RARE = 2  # rows of a level below which it shares the column of others
SAMPLE = 20_000  # rows from which medians are computed
SECONDS = 86_400.0  # of a day


@dataclass
class RawColumns:
    """Columns of one view and what is done to each; build it with `fit`.

    Parameters
    ----------
    kinds : ColumnKinds
        Columns, and what each is taken for.
    medians : ndarray of shape (p,)
        Medians of numbers and dates.
    flagged : ndarray of int
        Places, among numbers and dates, of those whose gaps a column flags.
    encoder : OneHotEncoder, optional
        Levels of the categories.
    gap_share : float
        Share of gaps among the numbers and dates of train rows that have the view.
    infinite : tuple of str
        Columns with infinite numbers in train rows.
    """

    kinds: ColumnKinds
    medians: Array
    flagged: NDArray[np.int64]
    encoder: OneHotEncoder | None = None
    gap_share: float = 0.0
    infinite: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        *,
        view: str,
        indicators: bool,
        levels: int,
        kinds: ColumnKinds | None = None,
    ) -> Self:
        """Learn kinds, medians and levels from train rows, (n, p), that have the view."""
        none = np.empty(0, dtype=np.int64)
        columns = cls(column_kinds(frame) if kinds is None else kinds, np.empty(0), none)
        surprises: Surprises = Counter()
        measured = columns._measured(frame, view, surprises)
        columns.infinite = tuple(name for _, name, what in surprises if what == INFINITE)
        if measured.shape[1]:
            rows = len(measured)
            some = measured[evenly(rows, SAMPLE)] if rows > SAMPLE else measured
            imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(some)
            columns.medians = np.asarray(imputer.statistics_, dtype=np.float64)
            gaps = np.isnan(measured)
            columns.gap_share = float(gaps.mean())
            if indicators:
                columns.flagged = np.flatnonzero(gaps.any(axis=0)).astype(np.int64)
        if columns.kinds.categories:
            columns.encoder = OneHotEncoder(
                handle_unknown="infrequent_if_exist",
                min_frequency=RARE,
                max_categories=levels,
                sparse_output=False,
            ).fit(columns._levels(frame))
        return columns

    def transform(
        self, frame: pd.DataFrame, view: str, *, first_row: int = 0
    ) -> tuple[Array, Surprises]:
        """Turn rows into numbers, (n, d), and count what fit did not see.

        A row without any value in the view is NaN throughout. Errors count rows from `first_row`.
        """
        surprises: Surprises = Counter()
        measured = self._measured(frame, view, surprises, first_row)
        gaps = np.isnan(measured)
        absent = np.asarray(gaps.all(axis=1))
        encoded = []
        if self.encoder is not None:
            levels = self._levels(frame)
            absent &= pd.isna(levels).all(axis=1)
            self._count_new(levels, view, surprises)
            encoded = [_without_warnings(self.encoder, levels)]
        gaps[absent] = False
        filled, flags = measured, []
        if gaps.any():
            self._count_gaps(gaps, view, surprises)
            filled = np.where(gaps, self.medians, measured)
        if len(self.flagged):
            flags = [gaps[:, self.flagged].astype(np.float64)]
        parts = [filled, *flags, *encoded]
        values = np.concatenate(parts, axis=1) if len(parts) > 1 else filled
        if absent.any() and values is not measured:  # which may be the caller's
            values[absent] = np.nan
        return values, surprises

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that must be read as they are written: categories, and dates that are texts."""
        return (*self.kinds.categories, *self.kinds.formats)

    @property
    def plain(self) -> bool:
        """Whether the columns were numbers without gaps, which stay as they are."""
        others = (*self.kinds.dates, *self.kinds.categories, *self.kinds.words, *self.kinds.aside)
        return not others and not self.gap_share and not self.infinite

    @property
    def width(self) -> int:
        """Number of columns that result."""
        return len(self.outputs())

    def outputs(self) -> list[str]:
        """Name the columns that result."""
        measured = [*self.kinds.numbers, *self.kinds.dates]
        names = list(measured)
        names += [f"{measured[place]} missing" for place in self.flagged.tolist()]
        if self.encoder is not None:
            levels = self.encoder.get_feature_names_out(self.kinds.categories).tolist()
            names += [name.replace("_infrequent_sklearn", "_other") for name in levels]
        return names

    def level_counts(self) -> dict[str, int]:
        """Count the levels of each category."""
        if self.encoder is None:
            return {}
        counts = [len(levels) for levels in self.encoder.categories_]
        return dict(zip(self.kinds.categories, counts, strict=True))

    def _measured(
        self, frame: pd.DataFrame, view: str, surprises: Surprises, first_row: int = 0
    ) -> Array:
        """Numbers and dates of rows, (n, p), NaN at gaps."""
        measured = [*self.kinds.numbers, *self.kinds.dates]
        part = frame if measured == list(frame.columns) else frame[measured]
        if all(getattr(dtype, "kind", "O") in "biuf" for dtype in part.dtypes):
            values = part.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = np.empty(part.shape)
            for place, name in enumerate(measured):
                column = _Column(part[name], view, name, first_row)
                values[:, place] = self._numbers(column, surprises)
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()):  # one pass without a temporary array
                return values
        infinite = np.isinf(values)
        if infinite.any():
            for place in np.flatnonzero(infinite.any(axis=0)).tolist():
                surprises[view, measured[place], INFINITE] += int(infinite[:, place].sum())
            values = np.where(infinite, np.nan, values)
        return values

    def _numbers(self, column: _Column, surprises: Surprises) -> Array:
        """Turn one column of numbers or dates into floats."""
        values, name = column.values, column.name
        if name in self.kinds.dates:
            return column.days(self.kinds.formats.get(name))
        if values.dtype.kind == "m":
            return np.asarray(values.dt.total_seconds(), dtype=np.float64) / SECONDS
        if getattr(values.dtype, "kind", "O") in "biuf":
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = pd.to_numeric(values, errors="coerce")
        wrong = np.flatnonzero(values.notna() & numbers.isna())
        if len(wrong):
            words = values.iloc[wrong].astype(str).str.strip().str.lower()
            seen = self.kinds.words.get(name, ())
            stray = wrong[~words.isin([*GAP_WORDS, *seen]).to_numpy()]
            if GAP_WORDS.issuperset(seen):
                column.refuse(stray, "number")
            elif len(stray):
                surprises[column.view, name, WORDS] += len(stray)
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan)

    def _levels(self, frame: pd.DataFrame) -> NDArray[np.object_]:
        """Levels of the categories as texts, (n, c), NaN at gaps."""
        levels = np.empty((len(frame), len(self.kinds.categories)), dtype=object)
        for place, name in enumerate(self.kinds.categories):
            levels[:, place] = _level_texts(frame[name])
        return levels

    def _count_gaps(self, gaps: NDArray[np.bool_], view: str, surprises: Surprises) -> None:
        measured = [*self.kinds.numbers, *self.kinds.dates]
        seen = set(self.flagged.tolist())
        for place in np.flatnonzero(gaps.any(axis=0)).tolist():
            what = FILLED if place in seen else FIRST_GAPS
            surprises[view, measured[place], what] += int(gaps[:, place].sum())

    def _count_new(self, levels: NDArray[np.object_], view: str, surprises: Surprises) -> None:
        encoder: Any = self.encoder
        for place, name in enumerate(self.kinds.categories):
            column = pd.Series(levels[:, place], dtype=object)
            new = column.notna() & ~column.isin(encoder.categories_[place].tolist())
            for level, count in column[new].value_counts().items():
                surprises[view, name, f"{NEW_LEVEL}{shortened(repr(level), 30)}"] += int(count)


def describe_surprises(surprises: Surprises) -> list[str]:
    """Say what was done to values that fit did not see so, a sentence for each reason.

    Examples
    --------
    >>> describe_surprises(Counter({("a", "age", FILLED): 3, ("a", "city", "new level 'rom'"): 2}))
    ['gaps filled: a 3', "values of city that fit did not see: 'rom' 2"]
    """
    sentences = []
    if filled := _counts(surprises, FILLED, by=0):
        sentences.append(f"gaps filled: {filled}")
    for what, words in (
        (FIRST_GAPS, "gaps filled in columns without gaps in training"),
        (INFINITE, "infinite values read as gaps"),
        (WORDS, "words read as gaps among numbers"),
    ):
        if counts := _counts(surprises, what, by=1):
            sentences.append(f"{words}: {counts}")
    new: dict[str, Counter[str]] = {}
    for (_, name, what), count in surprises.items():
        if what.startswith(NEW_LEVEL):
            new.setdefault(name, Counter())[what.removeprefix(NEW_LEVEL)] += count
    for name, levels in [*new.items()][:NAMED]:
        told = listed([f"{level} {count}" for level, count in levels.most_common()])
        sentences.append(f"values of {shortened(name, 40)} that fit did not see: {told}")
    if others := [*new.items()][NAMED:]:
        told = listed([f"{name} {levels.total()}" for name, levels in others])
        sentences.append(f"values of other columns that fit did not see: {told}")
    return sentences


def _counts(surprises: Surprises, what: str, *, by: Literal[0, 1]) -> str:
    """List counts of one kind by view (0) or column (1), the largest first."""
    counts: Counter[str] = Counter()
    for key, count in surprises.items():
        if key[2] == what:
            counts[key[by]] += count
    return listed([f"{shortened(name, 40)} {count}" for name, count in counts.most_common()])


@dataclass(frozen=True)
class _Column:
    """Rows of one column, numbered from `first_row`."""

    values: pd.Series[Any]
    view: str
    name: str
    first_row: int

    def days(self, form: str | None) -> Array:
        """Count days since 1970."""
        dates = read_dates(self.values, form)
        self.refuse(np.flatnonzero(self.values.notna() & dates.isna()), "date such as 2024-12-31")
        seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
        return np.asarray(seconds, dtype=np.float64) / SECONDS

    def refuse(self, places: NDArray[np.int64], what: str) -> None:
        """Refuse the values at some places, of which there may be none."""
        if len(places):
            value = shortened(repr(self.values.iloc[places[0]]), 40)
            raise DataError(
                f"view {self.view!r}, column {shortened(self.name, 40)!r} has {value} in row "
                f"{self.first_row + places[0]}, which is no {what}, as the column had in training; "
                "correct it or leave it empty."
            )


def _level_texts(column: pd.Series[Any]) -> NDArray[np.object_]:
    """Write levels as texts, so that 1, 1.0 and "1" are the same; NaN at gaps."""
    levels = column.astype(object).map(_level, na_action="ignore")
    return np.asarray(levels.where(column.notna().to_numpy(), np.nan), dtype=object)


def _level(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _without_warnings(encoder: OneHotEncoder, levels: NDArray[np.object_]) -> Array:
    """Encode levels; that some are new is counted elsewhere."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return np.asarray(encoder.transform(levels), dtype=np.float64)


def listed(names: Sequence[str], most: int = 5) -> str:
    """List the first names for a sentence, and count the others."""
    shown = ", ".join(shortened(name, 40) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
