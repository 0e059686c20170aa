"""HDF5 files opened for reading: nothing outside the file, and no more than its size allows.

An HDF5 file can name other files (external links, external storage, virtual data sets) and itself,
and declare data of any size. All of that is found and refused before a data set is read.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from rcml_misa.datasets.bounds import SizeBound
from rcml_misa.datasets.files.faults import readable
from rcml_misa.exceptions import DataError, shortened

__all__ = ["Hdf5Guard", "attribute", "opened_hdf5"]

MOST_ITEMS = 200_000
DEEPEST = 32  # groups within one another
HEAP = b"GCOL\1\0\0\0"  # beginning of a heap of texts of any length
LARGEST_HEAP = 2**30
MOST_VALUES = 1000  # values of an attribute
RATIO = 1032  # most bytes that deflate makes of one
PLAIN = "write the data anew as plain data sets"
VISITS = 2  # times that each item of a file is read


@contextmanager
def opened_hdf5(path: Path) -> Iterator[tuple[Any, Hdf5Guard]]:
    """Open an HDF5 file whose items have all been looked at, and give the guard that did."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path} is an HDF5 file (a MATLAB file of version 7.3 is one), which takes h5py to "
            "read: pip install 'rcml-misa[hdf5]', or save it in another format."
        ) from error
    _check_heaps(path)
    with readable(path), h5py.File(path, "r") as file:
        guard = Hdf5Guard(path)
        guard.survey(file)
        yield file, guard


def _check_heaps(path: Path) -> None:
    """Refuse damaged heaps of texts, in which the library of HDF5 looks for a text for ever."""
    with path.open("rb") as stream:
        if not stream.seek(0, 2):
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.find(HEAP)
            while place >= 0:
                (size,) = struct.unpack_from("<Q", content[place + 8 : place + 16].ljust(8, b"\0"))
                heap = content[place : place + min(size, LARGEST_HEAP)]
                if place % 8 == 0 and not _is_whole(heap):
                    raise DataError(
                        f"{shortened(path)} is damaged in its texts, at byte {place}; fetch it "
                        "again, or write it anew."
                    )
                place = content.find(HEAP, place + 8)


def _is_whole(heap: bytes) -> bool:
    """Tell whether the texts of a heap follow each other up to its end."""
    place = 16
    while place + 16 <= len(heap):
        number, size = struct.unpack_from("<H6xQ", heap, place)
        if number == 0:  # the rest is free
            return bool(place + size == len(heap))
        place += 16 + size + -size % 8
    return place <= len(heap)


@dataclass
class Hdf5Guard:
    """Checks the items of one file, each once."""

    path: Path
    checked: set[tuple[int, int]] = field(default_factory=set)

    visited: int = 0

    def __post_init__(self) -> None:
        self.bound = SizeBound(self.path)
        self.copies = SizeBound(self.path)  # what is read through references, again and again

    def survey(self, root: Any) -> None:
        """Check a group and all that it holds."""
        import h5py

        waiting, soft = [("", root)], []
        while waiting:
            place, group = waiting.pop()
            if not self._is_new(group):
                continue
            if place.count("/") > DEEPEST:
                raise self._refusal(
                    "has groups", place, f"more than {DEEPEST} deep; write it without them"
                )
            for name in group:
                where = f"{place}/{name}"
                link = group.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise self._refusal("has the link", where, f"to another file; {PLAIN}")
                if isinstance(link, h5py.SoftLink):
                    soft.append((group, name, where))
                    continue
                item = group[name]
                if isinstance(item, h5py.Group):
                    waiting.append((where, item))
                elif isinstance(item, h5py.Dataset) and self._is_new(item):
                    self._check(item, where)
        for group, name, where in soft:
            try:
                group[name]
            except (KeyError, OSError, RuntimeError) as error:
                reason = "that leads nowhere, or in a circle; delete it"
                raise self._refusal("has the link", where, reason) from error

    def follow(self, file: Any, reference: Any) -> Any:
        """Return the item that a reference of a cell names, checked too, or None for none."""
        import h5py

        if not reference:
            return None
        item = file[reference]
        if isinstance(item, h5py.Group):
            self.survey(item)
        elif isinstance(item, h5py.Dataset):
            if self._is_new(item):
                self._check(item, "of a cell")
            self.copies.spend(prod(item.shape or ()) * item.dtype.itemsize)
        return item

    def visit(self, item: Any) -> tuple[int, int]:
        """Count that an item is read, and tell which object of the file it is.

        Cells and groups can hold the same ones again, which doubles with each level.
        """
        self.visited += 1
        if self.visited > VISITS * (len(self.checked) + 1000):
            raise DataError(
                f"{shortened(self.path)} holds the same cells or groups again and again; save its "
                "arrays as variables of their own."
            )
        return self._address(item)

    def _address(self, item: Any) -> tuple[int, int]:
        """Tell which object of the file an item is."""
        import h5py

        facts = h5py.h5o.get_info(item.id)
        return int(facts.fileno), int(facts.addr)

    def _is_new(self, item: Any) -> bool:
        key = self._address(item)
        if key in self.checked:
            return False
        self.checked.add(key)
        if len(self.checked) > MOST_ITEMS:
            raise DataError(
                f"{shortened(self.path)} holds more than {MOST_ITEMS} groups and data sets; join "
                "them."
            )
        return True

    def _refusal(self, what: str, where: str, reason: str) -> DataError:
        return DataError(f"{shortened(self.path)} {what} {shortened(where, 60)!r} {reason}.")

    def _check(self, item: Any, where: str) -> None:
        """Refuse a data set that is not in the file, or larger than what is there."""
        import h5py

        plan = item.id.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL:
            raise self._refusal("has the virtual data set", where, f"of other data; {PLAIN}")
        if plan.get_external_count():
            raise self._refusal("keeps the data set", where, f"in another file; {PLAIN}")
        codes = [plan.get_filter(place)[0] for place in range(plan.get_nfilters())]
        for code in codes:
            if not h5py.h5z.filter_avail(code):
                way_out = "write it with compression='gzip', or install and import hdf5plugin"
                reason = f"with filter {code}, which is not at hand; {way_out}"
                raise self._refusal("packs the data set", where, reason)
        if item.shape is None:
            return
        self.bound.spend(prod(item.shape) * item.dtype.itemsize)
        if item.chunks:
            nominal = prod(item.chunks) * item.dtype.itemsize
            self.bound.spend(max(0, nominal - prod(item.shape) * item.dtype.itemsize))
            self._check_chunks(item, where, codes.count(h5py.h5z.FILTER_DEFLATE), nominal)
        if item.dtype.hasobject and h5py.check_ref_dtype(item.dtype) is None:
            self._count_texts(item)

    def _check_chunks(self, item: Any, where: str, deflated: int, nominal: int) -> None:
        """Unpack the chunks that could become more than they say, as much as that."""
        if deflated > 1:
            reason = f"{deflated} times over; write it with compression='gzip' once"
            raise self._refusal("packs the data set", where, reason)
        if not deflated or item.id.get_storage_size() * RATIO <= self.bound.most:
            return
        large: list[Any] = []

        def collect(chunk: Any) -> None:
            if chunk.size * RATIO > self.bound.most:
                large.append(chunk.chunk_offset)

        item.id.chunk_iter(collect)
        for offset in large:
            mask, packed = item.id.read_direct_chunk(offset)
            if mask:  # filters that were left out for this chunk
                continue
            unpacked = zlib.decompressobj().decompress(packed, 2 * nominal + 1024)
            if len(unpacked) > nominal + 1024:
                raise self._refusal("holds more in the data set", where, f"than it says; {PLAIN}")

    def _count_texts(self, item: Any) -> None:
        """Count texts of any length, of which many may be one, by a few rows at a time."""
        rows = item.shape[0] if item.shape else 0
        width = max(1, prod(item.shape[1:])) if item.shape else 1
        step = max(1, self.bound.left // max(1, self.bound.size) // width)
        for start in range(0, rows, step):
            values = item[start : start + step]
            self.bound.spend(sum(_length(value) for value in np.ravel(values)))


def attribute(item: Any, name: str, default: Any = None) -> Any:
    """Read an attribute of an item of HDF5; the default where there is none of a few values.

    h5py takes memory and time for as many values as an attribute declares.
    """
    import h5py

    if not h5py.h5a.exists(item.id, name.encode()):
        return default
    shape = h5py.h5a.open(item.id, name.encode()).shape
    return default if prod(shape) > MOST_VALUES else item.attrs[name]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, bytes | str | np.ndarray) else 64
