"""The operations of a pickle: where each one and its argument lie, and which may not be there."""

from __future__ import annotations

import pickletools
import struct

from rcml_misa.datasets.foreign.objects import find_global
from rcml_misa.datasets.foreign.source import RefusedError, Source

__all__ = ["GETS", "PUTS", "memo_index", "operation", "survey", "two_words"]

#: code -> (name, how long its argument is), as the standard library documents them.
CODES = {
    ord(op.code): (op.name, op.arg.n if op.arg is not None else 0) for op in pickletools.opcodes
}
FORBIDDEN = {
    **dict.fromkeys(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"), "makes an object of a class"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "names an object outside the file"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "uses copyreg's extensions"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "keeps its arrays in another file"),
}
GETS = ("GET", "BINGET", "LONG_BINGET")
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
ENTRY = 100  # bytes of a remembered memo entry

# bytes of each operation that a survey may pass over at once; 0 for the others
_SKIPPED = [
    1 + CODES[code][1]
    if code in CODES
    and CODES[code][1] >= 0
    and CODES[code][0] not in {"STOP", "BINFLOAT", *GETS, *FORBIDDEN}
    else 0
    for code in range(256)
]


def operation(source: Source, position: int) -> tuple[str, int, int, int]:
    """Name, start and stop of its argument's content, and the place after the one at `position`."""
    source.need(position + 1)
    code = source.map[position]
    if code not in CODES:
        raise RefusedError(f"is no pickle: byte {position} is {code}")
    name, size = CODES[code]
    start = position + 1
    if size >= 0:
        stop = start + size
        source.need(stop)
        return name, start, stop, stop
    if size == pickletools.UP_TO_NEWLINE:
        stop = source.line(start)
        if name in ("GLOBAL", "INST"):
            stop = source.line(stop + 1)
        return name, start, stop, stop + 1
    kind = {
        pickletools.TAKEN_FROM_ARGUMENT1: "<B",
        pickletools.TAKEN_FROM_ARGUMENT4: "<i",
        pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
        pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
    }[size]
    length = source.number(start, kind)
    start += struct.calcsize(kind)
    if length < 0:
        raise RefusedError(f"is damaged: the string at byte {start} has {length} bytes")
    source.need(start + length)
    return name, start, start + length, start + length


def survey(source: Source) -> frozenset[int]:
    """Look through the whole file before anything is built.

    Parameters
    ----------
    source : Source

    Returns
    -------
    frozenset of int
        Memo entries that are read again; the others need not be kept.

    Raises
    ------
    RefusedError
        If the file is cut off, goes on after its end, or names or does what it may not.
    """
    wanted: set[int] = set()
    data, size, position, name = source.map, source.size, 0, ""
    while name != "STOP":
        source.passed(position)
        skipped = _SKIPPED[data[position]] if position < size else 0
        if skipped:
            position += skipped
            continue
        count = source.float_run(position)
        if count:
            position += 9 * count
            continue
        name, start, stop, position = operation(source, position)
        if name in FORBIDDEN:
            raise RefusedError(FORBIDDEN[name] + _class_name(source, name, start, stop))
        if name == "GLOBAL":
            find_global(*two_words(source, start, stop))
        elif name in GETS:
            index = memo_index(source, name, start, stop)
            if index not in wanted:
                source.spend(ENTRY)
                wanted.add(index)
    if position != size:
        raise RefusedError(f"goes on for {size - position} bytes after its end")
    source.rewind()
    return frozenset(wanted)


def two_words(source: Source, start: int, stop: int) -> tuple[str, str]:
    """Module and name of a `GLOBAL`."""
    module, _, name = source.map[start:stop].partition(b"\n")
    return module.decode("utf-8", "replace"), name.decode("utf-8", "replace")


def _class_name(source: Source, name: str, start: int, stop: int) -> str:
    if name != "INST":
        return ""
    words = ".".join(two_words(source, start, min(stop, start + 60)))
    return f", {words if words.isprintable() else ascii(words)}"


def memo_index(source: Source, name: str, start: int, stop: int) -> int:
    """Number of a memo entry that is put or got."""
    if name in ("GET", "PUT"):
        word = source.map[start : min(stop, start + 20)]
        if not word.isdigit():
            raise RefusedError("is damaged: a memo entry has no number")
        return int(word)
    return int.from_bytes(source.map[start:stop], "little")
