"""Columns of a raw table: what each is taken for, and their turn into numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from rcml_misa.exceptions import DataError, nearest, shortened
from rcml_misa.reading.features import evenly
from rcml_misa.views import RawTable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RawColumns", "Surprises"]

Array = NDArray[np.float64]
#: Number of values per view, column and what was done to them.
Surprises = Counter[tuple[str, str, str]]

SAMPLE = 20_000  # rows from which medians are computed
RARE = 2  # rows of a level below which it shares the column of others
DISTINCT = 0.9  # share of different values from which texts identify their rows
FEW = 10  # rows below which no values are taken for an identifier
COUNTED = 50  # rows from which whole numbers that all differ are taken for a counter
SPAN = 2  # range of a counter over the number of its rows, at most
GAP_WORDS = frozenset({"?", "-", ".", "n.a.", "missing", "unknown", "none", "na", "nan", "null"})
ID_NAME = re.compile(r"(^|[_\W])(id|uuid|guid|index|idx|row_?(number|id|nr|no))$", re.IGNORECASE)
DATE = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
DATE_FORMATS = ("ISO8601", "%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
MATCHED = 500  # names that a missing one is compared with
SECONDS = 86_400.0  # of a day


@dataclass
class RawColumns:
    """Columns of one view and what is done to each; build it with `fit`.

    Parameters
    ----------
    names : tuple of str
        Columns in their order.
    dates, categories : tuple of str
        Columns of these kinds; all others that are not set aside are numbers.
    formats : mapping of str to str
        Formats of dates that are texts.
    words : mapping of str to tuple of str
        Words that stand for a gap among numbers.
    aside : mapping of str to str
        Columns that are not read, and why.
    imputer : SimpleImputer, optional
        Medians of numbers and dates.
    indicator : MissingIndicator, optional
        Numbers and dates that have gaps in train rows.
    encoder : OneHotEncoder, optional
        Levels of the categories.
    named : bool
        Whether the columns have names, by which they are matched, rather than places alone.
    gap_share : float
        Share of gaps among the numbers and dates of train rows that have the view.
    """

    names: tuple[str, ...]
    dates: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aside: Mapping[str, str] = field(default_factory=dict)
    imputer: SimpleImputer | None = None
    indicator: MissingIndicator | None = None
    encoder: OneHotEncoder | None = None
    named: bool = True
    gap_share: float = 0.0

    @classmethod
    def fit(
        cls, frame: pd.DataFrame, *, view: str, named: bool, indicators: bool, levels: int
    ) -> Self:
        """Learn kinds, medians and levels from train rows, (n, p), that have the view."""
        columns = _sorted_out(cls, frame)
        columns.named = named
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
        if columns.categories:
            columns.encoder = OneHotEncoder(
                handle_unknown="infrequent_if_exist",
                min_frequency=RARE,
                max_categories=levels,
                sparse_output=False,
            ).fit(columns._levels(frame))
        return columns

    def matched(self, view: NDArray[Any] | RawTable, name: str) -> pd.DataFrame:
        """Bring the columns of new rows into order, by their names if they have some."""
        if isinstance(view, RawTable) and self.named:
            labels = [str(label) for label in view.frame.columns]
            if labels == list(self.names):
                return view.frame
            lacking, more = set(self.names) - set(labels), set(labels) - set(self.names)
            if lacking:
                column = next(label for label in self.names if label in lacking)
                choice = nearest(column, list(more or labels)[:MATCHED])
                raise DataError(
                    f"view {name!r} lacks the column {shortened(column, 40)!r}, {len(lacking)} of "
                    f"{len(self.names)} in all; {choice}"
                )
            if more:
                column = next(label for label in labels if label in more)
                raise DataError(
                    f"view {name!r} has a column {shortened(column, 40)!r} that fit did not see; "
                    "leave it out."
                )
            return view.frame.set_axis(labels, axis=1)[list(self.names)]
        if view.shape[1] != len(self.names):
            raise DataError(
                f"view {name!r} has {view.shape[1]} columns but fit saw {len(self.names)}."
            )
        frame = view.frame if isinstance(view, RawTable) else pd.DataFrame(view, copy=False)
        return frame.set_axis(list(self.names), axis=1)

    def transform(self, frame: pd.DataFrame, view: str) -> tuple[Array, Surprises]:
        """Turn rows into numbers, (n, d), and count what fit did not see.

        A row without any value in the view is NaN throughout.
        """
        surprises: Surprises = Counter()
        measured = self._measured(frame, view, surprises)
        absent = np.isnan(measured).all(axis=1)
        parts = [measured]
        if self.imputer is not None:
            gaps = np.isnan(measured)
            if gaps.any():
                parts = [self.imputer.transform(measured)]
            if self.indicator is not None:
                parts.append(self.indicator.transform(measured).astype(np.float64))
        if self.encoder is not None:
            levels = self._levels(frame)
            absent &= pd.isna(levels).all(axis=1)
            self._count_new(levels, view, surprises)
            parts.append(_without_warnings(self.encoder, levels))
        values = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        if absent.any() and values is not measured:  # which may be the caller's
            values[absent] = np.nan
        return values, surprises

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of numbers, in their order."""
        others = {*self.dates, *self.categories, *self.aside}
        return tuple(name for name in self.names if name not in others)

    @property
    def texts(self) -> tuple[str, ...]:
        """Columns that must be read as they are written: categories, and dates that are texts."""
        return (*self.categories, *self.formats)

    @property
    def width(self) -> int:
        """Number of columns that result."""
        return len(self.outputs())

    def outputs(self) -> list[str]:
        """Name the columns that result."""
        measured = [*self.numbers, *self.dates]
        names = list(measured)
        if self.indicator is not None:
            names += [f"{measured[place]} missing" for place in self.indicator.features_]
        if self.encoder is not None:
            names += self.encoder.get_feature_names_out(self.categories).tolist()
        return names

    def describe(self) -> Iterator[str]:
        """Say what is done to the columns, in sentences without a subject."""
        for name, words in self.words.items():
            listed = ", ".join(repr(word) for word in words)
            yield f"{listed} in column {name!r} stands for a gap"
        if self.gap_share:
            flagged = 0 if self.indicator is None else len(self.indicator.features_)
            more = f"; {flagged} columns flag them" if flagged else ""
            share = f"{100 * self.gap_share:.2g} % of its numbers are gaps"
            yield f"{share}, filled with the medians of train rows{more}"
        if self.encoder is not None:
            counts = [len(levels) for levels in self.encoder.categories_]
            listed = _listed(
                [f"{name} ({n})" for name, n in zip(self.categories, counts, strict=True)]
            )
            yield (
                f"levels of {listed} are columns of 0 and 1; rare and new ones share a column, or "
                "have none"
            )
        if self.dates:
            yield f"dates in {_listed(self.dates)} are numbers of days"
        for reason in dict.fromkeys(self.aside.values()):
            names = [name for name, why in self.aside.items() if why == reason]
            yield f"{_listed(names)} set aside, {reason}"

    def _measured(self, frame: pd.DataFrame, view: str, surprises: Surprises) -> Array:
        """Numbers and dates of rows, (n, p), NaN at gaps."""
        measured = [*self.numbers, *self.dates]
        part = frame if measured == list(self.names) else frame[measured]
        if all(getattr(dtype, "kind", "O") in "biuf" for dtype in part.dtypes):
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
            for place in np.flatnonzero(infinite.any(axis=0)):
                surprises[view, measured[place], "infinite"] += int(infinite[:, place].sum())
            values = np.where(infinite, np.nan, values)
        seen = () if self.indicator is None else self.indicator.features_
        gaps = np.isnan(values)
        gaps[gaps.all(axis=1)] = False
        for place in np.flatnonzero(gaps.any(axis=0)):
            what = "filled" if place in seen else "filled, without gaps in training"
            surprises[view, measured[place], what] += int(gaps[:, place].sum())
        return values

    def _numbers(self, column: pd.Series[Any], name: str, view: str) -> Array:
        """Turn one column of numbers or dates into floats."""
        if name in self.dates:
            return _days(column, self.formats.get(name), name=name, view=view)
        if column.dtype.kind == "m":
            return np.asarray(column.dt.total_seconds(), dtype=np.float64) / SECONDS
        if getattr(column.dtype, "kind", "O") in "biuf":
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        words = self.words.get(name, ())
        if words:
            column = column.mask(column.astype(str).str.strip().str.lower().isin(words))
        numbers = pd.to_numeric(column, errors="coerce")
        _refuse_other(column, numbers, name=name, view=view, what="number")
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan)

    def _levels(self, frame: pd.DataFrame) -> NDArray[np.object_]:
        """Levels of the categories as texts, (n, c), NaN at gaps."""
        levels = np.empty((len(frame), len(self.categories)), dtype=object)
        for place, name in enumerate(self.categories):
            levels[:, place] = _level_texts(frame[name])
        return levels

    def _count_new(self, levels: NDArray[np.object_], view: str, surprises: Surprises) -> None:
        encoder: Any = self.encoder
        for place, name in enumerate(self.categories):
            column = pd.Series(levels[:, place], dtype=object)
            new = column.notna() & ~column.isin(encoder.categories_[place].tolist())
            for level, count in column[new].value_counts().items():
                surprises[view, name, f"new level {shortened(repr(level), 30)}"] += int(count)


def _sorted_out(cls: type[RawColumns], frame: pd.DataFrame) -> Any:
    """Decide what each column is taken for."""
    names = [str(name) for name in frame.columns]
    numeric = np.array([getattr(dtype, "kind", "O") in "biuf" for dtype in frame.dtypes], bool)
    aside: dict[str, str] = {}
    kinds: dict[str, str] = {}
    formats: dict[str, str] = {}
    words: dict[str, tuple[str, ...]] = {}
    for place in np.flatnonzero(~numeric):
        column = frame.iloc[:, place]
        kind, detail = _kind(names[place], column)
        kinds[names[place]] = kind
        if kind == "aside":
            aside[names[place]] = detail
        elif detail:
            (formats if kind == "dates" else words)[names[place]] = detail  # type: ignore[index]
    places = np.flatnonzero(numeric)
    if len(places):
        part = frame if numeric.all() else frame.iloc[:, places]
        values = part.to_numpy(dtype=np.float64, na_value=np.nan)
        reasons = dict(_numbers_aside([names[place] for place in places], values))
        aside |= reasons
        kinds |= {names[place]: "numbers" for place in places if names[place] not in reasons}
    chosen = {
        kind: tuple(name for name in names if kinds.get(name) == kind)
        for kind in ("dates", "categories")
    }
    return cls(tuple(names), **chosen, formats=formats, words=words, aside=aside)


def _numbers_aside(names: Sequence[str], values: Array) -> Iterator[tuple[str, str]]:
    """Find columns of numbers that are empty or count the rows."""
    rows = len(values)
    some = values[: min(rows, 64)]
    with np.errstate(invalid="ignore"):
        whole = (some == np.round(some)).all(axis=0)
    for place in np.flatnonzero(np.isnan(some).all(axis=0)):
        if np.isnan(values[:, place]).all():
            yield names[place], "without a value in train rows"
    for place in np.flatnonzero(whole):
        column = values[:, place]
        if rows < FEW or not (column == np.round(column)).all():
            continue
        named = bool(ID_NAME.search(names[place]))
        counts = rows >= COUNTED and np.ptp(column) <= SPAN * rows
        if (named or counts) and len(np.unique(column)) == rows:
            yield names[place], "numbering the rows"


def _kind(name: str, column: pd.Series[Any]) -> tuple[str, Any]:
    """Take a column that is not stored as numbers for one kind, with its format or words."""
    values = column.dropna()
    if values.empty:
        return "aside", "without a value in train rows"
    kind = getattr(column.dtype, "kind", "O")
    if kind == "M":
        return "dates", None
    if kind == "m":
        return "numbers", None
    if kind == "c":
        raise DataError(f"column {name!r} holds complex numbers; give real and imaginary parts.")
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categories", None
    if values.map(lambda value: isinstance(value, bool | np.bool_)).all():
        return "numbers", None
    if values.map(lambda value: not np.isscalar(value) and not hasattr(value, "year")).any():
        return "aside", "holding lists or objects"
    if values.map(lambda value: hasattr(value, "year")).all():
        return "dates", None
    return _kind_of_texts(name, values.astype(str).str.strip())


def _kind_of_texts(name: str, texts: pd.Series[str]) -> tuple[str, Any]:
    numbers = pd.to_numeric(texts, errors="coerce").notna()
    others = {text.lower() for text in texts[~numbers].unique()}
    coded = texts.str.match(r"[+-]?0\d").any()  # such as 007
    if numbers.any() and others <= GAP_WORDS and not coded:
        return "numbers", tuple(sorted(others))
    if texts.str.match(DATE).all():
        return _date_format(texts)
    distinct = texts.nunique()
    named = bool(ID_NAME.search(name)) and distinct == len(texts)
    if len(texts) >= FEW and (named or distinct >= DISTINCT * len(texts)):
        return "aside", "differing in nearly every row"
    return "categories", None


def _date_format(texts: pd.Series[str]) -> tuple[str, Any]:
    fitting = {}
    for form in DATE_FORMATS:
        dates = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
        if dates.notna().all():
            fitting[form] = dates
    if not fitting:
        return "aside", "dates of no known form"
    (form, dates), *others = fitting.items()
    if any((dates != other).any() for _, other in others):
        return "aside", "dates whose day and month can't be told apart"
    return "dates", form


def _days(column: pd.Series[Any], form: str | None, *, name: str, view: str) -> Array:
    """Count days since 1970."""
    dates = pd.to_datetime(column, format=form, errors="coerce", utc=True)
    _refuse_other(column, dates, name=name, view=view, what="date")
    days = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds() / SECONDS
    return days.to_numpy(dtype=np.float64, na_value=np.nan)


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
