"""Rows of a separate test file, matched by name and put behind those of the train file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse, vstack

from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.guesses import is_guess
from rcml_misa.datasets.files.roles import with_split_notes
from rcml_misa.exceptions import DataError, shortened
from rcml_misa.views import MultiView, RawTable

__all__ = ["with_test_rows"]


def with_test_rows(own: OwnFile, test: OwnFile, *, path: Path, test_path: Path) -> OwnFile:
    """Put the rows of a test file behind those of a train file, with both as the set's own split.

    Views and their columns are matched by name, in any order; columns that the train file lacks
    are left out and noted.

    Raises
    ------
    DataError
        If the test file lacks a view or a column, or has a class that the train file lacks.
    """
    notes = [*own.notes, *(note for note in test.notes if not is_guess(note))]
    views = {}
    for view, columns in own.layout.views.items():
        array, extra = _matched(own, test, view, path=path, test_path=test_path)
        views[view] = _stacked(own.views[view], array, columns)
        if extra:
            notes.append(
                f"{test_path}: {len(extra)} columns of view {view} that {path} lacks, such as "
                f"{extra[0]!r}, are left out"
            )
    if more := [view for view in test.layout.views if view not in own.layout.views]:
        notes.append(f"{test_path}: view {more[0]}, which {path} lacks, is left out")
    count, tested = len(own.labels), len(test.labels)
    joined = replace(
        own,
        views=MultiView(views),
        labels=_labels(own, test, path=path, test_path=test_path),
        ids=_joined(own.ids, test.ids),
        groups=_joined(own.groups, test.groups),
        weights=_joined(own.weights, test.weights),
        folds={"train": np.arange(count), "test": np.arange(count, count + tested)},
        notes=tuple(dict.fromkeys(notes)),
    )
    return with_split_notes(joined)


def _matched(
    own: OwnFile, test: OwnFile, view: str, *, path: Path, test_path: Path
) -> tuple[Any, list[str]]:
    """Bring a view of the test file into the train file's order, and list its further columns."""
    columns = own.layout.views[view]
    if view not in test.layout.views:
        raise DataError(
            f"{test_path} lacks the view {view!r} of {path} (such as {columns[0]!r}); add it."
        )
    given, array = test.layout.views[view], test.views[view]
    lacking = [column for column in columns if column not in given]
    if lacking:
        raise DataError(
            f"{test_path} lacks the column {shortened(lacking[0], 60)!r} of view {view!r} "
            f"({len(lacking)} in all), which {path} has; add it."
        )
    if given != columns:
        places = [given.index(column) for column in columns]
        array = test.views.with_columns({view: places})[view]
    widths = [int(values.shape[1]) for values in (own.views[view], array)]
    if widths[0] != widths[1]:
        raise DataError(
            f"{test_path}: view {view!r} has {widths[1]} columns, but {widths[0]} in {path}; give "
            "both the same columns."
        )
    return array, [column for column in given if column not in columns]


def _stacked(first: Any, second: Any, columns: tuple[str, ...]) -> Any:
    """Stack the rows of one view of two files."""
    if isinstance(first, RawTable) or isinstance(second, RawTable):
        import pandas as pd

        frames = [
            part.frame if isinstance(part, RawTable) else pd.DataFrame(part, columns=list(columns))
            for part in (first, second)
        ]
        return RawTable(pd.concat(frames, ignore_index=True))
    if issparse(first) or issparse(second):
        return csr_array(vstack([csr_array(first), csr_array(second)]))
    return np.concatenate([first, second])


def _joined(first: NDArray[Any] | None, second: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if first is None or second is None else np.concatenate([first, second])


def _labels(own: OwnFile, test: OwnFile, *, path: Path, test_path: Path) -> NDArray[Any]:
    """Join labels: texts where either file has texts; each class of the test file is trained."""
    if own.task == "regression":
        return np.concatenate([own.labels, test.labels])
    first, second = own.labels, test.labels
    if first.dtype.kind != second.dtype.kind:
        first, second = first.astype(str), second.astype(str)
    unseen = np.setdiff1d(second, first)
    if len(unseen):
        label = shortened(repr(unseen[0].item()), 60)
        raise DataError(
            f"{test_path}: the class {label} ({len(unseen)} in all) has no row in {path}; correct "
            "its spelling, or leave its rows out."
        )
    return np.concatenate([first, second])
