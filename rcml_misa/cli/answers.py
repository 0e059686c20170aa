"""Answers about the rows of a file, chunk by chunk, at constant memory."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from rcml_misa.datasets.files import FileLayout, FileRows, file_rows
from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

    from rcml_misa.estimators.base import EvidentialClassifier

__all__ = ["Tally", "answers", "mark_refused", "model_layout", "write_answers"]

DIGITS = "%.6g"


@dataclass
class Tally:
    """What is counted while rows are answered.

    Attributes
    ----------
    rows, refused : int
    uncertainty : array of float
        Of each row, eight bytes each.
    right : bytearray
        Of each row: 1 where the file has its label and the class is that, 0 where it is another,
        2 where the file has no label.
    """

    rows: int = 0
    refused: int = 0
    uncertainty: array[float] = field(default_factory=lambda: array("d"))
    right: bytearray = field(default_factory=bytearray)

    def threshold(self, coverage: float) -> float:
        """Largest uncertainty among the surest `coverage` of the rows."""
        values = np.frombuffer(self.uncertainty, dtype=np.float64)
        kept = max(int(np.ceil(coverage * len(values) - 1e-9)), 1)
        return float(np.partition(values, kept - 1)[kept - 1])

    def accuracy(self, limit: float | None = None) -> float | None:
        """Share of right answers among labelled rows, of those up to a limit of uncertainty."""
        right = np.frombuffer(self.right, dtype=np.uint8)
        some = right < 2
        if limit is not None:
            some &= np.frombuffer(self.uncertainty, dtype=np.float64) <= limit
        return float(right[some].mean()) if some.any() else None


def model_layout(model: EvidentialClassifier, header: Mapping[str, Any]) -> FileLayout:
    """Where a model's views lie in files; by their own names if its file does not tell.

    Raises
    ------
    DataError
        If the file tells views that the model does not have.
    """
    about = header.get("about")
    found = about.get("layout") if isinstance(about, dict) else None
    if found is None:
        return FileLayout({name: (name,) for name in model.view_names_})
    layout = FileLayout.from_json(found)
    if tuple(layout.views) != model.view_names_:
        raise DataError("the model file's views and its layout of files do not fit.")
    return layout


def answers(
    model: EvidentialClassifier,
    path: Path,
    layout: FileLayout,
    tally: Tally,
    *,
    per_view: bool,
    rows: int,
) -> Iterator[pd.DataFrame]:
    """Yield a table of answers per chunk of a file, and count them.

    Raises
    ------
    DataError
        If the file can't be read, or its rows are no rows of the model's views.
    """
    widths = dict(zip(model.view_names_, model.widths_, strict=True))
    known = {one: number for number, one in enumerate(model.classes_.tolist())}
    for chunk in file_rows(path, layout, widths, rows=rows):
        try:
            opinion = model.predict_opinion(chunk.views)
        except DataError as error:
            last = chunk.start + len(chunk) - 1
            raise DataError(f"{path}, rows {chunk.start} to {last}: {error}") from error
        table = opinion.to_frame(per_view=per_view)
        numbers = range(chunk.start, chunk.start + len(chunk))
        name, names = ("row", list(numbers)) if chunk.ids is None else (layout.id, chunk.ids)
        table.insert(0, name, names)
        tally.rows += len(chunk)
        tally.uncertainty.extend(opinion.uncertainty.tolist())
        tally.right.extend(_right(chunk, opinion.evidence.argmax(axis=1), known))
        yield table


def _right(chunk: FileRows, predicted: Any, known: Mapping[Any, int]) -> bytes:
    """Compare classes with labels, taken as `fit` took them: numbers where classes are numbers."""
    if chunk.labels is None:
        return b"\2" * len(chunk)
    numbers = not isinstance(next(iter(known)), str)
    return bytes(
        2 if label is None else int(known.get(label) == number)
        for label, number in zip(
            (_label(one, numbers) for one in chunk.labels.tolist()), predicted, strict=True
        )
    )


def _label(value: Any, numbers: bool) -> Any:
    """Return a label as a class would be written, or None where there is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or value != value or value == "":  # noqa: PLR0124
        return None
    try:
        return float(value) if numbers else str(value)
    except ValueError:
        return value


def write_answers(
    tables: Iterator[pd.DataFrame],
    stream: TextIO,
    tally: Tally,
    *,
    limit: float | None,
) -> None:
    """Write tables one after the other as csv; with a limit, mark rows above it as refused."""
    for number, table in enumerate(tables):
        if limit is not None:
            refused = table["uncertainty"] > limit
            table["refused"] = refused
            tally.refused += int(refused.sum())
        table.to_csv(stream, index=False, header=number == 0, float_format=DIGITS)


def mark_refused(written: TextIO, stream: TextIO, tally: Tally, *, limit: float) -> None:
    """Copy a csv of answers and mark the rows above a limit that only all of them tell."""
    lines, writer = csv.reader(written), csv.writer(stream, lineterminator="\n")
    writer.writerow([*next(lines), "refused"])
    for line, uncertainty in zip(lines, tally.uncertainty, strict=True):
        refused = uncertainty > limit
        tally.refused += refused
        writer.writerow([*line, refused])
