"""Large arrays of an npz file: mapped where they are stored as they are, else read in order."""

from __future__ import annotations

import mmap
import struct
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, shortened

__all__ = ["StreamedMember", "large_member", "release_pages"]

LARGE = 2**26  # bytes of a member that is not read at once
SKIPPED = 2**22  # bytes that are passed over at once
HEAD = 30  # bytes of a member's own header before its name
ENCRYPTED = 1
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def large_member(path: Path, member: ZipInfo) -> Any:
    """Open an array of numbers of an npz file without reading it; None for what is to be read.

    Read at once are small members, and those that are no numbers of two axes or more.

    Returns
    -------
    ndarray mapped into memory, StreamedMember or None
    """
    if member.file_size < LARGE or member.flag_bits & ENCRYPTED:
        return None
    with ZipFile(path) as archive, archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in READERS:
            return None
        shape, columns_first, dtype = READERS[version](stream)
        header = stream.tell()
    if dtype.hasobject or dtype.kind not in "biuf" or len(shape) < 2:
        return None
    if header + prod(shape) * dtype.itemsize != member.file_size:
        raise DataError(
            f"{shortened(path)} is damaged: {shortened(member.filename, 40)!r} is not as large as "
            "it says; write it anew."
        )
    if member.compress_type == ZIP_STORED:
        order: Any = "F" if columns_first else "C"
        place = _beginning(path, member) + header
        return np.memmap(path, dtype, "r", place, shape, order)
    return None if columns_first else StreamedMember(path, member, shape, dtype, header)


def _beginning(path: Path, member: ZipInfo) -> int:
    """Find where the bytes of a member that is stored as it is begin in the file."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        name, extra = struct.unpack("<HH", stream.read(HEAD)[-4:])
    return member.header_offset + HEAD + int(name) + int(extra)


def release_pages(array: Any) -> None:
    """Let go of the pages of a mapped array that were read."""
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


class StreamedMember:
    """A packed array of an npz file, whose rows are read in their order.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    def __init__(
        self, path: Path, member: ZipInfo, shape: tuple[int, ...], dtype: Any, header: int
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._path, self._member, self._header = path, member, header
        self._stream: Any = None
        self._next = 0
        self._whole: NDArray[Any] | None = None

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if not isinstance(rows, slice):  # along another axis: it is read at once
            if self._whole is None:
                self._whole = self[:]
            return np.asarray(self._whole[rows])
        start, stop, step = rows.indices(self.shape[0])
        width = prod(self.shape[1:]) * self.dtype.itemsize
        if self._stream is None or start < self._next:
            self.close()
            self._stream = ZipFile(self._path).open(self._member)  # noqa: SIM115
            self._skip(self._header)
            self._next = 0
        self._skip((start - self._next) * width)
        count = max(stop - start, 0)
        content = self._stream.read(count * width)
        if len(content) < count * width:
            raise self._early()
        self._next = start + count
        values = np.frombuffer(content, dtype=self.dtype).reshape(count, *self.shape[1:])
        return values[::step]

    def _skip(self, size: int) -> None:
        while size > 0:
            passed = len(self._stream.read(min(size, SKIPPED)))
            if not passed:
                raise self._early()
            size -= passed

    def _early(self) -> DataError:
        return DataError(f"{shortened(self._path)} is damaged: it ends early; fetch it again.")

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
