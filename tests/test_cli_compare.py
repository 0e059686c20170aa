"""The command `compare`: the grid, its forms and files, resuming, refusals."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rcml_misa.cli import main

QUICK = ("--methods", "lda,majority", "--runs", "2", "--jobs", "1")


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, words)])


def is_one_error(result: Result) -> bool:
    lines = result.stderr.splitlines()
    return (
        result.exit_code == 2
        and result.stdout == ""
        and len(lines) == 1
        and lines[0].startswith("error: ")
    )


def without_seconds(text: str) -> str:
    """The table without its times, the one thing that differs."""
    return re.sub(r" *\d+\.\d(?=\s+(?:\||-|\d+\.\d+ / ))", " s", text)


def test_table_on_stdout_and_progress_on_stderr(need_data) -> None:
    folder = need_data("CUB")
    result = call(*QUICK, "--datasets", "digits,CUB", "--data-dir", folder)
    assert result.exit_code == 0, result.output
    for part in (
        "seeds 0 to 1, random 80/20 splits, last epoch",
        "Who wins where",
        "Ranks over the data sets",
        "digits, conflictive rows: paired differences",
        "Published figures, not measured here",
    ):
        assert part in result.stdout
    lines = result.stderr.splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["digits", " lda"],
        ["digits", " majority"],
        ["CUB", " lda"],
        ["CUB", " majority"],
    ]
    assert "(2 runs, " in lines[0]


def test_two_runs_give_the_same_table() -> None:
    first, second = (call(*QUICK, "--report-uncertainty") for _ in range(2))
    assert without_seconds(first.stdout) == without_seconds(second.stdout)
    assert "by uncertainty score" in first.stdout


def test_every_form_and_file(tmp_path) -> None:
    out, kept = tmp_path / "out", tmp_path / "kept"
    words = (*QUICK, "--records", kept)
    assert call(*words, "--out", out).exit_code == 0
    names = {path.name for path in out.iterdir()}
    assert {f"compare.{end}" for end in ("txt", "md", "tex", "html", "csv", "json")} <= names
    assert len(list(kept.glob("*.json"))) == 4
    ends = {"markdown": "md", "latex": "tex", "html": "html", "csv": "csv", "json": "json"}
    shown = {form: call(*words, "--format", form) for form in ends}
    note = f"note: all 4 runs are kept in {kept}; nothing is trained."
    for form, end in ends.items():
        assert shown[form].exit_code == 0
        assert " ".join(shown[form].stderr.split()) == note
        assert shown[form].stdout == (out / f"compare.{end}").read_text()
    assert pd.read_csv(out / "compare.csv")["method"].tolist() == ["lda"] * 2 + ["majority"] * 2
    found = json.loads((out / "compare.json").read_text())
    assert found["protocol"]["split"] == "random"
    assert r"\begin{tabular}" in shown["latex"].stdout
    assert "<caption>Overview</caption>" in shown["html"].stdout


def test_records_are_resumed_by_more_runs(tmp_path) -> None:
    assert call(*QUICK, "--records", tmp_path).exit_code == 0
    more = call("--methods", "lda,majority", "--runs", 3, "--jobs", 1, "--records", tmp_path)
    assert "(1 run, " in more.stderr
    assert len(list(tmp_path.glob("*.json"))) == 6
    other = call(*QUICK, "--records", tmp_path, "--valid-share", 0.2)
    assert "(2 runs, " in other.stderr


def test_protocol_of_the_options() -> None:
    words = ("--split", "stratified", "--folds", 3, "--valid-share", 0.2, "--label-noise", 0.1)
    sets = ("--test-sets", "conflict,noise:1", "--held-out", 1, "--format", "json")
    result = call("--methods", "lda", "--runs", 3, "--jobs", 1, *words, *sets)
    found = json.loads(result.stdout)["protocol"]
    assert found["folds"] == 3
    assert found["test_sets"] == ["clean", "conflict", "noise:1"]
    assert (found["valid_share"], found["label_noise"], found["held_out"]) == (0.2, 0.1, 1)


def test_own_classifier_beside_the_others() -> None:
    methods = "sklearn.naive_bayes:GaussianNB,lda"
    result = call("--methods", methods, "--runs", 1, "--jobs", 1, "--format", "csv")
    assert result.exit_code == 0, result.output
    names = [line.split(",")[1:3] for line in result.stdout.splitlines()[1::2]]
    assert names == [["sklearn.naive_bayes:GaussianNB", "-"], ["lda", "-"]]


def test_a_file_of_ones_own_beside_a_known_set(tmp_path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    table = {f"{view}__{i}": rng.normal(size=60) + y for view in "ab" for i in range(2)}
    pd.DataFrame({**table, "kind": y}).to_csv(tmp_path / "mine.csv", index=False)
    names = f"{tmp_path / 'mine.csv'},digits"
    words = ("--datasets", names, "--target", "kind", "--format", "csv")
    result = call(*QUICK, *words)
    assert result.exit_code == 0, result.output
    found = [line.split(",")[0] for line in result.stdout.splitlines()[1:]]
    assert found == ["mine.csv"] * 4 + ["digits"] * 4
    wrong = call(*QUICK, "--datasets", names, "--target", "sort")
    assert is_one_error(wrong)
    assert "sort" in wrong.stderr


def test_all_means_every_method(monkeypatch) -> None:
    seen = {}

    def stop(datasets, recipes, repeats, **rest):
        from rcml_misa.cli.session import Session

        seen["labels"] = [one.label for one in recipes]
        return Session()

    monkeypatch.setattr(import_module("rcml_misa.cli.compare"), "run_session", stop)
    assert call("--methods", "lda,all").exit_code == 0
    from rcml_misa.estimators.registry import METHODS

    assert len(seen["labels"]) == len(METHODS)
    assert seen["labels"][0] == "lda"
    assert {"rcml-misa separate", "edl digamma", "rcml mean"} < set(seen["labels"])


def test_a_failed_run_is_told(monkeypatch) -> None:
    from rcml_misa.runs import orders

    def broken(dataset, task, **rest):
        raise RuntimeError("a wheel came off")

    monkeypatch.setattr(orders, "run_task", broken)
    result = call(*QUICK)
    assert result.exit_code == 1
    assert "a wheel came off" in result.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--datasets", "PEI"), ("'PEI'", "PIE")),
        (("--methods", "lda,rmcl"), ("'rmcl'", "rcml")),
        (("--methods", "no.module:X"), ("can't be imported",)),
        (("--runs", 0), ("--runs 0",)),
        (("--jobs", 0), ("--jobs 0",)),
        (("--split", "sorted"), ("split='sorted'",)),
        (("--split", "grouped"), ("no groups",)),
        (("--folds", 1), ("folds=1",)),
        (("--test-sets", "noise"), ("no test set 'noise'",)),
        (("--valid-share", 1.5), ("valid_share=1.5",)),
        (("--selection", "best-valid"), ("needs validation rows",)),
        (("--format", "yaml"), ("yaml",)),
        (("--held-out", 9), ("held_out=9 of 10 classes",)),
    ],
)
def test_bad_options_in_one_sentence(words, parts) -> None:
    result = call("--methods", "lda", "--runs", 1, "--jobs", 1, *words)
    assert is_one_error(result), result.stderr
    assert all(part in result.stderr for part in parts)


def test_out_below_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    result = call(*QUICK, "--out", file / "below")
    assert is_one_error(result)
    assert file.read_text() == "kept"


def test_a_set_of_scores_is_compared_in_its_usual_classes(need_data) -> None:
    folder = need_data("MOSI")
    result = call(*QUICK, "--datasets", "MOSI", "--data-dir", folder)
    assert result.exit_code == 0, result.output
    assert "MOSI-3: lda: clean " in result.stderr
