"""Every command on every kind of data: it works, or one sentence says why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from foreign_files import mmsa, save

import rcml_misa
from rcml_misa.cli import main
from rcml_misa.datasets import Dataset, load_dataset
from rcml_misa.results import RunStore

WIDTH = 80
LONGEST = len("error: ") + 300
SMALL = ("hidden=8", "feedforward=8")
VIEWS = {"face": 3, "voice": 2}


@dataclass(frozen=True)
class Kind:
    """One kind of data: its name on the command line, its settings, and methods for it."""

    dataset: str
    methods: tuple[str, str] = ("rcml-misa", "misa")
    settings: tuple[str, ...] = SMALL
    task: str = ""
    protocol: tuple[tuple[str, object], ...] = ()

    @property
    def words(self) -> list[str]:
        """Task, settings and epochs as options."""
        task = ["--task", self.task] if self.task else []
        return [*task, *(word for text in self.settings for word in ("--set", text))]

    @property
    def protocol_words(self) -> list[str]:
        return [word for name, value in self.protocol for word in (f"--{name}", str(value))]


SEQUENCES = (*SMALL, "sequence_hidden=4")
KINDS = {
    "table": Kind("table.csv"),
    "given split": Kind("given.csv", protocol=(("split", "given"),)),
    "groups and folds": Kind("groups.csv", protocol=(("split", "grouped"), ("folds", 3))),
    "sequence": Kind("sequences", settings=SEQUENCES),
    "text": Kind("texts", settings=(*SEQUENCES, "text_encoder=words")),
    "score": Kind("sequences", settings=SEQUENCES, task="regression"),
}
COMMANDS = (
    "run", "compare", "experiment", "ablate", "fit", "predict", "inspect", "check", "plot",
)  # fmt: skip

#: Cells that are refused, with a part of the sentence that says why.
REFUSED = {
    ("sequence", "predict"): "as a sequence, which no file of predict holds",
    ("text", "predict"): "as a text, which no file of predict holds",
    ("score", "predict"): "as a sequence, which no file of predict holds",
}


def write_table(path: Path, rows: int = 48) -> None:
    rng = np.random.default_rng(3)
    y = np.arange(rows) % 3
    columns = {
        f"{view}__{column}": (y * (column + 1) + rng.normal(0, 0.5, rows)).round(3)
        for view, width in VIEWS.items()
        for column in range(width)
    }
    frame = pd.DataFrame({**columns, "target": np.array(["ant", "bee", "cat"])[y]})
    frame.to_csv(path, index=False)


def divided(data: Dataset) -> Dataset:
    """Give a data set of a file the split or the groups that its name tells."""
    rows = np.arange(data.views.n_samples)
    if data.name.startswith("given"):
        return replace(data, folds={"train": rows[:32], "valid": rows[32:38], "test": rows[38:]})
    return replace(data, groups=rows // 4) if data.name.startswith("groups") else data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with every data set; what commands leave is shared by the cells."""
    path = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pooch.os_cache", lambda project: path / "cache")
        patch.setattr(
            "rcml_misa.datasets.load_dataset",
            lambda *words, **more: divided(load_dataset(*words, **more)),
        )
        patch.chdir(path)
        patch.setenv("COLUMNS", str(WIDTH))
        for name in ("table", "given", "groups"):
            write_table(Path(f"{name}.csv"))
        rows = {"train": 36, "valid": 12, "test": 16}
        save(Path("mmsa.pkl"), mmsa(widths=(3, 2, 4), steps=(4, 5, 3), rows=rows))
        call("datasets", "import", "mmsa.pkl", "--as", "sequences")
        call("datasets", "import", "mmsa.pkl", "--as", "texts", "--text", "raw")
        yield path


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def wide_lines(result: Result, command: str) -> list[str]:
    """Lines that are wider than the terminal; an experiment's page is Markdown, of any width."""
    text = result.stderr if command == "experiment" else result.stdout + result.stderr
    return [line for line in text.splitlines() if len(line) > WIDTH]


def is_refused(result: Result, part: str) -> bool:
    """Whether a command gave one sentence and exit status 2."""
    return (
        result.exit_code == 2
        and result.stdout == ""
        and result.stderr.startswith("error: ")
        and result.stderr.count("\n") == 1
        and len(result.stderr) <= LONGEST + 1
        and part in result.stderr
    )


def run(name: str) -> Result:
    kind = KINDS[name]
    words = ("--dataset", kind.dataset, "--method", kind.methods[0], "--runs", 1, "--jobs", 1)
    out = f"{name} runs"
    result = call(
        "run", *words, "--epochs", 2, "--keep", "history", "--out", out, *kind.words,
        *kind.protocol_words,
    )  # fmt: skip
    if not Path(out).is_dir():
        return result
    records = RunStore(Path(out) / "records").read()
    assert records
    assert all(record.metrics["clean"] for record in records)
    stem = "measures" if kind.task else "summary"
    assert {f"{stem}.csv", f"{stem}.md"} <= {path.name for path in Path(out).iterdir()}
    return result


def compare(name: str) -> Result:
    kind = KINDS[name]
    words = ("--datasets", kind.dataset, "--methods", ",".join(kind.methods), "--runs", 2)
    out = Path(f"{name} comparison")
    result = call(
        "compare", *words, "--jobs", 1, "--epochs", 1, "--out", out, *kind.words,
        *kind.protocol_words,
    )  # fmt: skip
    if out.is_dir():
        endings = {path.suffix for path in out.glob("compare.*")}
        assert {".txt", ".md", ".tex", ".html", ".csv", ".json"} <= endings
        json.loads((out / "compare.json").read_text())
    return result


def experiment(name: str) -> Result:
    kind = KINDS[name]
    settings = dict(text.split("=") for text in (*kind.settings, "epochs=1"))
    given = ", ".join(
        f"{key} = {value if value.isdecimal() else json.dumps(value)}"
        for key, value in settings.items()
    )
    methods = [f'{{ method = "{method}", set = {{ {given} }} }}' for method in kind.methods]
    protocol = [f"{key} = {json.dumps(value)}" for key, value in kind.protocol]
    task = [f'task = "{kind.task}"'] if kind.task else []
    lines = [f'datasets = ["{kind.dataset}"]', f"methods = [{', '.join(methods)}]", "runs = 2"]
    file = Path(f"{name}.toml")
    file.write_text("\n".join([*lines, *task, "[protocol]", *protocol]))
    out = Path("tables")
    result = call("experiment", file, "--jobs", 1, "--out", out)
    if result.exit_code == 0:
        assert len((out / f"{name}.md").read_text().splitlines()) <= 60
        assert len(pd.read_csv(out / f"{name}.csv")) >= 4
    return result


def ablate(name: str) -> Result:
    kind = KINDS[name]
    words = ("--dataset", kind.dataset, "--method", "misa", "--rows", "minus sim", "--runs", 1)
    out = Path(f"{name} ablation")
    result = call("ablate", *words, "--jobs", 1, "--epochs", 1, "--out", out, *kind.words)
    if out.is_dir():
        assert {record.variant for record in RunStore(out / "records").read()} == {
            "whole",
            "minus sim",
        }
        assert (out / "measures.csv").exists() or (out / "summary.csv").exists()
    return result


def fit(name: str) -> Result:
    kind = KINDS[name]
    words = ("--dataset", kind.dataset, "--method", kind.methods[0], "--out", f"{name}.rcml")
    result = call("fit", *words, "--epochs", 1, *kind.words)
    if result.exit_code == 0:
        model = rcml_misa.load(f"{name}.rcml")
        assert hasattr(model, "classes_") == (not kind.task)
    return result


def predict(name: str) -> Result:
    model, kind = fitted(name), KINDS[name]
    file = kind.dataset if kind.dataset.endswith(".csv") else "table.csv"
    result = call("predict", model, file, "--out", f"{name} answers.csv")
    if result.exit_code == 0:
        assert len(pd.read_csv(f"{name} answers.csv")) == 48
    return result


def inspect(name: str) -> Result:
    result = call("inspect", fitted(name))
    assert KINDS[name].methods[0] in result.stdout
    return result


def check(name: str) -> Result:
    return call("datasets", "check", KINDS[name].dataset)


def plot(name: str) -> Result:
    folder, figure = f"{name} runs", Path(f"{name}.svg")
    if not Path(folder).is_dir():
        assert run(name).exit_code == 0
    variant = "tied-mean" if KINDS[name].task else "separate"
    result = call("plot", folder, "--what", "losses", "--variant", variant, "--out", figure)
    assert figure.exists() == (result.exit_code == 0)
    return result


def fitted(name: str) -> str:
    """Path of a kind's model, fitted once."""
    if not Path(f"{name}.rcml").exists():
        assert fit(name).exit_code == 0
    return f"{name}.rcml"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_cell(kind: str, command: str, folder: Path) -> None:
    result = globals()[command](kind)
    refusal = REFUSED.get((kind, command))
    if refusal is None:
        assert result.exit_code == 0, result.output
        assert "Traceback" not in result.output
        assert "error:" not in result.stderr
        assert wide_lines(result, command) == []
    else:
        assert is_refused(result, refusal), result.output
