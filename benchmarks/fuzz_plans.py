"""Mutated experiments' files: every one is planned or refused in a sentence, at once.

Files of every kind of key are changed at random: values of other types and sizes, unknown keys,
keys left out, deep and long values, texts that name files, code and control codes, then bytes. Each
is read, and its runs are planned; nothing is trained. Bars: 2 000 files, no other exception, no
sentence of more than 300 characters beside the file's name, nothing over 2 s or 500 MB, nothing
imported. It runs where processes fork, and exits with 1 where a file was at fault.

    python benchmarks/fuzz_plans.py [--files 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import attempt

from rcml_misa.cli.plans import read_plan
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.runs.tasks import plan_tasks

SECONDS, MEGABYTES, LONGEST = 2.0, 500, 300
CODE = "evil_of_plans"  # a module that writes CANARY where it is imported
CANARY = "CANARY"


@dataclass(frozen=True)
class Raw:
    """A value as it is written in TOML."""

    text: str


SEEDS: list[dict[str, Any]] = [
    {
        "title": "A grid",
        "datasets": ["digits"],
        "runs": 3,
        "seed": 100,
        "task": "3",
        "methods": [
            "majority",
            {"method": "rcml", "variant": "pairwise", "figure": 0.5, "label": "row x"},
            {"method": "rcml-misa", "preset": "notes", "set": {"epochs": 3}},
            {"method": "lda", "grid": {"scaling": ["minmax", "none"]}, "keep": ["dct"]},
        ],
        "protocol": {
            "split": "stratified",
            "folds": 5,
            "valid_share": 0.1,
            "selection": "last",
            "test_sets": ["clean", "conflict:0.5:train", "noise:1"],
            "label_noise": 0.1,
            "held_out": 1,
            "checkpoints": [1, 2],
        },
        "files": {"target": "who", "split_column": "part", "zero_is_missing": True},
    },
    {"datasets": ["digits", "PIE"], "methods": ["all"], "runs": 1},
    {"datasets": ["own.csv"], "methods": [{"method": "rcml", "set": {"hidden": [8]}}]},
]
#: What a key may hold in the place of what it should.
VALUES: list[Any] = [
    *(True, 0, -3, 1.5, 10**4, 10**9, 2**31, 2**63, 2**70, math.nan, math.inf, -math.inf),
    *(
        "",
        ".",
        "..",
        " ",
        "\n",
        "a\0b",
        "\x1b[31m",
        "\u202e",
        "x" * 300,
        "x" * 30_000,
        "é|`*_[a](b)",
    ),
    *("../../x", "/", "/dev/zero", "/etc/passwd", "~", "C:\\x", "http://localhost/x"),
    *(f"{CODE}:Run", f"{CODE}:Run.x", "os:abort", "builtins:input", ":", "a b:c", "all", "digits"),
    *("words", "minilm", f"./{CODE}", "noise:1e308", "noise:nan", "conflict:1:x", "missing:1"),
    *([], {}, [[]], [[["majority"]]], {"": {}}, [True], list(range(3000)), ["digits"] * 2000),
    *({"a": {"b": {"c": 1}}}, {str(i): i for i in range(500)}, [{"method": "lda"}] * 300),
    *(
        {k: list(range(1, 61)) for k in ("epochs", "hidden", "batch_size")},
        datetime.date(1979, 5, 27),
    ),
    *(Raw("07:32:00"), Raw("1e400"), Raw("9" * 5000), Raw("0x" + "f" * 5000), Raw("{a={a={a=1}}}")),
    *(Raw("[" * 40 + "]" * 40), Raw("{a=" * 40 + "1" + "}" * 40), Raw("{" + "a." * 40 + "a=1}")),
]
#: What may stand at the end of a file.
TAILS = [
    *(
        "a." * 50_000 + "a=1",
        "a=" + "[" * 100_000,
        "a=" + "{a=" * 20_000,
        "[" + "a." * 9_000 + "a]",
    ),
    *("[[a]]\n" * 20_000, 'a="' + '\\"' * 50_000, 'a="""' + '"' * 50_000, "'" * 100_001),
    *(
        "x" * 200_000,
        "a" + " " * 200_000 + ".b=1",
        "#" * 200_000,
        "\n" * 200_000,
        "a=" + "1_" * 9_000,
    ),
    *("".join(f"k{i}=1\n" for i in range(20_000)), "".join(f"a.k{i}=1\n" for i in range(20_000))),
    *("".join(f"[t{i}]\n" for i in range(20_000)), "a=[" + "{b=1}," * 20_000 + "]", "\ufeff", "\0"),
    *("[a]\n" + "".join(f"[a.k{i}.b]\n" for i in range(9_000)), "x" * 10**6),
]


def toml(value: Any) -> str:
    """Write a value on one line, as TOML has it."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, datetime.date | float | int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(value)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the containers in a value, each with every key or number that it has."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in list(pairs):
        yield value, key
        if isinstance(part, dict | list):
            yield from places(part)


def change(content: dict[str, Any], rng: Random) -> None:
    """Change one place of a file's content."""
    container, key = rng.choice(list(places(content)) or [(content, "")])
    part, kind = copy.deepcopy(container[key]) if container else "", rng.randrange(8)
    if kind < 4 or not container:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == 4:
        del container[key]
    elif kind == 5 and isinstance(container, dict):
        container[rng.choice(["", "run", "a.b", "é", "x" * 5000, "\x1b", str(key) + "s"])] = part
    elif kind == 6:
        container[key] = rng.choice([[part], {"a": part}, [part] * 20])
    elif isinstance(container, list):
        container.extend([part] * rng.choice([1, 5, 600]))
    else:
        container[key] = rng.choice([str(part), not part, [part, part]])


def mutate(rng: Random) -> bytes:
    """Make one file: content in some places, then bytes, not as they should be."""
    content = copy.deepcopy(rng.choice(SEEDS))
    for _ in range(rng.randrange(4)):
        change(content, rng)
    lines = [f"{json.dumps(key)} = {toml(value)}" for key, value in content.items()]
    if rng.random() < 0.15:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(TAILS))
    data = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice([0, 0, 1, 3])):
        place, length = rng.randrange(len(data) + 1), rng.randrange(1, 12)
        end = min(place + length, len(data))
        kind = rng.randrange(4)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place:end]
        elif kind == 2:
            data[place:place] = data[place:end] * rng.choice([1, 2, 50])
        else:
            data[place:place] = rng.choice([b'"', b"'", b"[", b"]", b"{", b"}", b".", b"=", b"\n"])
    return bytes(data)


def plan(path: Path) -> str:
    """Read a file and plan its runs; say which of both it came to."""
    try:
        read = read_plan(path)
    except (DataError, OptionError) as error:
        beside = len(" ".join(str(error).split())) - len(str(path))
        if beside > LONGEST:
            raise AssertionError(f"a sentence of {beside} characters: {error}") from error
        return "refused"
    recipes = [entry.recipe for entry in read.entries]
    plan_tasks(
        recipes,
        datasets=len(read.datasets),
        runs=read.repeats.runs,
        seed=read.repeats.seed,
        protocol=read.protocol,
    )
    return "planned"


@contextmanager
def folder_with_code() -> Iterator[Path]:
    """Work in an empty folder beside a module that tells if it was imported."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{CODE}.py").write_text(f"open({str(folder / CANARY)!r}, 'w').close()\n")
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


@dataclass
class Report:
    """What became of the files; a fault is a number of the file and what happened."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: float = 0.0


def fuzz(count: int, *, seed: int = 0, seconds: float = math.inf) -> Report:
    """Plan `count` mutated files, or as many as there is time for."""
    report, started = Report(), time.monotonic()
    with folder_with_code() as folder:
        path = folder / "plan.toml"
        path.write_text('datasets = ["digits"]\nmethods = ["all"]\n')
        plan(path)  # loads what every child needs
        for number in range(count):
            path.write_bytes(mutate(Random(f"{seed} {number}")))  # noqa: S311
            end = attempt(lambda: plan(path), seconds=SECONDS, megabytes=MEGABYTES)
            report.outcomes[end.kind if end.failed else end.text] += 1
            report.slowest = max(report.slowest, end.seconds)
            report.largest = max(report.largest, end.megabytes)
            if (folder / CANARY).exists():
                report.faults.append(f"file {number}: code was run")
                (folder / CANARY).unlink()
            if end.failed:
                report.faults.append(f"file {number}: {end.kind}: {end.text}")
            if time.monotonic() - started > seconds:
                break
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    report = fuzz(given.files, seed=given.seed)
    for outcome, number in report.outcomes.most_common():
        print(f"{number:>7}  {outcome}")
    print(f"slowest: {report.slowest:.2f} s; largest: {report.largest:.0f} MB")
    for fault in report.faults:
        print(f"fault: {fault}")
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
