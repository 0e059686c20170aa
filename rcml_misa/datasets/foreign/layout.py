"""A data set taken from foreign files: checked, and written to an npz without holding it twice."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError
from rcml_misa.storage import whole_file

__all__ = ["FOLDS", "ForeignSet", "read_words", "words", "write_npz"]

FOLDS = ("train", "valid", "test")
BLOCK = 1 << 22  # values that are looked at and written at once


@dataclass(frozen=True)
class Parts:
    """One array of the npz, given as parts that follow each other along the first axis."""

    shape: tuple[int, ...]  # of the whole
    dtype: np.dtype[Any]
    parts: Iterable[NDArray[Any]]  # gone through once, while the file is written
    finite: bool = False  # write 0 for NaN and infinity, and count them

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]], *, finite: bool = False) -> Parts:
        """Join arrays of one shape but for the first axis."""
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        return cls(shape, np.result_type(*arrays), arrays, finite)


@dataclass(frozen=True, kw_only=True)
class ForeignSet:
    """Content of an imported set's npz, and what an import reports about it."""

    layout: str  # "mmsa" or "urfunny"
    title: str
    citation: str
    views: Mapping[str, int]  # name and width
    steps: Mapping[str, Parts]  # samples x steps x width, padded, or all steps under each other
    lengths: Mapping[str, NDArray[np.int64]]  # steps of each sample
    rows: Mapping[str, int]  # samples of each fold, in the order of `FOLDS`
    ids: Sequence[str]
    texts: Sequence[str]
    target: NDArray[Any]  # scores, or classes 0 .. K-1
    classes: tuple[str, ...] = ()  # none for scores
    limit: float = 3.0  # largest absolute score
    others: Mapping[str, Parts] = field(default_factory=dict)  # further arrays, by name
    notes: tuple[str, ...] = ()  # changes and unusual content, a sentence each

    def members(self) -> dict[str, Parts]:
        """Return the arrays of the npz by name."""
        folds = np.repeat(np.arange(len(FOLDS)), [self.rows[fold] for fold in FOLDS])
        return {
            **{f"steps.{name}": steps for name, steps in self.steps.items()},
            **{f"lengths.{name}": Parts.of([counts]) for name, counts in self.lengths.items()},
            **self.others,
            "target": Parts.of([self.target]),
            "fold": Parts.of([folds.astype(np.int8)]),
            "ids": words(self.ids),
            "texts": words(self.texts),
        }


def as_words(where: str, value: Any, count: int | None = None) -> list[str]:
    """Return a list of `count` words from a list or an array of them; numbers are words too."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise DataError(f"{where} is {type(value).__name__}; it must be a list of words.")
    items = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value]
    for item in items:
        if not isinstance(item, (str, int, float, np.generic)):
            raise DataError(f"{where} holds {type(item).__name__}; it must be a list of words.")
    if count is not None and len(items) != count:
        raise DataError(f"{where} has {len(items)} entries for {count} samples.")
    return [str(item) for item in items]


def words(texts: Sequence[str]) -> Parts:
    """Store texts as bytes of JSON, which take the room of their letters."""
    raw = json.dumps(list(texts), ensure_ascii=False).encode("utf-8", "replace")
    return Parts.of([np.frombuffer(raw, dtype=np.uint8)])


def read_words(array: NDArray[np.uint8]) -> list[str]:
    """Return the texts that `words` stored."""
    texts: list[str] = json.loads(array.tobytes().decode("utf-8"))
    return texts


def write_npz(path: Path, members: Mapping[str, Parts]) -> dict[str, int]:
    """Write the file whole or not at all; else a `DataError` says why.

    The result is the number of values that were NaN or infinite, of each member that must be
    finite.
    """
    counts: dict[str, int] = {}
    with (
        whole_file(path, make_folder=True) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, member in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                wrong = _write_member(stream, member)
            if member.finite:
                counts[name] = wrong
    return counts


def _write_member(stream: Any, member: Parts) -> int:
    header = {"descr": npy.dtype_to_descr(member.dtype), "fortran_order": False}
    npy.write_array_header_2_0(stream, {**header, "shape": member.shape})
    wrong, written = 0, 0
    for part in member.parts:
        rows = max(1, BLOCK // max(1, part[:1].size))
        for start in range(0, len(part), rows):
            block = np.ascontiguousarray(part[start : start + rows], dtype=member.dtype)
            written += len(block)
            if member.finite and block.dtype.kind == "f" and (bad := ~np.isfinite(block)).any():
                wrong += int(bad.sum())
                block = np.where(bad, block.dtype.type(0), block)
            stream.write(block.tobytes())
    if written != member.shape[0]:
        raise AssertionError(f"{written} rows were written where {member.shape[0]} were announced")
    return wrong
