"""Kinds of files: tables (csv, tsv, parquet) and named arrays (npz, MATLAB, HDF5).

Every function raises a DataError of one sentence for a file that is absent, damaged or of another
kind than its name says.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, RcmlMisaError, shortened
from rcml_misa.views import MultiView

if TYPE_CHECKING:
    import pandas as pd

    from rcml_misa.datasets.catalogue import CatalogueEntry

__all__ = [
    "check_facts",
    "frame_chunks",
    "frame_columns",
    "is_frame_file",
    "label_codes",
    "opened_arrays",
    "read_matlab",
]

KINDS = "csv, tsv, parquet, npz, mat or hdf5, or a folder with one table per view"
SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
PARQUET = (".parquet", ".pq")
NPZ = ".npz"
HDF5 = (".h5", ".hdf5", ".hdf")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNNAMED_INDEX = "__index_level_"  # beginning of the name that pandas writes an index under
BUFFER = 2**20  # bytes read at once of a column
# what stands for a gap among numbers; in a column of texts only nothing at all does
GAPS = ["", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None", "#N/A", "<NA>"]


def is_frame_file(path: Path) -> bool:
    """Tell a table by the end of its name."""
    return _separator(path) is not None or path.suffix.lower() in PARQUET


def is_array_file(path: Path) -> bool:
    """Tell a file of arrays by the end of its name."""
    return path.suffix.lower() in (NPZ, ".mat", *HDF5)


def is_hdf5_file(path: Path) -> bool:
    """Tell an HDF5 file, of which rows can be read apart, by the end of its name."""
    return path.suffix.lower() in HDF5


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a library says of a damaged file into one sentence."""
    try:
        yield
    except RcmlMisaError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error.reason}); save it so.") from error
    except Exception as error:  # a damaged file makes these libraries fail in many ways
        cause = shortened(error, 160) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            cause = error.strerror
        if "allow_pickle" in cause:
            cause = "it holds objects, which could execute code; save plain arrays"
        table = is_frame_file(path) and isinstance(error, ValueError | IndexError)
        problem = "is no whole table" if table else "can't be read"
        raise DataError(f"{path} {problem} ({cause}); check the file.") from error


# tables


def _separator(path: Path) -> str | None:
    name = path.name.lower()
    return next((mark for end, mark in SEPARATORS.items() if name.endswith(end)), None)


def frame_columns(path: Path) -> list[str]:
    """Read the names of a table's columns, without its rows; each name must stand once."""
    import pandas as pd

    with _readable(path):
        separator = _separator(path)
        if separator is None:
            stored = map(str, _parquet(path).schema_arrow.names)
            names = [name for name in stored if not name.startswith(UNNAMED_INDEX)]
        else:
            # the names as they stand: pandas would tell the second of two alike apart
            head = pd.read_csv(path, sep=separator, nrows=1, header=None, dtype=str)
            names = [str(name) for name in head.iloc[0].fillna("")]
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{path} has two columns called {name!r}; give each its own name.")
    return names


def frame_chunks(
    path: Path, columns: Sequence[str], rows: int | None, *, texts: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Yield some columns of a table in chunks of at most so many rows, or whole for None.

    The columns `texts`, such as labels, stay as they are written.
    """
    import pandas as pd

    wanted = list(columns)
    with _readable(path):
        separator = _separator(path)
        if separator is None:
            table = _parquet(path)
            whole = [table.read(columns=wanted)] if rows is None else []
            for part in whole or table.iter_batches(batch_size=rows, columns=wanted):
                frame = part.to_pandas()
                # an index that pandas wrote under a name is a column
                names = [name for name in frame.index.names if name is not None]
                yield (frame.reset_index(names) if names else frame)[wanted]
            return
        # all columns are read: with some left out, a row of too many entries goes unnoticed
        gaps = {name: [""] if name in texts else GAPS for name in frame_columns(path)}
        with pd.read_csv(
            path,
            sep=separator,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values=gaps,
            low_memory=False,
            chunksize=rows or sys.maxsize,
        ) as chunks:
            for frame in chunks:
                # pandas takes entries beyond the names for an index
                if not isinstance(frame.index, pd.RangeIndex):
                    raise DataError(
                        f"{path} has more entries in a row than names of columns; mend it."
                    )
                yield frame[wanted]


def _parquet(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path} is a parquet file, which takes pyarrow to read: pip install "
            "'rcml-misa[parquet]', or give a csv file."
        ) from error
    # without these the columns of all row groups are fetched ahead and held in memory
    return ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)


# arrays


@contextmanager
def opened_arrays(path: Path) -> Iterator[Mapping[str, Any]]:
    """Open a file of arrays, by name; those of HDF5 are not yet read.

    The names of HDF5 are the last parts of its paths, or whole paths where ends repeat; a MATLAB
    cell array ``X`` gives the cells X1, X2, ...
    """
    if is_hdf5_file(path):
        with _opened_hdf5(path) as file:
            yield _arrays_of_hdf5(file)
        return
    with _readable(path):
        if path.suffix.lower() == NPZ:
            with np.load(path, allow_pickle=False) as content:
                arrays = dict(content.items())
        else:
            arrays = _arrays_of_matlab(path)
    yield arrays


@contextmanager
def _opened_hdf5(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path} is an HDF5 file (a MATLAB file of version 7.3 is one), which takes h5py to "
            "read: pip install 'rcml-misa[hdf5]', or save it in another format."
        ) from error
    with _readable(path), h5py.File(path, "r") as file:
        yield file


def _arrays_of_hdf5(file: Any) -> dict[str, Any]:
    import h5py

    paths: list[str] = []
    file.visit(paths.append)
    paths = [path for path in paths if isinstance(file[path], h5py.Dataset)]
    ends = [path.rpartition("/")[2] for path in paths]
    return {
        (end if ends.count(end) == 1 else path): file[path]
        for path, end in zip(paths, ends, strict=True)
    }


def _arrays_of_matlab(path: Path) -> dict[str, Any]:
    """Read the numbers and texts of a MATLAB file of any version, and the cells of cell arrays."""
    with path.open("rb") as stream:
        head = stream.read(512 + len(SIGNATURE))
    # version 7.3 is HDF5, after a block of MATLAB's own or at once
    if SIGNATURE in (head[: len(SIGNATURE)], head[512:]):
        with _opened_hdf5(path) as file:
            content = {name: _variable(file, item) for name, item in file.items()}
    else:
        content = _load_matlab(path)
    arrays: dict[str, Any] = {}
    for name, value in content.items():
        if getattr(value, "dtype", np.dtype("f8")).kind == "O":
            cells = enumerate(value.ravel().tolist(), start=1)
            arrays |= {f"{name}{number}": cell for number, cell in cells}
        else:
            arrays[name] = value
    # structures, texts and what is no array of numbers cannot be a view
    return {k: v for k, v in arrays.items() if getattr(v, "dtype", np.dtype("V")).kind in "biufU"}


def _load_matlab(path: Path) -> dict[str, Any]:
    """Read a MATLAB file of version 4 to 7.2; nothing in such a file is executed."""
    from scipy.io import loadmat

    content = loadmat(str(path), appendmat=False)
    return {name: value for name, value in content.items() if not name.startswith("__")}


def _variable(file: Any, item: Any) -> Any:
    """Read a variable of version 7.3: its axes lie in reverse, and cells are references."""
    import h5py

    if not isinstance(item, h5py.Dataset) or item.attrs.get("MATLAB_class") == b"char":
        return None
    values = item[()].T
    if item.dtype != h5py.ref_dtype:
        return values
    cells = np.empty(values.size, dtype=object)
    cells[:] = [_variable(file, file[reference]) for reference in values.ravel()]
    return cells


# MATLAB files of the catalogue


def read_matlab(
    path: Path, entry: CatalogueEntry
) -> tuple[MultiView, NDArray[np.int64], tuple[str, ...]]:
    """Read a MATLAB file of version 4 to 7.2 as views, codes and classes that the entry describes.

    The classes are the labels as they stand in the file, sorted as numbers; sparse views stay
    sparse. A missing variable, and rows, widths or classes other than the entry's, are a DataError.
    """
    names, pattern, target_key = list(entry.views), entry.keys["views"], entry.keys["target"]
    separate = "{}" in pattern
    numbers = range(1, len(names) + 1)
    keys = [pattern.replace("{}", str(number)) for number in numbers] if separate else [pattern]
    content = _catalogue_variables(path, [*keys, target_key])
    cells = [content[key] for key in keys]
    if not separate and cells[0].dtype.kind == "O":  # a cell array; a plain matrix is the only view
        cells = list(cells[0].ravel())
    if len(cells) != len(names):
        raise DataError(
            f"{path} holds {len(cells)} views but the catalogue names {len(names)} "
            f"({', '.join(names)}); correct the catalogue's views of {entry.name}."
        )
    target, classes = label_codes(path, target_key, content[target_key])
    arrays = {
        name: _oriented(path, name, cell, entry, len(target))
        for name, cell in zip(names, cells, strict=True)
    }
    try:
        views = MultiView(arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    check_facts(path, entry, views, classes)
    return views, target, classes


def check_facts(
    path: Path, entry: CatalogueEntry, views: MultiView, classes: Sequence[str]
) -> None:
    """Compare what was read with the catalogue's widths, samples and classes; else a DataError."""
    facts = {
        f"columns in view {name!r}": (width, entry.views[name])
        for name, width in zip(views.names, views.widths, strict=True)
    }
    facts["samples"] = views.n_samples, entry.samples
    facts["classes"] = len(classes), entry.classes
    for quantity, (actual, expected) in facts.items():
        if actual != expected:
            raise DataError(
                f"{path} has {actual} {quantity} but the catalogue says {expected}; correct the "
                f"catalogue's table of {entry.name}."
            )


def _catalogue_variables(path: Path, keys: list[str]) -> dict[str, Any]:
    try:
        content = _load_matlab(path)
    except NotImplementedError as error:
        raise DataError(
            f"{path} is a MATLAB file of version 7.3, which is not read here; save it again in "
            "MATLAB with save(..., '-v7')."
        ) from error
    except Exception as error:  # a damaged file makes SciPy fail in many ways: zlib, struct, ...
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a whole MATLAB file ({cause}); fetch it again or check where it is "
            "from."
        ) from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(
            f"{path} has no variable {' or '.join(map(repr, missing))}; it holds "
            f"{', '.join(content) or 'nothing'}: correct the keys in the catalogue."
        )
    return content


def label_codes(path: Path, key: str, value: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number a catalogue's target 0 .. K-1, and list its K whole numbers."""
    labels = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    if labels.dtype.kind not in "biuf" or labels.size == 0 or labels.size != max(labels.shape):
        raise DataError(
            f"{path}: {key!r} must hold one whole number per sample, but it is "
            f"{labels.dtype} of shape {labels.shape}."
        )
    labels = labels.ravel()
    wrong = np.flatnonzero(~np.isfinite(labels) | (labels != np.round(labels)))
    if len(wrong):
        raise DataError(
            f"{path}: {key!r} must hold whole numbers, but row {wrong[0]} is {labels[wrong[0]]}; "
            "give every sample a class label."
        )
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(int(label)) for label in values)


def _oriented(path: Path, name: str, cell: Any, entry: CatalogueEntry, rows: int) -> Any:
    """Return a view as samples by features, once the number of labels confirms which is which."""
    shape = getattr(cell, "shape", ())
    if len(shape) != 2:
        raise DataError(f"{path}: view {name!r} has shape {shape}; a view must be 2-D.")
    axis = 1 if entry.orientation == "features-by-samples" else 0
    if shape[axis] == rows:
        return cell.T if axis else cell
    advice = (
        "it lies the other way round: correct the catalogue's orientation"
        if shape[1 - axis] == rows
        else "views and labels must describe the same samples"
    )
    raise DataError(
        f"{path}: view {name!r} has shape {shape}, {entry.orientation}, but there are {rows} "
        f"labels; {advice}."
    )
