"""Bytes of a foreign pickle: a mapped file read within its bounds, its operations and strings."""

from __future__ import annotations

import codecs
import mmap
import pickletools
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bytes", "Global", "RefusedError", "Source", "Span", "as_data", "find_global"]

Bytes = NDArray[np.uint8]
Coding = Literal["raw", "utf-8", "escaped", "python2", "python2-escaped"]

STEP = 1 << 26  # bytes after which the pages read so far are given back
CHUNK = 1 << 20  # bytes of text decoded at once
FLOAT = ord("G")
LEAST = 1 << 28  # bytes that any file may take
LONGEST = 1 << 24  # bytes of one text
ENTRY = 100  # bytes of a dict's or a memo's entry
RUN = 1000  # floats that a pickler writes between two appends
#: code -> (name, length of its argument), as the standard library documents them.
CODES = {
    ord(op.code): (op.name, op.arg.n if op.arg is not None else 0) for op in pickletools.opcodes
}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: "<B",
    pickletools.TAKEN_FROM_ARGUMENT4: "<i",
    pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
    pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
}
GETS = ("GET", "BINGET", "LONG_BINGET")
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
FORBIDDEN = {
    **dict.fromkeys(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"), "makes an object of a class"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "names an object outside the file"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "uses copyreg's extensions"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "keeps its arrays in another file"),
}
# bytes of each operation that a survey may pass over at once; 0 for the others
_SKIPPED = [0] * 256
for _code, (_name, _size) in CODES.items():
    if _size >= 0 and _name not in {"STOP", "BINFLOAT", *GETS, *FORBIDDEN}:
        _SKIPPED[_code] = 1 + _size
#: (module, name) of everything that may stand in a file -> what is done for it.
GLOBALS = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "ordered",
    **{
        (f"numpy.{core}.{module}", name): name.lstrip("_")
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
    **{
        (module, name): name
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "bytes", "bytearray")
    },
}
_RECORD = np.dtype([("code", "u1"), ("value", ">f8")])
_CODECS = {"utf-8": "utf-8", "escaped": "raw-unicode-escape"}


class RefusedError(Exception):
    """Reason why a pickle is not read; the words that follow "it"."""


class Source:
    """A file of one byte or more mapped into memory, whose pages are given back after reading.

    Arrays that are cut from it share the map: they take no memory of their own until they are
    read, and the system can always drop them again. All that is built from it may take half as
    many bytes again as the file, and at least 256 MiB.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            self.map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes: Bytes = np.frombuffer(self.map, dtype=np.uint8)
        self.size = len(self.map)
        self.left = max(LEAST, self.size * 3 // 2)
        self._given_back = 0

    def spend(self, cost: int) -> None:
        """Count bytes that are about to be taken, or looked at; refuse a file that wants too many.

        Bytes that are dropped again stay counted: so the work is bounded too.
        """
        self.left -= cost
        if self.left < 0:
            raise RefusedError("needs more memory than a feature file of its size")

    def number(self, position: int, kind: str) -> Any:
        """Unpack the number of a `struct` format at `position`, which must lie in the file."""
        self.need(position + struct.calcsize(kind))
        return struct.unpack_from(kind, self.map, position)[0]

    def need(self, stop: int) -> None:
        """Refuse a file that ends before `stop`."""
        if stop > self.size:
            raise RefusedError(f"is cut off: it names {stop} bytes and has {self.size}")

    def line(self, position: int) -> int:
        """Find the newline that ends the line beginning at `position`."""
        stop = self.map.find(b"\n", position)
        if stop < 0:
            raise RefusedError(f"is cut off inside a line that begins at byte {position}")
        return stop

    def operation(self, position: int) -> tuple[str, int, int, int]:
        """Return an operation's name, its content's start and stop, and the next one's place."""
        self.need(position + 1)
        code = self.map[position]
        if code not in CODES:
            raise RefusedError(f"is no pickle: byte {position} is {code}")
        name, size = CODES[code]
        start = position + 1
        if size >= 0:
            self.need(start + size)
            return name, start, start + size, start + size
        if size == pickletools.UP_TO_NEWLINE:
            stop = self.line(start)
            if name in ("GLOBAL", "INST"):
                stop = self.line(stop + 1)
            return name, start, stop, stop + 1
        length = self.number(start, _LENGTHS[size])
        start += struct.calcsize(_LENGTHS[size])
        if length < 0:
            raise RefusedError(f"is damaged: the string at byte {start} has {length} bytes")
        self.need(start + length)
        return name, start, start + length, start + length

    def float_run(self, position: int) -> int:
        """Count the whole `BINFLOAT` that follow each other from `position`.

        At most 1000; 0 where there are fewer than eight, which are soon read one by one.
        """
        whole = min((self.size - position) // 9, RUN)
        if whole < 8 or self.map[position] != FLOAT or self.map[position + 63] != FLOAT:
            return 0
        others = self.bytes[position : position + 9 * whole : 9] != FLOAT
        count = int(others.argmax()) if others.any() else whole
        return count if count >= 8 else 0

    def floats(self, position: int, count: int) -> NDArray[np.float64]:
        """Return the values of `count` consecutive `BINFLOAT`."""
        records = np.frombuffer(self.map, dtype=_RECORD, count=count, offset=position)
        return records["value"].astype(np.float64)

    def passed(self, position: int, step: int = STEP) -> None:
        """Let the system drop pages that were read, once there are many; it can read them again."""
        if position - self._given_back > step:
            self._given_back = position
            if hasattr(mmap, "MADV_DONTNEED"):
                self.map.madvise(mmap.MADV_DONTNEED)

    def two_words(self, start: int, stop: int) -> tuple[str, str]:
        """Return the module and the name of a `GLOBAL`."""
        module, _, name = self.map[start:stop].partition(b"\n")
        return module.decode("utf-8", "replace"), name.decode("utf-8", "replace")

    def memo_index(self, name: str, start: int, stop: int) -> int:
        """Return the number of a memo entry that is put or got."""
        if name in ("GET", "PUT"):
            word = self.map[start : min(stop, start + 20)]
            if not word.isdigit():
                raise RefusedError("is damaged: a memo entry has no number")
            return int(word)
        return int.from_bytes(self.map[start:stop], "little")

    def survey(self) -> frozenset[int]:
        """Return the memo entries that are read again, the only ones to keep.

        The whole file is looked through before anything is built; it is refused if it is cut off,
        goes on after its end, or names or does what it may not.
        """
        wanted: set[int] = set()
        data, size, position, name = self.map, self.size, 0, ""
        while name != "STOP":
            self.passed(position)
            if skipped := _SKIPPED[data[position]] if position < size else 0:
                position += skipped
                continue
            if count := self.float_run(position):
                position += 9 * count
                continue
            name, start, stop, position = self.operation(position)
            if name in ("GLOBAL", "INST"):
                find_global(*self.two_words(start, stop))
            if name in FORBIDDEN:
                raise RefusedError(FORBIDDEN[name])
            if name in GETS and (index := self.memo_index(name, start, stop)) not in wanted:
                self.spend(ENTRY)
                wanted.add(index)
        if position != size:
            raise RefusedError(f"goes on for {size - position} bytes after its end")
        self.passed(position, step=0)
        self._given_back = 0
        return frozenset(wanted)


@dataclass(slots=True, eq=False)
class Span:
    """A string that stays in the file until somebody wants it.

    Only whoever takes it knows its kind: Python 2 wrote text and an array's bytes alike, and
    Python 3 writes bytes as text in old protocols. So it is decoded on demand; `as_bytes` says
    that it is bytes, where it is not an array's.
    """

    source: Source
    start: int
    stop: int
    coding: Coding
    as_bytes: bool = False
    _text: str | None = None

    def __len__(self) -> int:
        return self.stop - self.start

    def encoded(self) -> Span:
        """Return the bytes that this text stands for, each character one of them."""
        return Span(self.source, self.start, self.stop, self.coding, as_bytes=True)

    def data(self) -> Bytes:
        """Return the bytes of an array: text gives one byte per character."""
        if self.coding in ("raw", "python2"):
            return self.source.bytes[self.start : self.stop]
        self.source.spend(len(self))
        try:
            return np.frombuffer(self._recoded(), dtype=np.uint8)
        except ValueError:  # UnicodeError is one too
            raise RefusedError(
                f"holds no bytes in the text that begins at byte {self.start}"
            ) from None

    def _recoded(self) -> bytes | bytearray:
        """Decode by the megabyte, since characters may take four times the room of their bytes."""
        if self.coding == "python2-escaped":
            return _unescaped(self.source.map[self.start : self.stop])
        decoder = codecs.getincrementaldecoder(_CODECS[self.coding])()
        content = bytearray()
        for start in range(self.start, self.stop, CHUNK):
            stop = min(start + CHUNK, self.stop)
            text = decoder.decode(self.source.map[start:stop], stop == self.stop)
            content += text.encode("latin-1")
            self.source.passed(stop)
        return content

    def plain(self) -> str | bytes:
        """Return the string as Python has it: bytes, or text, which Python 2 may have written."""
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
            if self.coding in _CODECS:
                return raw.decode(_CODECS[self.coding], "surrogatepass")
            if self.coding == "python2-escaped":
                raw = _unescaped(raw)
        except ValueError:
            raise RefusedError(f"holds no text at byte {self.start}") from None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def _unescaped(raw: bytes) -> bytes:
    """Undo Python 2's escapes and leave the unknown ones as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        decoded: bytes = codecs.escape_decode(raw)[0]
    return decoded


def as_data(value: Any) -> Bytes:
    """Return the bytes of an array from whatever a pickler may have put them into."""
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


@dataclass(frozen=True, slots=True)
class Global:
    """A name of the table; `Builder.call` knows what it does."""

    words: str
    does: str


def find_global(module: str, name: str) -> Global:
    """Look a name up; nothing is imported."""
    words = f"{module}.{name}"
    if (module, name) not in GLOBALS:
        shown = words if len(words) <= 60 and words.isprintable() else ascii(words)[:60]
        raise RefusedError(f"asks for {shown}")
    return Global(words, GLOBALS[module, name])
