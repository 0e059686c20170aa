"""Content of a user's file: whole with labels, or some rows of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.files.layout import FileLayout
from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView

__all__ = ["FileRows", "OwnFile", "require_views"]


@dataclass(frozen=True, eq=False)
class OwnFile:
    """Content of a user's file of n rows.

    Attributes
    ----------
    labels : ndarray of str or int64 of shape (n,)
        Labels as they stand in the file; float64 where the task is a regression.
    layout : FileLayout
        Columns or arrays that were taken for views, target and identifier.
    notes : tuple of str
        Sentences about what was guessed, left out or changed in reading; each command shows them.
    folds : mapping of str to ndarray of int, optional
        The file's own split: row numbers of ``"train"``, ``"test"`` and perhaps ``"valid"``.
    groups : ndarray of shape (n,), optional
        Group of each row.
    weights : ndarray of shape (n,), optional
        Weight of each row in training, 0 or more.
    """

    views: MultiView
    labels: NDArray[Any]
    layout: FileLayout
    ids: NDArray[Any] | None = None
    notes: tuple[str, ...] = ()
    task: Literal["classification", "regression"] = "classification"
    folds: Mapping[str, NDArray[np.int64]] | None = None
    groups: NDArray[Any] | None = None
    weights: NDArray[np.float64] | None = None

    def take(self, rows: NDArray[np.int64], note: str) -> OwnFile:
        """Keep some rows, in their order, with a note about the others."""

        def cut(values: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if values is None else values[rows]

        places = np.full(len(self.labels), -1)
        places[rows] = np.arange(len(rows))
        folds = {part: places[numbers] for part, numbers in (self.folds or {}).items()}
        return replace(
            self,
            views=self.views.take(rows),
            labels=self.labels[rows],
            ids=cut(self.ids),
            groups=cut(self.groups),
            weights=cut(self.weights),
            folds={part: numbers[numbers >= 0] for part, numbers in folds.items()} or None,
            notes=(*self.notes, note),
        )


@dataclass(frozen=True)
class FileRows:
    """Some consecutive rows of a file.

    `start` is the number of the first, from 0; `views` are arrays by name, None where the file
    lacks one; `labels` stand as in the file, None where it lacks the target; `roles` are columns of
    the split, groups and weights by name, as they stand in the file, where they were asked for.
    """

    start: int
    views: Mapping[str, Any]
    ids: list[str] | None
    labels: NDArray[Any] | None
    roles: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return next(int(view.shape[0]) for view in self.views.values() if view is not None)


def require_views(path: Path, layout: FileLayout, present: Collection[str]) -> None:
    """Refuse a file that has none of a model's views."""
    if not present:
        first = next(iter(layout.views.values()))[0]
        raise DataError(
            f"{path} has none of the model's views ({', '.join(layout.views)}); it needs columns "
            f"or arrays such as {first!r}."
        )
