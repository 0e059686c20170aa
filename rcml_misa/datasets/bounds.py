"""Bound of what a data file may become when it is read.

A few bytes can stand for gigabytes in every format that packs, repeats or declares its content.
Here is the bound for all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

from rcml_misa.exceptions import DataError, OptionError, shortened

__all__ = ["LARGEST_VARIABLE", "LEAST_TEXT", "SizeBound", "bounded_members", "raised_bound"]

TIMES = 100  # bytes that each byte of a file may become
LEAST = 2**28  # bytes that any file may become
LEAST_TEXT = 2**25  # bytes of text, which take several times as much as numbers
LARGEST_VARIABLE = "RCML_MISA_LARGEST_GB"  # environment variable that raises the bound
MOST_MEMBERS = 10_000


def raised_bound() -> int:
    """Read the bound in bytes that ``RCML_MISA_LARGEST_GB`` sets, 0 for none."""
    text = os.environ.get(LARGEST_VARIABLE, "")
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise OptionError(
            f"{LARGEST_VARIABLE}={shortened(text, 40)} is no number of gigabytes; give one such as "
            "8, or unset it."
        )
    return int(value * 1e9)


@dataclass
class SizeBound:
    """Bytes that a file may become when it is read, and those that are counted so far.

    A hundred times the size of the file or 256 MiB, whichever is more, or as many gigabytes as
    ``RCML_MISA_LARGEST_GB`` says; for text, `least` is 32 MiB.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     SizeBound(Path("a.npz"), size=1000).spend(10**12)
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: a.npz of 1.0 kB becomes 1.0 TB or more when it is read, above...
    """

    path: Path
    least: int = LEAST
    size: int = -1
    spent: int = 0
    most: int = field(init=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            self.size = self.path.stat().st_size
        self.most = int(max(self.least, TIMES * self.size, raised_bound()))

    @property
    def left(self) -> int:
        """Bytes that may still come."""
        return self.most - self.spent

    def spend(self, size: int) -> None:
        """Count bytes that are about to be taken; a DataError where they are too many."""
        self.spent += int(size)
        if self.spent > self.most:
            raise DataError(
                f"{shortened(self.path)} of {_size(self.size)} becomes {_size(self.spent)} or more "
                f"when it is read, above {_size(self.most)} for a file of its size; if you trust "
                f"it, set {LARGEST_VARIABLE}={max(1, -(-self.spent // 10**9))}."
            )


def _size(count: int) -> str:
    value, unit = count / 1e3, "kB"
    for larger in ("MB", "GB", "TB", "PB"):
        if value >= 999.95:
            value, unit = value / 1e3, larger
    return f"{value:.1f} {unit}" if value < 1e6 else f"{value:.1e} {unit}"


def bounded_members(archive: ZipFile, bound: SizeBound) -> list[Any]:
    """List the members of a zip archive, whose sizes the bound has counted.

    A member is never read beyond the size that it states, but for methods that unpack a block at
    once; those are refused.
    """
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MOST_MEMBERS:
        raise DataError(
            f"{shortened(bound.path)} holds {len(members)} parts, above {MOST_MEMBERS}; join them."
        )
    for member in members:
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise DataError(
                f"{shortened(bound.path)} holds {shortened(member.filename, 40)!r} in an unusual "
                "packing of zip; pack it with deflate, as zip does by itself."
            )
        bound.spend(member.file_size)
    return members
