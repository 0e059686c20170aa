"""Mutated pickles against the restricted reader: every one is read or refused, quickly.

Feature files of every protocol, also as Python 2 wrote them, are changed at random: bytes flipped,
cut, doubled, spliced between files, operations and lengths exchanged. Each must come back as a
value or be refused in one sentence, within a second, without an import. Bars: 20 000 files, no
other exception, no crash, nothing slower than 1 s.

    python benchmarks/fuzz_pickles.py [--files 20000] [--seed 0]
"""

from __future__ import annotations

import argparse
import builtins
import io
import pickle
import pickletools
import struct
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rcml_misa.datasets.foreign import read_pickle
from rcml_misa.exceptions import DataError

# what NumPy and the codecs load for themselves while an array or a text is made
HARMLESS = ("numpy", "encodings", "codecs", "_io", "warnings")
CODES = [ord(op.code) for op in pickletools.opcodes]
# what a mutated file could come to ask for, to be pasted in
NAMES = [
    b"cos\nsystem\n",
    b"c__builtin__\neval\n",
    b"cnumpy.core.multiarray\nscalar\n",
    b"c_codecs\nencode\n",
    b"c__builtin__\nset\n",
]


_Pickler: Any = vars(pickle)["_Pickler"]  # the one in Python, whose ways can be changed


class Python2Pickler(_Pickler):  # type: ignore[misc]
    """Writes text and bytes alike as Python 2's `str`, in protocol 0, 1 or 2."""

    dispatch: ClassVar[dict[Any, Any]] = dict(_Pickler.dispatch)

    def string(self, raw: bytes) -> None:
        """One string, quoted, short or long."""
        if self.proto == 0:
            self.write(b"S" + repr(raw)[1:].encode("ascii") + b"\n")
        elif len(raw) < 256:
            self.write(b"U" + bytes([len(raw)]) + raw)
        else:
            self.write(b"T" + struct.pack("<i", len(raw)) + raw)

    def save_bytes(self, value: bytes) -> None:
        """Bytes: an array's content."""
        self.string(value)
        self.memoize(value)

    def save_str(self, value: str) -> None:
        """Text, as its UTF-8 bytes."""
        self.string(value.encode("utf-8"))
        self.memoize(value)

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str


def python2_dumps(value: Any, protocol: int) -> bytes:
    """Pickle as Python 2 would have written it."""
    stream = io.BytesIO()
    Python2Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def seeds() -> list[bytes]:
    """Small files of every kind of value, in every protocol."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 3))
    value = {
        "audio": rng.normal(size=(2, 3, 5)).astype(np.float32),
        "vision": np.asfortranarray(rows),
        "ids": np.array(["a", "bé"]),
        "objects": np.array(["x", 1, None], dtype=object),
        "rows": [[float(x) for x in row] for row in rows],
        "words": [1, 300, 70_000, 2**40, -5, True, None, 0.5, b"\x00\xff", "é"],
        "shared": [rows, rows],
        "ordered": OrderedDict(a=(1, 2), b=frozenset({3})),
        "set": {1, "b"},
        "number": np.float32(1.5),
    }
    files = [pickle.dumps(value, protocol) for protocol in range(6)]
    files += [python2_dumps(value, protocol) for protocol in range(3)]
    return files


def mutate(files: list[bytes], rng: np.random.Generator) -> bytes:
    """Change one file in one to four places."""
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(data) + 1))
        length = int(rng.integers(1, 12))
        kind = rng.integers(8)
        if kind == 0 and data:
            data[place - 1] ^= 1 << int(rng.integers(8))
        elif kind == 1 and data:
            data[place - 1] = int(rng.choice(CODES))
        elif kind == 2:
            data.insert(place, int(rng.choice(CODES)))
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length]
        elif kind == 5:
            other = files[rng.integers(len(files))]
            start = int(rng.integers(len(other)))
            data[place:place] = other[start : start + 4 * length]
        elif kind == 6:
            data[place : place + 4] = struct.pack("<I", int(rng.integers(2**32)))
        else:
            data[place:place] = NAMES[rng.integers(len(NAMES))]
    return bytes(data)


@dataclass
class Report:
    """What became of the files.

    Attributes
    ----------
    outcomes : Counter
        ``"read"``, ``"refused"``, or the kind of an exception that should not be.
    slowest : float
        Seconds of the slowest file.
    imported : set of str
        Modules asked for while files were read, other than those that NumPy and the codecs load.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    imported: set[str] = field(default_factory=set)


@contextmanager
def watched_imports(into: set[str]) -> Iterator[None]:
    """Note every module that an import statement or a call of `__import__` asks for."""
    original = builtins.__import__

    def noting(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] not in HARMLESS:
            into.add(name)
        return original(name, *rest, **named)

    builtins.__import__ = noting
    try:
        yield
    finally:
        builtins.__import__ = original


def fuzz(count: int, *, seed: int = 0) -> Report:
    """Read `count` mutated files."""
    rng, report, files = np.random.default_rng(seed), Report(), seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.pkl"
        for _ in range(count):
            path.write_bytes(mutate(files, rng) or b"\x80")
            started = time.perf_counter()
            try:
                with watched_imports(report.imported):
                    read_pickle(path)
                outcome = "read"
            except DataError as error:
                outcome = "refused" if "\n" not in str(error) else "several lines"
            except Exception as error:  # what the fuzz is for
                outcome = f"{type(error).__name__}: {error}"
            report.outcomes[outcome] += 1
            report.slowest = max(report.slowest, time.perf_counter() - started)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    report = fuzz(given.files, seed=given.seed)
    for outcome, number in report.outcomes.most_common():
        print(f"{number:>7}  {outcome}")
    print(f"slowest: {1000 * report.slowest:.0f} ms; imports: {sorted(report.imported) or 'none'}")


if __name__ == "__main__":
    main()
