"""Text files opened for reading: compressed or not, in their encoding, with bounded lines."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from zipfile import ZipFile

from rcml_misa.datasets.bounds import LEAST_TEXT, SizeBound, bounded_members
from rcml_misa.exceptions import DataError, shortened
from rcml_misa.storage import require_file

__all__ = ["COMPRESSIONS", "opened_text", "unpacked_bytes"]

OPENERS: Mapping[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
COMPRESSIONS = (*OPENERS, ".zip")
ENCODINGS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
RATIO = 4  # usual bytes of a table of numbers to those of its packed form
LONGEST_LINE = 2**24  # characters
BLOCK = 2**18  # bytes unpacked at once


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """Open a text file, compressed or not, in UTF-8 or with the mark of UTF-16.

    One that would become too large, or has a line of more than 16 million characters, is a
    DataError; the latter as soon as reading comes to the line.
    """
    require_file(path)
    with _opened_bytes(path) as stream:
        buffered = io.BufferedReader(stream)
        encoding = ENCODINGS.get(buffered.peek(2)[:2], "utf-8-sig")
        with _Lines(buffered, path, encoding) as text:
            yield text


def unpacked_bytes(path: Path) -> int:
    """Estimate the bytes of a text file, unpacked."""
    packed = path.name.lower().endswith(COMPRESSIONS)
    return path.stat().st_size * (RATIO if packed else 1)


class _Lines(io.TextIOWrapper):
    """Text that is given out in parts, with a bound on the length of its lines."""

    def __init__(self, stream: io.BufferedReader, path: Path, encoding: str) -> None:
        super().__init__(stream, encoding=encoding, newline="")
        self._path = path
        self._run = 0  # characters since the last line end

    def read(self, size: int | None = -1, /) -> str:
        """Read so many characters, counting those of the last line."""
        text = super().read(size)
        end = max(text.rfind("\n"), text.rfind("\r"))
        self._run = self._run + len(text) if end < 0 else len(text) - end - 1
        self._bound()
        return text

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Read a line, of no more characters than are allowed."""
        line = super().readline(LONGEST_LINE + 1 if size < 0 else size)
        self._run = len(line)
        self._bound()
        return line

    def __next__(self) -> str:  # type: ignore[override]
        if line := self.readline():
            return line
        raise StopIteration

    def _bound(self) -> None:
        if self._run > LONGEST_LINE:
            raise DataError(
                f"{shortened(self._path)} has a line of more than {LONGEST_LINE} characters; give "
                "a table with one row per line."
            )


@contextmanager
def _opened_bytes(path: Path) -> Iterator[Any]:
    compression = next((end for end in COMPRESSIONS if path.name.lower().endswith(end)), "")
    if not compression:
        with path.open("rb") as stream:
            yield stream
        return
    bound = SizeBound(path, least=LEAST_TEXT)
    if compression == ".zip":
        with ZipFile(path) as archive:
            members = bounded_members(archive, bound)
            if len(members) != 1:
                raise DataError(
                    f"{path} holds {len(members)} files; put one table alone into a zip file."
                )
            with archive.open(members[0]) as stream:
                yield stream
        return
    opener = OPENERS[compression]
    with opener(path, "rb") as stream:
        # all of it, before a table is made of its beginning
        while part := stream.read(BLOCK):
            bound.spend(len(part))
    with opener(path, "rb") as stream:
        yield stream
