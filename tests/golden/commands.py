"""The cases of the command line: records, tables and JSON of tiny runs, without their times."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rcml_misa

from . import toys

RUNNER = Path(__file__).with_name("runner.py")
TIMES = ("second", "s/run", "Measured with")  # what tells times or versions, in names and texts
KEY = re.compile(r"(?<=-seed\d)-[0-9a-f]{16}")  # in names of records, which holds their options
DROPPED = (
    "timing",
    "versions",
    "machine",
    "path",
    "bytes",
    "content_sha256",
    "outputs",
    "peak_bytes",
)
SMALL = ["--set", "landmarks=30", "--set", "hidden=8", "--set", "feedforward=12"]
ONE = ["--runs", "1", "--jobs", "1"]

TINY = """
title = "Tiny"
datasets = ["toy.csv"]
methods = ["lda", "majority", { method = "logistic-regression", grid = { C = [0.5, 2.0] } }]
runs = 2
seed = 5

[protocol]
test_sets = ["clean", "conflict", "noise:1"]
"""
SCORES = """
title = "Scores"
datasets = ["toy-mmsa"]
methods = [
    { method = "misa", set = { epochs = 1 } },
    { method = "misa", set = { epochs = 1 }, keep = ["audio"], label = "audio" },
]
runs = 2
task = "regression"
"""


@dataclass(frozen=True)
class Command:
    """A command line and the folder of what it writes; `real` names a set that needs files."""

    argv: Sequence[str]
    out: str = ""
    real: str = ""


def _run(
    name: str, dataset: str, method: str, *words: str, real: str = "", json_out: bool = True
) -> tuple[str, Command]:
    argv = ["run", "--dataset", dataset, "--method", method, *ONE, "--out", name, *words]
    return name, Command([*argv, "--json"] if json_out else argv, name, real)


def _rcml(name: str, *words: str) -> tuple[str, Command]:
    return _run(name, "toy.csv", "rcml", "--epochs", "4", "--set", "learning_rate=0.05", *words)


COMMANDS: dict[str, Command] = dict(
    [
        _run("digits", "digits", "rcml", "--epochs", "1"),
        _run("table", "toy.csv", "rcml-misa", "--epochs", "3", *SMALL),
        _run("notes", "toy.csv", "rcml-misa", "--preset", "notes", "--epochs", "3"),
        _rcml("leaky-scaling", "--set", "scaling=paper-leaky"),
        _rcml("best-valid", "--valid-share", "0.25", "--selection", "best-valid"),
        _rcml("best-test-epoch", "--selection", "best-test-epoch"),
        _rcml("held-out", "--held-out", "1"),
        _rcml("folds", "--folds", "3", "--runs", "3"),
        _rcml("stratified", "--split", "stratified", "--test-share", "0.3"),
        _rcml("test-sets", "--test-sets", "clean,conflict:0.5:train,noise:1,missing:0.3"),
        _rcml("train-rows", "--label-noise", "0.2", "--imbalance", "0.5"),
        _rcml("per-epoch", "--per-epoch", "--save-samples", "--seed", "4"),
        _run("expert", "toy.csv", "kernel-expert", "--seed", "2"),
        _run("control", "toy.csv", "lda-best-view", "--report-uncertainty", json_out=False),
        _run("own-method", "toy.csv", "sklearn.neighbors:KNeighborsClassifier"),
        ("import", Command(["datasets", "import", "toy.pkl", "--as", "toy-mmsa", "--json"])),
        (
            "import-raw",
            Command(["datasets", "import", "toy.pkl", "--as", "toy-raw", "--text", "raw"]),
        ),
        _run("sequence-score", "toy-mmsa", "misa", "--task", "regression", "--epochs", "2"),
        _run("sequence-classes", "toy-mmsa", "rcml-misa", "--epochs", "2", "--task", "3"),
        _run("evidence-score", "toy-mmsa", "rcml-misa", "--task", "regression", "--epochs", "2"),
        _run(
            "text",
            "toy-raw",
            "misa",
            "--task",
            "2",
            "--epochs",
            "2",
            "--set",
            "text_encoder=words",
            "--keep-views",
            "text,audio",
        ),
        _run("mosi", "MOSI", "lda", real="MOSI"),
        _run(
            "mosi-score",
            "MOSI",
            "misa",
            "--task",
            "regression",
            "--epochs",
            "1",
            "--given-split",
            "poria",
            real="MOSI",
        ),
        _run("mosi-seven", "MOSI", "majority", "--task", "7", real="MOSI"),
        _run(
            "mosi-words",
            "MOSI-words",
            "misa",
            "--task",
            "regression",
            "--epochs",
            "1",
            "--set",
            "text_encoder=words",
            real="MOSI-words",
        ),
        (
            "compare",
            Command(
                [
                    "compare",
                    "--datasets",
                    "toy.csv",
                    "--methods",
                    "lda,majority,kernel-expert",
                    "--runs",
                    "3",
                    "--jobs",
                    "1",
                    "--format",
                    "json",
                    "--records",
                    "compare",
                ],
            ),
        ),
        (
            "compare-text",
            Command(
                [
                    "compare",
                    "--datasets",
                    "toy.csv",
                    "--methods",
                    "lda,majority,kernel-expert",
                    "--runs",
                    "3",
                    "--jobs",
                    "1",
                    "--records",
                    "compare",
                    "--report-uncertainty",
                ]
            ),
        ),
        (
            "ablate",
            Command(
                [
                    "ablate",
                    "--dataset",
                    "toy-mmsa",
                    "--method",
                    "misa",
                    "--epochs",
                    "1",
                    "--runs",
                    "2",
                    "--jobs",
                    "1",
                    "--rows",
                    "minus sim,base",
                    "--out",
                    "ablate",
                ],
                "ablate",
            ),
        ),
        (
            "ablate-classes",
            Command(
                [
                    "ablate",
                    "--dataset",
                    "toy-mmsa",
                    "--method",
                    "rcml-misa",
                    "--epochs",
                    "1",
                    *ONE,
                    "--rows",
                    "minus conflict",
                    "--out",
                    "ablate-classes",
                ],
                "ablate-classes",
            ),
        ),
        (
            "experiment",
            Command(["experiment", "tiny.toml", "--jobs", "1", "--out", "tables"], "tables"),
        ),
        (
            "experiment-score",
            Command(["experiment", "scores.toml", "--jobs", "1", "--out", "scores"], "scores"),
        ),
        (
            "fit",
            Command(
                [
                    "fit",
                    "--dataset",
                    "toy.csv",
                    "--epochs",
                    "3",
                    *SMALL,
                    "--out",
                    "toy.rcml",
                    "--json",
                ]
            ),
        ),
        ("predict", Command(["predict", "toy.rcml", "new.csv", "--per-view", "--coverage", "0.8"])),
    ]
)


def has_real_files(name: str) -> bool:
    """Whether the files of a real set are in the folder that RCML_MISA_DATA names."""
    folder = os.environ.get("RCML_MISA_DATA")
    return name == "" or (folder is not None and (Path(folder) / "mosi").is_dir())


def run_commands(folder: Path, names: Sequence[str] = tuple(COMMANDS)) -> dict[str, dict[str, Any]]:
    """Run commands in one process with one thread; what each wrote, by case and part."""
    toys.write_table(folder / "toy.csv")
    toys.write_table(folder / "new.csv", rows=20, target=False)
    toys.write_mmsa(folder / "toy.pkl")
    (folder / "tiny.toml").write_text(TINY, encoding="utf-8")
    (folder / "scores.toml").write_text(SCORES, encoding="utf-8")
    chosen = [name for name in names if has_real_files(COMMANDS[name].real)]
    plan = [{"argv": list(COMMANDS[one].argv), "stdout": f"stdout-{one}"} for one in chosen]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    home = {"HOME": "home", "XDG_CACHE_HOME": "home/cache", "XDG_CONFIG_HOME": "home/config"}
    package = Path(rcml_misa.__file__).parents[1]
    environment = {
        **os.environ,
        **threads,
        **{name: str(folder / place) for name, place in home.items()},
        "PYTHONPATH": str(package),
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "100",
    }
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(RUNNER)],
        input=json.dumps(plan),
        text=True,
        capture_output=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    if done.returncode or "error:" in done.stderr:
        raise RuntimeError(f"a command ended early: {done.stderr[-2000:]}")
    return {name: _written(folder, name) for name in chosen}


def _written(folder: Path, name: str) -> dict[str, Any]:
    """What a command printed and wrote, in the form that is compared."""
    printed = folder / f"stdout-{name}"
    status = Path(f"{printed}.status").read_text(encoding="utf-8")
    parts: dict[str, Any] = {"status": status}
    parts["stdout"] = _form(printed.read_text(encoding="utf-8").replace(f"{folder}", "."))
    out = COMMANDS[name].out
    written = list((folder / out).iterdir()) if out else []
    if out and COMMANDS[name].argv[0] != "experiment":  # whose csv has all measures of its runs
        written += (folder / out / "records").glob("*")
    for path in sorted(written):
        if path.suffix in (".json", ".csv", ".md"):
            text = path.read_text(encoding="utf-8")
            name = KEY.sub("", path.name)
            parts[name] = _rows(text) if path.suffix == ".csv" else _form(text)
    return parts


def _form(text: str) -> Any:
    """JSON without times; of other texts the paragraphs without times, as lines."""
    try:
        return without_times(json.loads(text))
    except json.JSONDecodeError:
        kept = [part for part in text.split("\n\n") if not any(word in part for word in TIMES)]
        return "\n\n".join(kept).splitlines()


def _rows(text: str) -> list[dict[str, str]]:
    """The rows of a csv without the columns of times."""
    return without_times(list(csv.DictReader(text.splitlines())))


def without_times(value: Any) -> Any:
    """Leave out what tells times, versions and places, at any depth."""
    if isinstance(value, dict):
        return {
            key: without_times(one)
            for key, one in value.items()
            if key not in DROPPED and not any(word in key for word in TIMES)
        }
    return [without_times(one) for one in value] if isinstance(value, list) else value
