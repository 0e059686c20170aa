"""Columns of a raw table: what each is taken for, and their turn into numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.reading.features import evenly
from rcml_misa.views.column_kinds import ColumnKinds, column_kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RawColumns", "Surprises", "describe_surprises"]

Array = NDArray[np.float64]
#: Number of values per view, column and what was done to them.
Surprises = Counter[tuple[str, str, str]]
FILLED, FIRST_GAPS, INFINITE = "filled", "filled, without gaps in training", "infinite"
NEW_LEVEL = "new level "

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
    imputer : SimpleImputer, optional
        Medians of numbers and dates.
    indicator : MissingIndicator, optional
        Numbers and dates that have gaps in train rows.
    encoder : OneHotEncoder, optional
        Levels of the categories.
    gap_share : float
        Share of gaps among the numbers and dates of train rows that have the view.
    """

    kinds: ColumnKinds
    imputer: SimpleImputer | None = None
    indicator: MissingIndicator | None = None
    encoder: OneHotEncoder | None = None
    gap_share: float = 0.0

    @classmethod
    def fit(cls, frame: pd.DataFrame, *, view: str, indicators: bool, levels: int) -> Self:
        """Learn kinds, medians and levels from train rows, (n, p), that have the view."""
        columns = cls(column_kinds(frame))
        measured = columns._measured(frame, view, Counter())
        if measured.shape[1]:
            rows = len(measured)
            some = measured[evenly(rows, SAMPLE)] if rows > SAMPLE else measured
            columns.imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(some)
            gaps = np.isnan(measured)
            columns.gap_share = float(gaps.mean())
            if indicators and gaps.any():
                indicator = MissingIndicator(features="missing-only", error_on_new=False)
                columns.indicator = indicator.fit(measured)
        if columns.kinds.categories:
            columns.encoder = OneHotEncoder(
                handle_unknown="infrequent_if_exist",
                min_frequency=RARE,
                max_categories=levels,
                sparse_output=False,
            ).fit(columns._levels(frame))
        return columns

    def transform(self, frame: pd.DataFrame, view: str) -> tuple[Array, Surprises]:
        """Turn rows into numbers, (n, d), and count what fit did not see.

        A row without any value in the view is NaN throughout.
        """
        surprises: Surprises = Counter()
        measured = self._measured(frame, view, surprises)
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
        if self.imputer is not None and gaps.any():
            self._count_gaps(gaps, view, surprises)
            filled = self.imputer.transform(measured)
        if self.indicator is not None:
            flags = [self.indicator.transform(measured).astype(np.float64)]
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
    def width(self) -> int:
        """Number of columns that result."""
        return len(self.outputs())

    def outputs(self) -> list[str]:
        """Name the columns that result."""
        measured = [*self.kinds.numbers, *self.kinds.dates]
        names = list(measured)
        if self.indicator is not None:
            names += [f"{measured[place]} missing" for place in self.indicator.features_]
        if self.encoder is not None:
            levels = self.encoder.get_feature_names_out(self.kinds.categories).tolist()
            names += [name.replace("_infrequent_sklearn", "_other") for name in levels]
        return names

    def describe(self) -> Iterator[str]:
        """Say what is done to the columns, in sentences without a subject."""
        for name, words in self.kinds.words.items():
            listed = ", ".join(repr(word) for word in words)
            yield f"{listed} in column {name!r} stands for a gap"
        if self.gap_share:
            flagged = 0 if self.indicator is None else len(self.indicator.features_)
            plural = "a column flags" if flagged == 1 else f"{flagged} columns flag"
            more = f"; {plural} them" if flagged else ""
            share = f"{100 * self.gap_share:.2g} % of its numbers are gaps"
            yield f"{share}, filled with the medians of train rows{more}"
        if self.encoder is not None:
            counts = [len(levels) for levels in self.encoder.categories_]
            listed = _listed(
                [f"{name} ({n})" for name, n in zip(self.kinds.categories, counts, strict=True)]
            )
            yield (
                f"levels of {listed} are columns of 0 and 1; rare and new ones share a column, or "
                "have none"
            )
        if self.kinds.dates:
            yield f"dates in {_listed(self.kinds.dates)} are numbers of days"
        for reason in dict.fromkeys(self.kinds.aside.values()):
            names = [name for name, why in self.kinds.aside.items() if why == reason]
            yield f"{_listed(names)} set aside, {reason}"

    def _measured(self, frame: pd.DataFrame, view: str, surprises: Surprises) -> Array:
        """Numbers and dates of rows, (n, p), NaN at gaps."""
        measured = [*self.kinds.numbers, *self.kinds.dates]
        part = frame if measured == list(frame.columns) else frame[measured]
        if (part.dtypes == np.float64).all():
            values = part.to_numpy()  # without a copy, in the same order in memory
        elif all(getattr(dtype, "kind", "O") in "biuf" for dtype in part.dtypes):
            values = part.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            values = np.empty(part.shape)
            for place, name in enumerate(measured):
                values[:, place] = self._numbers(part[name], name, view)
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()):  # one pass without a temporary array
                return values
        infinite = np.isinf(values)
        if infinite.any():
            for place in np.flatnonzero(infinite.any(axis=0)).tolist():
                surprises[view, measured[place], INFINITE] += int(infinite[:, place].sum())
            values = np.where(infinite, np.nan, values)
        return values

    def _numbers(self, column: pd.Series[Any], name: str, view: str) -> Array:
        """Turn one column of numbers or dates into floats."""
        if name in self.kinds.dates:
            return _days(column, self.kinds.formats.get(name), name=name, view=view)
        if column.dtype.kind == "m":
            return np.asarray(column.dt.total_seconds(), dtype=np.float64) / SECONDS
        if getattr(column.dtype, "kind", "O") in "biuf":
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        words = self.kinds.words.get(name, ())
        if words:
            column = column.mask(column.astype(str).str.strip().str.lower().isin(words))
        numbers = pd.to_numeric(column, errors="coerce")
        _refuse_other(column, numbers, name=name, view=view, what="number")
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan)

    def _levels(self, frame: pd.DataFrame) -> NDArray[np.object_]:
        """Levels of the categories as texts, (n, c), NaN at gaps."""
        levels = np.empty((len(frame), len(self.kinds.categories)), dtype=object)
        for place, name in enumerate(self.kinds.categories):
            levels[:, place] = _level_texts(frame[name])
        return levels

    def _count_gaps(self, gaps: NDArray[np.bool_], view: str, surprises: Surprises) -> None:
        measured = [*self.kinds.numbers, *self.kinds.dates]
        seen = () if self.indicator is None else self.indicator.features_
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
    """Say what was done to values that fit did not see so, a sentence per view.

    Examples
    --------
    >>> describe_surprises(Counter({("a", "age", FILLED): 3, ("a", "city", "new level 'rom'"): 2}))
    ['view a: 3 gaps filled', "view a: 2 values of city that fit did not see ('rom' 2)"]
    """
    sentences = []
    for view in dict.fromkeys(view for view, _, _ in surprises):
        own = {(name, what): n for (seen, name, what), n in surprises.items() if seen == view}
        for kind, words in (
            (FILLED, "gaps filled"),
            (FIRST_GAPS, "gaps filled in columns without gaps in training"),
            (INFINITE, "infinite values read as gaps"),
        ):
            counts = {name: n for (name, what), n in own.items() if what == kind}
            names = "" if kind == FILLED else f" ({_listed(list(counts))})"
            if counts:
                sentences.append(f"view {view}: {sum(counts.values())} {words}{names}")
        for column in dict.fromkeys(name for name, what in own if what.startswith(NEW_LEVEL)):
            levels = {
                what.removeprefix(NEW_LEVEL): n
                for (name, what), n in own.items()
                if name == column and what.startswith(NEW_LEVEL)
            }
            listed = _listed([f"{level} {n}" for level, n in levels.items()])
            total = sum(levels.values())
            sentences.append(
                f"view {view}: {total} values of {column} that fit did not see ({listed})"
            )
    return sentences


def _days(column: pd.Series[Any], form: str | None, *, name: str, view: str) -> Array:
    """Count days since 1970."""
    dates = pd.to_datetime(column, format=form, errors="coerce", utc=True)
    _refuse_other(column, dates, name=name, view=view, what="date")
    seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.asarray(seconds, dtype=np.float64) / SECONDS


def _refuse_other(
    column: pd.Series[Any], read: pd.Series[Any], *, name: str, view: str, what: str
) -> None:
    """Refuse values that were no numbers, or no dates."""
    wrong = np.flatnonzero(column.notna().to_numpy() & read.isna().to_numpy())
    if len(wrong):
        value = shortened(repr(column.iloc[wrong[0]]), 40)
        raise DataError(
            f"view {view!r}, column {shortened(name, 40)!r} has {value} in row {wrong[0]}, which "
            f"is no {what}, as the column was in training; correct it or leave it empty."
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


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(shortened(name, 40) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
