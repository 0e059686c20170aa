"""A look at all rows of a large table: labels, weights and split of each, and a sample of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.content import FileRows, OwnFile
from rcml_misa.datasets.files.labels import LabelCodes
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.roles import (
    flat_values,
    read_parts,
    read_target,
    read_weights,
    refuse_lacking,
    refuse_weightless,
)
from rcml_misa.exceptions import DataError

__all__ = ["RowSurvey", "SurveyedFile", "block_rows"]

SAMPLE_ROWS = 50_000
SAMPLE_BYTES = 2**27
BLOCK_ROWS = 65_536
BLOCK_BYTES = 2**25
LEAST_ROWS = 256  # of a block, however wide the table is
NUMBER = 8  # bytes


@dataclass(frozen=True, eq=False)
class SurveyedFile:
    """What is known of a file without holding it.

    Attributes
    ----------
    own : OwnFile
        A sample of rows, as if they were the file.
    rows : int
        Rows of the file.
    sampled : int
        Rows of the sample.
    labels : ndarray of shape (n,)
        Labels of the rows to train on, in the form of `OwnFile.labels`.
    trained : ndarray of bool of shape (rows,)
        Mask of these n rows: no test row of the file's own split, of a weight above 0.
    weights : ndarray of shape (n,), optional
        Their weights.
    owner : str, optional
        Table of a folder that holds the labels.
    """

    own: OwnFile
    rows: int
    sampled: int
    labels: NDArray[Any]
    trained: NDArray[np.bool_]
    weights: NDArray[np.float64] | None = None
    owner: str | None = None


def block_rows(columns: int) -> int:
    """Count the rows of so many columns that are read at once: 32 MB of numbers, 65,536 at most.

    Examples
    --------
    >>> block_rows(3), block_rows(300), block_rows(10**6)
    (65536, 13981, 256)
    """
    return max(LEAST_ROWS, min(BLOCK_ROWS, BLOCK_BYTES // (NUMBER * max(columns, 1))))


class RowSurvey:
    """Collector of what all rows of a file say, block by block.

    Labels, weights and the split of every row are kept, and a sample of evenly spread rows: every
    row of a file of at most `SAMPLE_ROWS` rows, else every second, fourth, eighth one and so on.

    Parameters
    ----------
    path : Path
        File, for sentences.
    options : FileOptions
    look : callable, optional
        Called with the rows that were read so far after each block.

    Attributes
    ----------
    owner : str or None
        Table of a folder that holds the labels, whose rows those of the others are joined to.
    """

    def __init__(
        self, path: Path, options: FileOptions, *, look: Callable[[int], None] | None = None
    ) -> None:
        self.path, self.options = path, options
        self.rows = 0
        self.owner: str | None = None
        self._look = look
        self._roles = Roles.of(options)
        self._labels: LabelCodes | None = None
        self._scores: list[NDArray[np.float64]] = []
        self._weights: list[NDArray[np.float64]] = []
        self._trained: list[NDArray[np.bool_]] = []
        self._parts: Counter[str] = Counter()
        self._sample: list[FileRows] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._step = 1

    def gather(self, blocks: Iterator[FileRows], target: str) -> FileRows:
        """Go through all blocks of a file, and return the sample.

        Raises
        ------
        DataError
            If a row has no label, or no part of the split, or its weight is none; with its number.
        """
        for block in blocks:
            self.add(block.labels, block.roles, target=target)
            self._thin(block)
            if self._look is not None:
                self._look(self.rows)
        return _joined(self._sample)

    def add(self, labels: Any, roles: Mapping[str, Any], *, target: str) -> None:
        """Take the labels of the next rows, and their columns of roles."""
        start, roles_of = self.rows, self._roles
        facts: dict[str, Any] = {"path": self.path, "first_row": start}
        flat = flat_values(labels, name=target, path=self.path)
        if not len(flat):
            raise DataError(f"{self.path} has no rows, only names; give a file with rows.")
        self.rows += len(flat)
        if self.options.regression:
            self._scores.append(read_target(flat, self.options, name=target, **facts))
        else:
            self._labels = self._labels or LabelCodes(target, self.path)
            self._labels.add(flat, start)
        trained = np.ones(len(flat), dtype=bool)
        columns = {name: flat_values(roles[name], name=name, path=self.path) for name in roles}
        for name, values in columns.items():
            if len(values) != len(flat):
                raise DataError(
                    f"{self.path}: {name!r} has {len(values)} values, but there are {len(flat)} "
                    "labels; give one for each row."
                )
        if roles_of.split is not None:
            parts = read_parts(columns[roles_of.split], name=roles_of.split, **facts)
            self._parts.update(parts.tolist())
            trained &= parts != "test"
        if roles_of.weight is not None:
            weights = read_weights(columns[roles_of.weight], name=roles_of.weight, **facts)
            self._weights.append(weights)
            trained &= weights > 0
        self._trained.append(trained)

    def leave_out(self, rows: NDArray[np.int64]) -> None:
        """Leave rows out that are no train rows by what else the file says."""
        trained = np.concatenate(self._trained)
        trained[rows] = False
        self._trained = [trained]

    def evenly(self, rows: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        """Choose the rows of a sample, evenly spread over those that are given."""
        most = _most_rows(width)
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]
        self._numbers = [rows]
        return rows

    def result(self, own: OwnFile) -> SurveyedFile:
        """Put together what was read of all rows, and of the sample."""
        if self._roles.split is not None:
            refuse_lacking(self._parts, name=self._roles.split, path=self.path)
        trained = np.concatenate(self._trained)
        weights = None
        if self._roles.weight is not None:
            weights = np.concatenate(self._weights)[trained]
            refuse_weightless(weights, name=self._roles.weight, path=self.path)
        if self._labels is not None:
            labels = self._labels.labels(trained)
        else:
            labels = np.concatenate(self._scores)[trained]
        count = sum(map(len, self._numbers))
        return SurveyedFile(own, self.rows, count, labels, trained, weights, self.owner)

    def _thin(self, block: FileRows) -> None:
        """Keep every so manieth row, and fewer of all once there are too many."""
        numbers = np.arange(block.start, block.start + len(block))
        self._keep(block, numbers)
        width = sum(view.shape[1] for view in block.views.values() if view is not None)
        most = _most_rows(width)
        while sum(map(len, self._numbers)) > most:
            self._step *= 2
            parts = list(zip(self._sample, self._numbers, strict=True))
            self._sample, self._numbers = [], []
            for part, places in parts:
                self._keep(part, places)

    def _keep(self, part: FileRows, numbers: NDArray[np.int64]) -> None:
        places = np.flatnonzero(numbers % self._step == 0)
        if len(places):
            self._sample.append(_taken(part, places))
            self._numbers.append(numbers[places])


def _most_rows(width: int) -> int:
    """Bound the rows of a sample of so many columns."""
    return max(1, min(SAMPLE_ROWS, SAMPLE_BYTES // (NUMBER * max(width, 1))))


def _taken(part: FileRows, places: NDArray[np.int64]) -> FileRows:
    """Copy some rows, so that the block that they come from can be let go."""

    def cut(values: Any) -> Any:
        if values is None:
            return None
        if isinstance(values, list):
            return [values[place] for place in places.tolist()]
        return values.iloc[places] if hasattr(values, "iloc") else np.asarray(values)[places]

    return replace(
        part,
        views={name: cut(view) for name, view in part.views.items()},
        ids=cut(part.ids),
        labels=cut(part.labels),
        roles={name: cut(values) for name, values in part.roles.items()},
    )


def _joined(parts: list[FileRows]) -> FileRows:
    """Put parts of a file, tables all of them, one behind the other."""
    import pandas as pd

    first = parts[0]
    views: dict[str, Any] = {}
    for name in first.views:
        frames = [part.views[name] for part in parts]
        views[name] = pd.concat(frames, ignore_index=True)
    ids = None if first.ids is None else [name for part in parts for name in part.ids or []]
    return FileRows(
        0,
        views,
        ids,
        np.concatenate([np.asarray(part.labels) for part in parts]),
        {
            name: np.concatenate([np.asarray(part.roles[name]) for part in parts])
            for name in first.roles
        },
    )
