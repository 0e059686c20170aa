"""Writing an npz from arrays in parts, so that no part is held twice."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rcml_misa.storage import whole_file

__all__ = ["Parts", "read_words", "words", "write_npz"]

BLOCK = 1 << 22  # values that are looked at and written at once


@dataclass(frozen=True)
class Parts:
    """One array of the file, given as parts that follow each other along the first axis.

    Attributes
    ----------
    shape : tuple of int
        Of the whole.
    dtype : dtype
    parts : iterable of ndarray
        Gone through once, while the file is written.
    mend : bool
        Write 0 for NaN and infinity, and count them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: Iterable[NDArray[Any]]
    mend: bool = False

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]], *, mend: bool = False) -> Parts:
        """Arrays of one shape but for the first axis."""
        dtype = np.result_type(*arrays)
        shape = (sum(len(one) for one in arrays), *arrays[0].shape[1:])
        return cls(shape, dtype, arrays, mend)


def words(texts: Sequence[str]) -> Parts:
    """Texts as bytes of JSON, which take the room of their letters."""
    raw = json.dumps(list(texts), ensure_ascii=False).encode("utf-8", "replace")
    return Parts.of([np.frombuffer(raw, dtype=np.uint8)])


def read_words(array: NDArray[np.uint8]) -> list[str]:
    """Texts that `words` wrote."""
    found: list[str] = json.loads(array.tobytes().decode("utf-8"))
    return found


def _blocks(parts: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for part in parts:
        rows = max(1, BLOCK // max(1, part[:1].size))
        for start in range(0, len(part), rows):
            yield part[start : start + rows]


def write_npz(path: Path, members: Mapping[str, Parts]) -> dict[str, int]:
    """Write the file whole or not at all.

    Parameters
    ----------
    path : Path
    members : mapping of str to Parts

    Returns
    -------
    dict of str to int
        How many values of each mended member were NaN or infinite.

    Raises
    ------
    DataError
        If it can't be written.
    """
    counts: dict[str, int] = {}
    with (
        whole_file(path, make_folder=True) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, member in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                counts[name] = _write_member(stream, member)
    return {name: counts[name] for name, member in members.items() if member.mend}


def _write_member(stream: Any, member: Parts) -> int:
    header = {
        "descr": npy.dtype_to_descr(member.dtype),
        "fortran_order": False,
        "shape": member.shape,
    }
    npy.write_array_header_2_0(stream, header)
    wrong, written = 0, 0
    for block in _blocks(member.parts):
        found = np.ascontiguousarray(block, dtype=member.dtype)
        written += len(found)
        if member.mend and found.dtype.kind == "f":
            bad = ~np.isfinite(found)
            if bad.any():
                wrong += int(bad.sum())
                found = np.where(bad, found.dtype.type(0), found)
        stream.write(found.tobytes())
    if written != member.shape[0]:
        raise AssertionError(f"{written} rows were written where {member.shape[0]} were announced")
    return wrong
