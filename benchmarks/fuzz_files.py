"""Mutated data files of every format: each is read or refused in one sentence, within bounds.

Small honest files (csv, csv.gz, npz, npy in npz, MATLAB 5 and 7.3, HDF5, parquet, xlsx) are changed
at random, by bytes (flipped, cut, doubled, spliced, numbers exchanged) and by their structure
(cells, lines, members of archives, headers of arrays, items of HDF5, unpacked content packed
again). Each is read in a child process. Bar: 5,000 files; no other exception than the package's
own, no sentence above 300 characters, nothing above 2 s or 500 MB beyond start-up, no death by a
signal. The exit status is 1 where a file misses it; such files are kept in ``--keep``.

    python benchmarks/fuzz_files.py [--files 5000] [--seed 0] [--seconds S] [--keep DIR]
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import io
import random
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from fuzzing import Outcome, attempt
from scipy.io import savemat

from rcml_misa.datasets.files import FileOptions, check_file, read_own_file
from rcml_misa.exceptions import LONGEST, RcmlMisaError

SECONDS, MEGABYTES = 2.0, 500
ROWS = 24
# cells and numbers that are pasted in
CELLS = ["", '"', '""', "NA", "inf", "-1e999", "9" * 400, "1,5", "\0", "é", "2024-01-01", "=1+1"]
CELLS += ["\r", "\ufeff", "0x1F", "a" * 3000, "1e5", "--", " ", "\n\n", ";" * 50, "#", "%", "01"]
NUMBERS = [
    0,
    1,
    2,
    127,
    255,
    2**15,
    2**16 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
]
WORDS = ["[40, 2]", "(-1, 4)", "(2**40,)", "(24, 3)", "(24, 4294967296)", "(0,)", "()", "'|O'"]
WORDS += ["'<f4'", "'<M8[s]'", "'<c16'", "'<U9999'", "True", "[('a', '<f8')]"]


def seeds(folder: Path) -> dict[str, bytes]:
    """Write honest files, and return their content by ending."""
    rng = np.random.default_rng(0)
    face, voice = rng.normal(size=(ROWS, 3)).round(3), rng.normal(size=(ROWS, 2)).round(3)
    label = np.arange(ROWS) % 2
    names = [*(f"face__{i}" for i in range(3)), *(f"voice__{i}" for i in range(2))]
    frame = pd.DataFrame(np.hstack([face, voice]), columns=names)
    frame["word"] = rng.choice(["red", "green", "blue"], ROWS)
    frame["y"] = np.array(["p", "q"])[label]
    arrays = {"face": face, "voice": voice, "y": label}
    cells = np.empty(2, dtype=object)
    cells[:] = face, voice

    def path(end: str) -> Path:
        return folder / f"seed{end}"

    frame.to_csv(path(".csv"), index=False)
    frame.to_csv(path(".csv.gz"), index=False)
    frame.to_parquet(path(".parquet"))
    frame.to_excel(path(".xlsx"), index=False)
    np.savez(path(".npz"), allow_pickle=False, **arrays)
    np.savez_compressed(path("2.npz"), allow_pickle=False, **arrays)
    savemat(path(".mat"), {**arrays, "X": cells})
    savemat(path("2.mat"), {"X": cells, "s": {"y": label}, "y": label}, do_compression=True)
    with h5py.File(path(".h5"), "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.create_dataset("packed", data=face + 1, compression="gzip", shuffle=True)
        file["texts"] = np.array(["a", "bc"], dtype=object)[label]
        file["link"] = h5py.SoftLink("/voice")
    with h5py.File(path("73.mat"), "w") as file:
        for name, array in arrays.items():
            file[name] = np.atleast_2d(array).T
        for number, array in enumerate((face, voice)):
            file[f"#refs#/{number}"] = array.T
            file[f"#refs#/{number}"].attrs["MATLAB_class"] = b"double"
        cell = file.create_dataset("X", (2, 1), dtype=h5py.ref_dtype)
        cell[:, 0] = [file["#refs#/0"].ref, file["#refs#/1"].ref]
        for name in (*arrays, "X"):
            file[name].attrs["MATLAB_class"] = b"cell" if name == "X" else b"double"
    return {file.name.removeprefix("seed"): file.read_bytes() for file in folder.iterdir()}


def mutated_bytes(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Change some bytes."""
    data = bytearray(content)
    place = rng.randrange(len(data) + 1)
    other = rng.randrange(len(data) + 1)
    start, stop = sorted((place, min(other, place + rng.choice([4, 64, 4096]))))
    kind = rng.randrange(7)
    if kind == 0:
        for _ in range(rng.choice([1, 2, 8, 32])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[place:] = b""
    elif kind == 2:
        data[start:stop] = b""
    elif kind == 3:
        data[place:place] = data[start:stop] * rng.choice([1, 2, 50])
    elif kind == 4:
        width = rng.choice([1, 2, 4, 8])
        number = (rng.choice(NUMBERS) + rng.choice([0, 0, 1, -1])) % 256**width
        data[place : place + width] = number.to_bytes(width, rng.choice(["little", "big"]))
    elif kind == 5:
        donor = rng.choice(others)
        data[place:] = donor[min(place, len(donor)) :]
    else:
        data[start:stop] = rng.randbytes(stop - start)
    return bytes(data)


def mutated_text(content: bytes, rng: random.Random) -> bytes:
    """Change cells, lines and marks of a text table."""
    lines = [line.split(",") for line in content.decode().splitlines()]
    for _ in range(rng.choice([1, 1, 2, 6])):
        line = rng.choice(lines)
        kind = rng.randrange(6)
        if kind == 0:
            line[rng.randrange(len(line))] = rng.choice(CELLS)
        elif kind == 1:
            place, word = rng.randrange(len(lines[0])), rng.choice(CELLS)
            lines[rng.random() < 0.5 :] = [
                [*row[:place], word, *row[place + 1 :]] for row in lines[rng.random() < 0.5 :]
            ]
        elif kind == 2:
            line.insert(rng.randrange(len(line) + 1), rng.choice(CELLS))
        elif kind == 3:
            lines.insert(rng.randrange(len(lines)), list(rng.choice(lines)))
        elif kind == 4:
            line[:] = line[: rng.randrange(len(line)) + 1] * rng.choice([1, 2, 3000])
        else:
            rng.shuffle(line)
    mark, end = rng.choice([",", ",", ";", "\t", " ", "|"]), rng.choice(["\n", "\n", "\r\n", "\r"])
    text = end.join(mark.join(line) for line in lines)
    coding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])
    return text.encode(coding, "replace")


def mutated_archive(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Change the members of a zip archive, and pack them again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    kind = rng.randrange(5)
    if kind == 0:
        head = members[name]
        for old in (b"'<f8'", b"(24, 3)", b"(24,)", b"False"):
            if old in head and rng.random() < 0.7:
                head = head.replace(old, rng.choice(WORDS).encode().ljust(len(old)))
                break
        members[name] = head
    elif kind == 1:
        members[rng.choice([name, "y.npy", "../x.npy", "z", "a/b.npy"])] = members.pop(name)
    elif kind == 2:
        members[name] = bytes(rng.choice([0, 1, 10**6]))
    else:
        members[name] = mutated_bytes(members[name] or b"\0", rng, others)
    packing = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w", packing) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return stream.getvalue()


def mutated_hdf5(content: bytes, rng: random.Random) -> bytes:
    """Change items, links, attributes and storage of an HDF5 file."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        names = [name for name in file if isinstance(file.get(name), h5py.Dataset)]
        name, other = rng.choice(names), rng.choice(names)
        kind = rng.randrange(8)
        data = file[name][()]
        if kind == 0:
            file["more"] = rng.choice(
                [h5py.SoftLink("/more"), h5py.SoftLink("/none"), h5py.ExternalLink("x.h5", "/y")]
            )
        elif kind == 1:
            file.create_group("group")["up"] = file["/"]
        elif kind == 2:
            del file[name]
        elif kind == 3:
            layout = h5py.VirtualLayout((ROWS, 3), "f8")
            layout[:] = h5py.VirtualSource(".", rng.choice(["more", name]), (ROWS, 3))
            file.create_virtual_dataset("more", layout)
        elif kind == 4:
            shape = rng.choice([(ROWS, 2**40), (2**40, 2), (0, 4), (ROWS, 0), (ROWS,), (2,) * 20])
            file.create_dataset("more", shape, "f8", chunks=True, compression="gzip")
        elif kind == 5:
            cell = file.create_dataset("more", (ROWS, 2), dtype=h5py.ref_dtype)
            cell[:] = cell.ref if rng.random() < 0.5 else file[other].ref
            cell.attrs["MATLAB_class"] = b"cell"
        elif kind == 6:
            for key in ("MATLAB_class", "MATLAB_empty", "MATLAB_sparse", "shape"):
                file[name].attrs[key] = rng.choice([b"cell", b"char", b"struct", 1, -1, 2**40])
        else:
            group = file.create_group("group")
            for part, key in (("data", name), ("indices", other), ("indptr", other)):
                group[part] = file[key][()] if data.dtype.kind == "O" else data
            group.attrs["shape"] = rng.choice([(ROWS, 3), (2**40, 3), (-1, 3), (ROWS, ROWS)])
    return stream.getvalue()


def mutated_matlab(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """Change a packed variable of a MATLAB file of version 5, and pack it again."""
    import zlib

    kind, size = struct.unpack("<II", content[128:136])
    if kind != 15:
        return mutated_bytes(content, rng, others)
    element = mutated_bytes(zlib.decompress(content[136 : 136 + size]), rng, others)
    packed = zlib.compress(element)
    return content[:128] + struct.pack("<II", 15, len(packed)) + packed + content[136 + size :]


def mutate(end: str, files: dict[str, bytes], rng: random.Random) -> bytes:
    """Change a file by its structure or by its bytes."""
    content, others = files[end], list(files.values())
    if rng.random() < 0.5:
        if end == ".csv":
            return mutated_text(content, rng)
        if end == ".csv.gz":
            return gzip.compress(mutated_text(gzip.decompress(content), rng))
        if end.endswith((".npz", ".xlsx")):
            return mutated_archive(content, rng, others)
        if end in (".h5", "73.mat"):
            return mutated_hdf5(content, rng)
        if end == "2.mat":
            return mutated_matlab(content, rng, others)
    return mutated_bytes(content, rng, others)


def read(path: Path) -> str:
    """Read and check a file; tell whether it was refused."""
    warnings.simplefilter("ignore")
    try:
        own = read_own_file(path, FileOptions())
        check_file(own)
    except RcmlMisaError as error:
        text = str(error)
        if len(text) > LONGEST or "\n" in text:
            raise RuntimeError(f"no sentence of {len(text)} characters: {text}") from error
        return f"refused {text}"
    return "read"


def fuzz(
    count: int, seed: int, *, seconds: float = float("inf"), keep: Path | None = None
) -> tuple[Counter[str], list[tuple[str, Outcome]]]:
    """Read so many mutated files, for so long at most; return counts by end, and the failures."""
    rng = random.Random(seed)  # noqa: S311
    counts, failures = Counter[str](), []
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        files, stop = seeds(Path(name)), time.monotonic() + seconds
        for module in ("openpyxl", "pyarrow.feather", "pyarrow.compute", "pyarrow.parquet"):
            importlib.import_module(module)
        for end, content in files.items():  # loads what reading imports, and checks the seeds
            path = Path(other) / f"seed{end}"
            path.write_bytes(content)
            read_own_file(path, FileOptions())
        for number in range(count):
            if time.monotonic() > stop:
                break
            end = rng.choice(list(files))
            content = mutate(end, files, rng)
            path = Path(other) / f"case{end}"
            path.write_bytes(content)
            outcome = attempt(partial(read, path), seconds=SECONDS, megabytes=MEGABYTES)
            told = outcome.kind if outcome.failed else outcome.text.partition(" ")[0]
            counts[f"{end} {told}"] += 1
            if outcome.failed:
                failures.append((f"{number}{end}", outcome))
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}{end}").write_bytes(content)
    return counts, failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    counts, failures = fuzz(given.files, given.seed, seconds=given.seconds, keep=given.keep)
    for name, count in sorted(counts.items()):
        print(f"{name:24} {count:6}")
    for name, outcome in failures:
        print(f"FAIL {name}: {outcome.kind} {outcome.text[:200]}")
    print(f"{counts.total()} files, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
