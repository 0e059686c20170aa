"""Tables of any columns to views of numbers, by what train rows say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from rcml_misa.callbacks import CallbackSupport, serves_callbacks
from rcml_misa.exceptions import DataError
from rcml_misa.options import check_options
from rcml_misa.reading.raw_columns import RawColumns, Surprises, listed
from rcml_misa.views import (
    ColumnNames,
    MultiView,
    RawTable,
    as_multiview,
    holds_views,
    match_columns,
    with_absent_views,
)
from rcml_misa.views.column_kinds import ColumnKinds

if TYPE_CHECKING:
    from rcml_misa.datasets.files import FileLayout

__all__ = ["TablePreparer", "describe_preparation", "expected_columns"]


class TablePreparer(  # type: ignore[call-arg]
    CallbackSupport,
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
    auto_wrap_output_keys=None,  # views are no single frame, whatever set_output asks for
):
    """Turn tables with gaps, texts, categories and dates into views of numbers.

    What train rows say decides: gaps in a row are filled with medians, and a column of 0 and 1
    flags them for each column that had some; texts and categories become columns of 0 and 1, one
    per level; dates are numbers of days; columns that identify rows, and columns without a value,
    are set aside. A row that lacks a whole view goes on lacking it. Sparse views, sequences and
    texts that are views of their own pass.

    Put it before an estimator in a `ViewPipeline` (or in scikit-learn's ``Pipeline``): estimators
    fill no gaps themselves.

    Parameters
    ----------
    views : list, dict or str, optional
        Views of one table, as in `MultiView.from_array`.
    indicators : bool
        Add a column for each column of numbers with gaps in train rows.
    levels : int
        Columns of one category at most; its rarer levels share the last of them.

    Attributes
    ----------
    columns_ : dict of str to RawColumns
        What is done to each view that is a table, of the views that remain.
    matched_ : dict of str to tuple
        Names of the columns of a view, where it has some, by which new ones are matched.
    given_widths_ : dict of str to int
        Columns of each view that `fit` saw.
    view_names_ : tuple of str
        Views that `transform` returns.
    aside_ : tuple of str
        Views of which no column is left.
    n_features_in_ : int
        Columns of all views that `fit` saw.
    feature_names_in_ : ndarray of str
        Their names, where X was one table whose columns have names.

    Raises
    ------
    DataError
        If X is no set of views, or none of its columns can be read.

    Examples
    --------
    >>> table = pd.DataFrame({"a__age": [41.0, np.nan, 60.0], "a__job": ["x", "y", "x"]})
    >>> preparer = TablePreparer(views="__").fit(table)
    >>> preparer.transform(table)["a"].tolist()
    [[41.0, 0.0, 1.0, 0.0], [50.5, 1.0, 0.0, 1.0], [60.0, 0.0, 1.0, 0.0]]
    >>> preparer.get_feature_names_out().tolist()
    ['a__age', 'a__age missing', 'a__job_x', 'a__job_other']
    """

    def __init__(self, *, views: Any = None, indicators: bool = True, levels: int = 50) -> None:
        self.views = views
        self.indicators = indicators
        self.levels = levels

    @serves_callbacks
    def fit(self, X: Any, y: Any = None, *, kinds_of: MultiView | None = None) -> Self:  # noqa: ARG002
        """Learn from train rows what each column is, its median or its levels; y plays no part.

        With `kinds_of`, views of more rows, these say what each column is: numbers, a date, a
        category. Medians and levels are those of the rows of X all the same.
        """
        check_options(self)
        views = as_multiview(X, views=self.views, raw=True)
        self.columns_: dict[str, RawColumns] = {}
        self.matched_: dict[str, ColumnNames] = {}
        names: list[str] = []
        aside: list[str] = []
        for name, view, labels, present in zip(
            views.names, views.arrays, views.column_names, views.present.T, strict=True
        ):
            if not isinstance(view, np.ndarray | RawTable):
                names.append(name)
                continue
            titles = [str(label) for label in labels or range(view.shape[1])]
            columns = RawColumns.fit(
                _present(view, titles, present),
                view=name,
                indicators=self.indicators,
                levels=self.levels,
                kinds=_kinds((kinds_of or views)[name]),
            )
            self.columns_[name] = columns
            if labels is not None:  # columns that are set aside are not asked for again
                gone = columns.kinds.aside
                self.matched_[name] = tuple(label for label in labels if str(label) not in gone)
            (names if columns.width else aside).append(name)
        if not names:
            raise DataError(
                "X has no column to learn from: all of them are empty or differ in every row; "
                "give measurements or categories."
            )
        self.given_widths_ = dict(zip(views.names, views.widths, strict=True))
        if holds_views(X):
            self.n_features_in_ = sum(views.widths)
            if hasattr(self, "feature_names_in_"):  # of an earlier fit
                del self.feature_names_in_
        else:
            validate_data(self, X, skip_check_array=True)
        self.view_names_, self.aside_ = tuple(names), tuple(aside)
        return self

    def transform(self, X: Any) -> MultiView:
        """Turn rows into views of numbers; a `DataError` tells columns that do not match."""
        return self.transform_counted(X)[0]

    def transform_counted(self, X: Any, *, first_row: int = 0) -> tuple[MultiView, Surprises]:
        """Turn rows into views of numbers, and count the values that needed it, by their reason.

        Errors count rows from `first_row`.
        """
        check_is_fitted(self)
        views = self._given(X)
        surprises: Surprises = Counter()
        arrays: dict[str, Any] = {}
        for name in self.view_names_:
            columns, view = self.columns_.get(name), views[name]
            if columns is not None and views.present[:, views.names.index(name)].any():
                frame = self._frame(name, view, columns)
                arrays[name], more = columns.transform(frame, name, first_row=first_row)
                surprises.update(more)
            elif columns is not None:  # missing for all rows
                arrays[name] = np.broadcast_to(np.nan, (views.n_samples, columns.width))
            else:
                arrays[name] = view
        return views.with_arrays(arrays), surprises

    def _given(self, X: Any) -> MultiView:
        """Put views, and the columns of those that have names, into the order of fit."""
        expected, widths = tuple(self.given_widths_), tuple(self.given_widths_.values())
        if self.views is None:
            X = with_absent_views(X, names=expected, widths=widths, raw=True)
        views = as_multiview(X, views=self.views, raw=True).arranged(expected, widths)
        orders = {}
        for name, labels in zip(views.names, views.column_names, strict=True):
            gone = self.columns_[name].kinds.aside if name in self.matched_ else {}
            if labels is not None and gone and name not in self.aside_:
                orders[name] = [n for n, label in enumerate(labels) if str(label) not in gone]
        seen = [self.matched_.get(name) for name in expected]
        return match_columns(views.with_columns(orders), seen)

    def _frame(self, name: str, view: Any, columns: RawColumns) -> pd.DataFrame:
        """Name the columns of a view, which are all that fit saw or those that it needs."""
        every = columns.kinds.names
        needed = tuple(label for label in every if label not in columns.kinds.aside)
        fitting = {len(every): every, len(needed): needed}
        if view.shape[1] not in fitting:
            raise DataError(
                f"view {name!r} has {view.shape[1]} columns but fit saw {len(every)}; give the "
                "same columns."
            )
        return _frame(view, fitting[view.shape[1]])

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Columns of each view that are to be read as they are written."""
        return {name: columns.texts for name, columns in self.columns_.items()}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        return tags

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Name the columns of the views that are tables, as ``view__column``.

        `input_features`, where given, are the names of the columns that fit saw, and change
        nothing.
        """
        check_is_fitted(self)
        seen = getattr(self, "feature_names_in_", None)
        if input_features is not None and seen is not None and [*input_features] != [*seen]:
            raise DataError("input_features are not the columns that fit saw; leave them out.")
        names = [
            column if column.startswith(f"{name}__") else f"{name}__{column}"
            for name in self.view_names_
            if name in self.columns_
            for column in self.columns_[name].outputs()
        ]
        return np.array(names, dtype=object)

    def describe(self) -> list[str]:
        """Say what was learnt, a sentence for each way of doing: fill, encode, set aside."""
        check_is_fitted(self)
        titles = Counter(name for view in self.columns_.values() for name in view.kinds.names)

        def named(view: str, names: Iterable[str]) -> list[str]:
            if view not in self.matched_:
                return [f"column {name} of view {view}" for name in names]
            return [name if titles[name] == 1 else f"{name} of view {view}" for name in names]

        columns = self.columns_.items()
        words: dict[tuple[str, ...], list[str]] = {}
        reasons: dict[str, list[str]] = {}
        for view, own in columns:
            for name, seen in own.kinds.words.items():
                words.setdefault(tuple(seen), []).extend(named(view, [name]))
            for name, reason in own.kinds.aside.items():
                reasons.setdefault(reason, []).extend(named(view, [name]))
        sentences = [
            f"{listed([repr(word) for word in some], 3)} among the numbers of {listed(names)} "
            f"{'is' if len(some) == 1 else 'are'} read as gaps"
            for some, names in words.items()
        ]
        infinite = [name for view, own in columns for name in named(view, own.infinite)]
        if infinite:
            sentences.append(f"infinite numbers of {listed(infinite)} are read as gaps")
        shares = [f"{view} {100 * own.gap_share:.2g} %" for view, own in columns if own.gap_share]
        if shares:
            flags = sum(len(own.flagged) for _, own in columns)
            flagged = f", and flagged by columns of 0 and 1 ({flags} in all)" if flags else ""
            sentences.append(
                f"gaps among numbers are filled with the medians of train rows{flagged}: "
                f"{listed(shares)}"
            )
        levels = [
            f"{name} ({count})"
            for view, own in columns
            for name, count in zip(
                named(view, own.level_counts()), own.level_counts().values(), strict=True
            )
        ]
        if levels:
            sentences.append(
                f"levels of {listed(levels)} are columns of 0 and 1; rare and new ones share a "
                "column, or have none"
            )
        dates = [name for view, own in columns for name in named(view, own.kinds.dates)]
        if dates:
            sentences.append(f"dates in {listed(dates)} are numbers of days")
        sentences += [f"{listed(names)} set aside, {reason}" for reason, names in reasons.items()]
        if self.aside_:
            has = "view {} has" if len(self.aside_) == 1 else "views {} have"
            end = "is" if len(self.aside_) == 1 else "are"
            gone = listed(self.aside_)
            sentences.append(f"{has.format(gone)} no column left and {end} set aside")
        return sentences


def expected_columns(
    preparer: TablePreparer, layout: FileLayout
) -> tuple[FileLayout, dict[str, int], dict[str, tuple[str, ...]]]:
    """Say what is read of a file for a preparer: columns and views that are set aside are not.

    Returns
    -------
    layout : FileLayout
        Views of `layout` that the preparer asks for.
    widths : dict of str to int
        Their columns in a file.
    texts : dict of str to tuple of str
        Columns that are to be read as they are written.
    """
    widths = dict(preparer.given_widths_)
    widths |= {view: len(layout.views[view]) for view in preparer.matched_}
    widths = {view: widths[view] for view in preparer.view_names_}
    views = {view: names for view, names in layout.views.items() if view in widths}
    return replace(layout, views=views), widths, preparer.texts


def describe_preparation(views: MultiView) -> list[str]:
    """Say what a `TablePreparer` does to raw tables, by all their rows; nothing without any.

    Examples
    --------
    >>> views = MultiView({"a": pd.DataFrame({"sex": ["f", "m"]})}, raw=True)
    >>> describe_preparation(views)[0].partition(";")[0]
    'levels of sex (2) are columns of 0 and 1'
    """
    return TablePreparer().fit(views).describe() if "raw" in views.kinds else []


def _present(
    view: NDArray[Any] | RawTable, names: Sequence[str], present: NDArray[np.bool_]
) -> pd.DataFrame:
    """Return the rows that have a view, with these names of columns."""
    frame = _frame(view, names)
    return frame if present.all() else frame[present]


def _kinds(view: Any) -> ColumnKinds | None:
    """Return what the columns of a raw table are; numbers without gaps are seen to by `fit`."""
    return view.kinds if isinstance(view, RawTable) else None


def _frame(view: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return a table's frame with these names of columns."""
    frame = view.frame if isinstance(view, RawTable) else pd.DataFrame(view, copy=False)
    return frame.set_axis(list(names), axis=1)
