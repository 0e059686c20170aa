"""Kinds of files: tables (csv, tsv, parquet) and named arrays (npz, MATLAB, HDF5).

Every function raises a DataError of one sentence for a file that is absent, damaged or of another
kind than its name says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rcml_misa.exceptions import DataError, shortened

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "KINDS",
    "array_shapes",
    "arrays_of_hdf5",
    "frame_chunks",
    "frame_columns",
    "is_array_file",
    "is_frame_file",
    "is_hdf5_file",
    "open_hdf5",
    "read_arrays",
    "read_frame",
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
GAPS = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None", "#N/A", "<NA>")


def is_frame_file(path: Path) -> bool:
    """Tell a table by the end of its name.

    Examples
    --------
    >>> is_frame_file(Path("a.csv")), is_frame_file(Path("a.npz"))
    (True, False)
    """
    return _separator(path) is not None or path.suffix.lower() in PARQUET


def is_array_file(path: Path) -> bool:
    """Tell a file of arrays by the end of its name.

    Examples
    --------
    >>> is_array_file(Path("a.h5")), is_array_file(Path("a.csv"))
    (True, False)
    """
    return path.suffix.lower() in (NPZ, ".mat", *HDF5)


def is_hdf5_file(path: Path) -> bool:
    """Tell an HDF5 file, of which rows can be read apart, by the end of its name."""
    return path.suffix.lower() in HDF5


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a library says of a damaged file into one sentence."""
    try:
        yield
    except DataError:
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
    """Names of a table's columns, without its rows; each name must stand once."""
    import pandas as pd

    with _readable(path):
        separator = _separator(path)
        if separator is None:
            names = [str(name) for name in _parquet(path).schema_arrow.names]
            names = [name for name in names if not name.startswith(UNNAMED_INDEX)]
        else:
            # the names as they stand: pandas would tell the second of two alike apart
            head = pd.read_csv(path, sep=separator, nrows=1, header=None, dtype=str)
            names = [str(name) for name in head.iloc[0].fillna("")]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path} has two columns called {name!r}; give each its own name.")
    return names


def read_frame(path: Path, columns: Sequence[str], *, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read some columns of a table; `texts` stay as they are written, such as labels."""
    return next(frame_chunks(path, columns, None, texts=texts))


def frame_chunks(
    path: Path, columns: Sequence[str], rows: int | None, *, texts: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Yield some columns of a table in chunks of at most so many rows, or whole for None."""
    import pandas as pd

    wanted = list(columns)
    with _readable(path):
        separator = _separator(path)
        if separator is None:
            table = _parquet(path)
            if rows is None:
                yield _with_index(table.read(columns=wanted).to_pandas())[wanted]
            else:
                for batch in table.iter_batches(batch_size=rows, columns=wanted):
                    yield _with_index(batch.to_pandas())[wanted]
        elif rows is None:
            frame = pd.read_csv(**_csv_options(path, separator, texts), low_memory=False)
            yield _even(path, frame)[wanted]
        else:
            with pd.read_csv(**_csv_options(path, separator, texts), chunksize=rows) as chunks:
                for chunk in chunks:
                    yield _even(path, chunk)[wanted]


def _csv_options(path: Path, separator: str, texts: Sequence[str]) -> Any:
    # all columns are read: with some of them left out, a row of too many entries goes unnoticed
    names = frame_columns(path)
    return {
        "filepath_or_buffer": path,
        "sep": separator,
        "dtype": dict.fromkeys(texts, str),
        "keep_default_na": False,
        "na_values": {name: [""] if name in texts else list(GAPS) for name in names},
    }


def _even(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Refuse rows of more entries than there are names, which pandas takes for an index."""
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path} has more entries in a row than names of columns; mend it.")
    return frame


def _with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Bring an index that pandas wrote under a name back to the columns."""
    names = [name for name in frame.index.names if name is not None]
    return frame.reset_index(names) if names else frame


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


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's arrays; of a MATLAB cell array ``X`` the cells X1, X2, ..."""
    with _opened(path) as arrays:
        return {name: tuple(np.shape(array)) for name, array in arrays.items()}


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read arrays by name."""
    with _opened(path) as arrays:
        for name in names:
            if name not in arrays:
                listed = ", ".join(arrays) or "none"
                raise DataError(f"{path} has no array {name!r}; it has {listed}.")
        return {name: arrays[name][()] if is_hdf5_file(path) else arrays[name] for name in names}


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """Arrays of a file by name, those of HDF5 not yet read."""
    if is_hdf5_file(path):
        with open_hdf5(path) as file:
            yield arrays_of_hdf5(file)
        return
    with _readable(path):
        if path.suffix.lower() == NPZ:
            with np.load(path, allow_pickle=False) as content:
                arrays = dict(content.items())
        else:
            arrays = _read_matlab(path)
    yield arrays


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file, for which h5py must be installed."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path} is an HDF5 file (a MATLAB file of version 7.3 is one), which takes h5py to "
            "read: pip install 'rcml-misa[hdf5]', or save it in another format."
        ) from error
    with _readable(path), h5py.File(path, "r") as file:
        yield file


def arrays_of_hdf5(file: Any) -> dict[str, Any]:
    """All datasets of a file by the last part of their path, or the whole path if that is taken."""
    import h5py

    paths: list[str] = []
    file.visititems(
        lambda name, item: paths.append(name) if isinstance(item, h5py.Dataset) else None
    )
    ends = [path.rpartition("/")[2] for path in paths]
    return {
        (end if ends.count(end) == 1 else path): file[path]
        for path, end in zip(paths, ends, strict=True)
    }


def _read_matlab(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    if not _is_version_73(path):
        content = loadmat(str(path), appendmat=False)
        return _cells_apart({k: v for k, v in content.items() if not k.startswith("__")})
    with open_hdf5(path) as file:
        return _cells_apart({name: _variable(file, item) for name, item in file.items()})


def _is_version_73(path: Path) -> bool:
    """Tell MATLAB's version 7.3 by HDF5's signature, after a block of MATLAB's own or at once."""
    with path.open("rb") as stream:
        head = stream.read(512 + len(SIGNATURE))
    return SIGNATURE in (head[: len(SIGNATURE)], head[512:])


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


def _cells_apart(content: Mapping[str, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, value in content.items():
        if getattr(value, "dtype", np.dtype("f8")).kind == "O":
            cells = enumerate(value.ravel().tolist(), start=1)
            arrays |= {f"{name}{number}": cell for number, cell in cells}
        else:
            arrays[name] = value
    # structures, texts and what is no array of numbers cannot be a view
    return {k: v for k, v in arrays.items() if getattr(v, "dtype", np.dtype("V")).kind in "biufU"}
