"""The command `audit`: output, files, resumption, exit statuses, sentences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from audit_toys import toy
from click.testing import CliRunner, Result

import rcml_misa.datasets
from rcml_misa.cli import main
from rcml_misa.results import RunStore
from rcml_misa.runs import orders

FAST = ("--methods", "lda,majority", "--runs", "2", "--jobs", "1")


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rcml_misa.datasets, "load_dataset", lambda name, **_: toy(name=name))


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["audit", "--dataset", "toy", *map(str, words)])


def test_tables_fit_a_terminal() -> None:
    result = call(*FAST)
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout
    assert text.startswith("toy: 2 runs, seeds 0 to 1, random 80/20 splits")
    for words in ("AUROC %", "False alarms", "it should fall", "90 % conformal sets"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("↑") >= 3 <= text.count("↓")
    assert "records: not kept" in text


def test_parts_and_json() -> None:
    result = call(*FAST, "--parts", "selection,entropy", "--json", "--seed", 3)
    record = json.loads(result.stdout)
    assert (record["dataset"], record["seed"], record["runs"]) == ("toy", 3, 2)
    assert record["parts"] == list(record["tables"]) == ["entropy", "selection"]
    rows = {row["method"]: row for row in record["tables"]["selection"]["rows"]}
    values = {
        (row["method"], row["measure"]): row["values"]
        for row in record["measures"]
        if row["condition"] == "clean"
    }
    assert rows["lda"]["accuracy"] == pytest.approx(sum(values["lda", "accuracy"]) / 2)
    assert record["tables"]["entropy"]["rows"][1]["correlation"] is None  # majority is constant
    again = call(*FAST, "--parts", "selection,entropy", "--json", "--seed", 3)
    assert json.loads(again.stdout) == record


def test_out_keeps_everything_and_resumes(tmp_path: Path, monkeypatch) -> None:
    result = call(*FAST, "--out", tmp_path)
    assert result.exit_code == 0
    names = {path.name for path in tmp_path.iterdir()}
    tables = {"auroc", "fpr95", "rows", "entropy", "sensitivity", "selection", "coverage"}
    figures = {"audit-vacuity.svg", "audit-coverage.svg"}
    expected = {"records", "audit.md", "audit.json", *figures}
    assert names == expected | {f"audit-{name}.csv" for name in tables}
    assert len(RunStore(tmp_path / "records").read()) == 4
    assert "### " in (tmp_path / "audit.md").read_text()
    table = pd.read_csv(tmp_path / "audit-selection.csv")
    record = json.loads((tmp_path / "audit.json").read_text())
    assert table["accuracy"][0] == record["tables"]["selection"]["rows"][0]["accuracy"]
    assert (tmp_path / "audit-coverage.svg").read_text().startswith("<?xml")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a run that is kept was repeated")

    monkeypatch.setattr(orders, "audit_task", refuse)
    assert call(*FAST, "--out", tmp_path).stdout == result.stdout
    # other parts are another run
    assert call(*FAST, "--out", tmp_path, "--parts", "selection").exit_code == 1


def test_interruption_keeps_finished_runs(tmp_path: Path, monkeypatch) -> None:
    real, runs = orders.audit_task, []

    def interrupted(dataset, task, **options):
        runs.append(task)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return real(dataset, task, **options)

    monkeypatch.setattr(orders, "audit_task", interrupted)
    result = call(*FAST, "--parts", "selection", "--out", tmp_path)
    assert result.exit_code == 130
    assert "interrupted: 1 of 4 runs are kept" in result.stderr
    assert len(RunStore(tmp_path / "records").read()) == 1


def test_a_failed_run_leaves_the_others(monkeypatch) -> None:
    real = orders.audit_task

    def failing(dataset, task, **options):
        if task.recipe.method == "lda":
            raise RuntimeError("boom")
        return real(dataset, task, **options)

    monkeypatch.setattr(orders, "audit_task", failing)
    result = call(*FAST, "--parts", "selection")
    assert result.exit_code == 1
    assert "a run failed: lda, seed 0: RuntimeError: boom" in result.stderr
    assert "majority" in result.stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--parts", "row"], "no part 'row'; did you mean rows?"),
        (["--methods", "ldaa"], "no method 'ldaa'"),
        (["--runs", "0"], "--runs 0 is below 1"),
        (["--task", "regression"], "give --task 2, 3 or 7, not regression"),
    ],
)
def test_bad_input(words, part) -> None:
    result = call(*words)
    lines = result.stderr.splitlines()
    assert (result.exit_code, result.stdout, len(lines)) == (2, "", 1)
    assert lines[0].startswith("error: ")
    assert part in lines[0]


def test_scores_are_refused(monkeypatch) -> None:
    import numpy as np

    scores = replace(toy(), target=np.linspace(0, 1, 240), classes=(), task="regression")
    monkeypatch.setattr(rcml_misa.datasets, "load_dataset", lambda name, **_: scores)
    result = call(*FAST)
    assert result.exit_code == 2
    assert "has scores; give --task 3" in result.stderr


def test_default_methods_are_those_that_exist(monkeypatch) -> None:
    from rcml_misa.cli import options

    asked: list[str] = []

    def recommended(_: object, methods: str, **__: object) -> list[object]:
        asked.append(methods)
        raise rcml_misa.exceptions.OptionError("enough")

    monkeypatch.setattr(options.MethodOptions, "recommended", recommended)
    call()
    assert asked[0].startswith("rcml-misa,rcml,kernel-expert")
