"""Mutated model files: every one is refused in one sentence, or answers within its bounds.

Small models of several methods are written, and changed at random: bits flipped, files cut and
spliced, and, behind a right checksum or as a format version that had none, values of the header
exchanged for others of wrong types and sizes, nested, renamed, swapped and left out, and tensors
filled with NaN, infinite and huge numbers. Each is loaded, inspected and asked for predictions in a
child process. Bars: 10 000 files, no traceback, nothing over 2 s, no more than 500 MB beyond
start-up, no file accepted whose checksum is wrong, no answer out of its range.

    python benchmarks/fuzz_models.py [--files 10000] [--seed 0] [--minutes M] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import json
import math
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import attempt

from rcml_misa.exceptions import RcmlMisaError

METHODS: dict[str, tuple[str, ...]] = {
    "rcml": ("--epochs", "2"),
    "kernel-expert": ("--set", "landmarks=20"),
    "ridge-expert": (),
    "rcml-misa": ("--epochs", "2", "--set", "hidden=8", "--set", "encoder_width=8"),
    "misa": ("--epochs", "2", "--set", "hidden=8", "--set", "feedforward=8"),
    "laplace": ("--epochs", "2", "--set", "hidden=4"),
}
SECONDS, MEGABYTES, LONGEST = 2.0, 500, 300 + len("error: ")
PLACEHOLDER = "0" * 64
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 17, 10**6, 2**31, 2**63, 10**30, -(10**30)),
    *(0.5, -0.5, 1e308, -1e308, 1e-320, float("nan"), float("inf"), -float("inf")),
    *("", "x", "nan", "../../x", "__class__", "\x1b[31m\n", "\ud800", "y" * 5000, "rcml"),
    *([], [1], [[]], ["a", "b"], {}, {"a": 1}, {"tuple": []}, {"tuple": [1, 2]}),
    *({"float": "nan"}, {"float": "inf"}, {"dict": []}, {"dict": [["a", 1]]}),
    *({"slice": [0, 10**9, 1]}, {"slice": [None, None, None]}, {"labels": [], "object": False}),
    *({"labels": ["a", "b"], "object": True}, {"object": "Calibrator", "state": {}}),
    *({"object": "KernelExpert", "state": {}}, {"object": "TablePreparer", "state": {}}),
)
SHAPES: tuple[Any, ...] = ([], [0], [-1], [2**62], [2**32, 2**32], [1.5], None, "1", [1] * 99)
DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "C64", "I64", "I8", "U8", "BOOL", "X", None, 3)
NUMBERS = (np.nan, np.inf, -np.inf, 1e308, 1e30, 0.0, -1.0, 5e-324)

Model = tuple[dict[str, Any], dict[str, Any], bytes]  # table of tensors, header, tensors


def write_models(folder: Path, methods: dict[str, tuple[str, ...]]) -> tuple[Path, list[Path]]:
    """Write a table of new rows, and a model file of each method."""
    from click.testing import CliRunner

    from rcml_misa.cli import main

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    values = rng.normal(size=(60, 5)) + labels[:, None]
    rows = [
        ",".join([*(f"{value:.4f}" for value in row), "uvw"[kind], f"c{label}"])
        for row, kind, label in zip(values, rng.integers(3, size=60), labels, strict=True)
    ]
    rows[7] = "," + rows[7].partition(",")[2]
    names = "face__0,face__1,face__2,voice__0,voice__1,voice__kind,label"
    table, new = folder / "toy.csv", folder / "new.csv"
    table.write_text("\n".join([names, *rows]) + "\n")
    new.write_text("\n".join([names, *rows[:12]]).replace(",c", ",") + "\n")
    paths = []
    for method, words in methods.items():
        paths.append(folder / f"{method}.rcml")
        fit = ["fit", "--dataset", str(table), "--method", method, "--out", str(paths[-1]), *words]
        result = CliRunner().invoke(main, fit)
        if result.exit_code:
            raise SystemExit(f"{method} was not fitted: {result.stderr}")
    return new, paths


def parts(content: bytes) -> Model:
    """Part a file into its table of tensors, its header, and the tensors' bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    table = json.loads(content[8:end])
    return table, json.loads(table.pop("__metadata__")["rcml-misa"]), content[end:]


def joined(model: Model, text: str | None = None, *, sealed: bool = False) -> bytes:
    """Join the parts of a file, sealed with a right checksum, or as a version that had none."""
    table, header, tensors = model
    facts = {name: value for name, value in header.items() if name != "sha256"}
    if sealed:
        facts = {"sha256": PLACEHOLDER, **facts}
    elif facts.get("format_version") == 4:
        facts["format_version"] = 3
    text = json.dumps(facts) if text is None else text
    head = json.dumps({"__metadata__": {"rcml-misa": text}, **table}).encode()
    head += b" " * (-len(head) % 8)
    content = len(head).to_bytes(8, "little") + head + tensors
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(PLACEHOLDER.encode(), digest.encode(), 1) if sealed else content


def checksum_is_right(content: bytes) -> bool:
    """Ask whether a file that was accepted has the checksum it states, or is of an older version.

    It shares no code with the package.
    """
    _, header, _ = parts(content)
    if header.get("format_version", 0) < 4 and "sha256" not in header:
        return True
    stated = str(header["sha256"])
    zeroed = content.replace(stated.encode(), PLACEHOLDER.encode(), 1)
    return hashlib.sha256(zeroed).hexdigest() == stated


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values in a JSON tree."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


class Mutations:
    """Random changes of model files; each takes a file's bytes and returns others."""

    def __init__(self, contents: list[bytes], seed: int) -> None:
        self.contents, self.rng = contents, random.Random(seed)  # noqa: S311
        self.weights: dict[Callable[[bytes], bytes], int] = {
            **{self.flip: 5, self.flip_header: 4, self.cut: 2, self.splice: 2, self.table: 5},
            **{self.text: 2, self.deep: 1, self.value: 12, self.swap: 5, self.leave_out: 5},
            **{self.rename: 3, self.number: 6, self.parameter: 8, self.fact: 5, self.attribute: 8},
            **{self.tensor: 9},
        }

    def __call__(self) -> tuple[str, bytes, bool]:
        """Name of a change, the changed file, and whether its checksum must be found wrong."""
        change = self.rng.choices([*self.weights], [*self.weights.values()])[0]
        content = self.rng.choice(self.contents)
        changed = change(content)
        name = change.__name__
        blind = name in ("flip", "flip_header", "cut", "splice")
        return name, changed, blind and changed != content

    def _odd(self) -> Any:
        return copy.deepcopy(self.rng.choice(ODD))

    def _sealed(self, model: Model) -> bytes:
        return joined(model, sealed=self.rng.random() < 0.5)

    def flip(self, content: bytes) -> bytes:
        """Flip a few bits anywhere."""
        changed = bytearray(content)
        for _ in range(self.rng.choice([1, 1, 1, 2, 9])):
            changed[self.rng.randrange(len(changed))] ^= 1 << self.rng.randrange(8)
        return bytes(changed)

    def flip_header(self, content: bytes) -> bytes:
        """Flip a bit of the header or its length."""
        changed = bytearray(content)
        end = 8 + int.from_bytes(content[:8], "little")
        changed[self.rng.randrange(end)] ^= 1 << self.rng.randrange(8)
        return bytes(changed)

    def cut(self, content: bytes) -> bytes:
        """Leave the end off, or add to it."""
        more = self.rng.randbytes(self.rng.choice([1, 8, 4000]))
        return (
            content[: self.rng.randrange(len(content))]
            if self.rng.random() < 0.7
            else (content + more)
        )

    def splice(self, content: bytes) -> bytes:
        """Put a piece of one file into another."""
        other = self.rng.choice(self.contents)
        start, end = sorted(self.rng.randrange(min(len(content), len(other))) for _ in range(2))
        return content[:start] + other[start:end] + content[end:]

    def table(self, content: bytes) -> bytes:
        """Change a line of the table of tensors."""
        table, header, tensors = parts(content)
        name = self.rng.choice([*table])
        entry, size = table[name], len(tensors)
        offsets = [[0, 0], [8, 0], [-8, 8], [0, 2**62], [0, size], None, [0], [0.5, 8], ["0", "8"]]
        what = self.rng.randrange(7)
        if what == 0:
            entry["shape"] = self.rng.choice(SHAPES)
        elif what == 1:
            entry["data_offsets"] = self.rng.choice(offsets)
        elif what == 2:
            entry["dtype"] = self.rng.choice(DTYPES)
        elif what == 3:
            table[self.rng.choice(["", "\x00", "../../x", "module_.x", "__metadata2__"])] = (
                table.pop(name)
            )
        elif what == 4:
            other = self.rng.choice([*table])
            table[name], table[other] = table[other], table[name]
        elif what == 5:
            table[name] = self._odd()
        else:
            entry["shape"] = entry["shape"][::-1]
        return self._sealed((table, header, tensors))

    def text(self, content: bytes) -> bytes:
        """Write another text in place of the header, or a fact twice."""
        table, header, tensors = parts(content)
        text = json.dumps({**header, "format_version": 3})
        name = self.rng.choice(["estimator", "params", "attributes", "format_version", "more"])
        value = self.rng.choice(['"RCMLClassifier"', "{}", "[]", "1", "null", "1e999", "9" * 5000])
        texts = [f'{text[:-1]},"{name}":{value}}}', f'{{"{name}":{value},{text[1:]}', "[]", "", "3"]
        texts += ["{}", "[" * 3_000_000, "[" + "[]," * 120_000 + "1]", "nul", '{"a":' * 500]
        return joined((table, header, tensors), self.rng.choice(texts))

    def deep(self, content: bytes) -> bytes:
        """Nest a value."""
        table, header, tensors = parts(content)
        depth = self.rng.choice([30, 400, 990, 3000, 100_000])
        left, right = self.rng.choice(
            [("[", "]"), ('{"tuple":[', "]}"), ('{"dict":[["a",', "]]}"), ('{"a":', "}")]
        )
        header["attributes"]["deep_"] = "@"
        text = json.dumps({**header, "format_version": 3})
        nested = text.replace('"@"', left * depth + "1" + right * depth)
        return joined((table, header, tensors), nested)

    def value(self, content: bytes) -> bytes:
        """Put odd values in place of others anywhere in the header."""
        model = parts(content)
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            *path, last = self.rng.choice([*places(model[1])])
            _at(model[1], path)[last] = self._odd()
        return self._sealed(model)

    def swap(self, content: bytes) -> bytes:
        """Exchange two values of the header, perhaps of two files."""
        model = parts(content)
        other = parts(self.rng.choice(self.contents)) if self.rng.random() < 0.3 else model
        *path, last = self.rng.choice([*places(model[1])])
        value = _at(other[1], self.rng.choice([*places(other[1])]))
        _at(model[1], path)[last] = copy.deepcopy(value)
        return self._sealed(model)

    def leave_out(self, content: bytes) -> bytes:
        """Leave a value of the header out."""
        model = parts(content)
        *path, last = self.rng.choice([*places(model[1])])
        del _at(model[1], path)[last]
        return self._sealed(model)

    def rename(self, content: bytes) -> bytes:
        """Rename a key of the header."""
        model = parts(content)
        named = [path for path in places(model[1]) if isinstance(path[-1], str)]
        *path, last = self.rng.choice(named)
        holder = _at(model[1], path)
        names = [*holder, "x", "", "__init__", "predict", "module_", "device_", "_x", "share_"]
        holder[self.rng.choice(names)] = holder.pop(last)
        return self._sealed(model)

    def number(self, content: bytes) -> bytes:
        """Make a number of the header larger, smaller, negative or huge."""
        model = parts(content)
        numbers = [p for p in places(model[1]) if type(_at(model[1], p)) in (int, float)]
        *path, last = self.rng.choice(numbers)
        value = _at(model[1], path)[last]
        others = [value + 1, value - 1, -value, 2 * value, value * 10**6, 10**12, 1e300, value / 2]
        _at(model[1], path)[last] = self.rng.choice(others)
        return self._sealed(model)

    def parameter(self, content: bytes) -> bytes:
        """Change a parameter."""
        model = parts(content)
        parameters = model[1]["params"]
        more = [4, 16, 1024, 10**5, 10**7, 1e-9, {"tuple": [10**4] * 20}, {"tuple": [1] * 10**5}]
        parameters[self.rng.choice([*parameters])] = self.rng.choice([self._odd(), *more])
        return self._sealed(model)

    def fact(self, content: bytes) -> bytes:
        """Change what the file says of itself."""
        model = parts(content)
        header = model[1]
        name = self.rng.choice(["versions", "about", "needs", "format_version", "steps", "new"])
        if name in ("versions", "about") and self.rng.random() < 0.5:
            header[name][self.rng.choice([*header[name]])] = self._odd()
        else:
            header[name] = self._odd()
        return self._sealed(model)

    def attribute(self, content: bytes) -> bytes:
        """Change a fitted attribute, or add one."""
        model = parts(content)
        attributes = model[1]["attributes"]
        more = ["feature_names_in_", "set_aside_", "view_columns_", "share_", "readers_", "module_"]
        attributes[self.rng.choice([*attributes, *more])] = self._odd()
        return self._sealed(model)

    def tensor(self, content: bytes) -> bytes:
        """Change the numbers of a tensor."""
        table, header, tensors = parts(content)
        entry = table[self.rng.choice([*table])]
        start, end = entry["data_offsets"]
        kind = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "BOOL": "?"}.get(entry["dtype"], "u1")
        values = np.frombuffer(tensors[start:end], kind).copy()
        if not len(values):
            return content
        place: Any = slice(None) if self.rng.random() < 0.5 else self.rng.randrange(len(values))
        with np.errstate(all="ignore"):
            if kind[-2] == "f":
                values[place] = np.array(self.rng.choice(NUMBERS)).astype(kind)
            else:
                values[place] = np.array(self.rng.choice([0, 1, 255, -1, 2**31])).astype(kind)
        return self._sealed((table, header, tensors[:start] + values.tobytes() + tensors[end:]))


def _at(value: Any, path: Any) -> Any:
    for key in path:
        value = value[key]
    return value


def use(path: Path, new: Path, *, damaged: bool) -> str:
    """Load, inspect and ask a file; an AssertionError for what must not happen."""
    import rcml_misa

    try:
        rcml_misa.load(path)
    except RcmlMisaError as error:
        text = str(error)
        _require("\n" not in text and len(text) <= 300, f"load says {text[:400]!r}")
        _command("inspect", path, refused=True)
        return "refused"
    _require(not damaged, "a damaged file was accepted")
    _require(checksum_is_right(path.read_bytes()), "a file of a wrong checksum was accepted")
    _command("inspect", path)
    json.loads(_command("inspect", "--json", path))
    answers = _command("predict", "--per-view", path, new)
    if answers:
        _check(answers)
    return "accepted" if answers else "accepted, no answers"


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def _command(*words: object, refused: bool = False) -> str:
    from click.testing import CliRunner

    from rcml_misa.cli import main

    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    _require(result.exit_code in ((2,) if refused else (0, 2)), f"exit {result.exit_code}")
    if result.exit_code == 2:
        said = [line for line in result.stderr.splitlines() if not re.match("note|warning", line)]
        _require(len(said) == 1, f"{words[0]} says {said!r}")
        _require(said[0].startswith("error: "), said[0])
        _require(len(said[0]) <= LONGEST, said[0])
        return ""
    return result.stdout


def _check(text: str) -> None:
    """Check the ranges of answers in a csv."""
    import pandas as pd

    table = pd.read_csv(io.StringIO(text))
    for name in ("probability", "uncertainty", "conflict"):
        if name in table:
            values = table[name].dropna()
            _require(
                values.between(-1e-3, 1.001).all(), f"{name} is out of range: {values.tolist()}"
            )
    for name in ("score", "scale"):
        if name in table:
            finite = np.isfinite(table.loc[~table["refused"], name])
            _require(finite.all(), f"{name} is not finite")


def fuzz(
    files: int,
    seed: int,
    *,
    methods: dict[str, tuple[str, ...]],
    keep: Path | None = None,
    minutes: float = math.inf,
) -> tuple[Counter[str], list[str]]:
    """Make and use mutated files; counts of what became of them, and what failed."""
    import torch

    torch.set_num_threads(1)  # threads do not outlive a fork
    os.environ["RCML_MISA_TRACEBACK"] = "1"
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new, models = write_models(folder, methods)
        for model in models:
            _require(use(model, new, damaged=False) == "accepted", f"{model.name} is no good start")
        mutations = Mutations([model.read_bytes() for model in models], seed)
        path = folder / "mutated.rcml"
        slowest, largest = 0.0, 0.0
        end = time.monotonic() + 60 * minutes
        for number in range(files):
            if time.monotonic() > end:
                break
            change, content, damaged = mutations()
            path.write_bytes(content)
            work = partial(use, path, new, damaged=damaged)
            outcome = attempt(work, seconds=SECONDS, megabytes=MEGABYTES)
            if outcome.kind == "slow":  # once more, since other processes may slow one down
                outcome = attempt(work, seconds=SECONDS, megabytes=MEGABYTES)
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
            counts[outcome.kind if outcome.failed else outcome.text] += 1
            counts[f"  {change}: {outcome.kind if outcome.failed else outcome.text}"] += 1
            if outcome.failed:
                failures.append(f"file {number}, {change}: {outcome.kind}, {outcome.text}")
                if keep is not None:
                    (keep / f"{change}-{number}.rcml").write_bytes(content)
    print(f"slowest {slowest:.2f} s of processor time, largest {largest:.0f} MB beyond start-up")
    return counts, failures


def main(words: list[str] | None = None) -> int:
    """Print counts; the number of failures, at most 1, is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after these")
    parser.add_argument("--methods", default=",".join(METHODS), help="models to change")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args(words)
    methods = {name: METHODS[name] for name in options.methods.split(",")}
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    counts, failures = fuzz(
        options.files, options.seed, methods=methods, keep=options.keep, minutes=options.minutes
    )
    for name, count in sorted(counts.items()):
        print(f"{count:7} {name}")
    for failure in failures[:40]:
        print(f"FAILED {failure}")
    total = sum(count for name, count in counts.items() if not name.startswith(" "))
    print(f"{len(failures)} of {total} failed, {time.perf_counter() - start:.0f} s")
    return min(len(failures), 1)


if __name__ == "__main__":
    raise SystemExit(main())
