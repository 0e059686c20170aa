"""Named arrays of a file: npz, MATLAB of any version, HDF5.

Every function raises a DataError of one sentence for a file that is absent, damaged or of another
kind than its name says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from rcml_misa.datasets.bounds import SizeBound, bounded_members
from rcml_misa.datasets.files.faults import readable
from rcml_misa.datasets.files.hdf5 import opened_hdf5
from rcml_misa.datasets.files.hdf5_items import arrays_of_hdf5
from rcml_misa.datasets.files.layout import IDS, usual_target
from rcml_misa.datasets.files.matlab_variables import variables_of_v5, variables_of_v73
from rcml_misa.datasets.files.npz_members import large_member
from rcml_misa.datasets.files.stored import StoredArrays, Unread

__all__ = ["is_array_file", "is_hdf5_file", "opened_arrays"]

NPZ = ".npz"
HDF5 = (".h5", ".hdf5", ".hdf", ".h5ad")
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_array_file(path: Path) -> bool:
    """Tell a file of arrays by the end of its name."""
    return path.suffix.lower() in (NPZ, ".mat", *HDF5)


def is_hdf5_file(path: Path) -> bool:
    """Tell an HDF5 file, of which rows can be read apart, by the end of its name."""
    return path.suffix.lower() in HDF5


@contextmanager
def opened_arrays(path: Path, *, by_rows: bool = False) -> Iterator[StoredArrays]:
    """Open a file of arrays, by name; those of HDF5 are not yet read.

    With `by_rows` large ones of npz are not yet read either, but mapped or read row by row.

    The names of HDF5 are the last parts of its paths, or whole paths where ends repeat; a MATLAB
    cell array ``X`` gives the cells X1, X2, ..., and a structure ``s`` its fields s.face, ...;
    records give a table of their numbers, and texts and labels apart.
    """
    stored = StoredArrays()
    if is_hdf5_file(path):
        with opened_hdf5(path) as (file, _):
            arrays, stored.paths = arrays_of_hdf5(file)
            stored.add_all(_records_apart(arrays))
            yield stored
        return
    with readable(path):
        if path.suffix.lower() == NPZ:
            stored.add_all(_arrays_of_npz(path, by_rows=by_rows))
        else:
            stored.add_all(_of_matlab(path))
    with readable(path) if by_rows else nullcontext():
        yield stored


def _arrays_of_npz(path: Path, *, by_rows: bool) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    with ZipFile(path) as archive:
        members = bounded_members(archive, SizeBound(path))
    large: dict[str, Any] = {}
    if by_rows:
        large = {_name(member): large_member(path, member) for member in members}
    with np.load(path, allow_pickle=False) as content:
        for name in content.files:
            if large.get(name) is not None:
                arrays[name] = large[name]
                continue
            try:
                arrays[name] = content[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                arrays[name] = Unread("it holds objects, which could execute code")
    return _records_apart(arrays)


def _name(member: ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _records_apart(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Part arrays of records (n,) into a table of their numbers and the other fields."""
    arrays: dict[str, Any] = {}
    for name, value in variables.items():
        fields = getattr(getattr(value, "dtype", None), "names", None)
        if not fields or len(value.shape) != 1:
            arrays[name] = value
            continue
        records = value[()]
        numbers = [
            field
            for field in fields
            if records.dtype[field].kind in "biuf"
            and usual_target(field) is None
            and field.lower() not in ("index", *IDS)
        ]
        if numbers:
            columns = [records[field].astype(np.float64) for field in numbers]
            arrays[name] = np.stack(columns, axis=1)
        arrays |= {f"{name}.{field}": records[field] for field in fields if field not in numbers}
    return arrays


def _of_matlab(path: Path) -> dict[str, Any]:
    """Read the variables of a MATLAB file of any version."""
    with path.open("rb") as stream:
        head = stream.read(512 + len(SIGNATURE))
    # version 7.3 is HDF5, after a block of MATLAB's own or at once
    if SIGNATURE in (head[: len(SIGNATURE)], head[512:]):
        with opened_hdf5(path) as (file, guard):
            return variables_of_v73(file, guard)
    return variables_of_v5(path)
