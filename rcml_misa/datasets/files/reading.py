"""A user's own file, or folder of tables: whole with labels, or in chunks of rows to predict."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np

from rcml_misa import storage
from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.arrays import read_arrays, rows_of_arrays
from rcml_misa.datasets.files.check import describe_similarities
from rcml_misa.datasets.files.containers import is_array_file
from rcml_misa.datasets.files.content import FileRows, OwnFile
from rcml_misa.datasets.files.frames import is_frame_file, table_files
from rcml_misa.datasets.files.gaps import (
    describe_zero_rows,
    without_zero_rows,
    zeros_to_missing,
)
from rcml_misa.datasets.files.guesses import guess_notes
from rcml_misa.datasets.files.joining import with_test_rows
from rcml_misa.datasets.files.labels import note_labels
from rcml_misa.datasets.files.layout import SEPARATOR, FileLayout
from rcml_misa.datasets.files.survey import RowSurvey, SurveyedFile
from rcml_misa.datasets.files.tables import (
    is_parted,
    read_folder,
    read_table,
    rows_of_folder,
    rows_of_table,
)
from rcml_misa.exceptions import DataError, OptionError, RcmlMisaError
from rcml_misa.views import RawTable

__all__ = [
    "content_sha256",
    "file_bytes",
    "file_rows",
    "file_sha256",
    "is_own_file",
    "read_own_file",
    "survey_own_file",
]

KINDS = "csv, tsv, txt, parquet, feather, xlsx, npz, mat or hdf5, or a folder of one table per view"
ROWS = 2048


def is_own_file(name: str) -> bool:
    """Tell a path from the name of a data set: ``faces.csv`` and ``data/faces`` are paths."""
    path = Path(name)
    named = is_frame_file(path) or is_array_file(path) or name in (".", "..")
    return named or "/" in name or "\\" in name or os.path.isdir(name)


def file_sha256(path: Path, test_file: str | None = None) -> str:
    """Compute the sha256 of a file; of a folder, of the names and sha256 of its tables.

    With a `test_file`, the sha256 of those of both.
    """
    if test_file is not None:
        return _text_sha256(f"{file_sha256(path)} {file_sha256(Path(test_file))}")
    try:
        if path.is_dir():
            return storage.files_sha256(sorted(table_files(path)))
        return storage.file_sha256(path)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its name.") from error


def file_bytes(path: Path) -> int:
    """Tell the size of a file, or of a folder's tables."""
    try:
        paths = table_files(path) if path.is_dir() else [path]
        return sum(each.stat().st_size for each in paths)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its name.") from error


def content_sha256(path: Path, options: FileOptions) -> str:
    """Compute the sha256 of what is read: of the files, and of the options that change it.

    Without such options it is that of the file.
    """
    sha256 = file_sha256(path, options.test_file)
    unchanging = ("accept_leak", "test_file")
    given = {key: value for key, value in asdict(options).items() if value}
    given = {key: value for key, value in given.items() if key not in unchanging}
    return _text_sha256(f"{sha256} {json.dumps(given, sort_keys=True)}") if given else sha256


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_own_file(path: Path, options: FileOptions) -> OwnFile:
    """Read views and labels from a file or folder of any known kind, and those of its test file.

    One that is missing, damaged or of an unknown kind, or whose rows are no views and labels, is a
    DataError; options that name what does not exist are an OptionError. The notes begin with what
    was guessed: target, id and views that no option names.
    """
    if options.test_file is None:
        return _read(path, options)
    test_path = Path(options.test_file)
    if options.split_column is not None:
        raise OptionError(
            "--split-column and --test-file both say which rows are test rows; give one of them."
        )
    own = _read(path, options)
    if test_path.resolve() == path.resolve():
        raise OptionError(f"--test-file {test_path} is the train file itself; give another file.")
    layout = own.layout
    alike = replace(options, test_file=None, target=layout.target, id=layout.id)
    return with_test_rows(own, _read(test_path, alike), path=path, test_path=test_path)


def survey_own_file(
    path: Path, options: FileOptions, *, look: Callable[[int], None] | None = None
) -> SurveyedFile:
    """Look at all rows of a file or folder that is too large to be held, in blocks.

    A sample of rows is read as `read_own_file` reads a file. `look` is called with the rows that
    were read so far.

    Raises
    ------
    DataError, OptionError
        As by `read_own_file`; if a row has no label, with its number; or the file is of a kind
        that is not read row by row.
    """
    if options.test_file is not None:
        raise OptionError(
            f"{path} is too large to be held; leave --test-file out: a fit reads no test rows."
        )
    suffix = path.suffix.lower()
    if suffix in (".mat", ".xlsx") and not path.is_dir():
        raise DataError(
            f"{path} is too large to be held, and a {suffix[1:]} file is not read row by row; save "
            "it as parquet, csv, npz or HDF5, or hold it with RCML_MISA_LARGEST_GB."
        )
    survey = RowSurvey(path, options, look=look)
    return survey.result(_read(path, options, survey))


def _read(path: Path, options: FileOptions, survey: RowSurvey | None = None) -> OwnFile:
    """Read one file or folder; with a `survey` a sample of its rows."""
    _refuse_unknown(path)
    table = read_table if is_frame_file(path) else read_arrays
    try:
        read = read_folder if path.is_dir() else table
        own = _with_gaps(read(path, options, survey), options)
    except RcmlMisaError as error:
        text = str(error)
        raise type(error)(text if str(path)[:100] in text else f"{path}: {text}") from error
    kind: Literal["table", "column", "array"] = (
        ("column" if is_parted(path, options) else "table")
        if path.is_dir()
        else ("column" if is_frame_file(path) else "array")
    )
    own = _without_empty_rows(own)
    guesses = guess_notes(own.layout, options, kind)
    words = note_labels(own.labels, str(own.layout.target))
    alike = (f"{what}. {advice}" for what, advice in describe_similarities(own.views))
    return replace(own, notes=(*guesses, *own.notes, *words, *alike))


def _without_empty_rows(own: OwnFile) -> OwnFile:
    """Leave out the rows that have no value in any view, but for what identifies them."""
    present = own.views.present.copy()
    for place, view in enumerate(own.views.arrays):
        if isinstance(view, RawTable) and view.kinds.aside:
            read = [name for name in view.frame if str(name) not in view.kinds.aside]
            present[:, place] = view.frame[read].notna().any(axis=1).to_numpy()
    empty = np.flatnonzero(~present.any(axis=1))
    if not len(empty) or len(empty) == len(present):
        return own
    rows = f"{len(empty)} rows have" if len(empty) > 1 else "1 row has"
    first = f" (the first is row {empty[0]})" if len(empty) > 1 else f" (row {empty[0]})"
    end = "are" if len(empty) > 1 else "is"
    note = f"{rows} no value in any view{first} and {end} left out"
    return own.take(np.flatnonzero(present.any(axis=1)), note)


def _with_gaps(own: OwnFile, options: FileOptions) -> OwnFile:
    """Notice rows of zeros, or mark them as missing where the options ask for it."""
    if not options.zero_is_missing:
        return replace(own, notes=(*own.notes, *describe_zero_rows(own.views)))
    views, notes = without_zero_rows(own.views)
    layout = replace(own.layout, zero_is_missing=True)
    return replace(own, views=views, layout=layout, notes=(*own.notes, *notes))


def _refuse_unknown(path: Path) -> None:
    storage.require_file(path)
    if not os.path.exists(path):
        raise DataError(f"there is no file {path}; check its name.")
    if not (path.is_dir() or is_frame_file(path) or is_array_file(path)):
        raise DataError(f"{path} is of no known kind; give a {KINDS}.")


def file_rows(
    path: Path,
    layout: FileLayout,
    widths: Mapping[str, int],
    *,
    rows: int = ROWS,
    texts: Mapping[str, tuple[str, ...]] | None = None,
    owner: str | None = None,
) -> Iterator[FileRows]:
    """Yield the rows of a file in chunks, without reading it whole; xlsx and mat files are.

    A view none of whose columns are there is missing; the target is not needed.

    `layout` is that of the file that the model was fitted on: the columns of a view may be an array
    of its name here, and an array the columns ``name__0`` and so on; `widths` are the columns of
    each view, `texts` those of a table that are read as they are written. `owner` is the table of a
    folder to whose rows those of the others are joined, in order; without one they are read whole.
    A file that is missing,
    damaged, of an unknown kind, or lacks some of a view's columns or every view, is a DataError.
    """
    chunks = _chunks(path, layout, widths, rows, texts or {}, owner)
    if not layout.zero_is_missing:
        return chunks
    return (
        replace(chunk, views={name: zeros_to_missing(view) for name, view in chunk.views.items()})
        for chunk in chunks
    )


def _chunks(
    path: Path,
    layout: FileLayout,
    widths: Mapping[str, int],
    rows: int,
    texts: Mapping[str, tuple[str, ...]],
    owner: str | None,
) -> Iterator[FileRows]:
    _refuse_unknown(path)
    if path.is_dir():
        return rows_of_folder(path, layout, rows, texts, owner=owner)
    views = dict(layout.views)
    if is_frame_file(path):
        for view, columns in layout.views.items():
            if len(columns) != widths[view]:
                views[view] = tuple(f"{view}{SEPARATOR}{number}" for number in range(widths[view]))
        return rows_of_table(path, replace(layout, views=views), rows, written=texts)
    views |= {view: (view,) for view, columns in views.items() if len(columns) != 1}
    return rows_of_arrays(path, replace(layout, views=views), widths, rows)
