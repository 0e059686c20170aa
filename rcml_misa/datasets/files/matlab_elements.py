"""Elements of a MATLAB file of version 5 to 7.2, looked through before SciPy builds arrays of them.

SciPy trusts what an element says of itself: an unknown type ends the process, and packed variables
take whatever they unpack to. Each variable is unpacked once, as far as its bound lets it be, and
nothing of it is kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO

from rcml_misa.datasets.bounds import SizeBound
from rcml_misa.exceptions import DataError

__all__ = ["check_elements"]

HEAD, BLOCK = 128, 2**20
MATRIX, PACKED = 14, 15
TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18}  # of numbers and characters
DEEPEST = 40  # variables within one another
CELL, STRUCT, OBJECT, CHARACTERS, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17
COMPLEX = 0x800


class _DamagedError(Exception):
    """Reason why a file is not whole."""


class _Content:
    """Bytes of one variable, packed or not, read once from the front."""

    def __init__(self, stream: BinaryIO, size: int, bound: SizeBound, *, packed: bool) -> None:
        self.stream, self.left, self.bound = stream, size, bound
        self.unpacker = zlib.decompressobj() if packed else None
        self.waiting = b""

    def _part(self, most: int) -> bytes:
        """Return the next bytes, no more than `most`."""
        if self.unpacker is None:
            part = self.stream.read(min(most, self.left))
            self.left -= len(part)
            return part
        while True:
            packed = self.unpacker.unconsumed_tail
            if not packed:
                packed = self.stream.read(min(BLOCK, self.left))
                self.left -= len(packed)
            part = self.unpacker.decompress(packed, min(most, BLOCK))
            self.bound.spend(len(part))
            if part or (not packed and not self.left):
                return part

    def read(self, size: int) -> bytes:
        """Return so many bytes, which must be there."""
        parts, missing = [], size
        while missing:
            if not (part := self._part(missing)):
                raise _DamagedError("it is cut off")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def pad(self, size: int) -> None:
        """Pass over as many of so many bytes as there are."""
        while size and (part := self._part(size)):
            size -= len(part)

    def skip(self, size: int) -> None:
        """Pass over so many bytes, which must be there."""
        if self.unpacker is None:
            if size > self.left:
                raise _DamagedError("it is cut off")
            self.stream.seek(size, 1)
            self.left -= size
            return
        while size:
            part = len(self.read(min(size, BLOCK)))
            size -= part


def check_elements(path: Path) -> None:
    """Refuse a file whose elements are damaged, or unpack to more than a file of its size may.

    Files of version 4 and 7.3, and what is no MATLAB file, are left to SciPy.
    """
    bound = SizeBound(path)
    with path.open("rb") as stream:
        head = stream.read(HEAD)
        order = {b"\1IM": "<", b"\0MI": ">"}.get(head[125:], "")
        if not order or 0 in head[:4] or (order == ">" and head[124] != 1):
            return
        try:
            for kind, size in _elements(stream, order, bound.size):
                place = stream.tell()
                content = _Content(stream, size, bound, packed=kind == PACKED)
                inner = struct.unpack(f"{order}II", content.read(8))[0] if kind == PACKED else kind
                if inner != MATRIX:
                    raise _DamagedError(f"an element of type {inner} is no variable")
                _check_matrix(content, order, 0)
                if content.unpacker is not None:  # what follows is counted
                    while content._part(BLOCK):
                        pass
                stream.seek(place + size)
        except (_DamagedError, zlib.error, struct.error) as error:
            raise DataError(f"{path} is no whole MATLAB file ({error}); fetch it again.") from error


def _elements(stream: BinaryIO, order: str, total: int) -> Iterator[tuple[int, int]]:
    """Yield type and size of each variable; the stream stands at its content."""
    while len(tag := stream.read(8)) == 8:
        kind, size = struct.unpack(f"{order}II", tag)
        if stream.tell() + size > total:
            raise _DamagedError("it is cut off")
        yield kind, size


def _tag(content: _Content, order: str) -> tuple[int, int, bytes | None]:
    """Read an element's type and size, and its content where the tag holds it."""
    raw = content.read(8)
    kind, size = struct.unpack(f"{order}II", raw)
    if kind >> 16:  # a small element
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise _DamagedError(f"a small element has {size} bytes")
        return kind, size, raw[4 : 4 + size]
    return kind, size, None


def _values(content: _Content, order: str, *, most: int | None = None) -> bytes:
    """Pass over an element of numbers, or return the content of one of at most so many bytes."""
    kind, size, small = _tag(content, order)
    if kind not in TYPES:
        raise _DamagedError(f"an element has the unknown type {kind}")
    if small is not None:
        return small
    if most is not None and size > most:
        raise _DamagedError(f"a name or shape has {size} bytes")
    if most is None:
        content.skip(size)
    values = b"" if most is None else content.read(size)
    content.pad(-size % 8)
    return values


def _check_matrix(content: _Content, order: str, depth: int) -> None:
    """Walk through a variable after its tag, as SciPy does."""
    if depth > DEEPEST:
        raise _DamagedError(f"variables lie more than {DEEPEST} deep within one another")
    kind, size, small = _tag(content, order)
    if small is not None or size != 8 or kind != 6:
        raise _DamagedError("a variable has no flags")
    flags, _ = struct.unpack(f"{order}II", content.read(8))
    kind = flags & 0xFF
    if kind == OPAQUE:
        for _ in range(3):
            _values(content, order, most=2**16)
        _check_inner(content, order, depth)
        return
    count = _count(content, order)
    if kind in (CELL, STRUCT, OBJECT, CHARACTERS):  # SciPy takes room for all, whatever follows
        content.bound.spend(8 * count)
    _values(content, order, most=2**16)  # its name
    if kind in (CELL, FUNCTION):
        for _ in range(count if kind == CELL else 1):
            _check_inner(content, order, depth)
    elif kind in (STRUCT, OBJECT):
        for _ in range(count * _fields(content, order, named=kind == OBJECT)):
            _check_inner(content, order, depth)
    elif kind in (CHARACTERS, SPARSE, *range(6, 16)):
        parts = 3 if kind == SPARSE else 1
        for _ in range(parts + bool(flags & COMPLEX and kind != CHARACTERS)):
            _values(content, order)
    else:
        raise _DamagedError(f"a variable has the unknown class {kind}")


def _count(content: _Content, order: str) -> int:
    """Multiply the lengths of a variable's axes."""
    shape = _values(content, order, most=4 * 64)
    lengths = struct.unpack(f"{order}{len(shape) // 4}i", shape[: len(shape) // 4 * 4])
    if min(lengths, default=0) < 0:
        raise _DamagedError(f"a variable has the length {min(lengths)}")
    return prod(lengths)


def _fields(content: _Content, order: str, *, named: bool) -> int:
    """Count the fields of a structure, or of an object, whose class is `named` before them."""
    if named:
        _values(content, order, most=2**16)
    (width,) = struct.unpack(f"{order}i", _values(content, order, most=4))
    names = _values(content, order, most=2**20)
    if width <= 0 and names:
        raise _DamagedError(f"the names of a structure have {width} characters")
    return len(names) // width if names else 0


def _check_inner(content: _Content, order: str, depth: int) -> None:
    kind, size, small = _tag(content, order)
    if kind != MATRIX or small is not None:
        raise _DamagedError(f"an element of type {kind} is no variable")
    if size:
        _check_matrix(content, order, depth + 1)
