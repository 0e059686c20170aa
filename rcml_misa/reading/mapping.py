"""Tables larger than memory: prepared block by block and mapped from the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets import FileOptions, survey_labelled
from rcml_misa.datasets.files import (
    FileLayout,
    FileRows,
    SurveyedFile,
    arrays_in_place,
    block_rows,
    file_rows,
    reading_ahead,
)
from rcml_misa.exceptions import DataError, OptionError, shortened
from rcml_misa.reading.preparer import TablePreparer, expected_columns
from rcml_misa.reading.raw_columns import Surprises, describe_surprises
from rcml_misa.views import MultiView, RawTable, dense

__all__ = ["MappedTable", "MappingPlan", "open_mapped"]

SPARE = 2**28  # bytes of a disk that are left free
SMALL = (np.float32, np.float16, np.int16, np.uint16, np.int8, np.uint8)


@dataclass(frozen=True, eq=False)
class MappedTable:
    """A table of n train rows whose views lie on the disk.

    Attributes
    ----------
    views : MultiView
        Views of numbers, memory maps of float32 or float64; an estimator's `fit` goes through
        them block by block.
    labels : ndarray of shape (n,)
        Labels as `rcml_misa.load_dataset` reads them; scores where the task is a regression.
    weights : ndarray of shape (n,), optional
        Weights of the rows in training.
    preparer : TablePreparer
        What turned the file's columns into the views' numbers.
    rows, sampled : int
        Rows of the file, and of the sample that decided how it is read.
    notes : tuple of str
        Sentences about what was guessed, left out or changed in reading.
    """

    views: MultiView
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None
    preparer: TablePreparer
    rows: int
    sampled: int
    notes: tuple[str, ...] = ()


def open_mapped(
    path: str | Path, *, folder: str | Path, options: FileOptions | None = None
) -> MappedTable:
    """Open a file that is larger than memory for training.

    The file is read twice, in blocks of rows: once for labels and a sample of at most 50,000 rows,
    by which the columns are prepared as `TablePreparer` does, and once to write the views as
    numbers. Views that the file holds so (arrays of npz that are not packed, contiguous data sets
    of HDF5) are mapped where they stand.

    Parameters
    ----------
    path : str or Path
        A csv, tsv, txt, parquet, feather, npz or HDF5 file, a folder of parts of one table, or of
        one table per view whose rows come in the same order.
    folder : str or Path
        Where the views are written, one file each; it is made where it does not exist. The files
        stay, and are needed as long as the views are.
    options : FileOptions, optional
        Reading of the file, as in `rcml_misa.load_dataset`.

    Raises
    ------
    DataError, OptionError
        As by `rcml_misa.load_dataset`; if a row of the file does not fit what the sample tells,
        with its number; or the disk is too small.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     path = Path(place, "big.npz")
    ...     np.savez(path, face=np.eye(4), voice=np.ones((4, 2)), y=[0, 1, 0, 1])
    ...     table = open_mapped(path, folder=Path(place, "views"))
    ...     table.views, table.labels.tolist()
    (MultiView(4 samples: face 4, voice 2), [0, 1, 0, 1])
    """
    plan = MappingPlan.of(str(path), options or FileOptions())
    target = Path(folder)
    plan.check_space(target if target.exists() else target.absolute().parent)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{shortened(target)} can't be made ({error.strerror}); give another folder."
        ) from error
    return plan.write(target)


@dataclass(frozen=True, eq=False)
class MappingPlan:
    """What a sample of a file says of it, and how its views are written.

    Attributes
    ----------
    path : Path
    survey : SurveyedFile
    preparer : TablePreparer
        Fitted on the sample.
    about : dict of str to str
        Name, sha256 and size of the file, for the header of a model file.
    notes : tuple of str
        Sentences about what was guessed, left out or changed in reading.
    """

    path: Path
    survey: SurveyedFile
    preparer: TablePreparer
    about: Mapping[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        name: str,
        options: FileOptions,
        *,
        task: str | None = None,
        look: Callable[[int], None] | None = None,
    ) -> Self:
        """Look at all rows of a file of one's own; `look` is called with the rows so far."""
        survey, path, about = survey_labelled(name, options, task=task, look=look)
        views = survey.own.views
        if "sparse" in views.kinds:
            view = views.names[views.kinds.index("sparse")]
            raise DataError(
                f"{shortened(path, 120)} is too large to be held, and view {view!r} is sparse; "
                "save it dense, or hold it with RCML_MISA_LARGEST_GB."
            )
        preparer = TablePreparer().fit(views, kinds_of=_kinds_of_all(survey))
        notes = survey.own.notes
        if survey.sampled < survey.rows:
            first = (
                f"guessed and prepared from a sample of {survey.sampled} of {survey.rows} rows; "
                "the notes count rows of the sample"
            )
            notes = (first, *notes)
        return cls(path, survey, preparer, about, (*notes, *preparer.describe()))

    @property
    def layout(self) -> FileLayout:
        """Layout of the file without the columns that are set aside."""
        columns = self.preparer.columns_.values()
        return self.survey.own.layout.without(name for own in columns for name in own.kinds.aside)

    @property
    def bytes(self) -> int:
        """Bytes that the views take on the disk, at most."""
        widths = self._widths().values()
        return len(self.survey.labels) * sum(widths) * np.dtype(np.float64).itemsize

    def check_space(self, *places: Path) -> Path:
        """Choose the first folder whose disk has room for the views; none is a `DataError`."""
        needed = self.bytes
        free = {place: shutil.disk_usage(place).free - SPARE for place in places}
        for place, size in free.items():
            if size >= needed:
                return place
        most = max(free, key=lambda place: free[place])
        raise DataError(
            f"the views take {needed / 1e9:.3g} GB on the disk, of which {shortened(most, 80)} has "
            f"{max(free[most], 0) / 1e9:.3g} GB free; free some space, leave columns out with "
            "--leave-out, or give --out on another disk."
        )

    def write(self, folder: Path, *, look: Callable[[int], None] | None = None) -> MappedTable:
        """Write the views into a folder, and map them; `look` is called with the rows so far.

        Raises
        ------
        DataError
            If a block of rows does not fit what the sample tells, or can't be written.
        """
        in_place = self._in_place()
        survey, more = self.survey, tuple[str, ...]()
        labels, weights = survey.labels, survey.weights
        views = in_place
        if views is None:
            with ExitStack() as stack:
                writer = _Writer(folder, self._widths(), stack)
                surprises: Surprises = Surprises()
                blocks = stack.enter_context(closing(self._blocks(surprises)))
                for start, part, kinds in blocks:
                    rows = survey.trained[start : start + part.n_samples]
                    writer.write(part, rows, kinds)
                    if look is not None:
                        look(start + part.n_samples)
            views = writer.views()
            kept = np.concatenate(writer.kept)
            if not kept.all():
                labels, weights = labels[kept], None if weights is None else weights[kept]
            more = _told(survey, surprises, empty=int((~kept).sum()))
        return MappedTable(
            views, labels, weights, self.preparer, survey.rows, survey.sampled, self.notes + more
        )

    def _widths(self) -> dict[str, int]:
        """Count the columns of each view once it is prepared."""
        preparer = self.preparer
        return {
            name: preparer.columns_[name].width
            if name in preparer.columns_
            else preparer.given_widths_[name]
            for name in preparer.view_names_
        }

    def _blocks(
        self, surprises: Surprises
    ) -> Generator[tuple[int, MultiView, dict[str, Any]], None, None]:
        """Yield the number of the first row, the prepared views and their types, block by block."""
        own, preparer = self.survey.own, self.preparer
        layout, widths, texts = expected_columns(preparer, own.layout)
        layout = replace(layout, target=None, id=layout.id if self.survey.owner else None)
        size = block_rows(sum(widths.values()))
        rows = file_rows(self.path, layout, widths, rows=size, texts=texts, owner=self.survey.owner)
        with reading_ahead(rows) as blocks:
            for block in blocks:
                yield block.start, self._prepared(block, surprises), _types(block)

    def _prepared(self, block: FileRows, surprises: Surprises) -> MultiView:
        try:
            views, more = self.preparer.transform_counted(block.views, first_row=block.start)
        except (DataError, OptionError) as error:
            end = block.start + len(block) - 1
            raise DataError(f"{self.path}, rows {block.start} to {end}: {error}") from error
        surprises.update(more)
        return views

    def _in_place(self) -> MultiView | None:
        """Map the views where they stand, if they need no preparation in any row."""
        survey, own = self.survey, self.survey.own
        plain = all(columns.plain for columns in self.preparer.columns_.values())
        if not plain or not survey.trained.all() or own.layout.zero_is_missing:
            return None
        _, widths, _ = expected_columns(self.preparer, own.layout)
        arrays = arrays_in_place(self.path, own.layout, widths, survey.rows)
        if arrays is None:
            return None
        try:
            views = MultiView(arrays)
        except DataError:  # gaps in rows that the sample has not
            return None
        return views if views.present.any(axis=1).all() else None


def _kinds_of_all(survey: SurveyedFile) -> MultiView | None:
    """Decide what the columns of a sample are, knowing how many rows the file has.

    A column that numbers the rows has a range that speaks for it only beside the number of rows.
    """
    views = survey.own.views
    if survey.sampled == survey.rows:
        return None
    import pandas as pd

    tables: dict[str, Any] = {}
    for name, view, labels in zip(views.names, views.arrays, views.column_names, strict=True):
        if isinstance(view, RawTable):
            frame = view.frame
        else:
            columns = None if labels is None else list(labels)
            frame = pd.DataFrame(dense(view), columns=columns, copy=False)
        names = [str(label) for label in frame.columns]
        tables[name] = RawTable(frame.set_axis(names, axis=1), of=survey.rows)
    return MultiView(tables, raw=True)


def _types(block: FileRows) -> dict[str, Any]:
    """Choose the type that each view is stored in: float32 for numbers that it holds exactly."""
    types: dict[str, Any] = {}
    for name, view in block.views.items():
        dtypes = set(getattr(view, "dtypes", [getattr(view, "dtype", np.dtype(float))]))
        small = bool(dtypes) and all(dtype in SMALL for dtype in dtypes)
        types[name] = np.float32 if small else np.float64
    return types


class _Writer:
    """Files of views, one each, that grow block by block."""

    def __init__(self, folder: Path, widths: Mapping[str, int], stack: ExitStack) -> None:
        self._widths, self._rows = widths, 0
        self._types: dict[str, Any] = {}
        self._paths = {name: folder / f"view{place}" for place, name in enumerate(widths)}
        self._streams = {}
        self.kept: list[NDArray[np.bool_]] = []
        try:
            for name, path in self._paths.items():
                self._streams[name] = stack.enter_context(path.open("wb"))
        except OSError as error:
            raise _unwritten(folder, error) from error

    def write(self, views: MultiView, rows: NDArray[np.bool_], types: Mapping[str, Any]) -> None:
        """Write the rows of a block that a mask has, but for those without any view."""
        self._types = self._types or dict(types)
        present = np.asarray(views.present.any(axis=1))
        self.kept.append(present[rows])
        chosen = present & rows
        self._rows += int(chosen.sum())
        for name, array in views.items():
            values = dense(array) if chosen.all() else dense(array)[chosen]
            numbers = np.ascontiguousarray(values, dtype=self._types[name])
            try:
                self._streams[name].write(numbers.data)
            except OSError as error:
                raise _unwritten(self._paths[name].parent, error) from error

    def views(self) -> MultiView:
        """Map what was written."""
        if not self._rows:
            raise DataError("no row has a value in any view; give others.")
        return MultiView(
            {
                name: np.memmap(path, self._types[name], "r", 0, (self._rows, self._widths[name]))
                for name, path in self._paths.items()
            }
        )


def _unwritten(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"the views can't be written to {shortened(folder, 120)} ({error.strerror}); free some "
        "space, or give another folder."
    )


def _told(survey: SurveyedFile, surprises: Surprises, *, empty: int) -> tuple[str, ...]:
    """Say what was found in rows beside the sample."""
    notes = [f"{empty} of all rows have no value in any view and are left out"] * bool(empty)
    if survey.sampled < survey.rows:
        notes += [f"in all rows, {text}" for text in describe_surprises(surprises)]
    return tuple(notes)
