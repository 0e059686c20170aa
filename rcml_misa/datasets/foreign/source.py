"""The bytes of a foreign pickle: a mapped file that is read within its bounds."""

from __future__ import annotations

import codecs
import mmap
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coding", "RefusedError", "Source", "Span", "as_data"]

Bytes = NDArray[np.uint8]
Coding = Literal["raw", "utf-8", "escaped", "python2", "python2-escaped"]

STEP = 1 << 26  # bytes after which the pages read so far are given back
CHUNK = 1 << 20  # bytes of text decoded at once
FLOAT = ord("G")
LEAST = 1 << 28  # bytes that any file may take
LONGEST = 1 << 24  # bytes of one text
RUN = 1000  # floats that a pickler writes between two appends
_RECORD = np.dtype([("code", "u1"), ("value", ">f8")])


class RefusedError(Exception):
    """Why a pickle is not read; the words that follow "it"."""


class Source:
    """A file mapped into memory, whose pages are given back as reading goes on.

    Arrays that are cut from it share the map: they take no memory of their own until they are
    read, and the system can always drop them again.

    Parameters
    ----------
    path : Path
        A file with one byte or more.
    limit : int
        Bytes that all that is built from it may take; by default half as much again as the file
        and at least 256 MiB.
    """

    def __init__(self, path: Path, *, limit: int | None = None) -> None:
        with path.open("rb") as stream:
            self.map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes: Bytes = np.frombuffer(self.map, dtype=np.uint8)
        self.size = len(self.map)
        self.left = max(LEAST, self.size * 3 // 2) if limit is None else limit
        self._given_back = 0

    def spend(self, cost: int) -> None:
        """Count bytes that are about to be taken, or looked at; refuse a file that wants too many.

        What is dropped again stays counted: so the work is bounded too.
        """
        self.left -= cost
        if self.left < 0:
            raise RefusedError("needs more memory than a feature file of its size")

    def number(self, position: int, kind: str) -> int:
        """Whole number of a `struct` format at `position`, which must lie inside the file."""
        stop = position + struct.calcsize(kind)
        self.need(stop)
        return int(struct.unpack_from(kind, self.map, position)[0])

    def need(self, stop: int) -> None:
        """Refuse a file that ends before `stop`."""
        if stop > self.size:
            raise RefusedError(f"is cut off: it names {stop} bytes and has {self.size}")

    def line(self, position: int) -> int:
        """Where the line that begins at `position` ends: the place of its newline."""
        stop = self.map.find(b"\n", position)
        if stop < 0:
            raise RefusedError(f"is cut off inside a line that begins at byte {position}")
        return stop

    def float_run(self, position: int) -> int:
        """How many whole `BINFLOAT` follow each other from `position`.

        At most 1000; 0 where there are fewer than eight, which are soon read one by one.
        """
        whole = min((self.size - position) // 9, RUN)
        if whole < 8 or self.map[position] != FLOAT or self.map[position + 63] != FLOAT:
            return 0
        others = self.bytes[position : position + 9 * whole : 9] != FLOAT
        count = int(others.argmax()) if others.any() else whole
        return count if count >= 8 else 0

    def floats(self, position: int, count: int) -> NDArray[np.float64]:
        """Values of `count` consecutive `BINFLOAT`."""
        records = np.frombuffer(self.map, dtype=_RECORD, count=count, offset=position)
        return records["value"].astype(np.float64)

    def passed(self, position: int) -> None:
        """Give back pages that were read, once there are many of them."""
        if position - self._given_back > STEP:
            self.give_back()
            self._given_back = position

    def rewind(self) -> None:
        """Begin to count given-back pages anew, for a second reading."""
        self.give_back()
        self._given_back = 0

    def give_back(self) -> None:
        """Let the system drop the pages that are in memory; they can be read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.map.madvise(mmap.MADV_DONTNEED)


class Span:
    """A string that stays in the file until somebody wants it.

    Only whoever takes it knows what it is: Python 2 wrote text and an array's bytes alike, and
    Python 3 writes bytes as text in old protocols. So it is decoded on demand.

    Parameters
    ----------
    source : Source
    start, stop : int
        Its bytes in the file.
    coding : str
        How they stand there.
    as_bytes : bool
        Whether it is bytes, where it is not an array's.
    """

    __slots__ = ("_text", "as_bytes", "coding", "source", "start", "stop")

    def __init__(
        self, source: Source, start: int, stop: int, coding: Coding, *, as_bytes: bool = False
    ) -> None:
        self.source = source
        self.start = start
        self.stop = stop
        self.coding = coding
        self.as_bytes = as_bytes
        self._text: str | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def encoded(self) -> Span:
        """The bytes that this text stands for, each character one of them."""
        return Span(self.source, self.start, self.stop, self.coding, as_bytes=True)

    def data(self) -> Bytes:
        """Bytes of an array: text gives one byte per character."""
        if self.coding in ("raw", "python2"):
            return self.source.bytes[self.start : self.stop]
        self.source.spend(len(self))
        decode = _DECODERS[self.coding]
        found = bytearray()
        for chunk in self._chunks():
            try:
                found += decode(chunk)
            except ValueError:  # UnicodeError is one too
                raise RefusedError(
                    f"holds no bytes in the text that begins at byte {self.start}"
                ) from None
        return np.frombuffer(found, dtype=np.uint8)

    def plain(self) -> str | bytes:
        """The string as Python has it: bytes, or text, which Python 2 may have written."""
        if len(self) > LONGEST:
            raise RefusedError(f"has a text of {len(self)} bytes")
        if self.as_bytes:
            return self.data().tobytes()
        if self._text is None:
            self._text = self._decoded()
        return self._text

    def _decoded(self) -> str:
        raw = self.source.map[self.start : self.stop]
        try:
            if self.coding == "utf-8":
                return raw.decode("utf-8", "surrogatepass")
            if self.coding == "escaped":
                return raw.decode("raw-unicode-escape")
            if self.coding == "python2-escaped":
                raw = _unescaped(raw)
        except ValueError:
            raise RefusedError(f"holds no text at byte {self.start}") from None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    def _chunks(self) -> Iterator[bytes]:
        """Parts of about a megabyte that end between two characters."""
        position = self.start
        while position < self.stop:
            stop = min(position + CHUNK, self.stop)
            if stop < self.stop:
                stop = max(self._between(position, stop), position + 1)
            yield self.source.map[position:stop]
            position = stop
            self.source.passed(position)

    def _between(self, start: int, stop: int) -> int:
        """The nearest place at or before `stop` where no character is cut in two."""
        data = self.source.map
        if self.coding == "utf-8":
            while stop > start and data[stop] & 0xC0 == 0x80:
                stop -= 1
            return stop
        last = data.rfind(b"\\", max(start, stop - 10), stop)
        if last < 0:
            return stop
        first = last
        while first > start and data[first - 1] == ord("\\"):
            first -= 1
        odd = (last - first) % 2 == 0
        return last if odd else last + 1


def _unescaped(raw: bytes) -> bytes:
    """Python 2's escapes undone, the unknown ones left as they are."""
    decode: Callable[[bytes], tuple[bytes, int]] = codecs.escape_decode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return decode(raw)[0]


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "utf-8": lambda raw: raw.decode("utf-8").encode("latin-1"),
    "escaped": lambda raw: raw.decode("raw-unicode-escape").encode("latin-1"),
    "python2-escaped": _unescaped,
}


def as_data(value: Any) -> Bytes:
    """Bytes of an array from whatever a pickler may have put them into."""
    if isinstance(value, Span):
        return value.data()
    if isinstance(value, str):  # an old protocol's bytes, when they are few
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            raise RefusedError("has an array whose content is text") from None
    if isinstance(value, (bytes, bytearray)):
        return np.frombuffer(value, dtype=np.uint8)
    raise RefusedError(f"has an array whose content is {type(value).__name__}")
