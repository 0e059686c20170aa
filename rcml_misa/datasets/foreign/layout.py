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

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.storage import whole_file

__all__ = [
    "FOLDS",
    "ForeignSet",
    "Parts",
    "as_words",
    "lengths_within",
    "read_words",
    "words",
    "write_npz",
]

FOLDS = ("train", "valid", "test")
BLOCK = 1 << 22  # values that are looked at and written at once


@dataclass(frozen=True)
class Parts:
    """One array of the npz, given as parts that follow each other along the first axis.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole.
    dtype : dtype
    parts : iterable of ndarray
        Gone through once, while the file is written.
    finite : bool
        Write 0 for NaN and infinity, and count them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: Iterable[NDArray[Any]]
    finite: bool = False

    @classmethod
    def of(cls, arrays: Sequence[NDArray[Any]], *, finite: bool = False) -> Parts:
        """Join arrays of one shape but for the first axis."""
        shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        return cls(shape, np.result_type(*arrays), arrays, finite)


@dataclass(frozen=True, kw_only=True)
class ForeignSet:
    """Content of an imported set's npz, and what an import reports about it.

    Attributes
    ----------
    layout : {"mmsa", "urfunny"}
    title, citation : str
    views : dict of str to int
        Name and width.
    steps : mapping of str to Parts
        The values of each view: samples x steps x width, padded, or all steps of all samples
        under each other.
    lengths : mapping of str to ndarray of int
        Steps of each sample.
    rows : mapping of str to int
        Samples of each fold, in the order of `FOLDS`.
    ids, texts : sequence of str
    target : ndarray
        Scores, or classes 0 .. K-1.
    classes : tuple of str
        None for scores.
    limit : float
        Largest absolute score.
    others : mapping of str to Parts
        Further arrays, under their own names.
    notes : tuple of str
        Changes and unusual content, a sentence each.
    """

    layout: str
    title: str
    citation: str
    views: Mapping[str, int]
    steps: Mapping[str, Parts]
    lengths: Mapping[str, NDArray[np.int64]]
    rows: Mapping[str, int]
    ids: Sequence[str]
    texts: Sequence[str]
    target: NDArray[Any]
    classes: tuple[str, ...] = ()
    limit: float = 3.0
    others: Mapping[str, Parts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Samples of all folds."""
        return len(self.ids)

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
    """Return a list of words from a list or an array of them; numbers are taken as words.

    Raises
    ------
    DataError
        If it is nothing of that kind, or of another length than `count`.
    """
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


def lengths_within(where: str, value: Any, count: int, steps: int) -> tuple[NDArray[np.int64], int]:
    """Clip lengths to 1 .. `steps`; return them and the number of those that changed.

    Raises
    ------
    DataError
        If there are not `count` whole numbers.
    """
    try:
        lengths = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} are no numbers ({shortened(error)}).") from error
    if len(lengths) != count or not (lengths == np.round(lengths)).all():
        raise DataError(f"{where} are not one whole number for each of {count} samples.")
    within = np.clip(lengths, 1, steps)
    return within.astype(np.int64), int((within != lengths).sum())


def words(texts: Sequence[str]) -> Parts:
    """Store texts as bytes of JSON, which take the room of their letters."""
    raw = json.dumps(list(texts), ensure_ascii=False).encode("utf-8", "replace")
    return Parts.of([np.frombuffer(raw, dtype=np.uint8)])


def read_words(array: NDArray[np.uint8]) -> list[str]:
    """Return the texts that `words` stored."""
    texts: list[str] = json.loads(array.tobytes().decode("utf-8"))
    return texts


def write_npz(path: Path, members: Mapping[str, Parts]) -> dict[str, int]:
    """Write the file whole or not at all.

    Parameters
    ----------
    path : Path
    members : mapping of str to Parts

    Returns
    -------
    dict of str to int
        Values that were NaN or infinite, of each member that must be finite.

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
    return {name: counts[name] for name, member in members.items() if member.finite}


def _write_member(stream: Any, member: Parts) -> int:
    descr = npy.dtype_to_descr(member.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": member.shape}
    npy.write_array_header_2_0(stream, header)
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
