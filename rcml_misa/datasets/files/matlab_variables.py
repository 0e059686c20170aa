"""Variables of MATLAB files of any version: arrays, lists for cells, mappings for structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, issparse

from rcml_misa.datasets.files.hdf5 import Hdf5Guard, attribute
from rcml_misa.datasets.files.matlab_elements import check_elements
from rcml_misa.datasets.files.stored import Unread
from rcml_misa.exceptions import DataError

__all__ = ["load_matlab", "sparse_group", "variables_of_v5", "variables_of_v73"]

WAY_OUT = "which MATLAB alone reads; save texts with cellstr(x) and tables as matrices"
PLAIN = ("", "double", "single", "logical", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32)))
DEEPEST = 10  # cells within one another that are read
NUMBERS = (*PLAIN, "int64", "uint64")


def load_matlab(path: Path) -> dict[str, Any]:
    """Read a MATLAB file of version 4 to 7.2; nothing in such a file is executed."""
    from scipy.io import loadmat

    check_elements(path)
    content = loadmat(str(path), appendmat=False)
    return {name: value for name, value in content.items() if not name.startswith("__")}


def variables_of_v5(path: Path) -> dict[str, Any]:
    """Read the variables of a file of version 4 to 7.2."""
    from scipy.io.matlab import MatlabOpaque

    variables = {}
    for name, value in load_matlab(path).items():
        # such a variable keeps its name within
        within = _word(value, "s0") if isinstance(value, MatlabOpaque) else ""
        variables[within or name] = _plain(value)
    return variables


def _word(opaque: Any, field: str) -> str:
    value = opaque.ravel()[0][field] if opaque.size and field in (opaque.dtype.names or ()) else b""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    from scipy.io.matlab import MatlabFunction, MatlabObject, MatlabOpaque

    if issparse(value) or not isinstance(value, np.ndarray):
        return value
    if isinstance(value, MatlabOpaque | MatlabObject | MatlabFunction):
        kind = _word(value, "s2") if isinstance(value, MatlabOpaque) else ""
        return _object(kind)
    if value.dtype.names:
        rows = value.ravel("F")
        if len(rows) == 1:
            return {field: _plain(rows[0][field]) for field in value.dtype.names}
        return {field: [_plain(item) for item in rows[field]] for field in value.dtype.names}
    if value.dtype.kind == "O":
        return [_plain(item) for item in value.ravel("F")]
    # rows of a char matrix are padded with blanks
    return np.char.rstrip(value) if value.dtype.kind == "U" and value.size > 1 else value


def _object(kind: str) -> Unread:
    return Unread(
        f"a MATLAB {kind or 'object'} object, {WAY_OUT}".replace("object object", "object")
    )


def variables_of_v73(file: Any, guard: Hdf5Guard) -> dict[str, Any]:
    """Read the variables of an opened file of version 7.3, which is HDF5."""
    names = [name for name in file if not name.startswith("#")]
    return {name: _stored(file, file[name], guard) for name in names}


def _stored(file: Any, item: Any, guard: Hdf5Guard, within: tuple[Any, ...] = ()) -> Any:
    import h5py

    if item is None:
        return Unread("a cell without content")
    if not isinstance(item, h5py.Dataset | h5py.Group):
        return Unread("a named type")
    place = guard.visit(item)
    if place in within:
        raise DataError(
            f"{guard.path} has a cell that holds itself; save its arrays as variables of their own."
        )
    within = (*within, place)
    kind = attribute(item, "MATLAB_class", b"")
    kind = kind.decode("latin1") if isinstance(kind, bytes) else str(kind)
    if len(within) > DEEPEST:
        return Unread("cells within one another")
    if "MATLAB_object_decode" in item.attrs or kind not in (*NUMBERS, "char", "cell", "struct"):
        return _object(kind)
    if isinstance(item, h5py.Group):
        matrix = sparse_group(item)
        if matrix is not None:
            return matrix
        # its items() would hold h5py's lock for as long as the error of one of them lives
        return {name: _stored(file, item[name], guard, within) for name in item}
    if np.any(attribute(item, "MATLAB_empty", 0)):
        return [] if kind == "cell" else np.empty((0, 0))
    # axes lie in reverse
    values = np.asarray(item[()]).T
    if item.dtype == h5py.ref_dtype:
        return [
            _stored(file, guard.follow(file, part), guard, within) for part in values.ravel("F")
        ]
    return _texts(values) if kind == "char" else values


def _texts(codes: NDArray[Any]) -> NDArray[np.str_]:
    """Turn codes of UTF-16 into a text per row, without the blanks that pad it."""
    rows = codes.reshape(codes.shape[0], -1).astype("<u2")
    texts = [row.tobytes().decode("utf-16-le", "replace") for row in rows]
    return np.array(texts if len(texts) == 1 else [text.rstrip() for text in texts])


def sparse_group(group: Any) -> csc_array[Any] | None:
    """Read a sparse matrix that MATLAB keeps as a group of HDF5; None for another group."""
    count = attribute(group, "MATLAB_sparse")
    if count is None or "jc" not in group:
        return None
    rows, ends = int(count), group["jc"][()].astype(np.int64)
    if "data" not in group:  # no entry at all
        return csc_array((rows, len(ends) - 1))
    indices = group["ir"][()].astype(np.int64)
    matrix: csc_array[Any] = csc_array(
        (group["data"][()], indices, ends), shape=(rows, len(ends) - 1)
    )
    return matrix
