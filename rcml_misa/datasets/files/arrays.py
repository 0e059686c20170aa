"""Files of named arrays: npz, MATLAB (also version 7.3) and HDF5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rcml_misa.exceptions import DataError

__all__ = ["array_shapes", "is_array_file", "open_hdf5", "read_arrays"]

NPZ = (".npz",)
MATLAB = (".mat",)
HDF5 = (".h5", ".hdf5", ".hdf")
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_array_file(path: Path) -> bool:
    """Tell a file of arrays by the end of its name.

    Examples
    --------
    >>> is_array_file(Path("a.h5")), is_array_file(Path("a.csv"))
    (True, False)
    """
    return path.suffix.lower() in NPZ + MATLAB + HDF5


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's arrays; of a MATLAB cell array ``X`` the cells X1, X2, ...

    Raises
    ------
    DataError
        If the file is damaged or of another format.
    """
    if path.suffix.lower() in HDF5:
        with open_hdf5(path) as file:
            return {name: tuple(one.shape) for name, one in hdf5_datasets(file).items()}
    return {name: np.shape(array) for name, array in _read(path).items()}


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Read arrays by name.

    Raises
    ------
    DataError
        If one is not there, or the file is damaged or of another format.
    """
    if path.suffix.lower() in HDF5:
        with open_hdf5(path) as file:
            known = hdf5_datasets(file)
            return {name: _one(known, name, path)[()] for name in names}
    arrays = _read(path)
    return {name: _one(arrays, name, path) for name in names}


def _one(arrays: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in arrays:
        raise DataError(f"{path} has no array {name!r}; it has {', '.join(arrays) or 'none'}.")
    return arrays[name]


def _read(path: Path) -> dict[str, Any]:
    with _readable(path):
        if path.suffix.lower() in NPZ:
            with np.load(path, allow_pickle=False) as content:
                return dict(content.items())
        return _read_matlab(path)


def _read_matlab(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    if _is_hdf5(path):
        with open_hdf5(path) as file:
            return _cells_apart({name: _matlab(file, one) for name, one in file.items()})
    content = loadmat(str(path), appendmat=False)
    return _cells_apart({k: v for k, v in content.items() if not k.startswith("__")})


def _is_hdf5(path: Path) -> bool:
    """Tell MATLAB's version 7.3 by HDF5's signature, after a block of MATLAB's own or at once."""
    with path.open("rb") as stream:
        head = stream.read(512 + len(SIGNATURE))
    return SIGNATURE in (head[: len(SIGNATURE)], head[512:])


def _matlab(file: Any, item: Any) -> Any:
    """Read a variable of version 7.3: its axes lie in reverse, and cells are references."""
    import h5py

    if not isinstance(item, h5py.Dataset):
        return None
    values = item[()]
    if item.dtype == h5py.ref_dtype:
        cells = np.empty(values.size, dtype=object)
        cells[:] = [_matlab(file, file[one]) for one in values.T.ravel()]
        return cells
    if item.attrs.get("MATLAB_class") == b"char":
        return None
    return values.T


def _cells_apart(content: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in content.items():
        if getattr(value, "dtype", np.dtype("f8")).kind == "O":
            cells = enumerate(value.ravel().tolist(), start=1)
            found.update({f"{name}{number}": cell for number, cell in cells})
        else:
            found[name] = value
    # structures, texts and what is no array of numbers cannot be a view
    return {k: v for k, v in found.items() if getattr(v, "dtype", np.dtype("V")).kind in "biufU"}


def hdf5_datasets(file: Any) -> dict[str, Any]:
    """All datasets of a file by the last part of their path, or the whole path if that is taken."""
    import h5py

    paths: list[str] = []
    file.visititems(lambda name, one: paths.append(name) if isinstance(one, h5py.Dataset) else None)
    ends = [path.rpartition("/")[2] for path in paths]
    return {
        (end if ends.count(end) == 1 else path): file[path]
        for path, end in zip(paths, ends, strict=True)
    }


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file.

    Raises
    ------
    DataError
        If h5py is not installed or the file is damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path} is an HDF5 file (a MATLAB file of version 7.3 is one), which takes h5py to "
            "read: pip install 'rcml-misa[hdf5]', or save it in another format."
        ) from error
    with _readable(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged file makes these libraries fail in many ways
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        if "allow_pickle" in cause:
            cause = "it holds objects, which could execute code; save plain arrays"
        if isinstance(error, FileNotFoundError):
            cause = "there is no such file"
        raise DataError(f"{path} can't be read ({cause}).") from error
