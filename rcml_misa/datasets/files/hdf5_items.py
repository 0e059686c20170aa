"""Arrays of an HDF5 file by name: datasets, sparse matrices and categories that groups hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from rcml_misa.datasets.files.hdf5 import attribute
from rcml_misa.datasets.files.matlab_variables import sparse_group
from rcml_misa.datasets.files.stored import Unread

__all__ = ["arrays_of_hdf5"]

COMPRESSED = ("data", "indices", "indptr")  # as SciPy, AnnData and h5sparse name them
APART = ("var", "varm", "varp", "uns", "raw")  # parts of an AnnData file without a row per sample


def arrays_of_hdf5(file: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """List the arrays of an opened file, those of HDF5 not yet read, and their whole paths.

    The names are the last parts of paths, or whole paths where ends repeat.

    Returns
    -------
    arrays : dict of str to array or Unread
    names : dict of str to str
        Whole path to name.
    """
    import h5py

    arrays: dict[str, Any] = {}
    inner: set[str] = set()
    apart = _parts_apart(file)

    def visit(path: str, item: Any) -> None:
        top = path.partition("/")[0]
        if top in apart:
            arrays[top] = Unread("no rows of samples")
        elif isinstance(item, h5py.Dataset):
            if path not in inner:
                odd = item.dtype.kind == "O" and h5py.check_string_dtype(item.dtype) is None
                arrays[path] = Unread("references or rows of different lengths") if odd else item
        else:
            for reader, members in READERS:
                if (array := reader(item)) is not None:
                    arrays[path] = array
                    inner.update(f"{path}/{member}" for member in members)
                    break

    file.visititems(visit)
    ends = Counter(path.rpartition("/")[2] for path in arrays)
    names = {path: path.rpartition("/")[2] for path in arrays}
    names = {path: end if ends[end] == 1 else path for path, end in names.items()}
    return {name: arrays[path] for path, name in names.items()}, names


def _parts_apart(file: Any) -> tuple[str, ...]:
    return APART if "obs" in file and "var" in file and {"X", "obsm"} & set(file) else ()


def _compressed(group: Any) -> Any:
    """Read a sparse matrix in the form of SciPy, whose shape an attribute or a member states."""
    if not all(name in group for name in COMPRESSED):
        return None
    data, indices, ends = (group[name] for name in COMPRESSED)
    shape = attribute(group, "shape", attribute(group, "h5sparse_shape"))
    if shape is None and "shape" in group:
        shape = group["shape"][()]
    if shape is None or np.shape(shape) != (2,):
        return None
    rows, columns = (int(size) for size in shape)
    form = attribute(group, "encoding-type", attribute(group, "h5sparse_format", ""))
    form = form.decode() if isinstance(form, bytes) else str(form)
    by_row = form.startswith("csr") or (not form.startswith("csc") and len(ends) == rows + 1)
    if len(ends) != (rows if by_row else columns) + 1:
        return Unread("a damaged sparse matrix")
    kind = csr_array if by_row else csc_array
    content = (data[()], indices[()].astype(np.int64), ends[()].astype(np.int64))
    try:
        return kind(content, shape=(rows, columns))
    except ValueError:
        return Unread("a damaged sparse matrix")


def _categories(group: Any) -> NDArray[np.object_] | None:
    """Read a column of categories as AnnData keeps it: a missing one is None."""
    if not {"categories", "codes"} <= set(group) or len(group) > 2:
        return None
    codes, levels = group["codes"], group["categories"]
    if codes.ndim != 1 or levels.ndim != 1 or codes.dtype.kind not in "iu":
        return None
    numbers = codes[()].astype(np.int64)
    if len(numbers) and not -1 <= numbers.min() <= numbers.max() < len(levels):
        return None
    texts = np.empty(len(levels) + 1, dtype=object)  # the last one is None
    texts[:-1] = levels[()]
    column: NDArray[np.object_] = texts[numbers]
    return column


# functions that read a group as one array, and the members that this takes
READERS = (
    (sparse_group, ("data", "ir", "jc")),
    (_compressed, (*COMPRESSED, "shape")),
    (_categories, ("categories", "codes")),
)
