"""Named arrays of a file: npz, MATLAB of any version, HDF5.

Every function raises a DataError of one sentence for a file that is absent, damaged or of another
kind than its name says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rcml_misa.datasets.files.faults import readable
from rcml_misa.exceptions import DataError

__all__ = ["is_array_file", "is_hdf5_file", "load_matlab", "opened_arrays"]

NPZ = ".npz"
HDF5 = (".h5", ".hdf5", ".hdf")
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_array_file(path: Path) -> bool:
    """Tell a file of arrays by the end of its name."""
    return path.suffix.lower() in (NPZ, ".mat", *HDF5)


def is_hdf5_file(path: Path) -> bool:
    """Tell an HDF5 file, of which rows can be read apart, by the end of its name."""
    return path.suffix.lower() in HDF5


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
    with readable(path):
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
    with readable(path), h5py.File(path, "r") as file:
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
        content = load_matlab(path)
    arrays: dict[str, Any] = {}
    for name, value in content.items():
        if getattr(value, "dtype", np.dtype("f8")).kind == "O":
            cells = enumerate(value.ravel().tolist(), start=1)
            arrays |= {f"{name}{number}": cell for number, cell in cells}
        else:
            arrays[name] = value
    # structures, texts and what is no array of numbers cannot be a view
    return {k: v for k, v in arrays.items() if getattr(v, "dtype", np.dtype("V")).kind in "biufU"}


def load_matlab(path: Path) -> dict[str, Any]:
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
