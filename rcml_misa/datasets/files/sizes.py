"""Memory that a table takes when it is read, told without reading it, and the memory at hand."""

from __future__ import annotations

import os
from contextlib import suppress
from math import prod
from pathlib import Path
from zipfile import ZipFile

from rcml_misa.datasets.bounds import SizeBound, raised_bound
from rcml_misa.datasets.files.containers import is_array_file, is_hdf5_file
from rcml_misa.datasets.files.delimited import TextForm, text_ending
from rcml_misa.datasets.files.faults import readable
from rcml_misa.datasets.files.frames import TableParts, frame_head, is_frame_file, table_files
from rcml_misa.datasets.files.text_streams import opened_text, unpacked_bytes
from rcml_misa.datasets.files.typed_tables import ArrowTable
from rcml_misa.storage import require_file

__all__ = ["available_bytes", "held_bytes", "is_held", "most_held"]

SHARE = 0.25  # of the memory at hand that a table may take
NUMBER = 8  # bytes
PROBED = 2**20  # characters of a text table that tell the length of its rows
USUAL = 4 * 2**30  # bytes of memory where the system does not tell
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_bytes() -> int:
    """Tell the bytes of memory that may still be taken, by the system and the control group."""
    free = USUAL
    with suppress(OSError, ValueError, AttributeError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    for limit in GROUPS:
        with suppress(OSError, ValueError):
            free = min(free, int(Path(limit).read_text()))
    return free


def most_held(given: float | None = None) -> int:
    """Bound the bytes of a table that is held in memory.

    Parameters
    ----------
    given : float, optional
        Gigabytes that a user sets; else ``RCML_MISA_LARGEST_GB``, or a quarter of the memory at
        hand.
    """
    if given is not None:
        return int(given * 1e9)
    return raised_bound() or int(SHARE * available_bytes())


def is_held(path: Path, most: int) -> bool:
    """Ask whether a file's or folder's table takes no more than so many bytes of memory."""
    files = table_files(path) if path.is_dir() else [path]
    for file in files:
        require_file(file)
    if sum(SizeBound(file).most for file in files) <= most:  # no file becomes more
        return True
    return held_bytes(path) <= most


def held_bytes(path: Path) -> int:
    """Estimate the bytes that a file's or folder's table takes as float64; 0 for no known kind.

    Numbers of rows and columns tell those of typed tables and arrays, the first lines and the size
    those of text.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    if path.is_dir():
        return sum(held_bytes(file) for file in table_files(path))
    with readable(path, table=is_frame_file(path)):
        if text_ending(path) is not None:
            return _text_bytes(path)
        if is_frame_file(path):
            return _arrow_bytes(path)
        return _array_bytes(path) if is_array_file(path) else 0


def _text_bytes(path: Path) -> int:
    with opened_text(path) as stream:
        lines = stream.read(PROBED).splitlines()
    columns = len(TextForm.of(path).names)
    length = sum(map(len, lines)) / max(len(lines), 1) + 1
    return int(unpacked_bytes(path) / length * columns * NUMBER)


def _arrow_bytes(path: Path) -> int:
    source = frame_head(path).source
    if isinstance(source, ArrowTable):
        return source.count_rows() * len(source.names) * NUMBER
    return 0 if isinstance(source, TableParts) else 4 * path.stat().st_size  # an Excel sheet


def _array_bytes(path: Path) -> int:
    if is_hdf5_file(path):
        from rcml_misa.datasets.files.hdf5 import opened_hdf5

        sizes: list[int] = []
        with opened_hdf5(path) as (file, _):
            file.visititems(lambda _, item: sizes.append(prod(getattr(item, "shape", None) or [0])))
        return NUMBER * sum(sizes)
    if path.suffix.lower() == ".npz":
        with ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    return path.stat().st_size
