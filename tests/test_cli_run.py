"""The command `run`: output, files, exit statuses, sentences, interruption."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import rcml_misa.datasets
from rcml_misa.cli import main
from rcml_misa.datasets import Dataset
from rcml_misa.results import RunStore
from rcml_misa.views import MultiView

LDA = ("--method", "lda", "--runs", "2", "--jobs", "1")


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, words)])


def is_one_error(result: Result) -> bool:
    lines = result.stderr.splitlines()
    return (
        result.exit_code == 2
        and result.stdout == ""
        and len(lines) == 1
        and lines[0].startswith("error: ")
    )


def test_table() -> None:
    result = call(*LDA)
    assert result.exit_code == 0
    assert result.stderr == ""
    text = result.stdout
    assert "digits: 2 runs, seeds 0 to 1" in text
    for part in ("each run", "mean %", "records: not kept"):
        assert part in text
    for name in ("clean", "conflictive"):
        line = next(line for line in text.splitlines() if line.startswith("lda") and name in line)
        assert len(line.split()) == 4  # method, test rows, two runs
    assert max(map(len, text.splitlines())) <= 80


def test_json_is_one_object_and_repeats() -> None:
    first, second = (call(*LDA, "--seed", 3, "--json") for _ in range(2))
    assert first.exit_code == 0
    assert first.stderr == ""
    one, two = json.loads(first.stdout), json.loads(second.stdout)
    assert (one["dataset"], one["runs"], one["seed"]) == ("digits", 2, 3)
    assert [row["test_set"] for row in one["results"]] == ["clean", "conflict"]
    for a, b in zip(one["results"], two["results"], strict=True):
        assert a["accuracy"] == b["accuracy"]
        assert len(a["accuracy"]) == 2
        assert a["mean"] == pytest.approx(np.mean(a["accuracy"]))
        assert a["var"] == pytest.approx(np.var(a["accuracy"]))
        assert a["std"] == pytest.approx(np.std(a["accuracy"]))
        assert a["default"] is True
        assert a["seconds_per_run"] > 0
    # run r uses seed S + r
    shifted = json.loads(call(*LDA, "--seed", 4, "--json").stdout)
    assert shifted["results"][0]["accuracy"][0] == one["results"][0]["accuracy"][1]


def test_trained_method_repeats_and_variants_are_compared() -> None:
    words = ("--set", "landmarks=50", "--epochs", "1", "--jobs", 1, "--json")
    first, second = (
        json.loads(call("--collectors", variants, "--runs", runs, *words).stdout)
        for variants, runs in (("tied,separate", 2), ("tied", 1))
    )
    assert [(row["variant"], row["default"]) for row in first["results"]] == [
        ("tied", False),
        ("tied", False),
        ("separate", False),  # --set and --epochs leave the recommended configuration
        ("separate", False),
    ]
    for a, b in zip(first["results"][:2], second["results"], strict=True):
        assert a["accuracy"][:1] == b["accuracy"]
    assert [one["test_set"] for one in first["comparisons"]] == ["clean", "conflict"]
    gap = first["results"][0]["mean"] - first["results"][2]["mean"]
    assert first["comparisons"][0]["difference"] == pytest.approx(gap, abs=1e-12)


def test_out_keeps_everything(tmp_path) -> None:
    out = tmp_path / "new" / "folder"
    result = call(*LDA, "--out", out, "--report-uncertainty")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert f"records: {out / 'records'} (one JSON per run); tables: {out} (summary.csv" in text
    assert "AUROC conf" in result.stdout
    names = sorted(path.name for path in out.iterdir())
    assert names == ["records", "summary.csv", "summary.md"]
    records = RunStore(out / "records").read()
    assert [record.seed for record in records] == [0, 1]
    assert records[0].config["model"] == "lda"
    table = pd.read_csv(out / "summary.csv")
    assert table["mean"][0] == pytest.approx(
        np.mean([record.metrics["clean"]["accuracy"] for record in records])
    )
    assert (out / "summary.md").read_text().startswith("### digits: accuracy over the runs")


def test_list_methods() -> None:
    result = call("--list-methods")
    assert result.exit_code == 0
    assert {"rcml-misa", "rcml", "lda"} <= {line.split()[0] for line in result.stdout.splitlines()}


# bad input


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--dataset", "PEI"), ("'PEI'", "PIE")),
        (("--dataset", "handwriten"), ("HandWritten",)),
        (("--runs", 0), ("--runs 0",)),
        (("--runs", -3), ("--runs -3",)),
        (("--seed", -1), ("--seed -1",)),
        (("--jobs", 0), ("--jobs 0",)),
        (("--epochs", 0), ("--epochs 0",)),
        (("--set", "dropuot=0.1"), ("'dropuot'", "dropout")),
        (("--set", "dropout"), ("key=value",)),
        (("--set", "dropout=much"), ("dropout=much",)),
        (("--collectors", "seperate"), ("'seperate'", "separate")),
        (("--method", "rcml", "--collectors", "tied"), ("no collectors",)),
        (("--method", "rmcl"), ("'rmcl'", "rcml")),
        (("--method", "lda", "--epochs", 3), ("--epochs",)),
        (("--preset", "nots"), ("'nots'", "notes")),
    ],
)
def test_bad_options_in_one_sentence(tmp_path, words, parts) -> None:
    out = tmp_path / "out"
    result = call(*words, "--out", out)
    assert is_one_error(result), result.stderr
    assert all(part in result.stderr for part in parts)
    assert not out.exists()


def test_absent_cuda(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = call("--device", "cuda", "--out", tmp_path / "out")
    assert is_one_error(result)
    assert "CUDA" in result.stderr
    assert not (tmp_path / "out").exists()


def test_out_below_a_file(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    result = call(*LDA, "--out", file / "below")
    assert is_one_error(result)
    assert "can't be written to" in result.stderr
    assert file.read_text() == "kept"


def test_out_that_is_a_file(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    result = call(*LDA, "--out", file)
    assert file.read_text() == "kept"
    assert is_one_error(result)


@pytest.mark.parametrize("words", [("--runs", "x"), ("--device", "gpu"), ("--rnus", 3)])
def test_clicks_own_refusals_in_one_sentence(words) -> None:
    assert is_one_error(call(*words))


def test_full_disk_while_writing(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = call(*LDA, "--out", tmp_path)
    assert is_one_error(result)
    assert "No space left on device" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["records", ".lock"]


def test_missing_file_offline(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RCML_MISA_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")
    result = call("--dataset", "PIE", "--out", tmp_path / "out")
    assert is_one_error(result)
    assert "digits" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("target", "classes", "part"),
    [
        ([0] * 12, 1, "one class only"),
        ([0] * 11 + [1], 2, "1 sample"),
        (list(range(12)), 13, "fewer rows"),
    ],
)
def test_targets_that_cannot_be_learnt(tmp_path, monkeypatch, target, classes, part) -> None:
    views = MultiView([np.random.default_rng(0).random((12, 3))])
    names = tuple(map(str, range(classes)))
    data = Dataset("bad", views, np.array(target), names, "", "")
    monkeypatch.setattr(rcml_misa.datasets, "load_dataset", lambda *_, **__: data)
    result = call(*LDA, "--out", tmp_path / "out")
    assert is_one_error(result)
    assert part in result.stderr
    assert not (tmp_path / "out").exists()


def test_impossible_value_writes_nothing(tmp_path) -> None:
    out = tmp_path / "out"
    result = call("--method", "rcml", "--set", "epochs=0", "--jobs", 1, "--out", out)
    assert is_one_error(result)
    assert not out.exists()


def test_a_failed_run_is_told_and_the_rest_is_shown(monkeypatch) -> None:
    from rcml_misa.runs import orders as runs

    real = runs.run_task

    def sometimes(dataset, task, **rest):
        if task.run == 0:
            raise RuntimeError("a wheel came off")
        return real(dataset, task, **rest)

    monkeypatch.setattr(runs, "run_task", sometimes)
    result = call(*LDA, "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith("a run failed: lda, seed 0: RuntimeError")
    assert json.loads(result.stdout)["runs"] == 1


# whole processes


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from rcml_misa.cli import main
for words in (["--help"], ["run", "--help"]):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0
heavy = {"torch", "numpy", "pandas", "scipy", "sklearn", "pydantic"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "rcml-misa run" in done.stdout


def test_a_real_process_ends_with_2_and_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rcml_misa", "run", "--dataset", "PEI"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_variants_are_compared_on_the_test_sets_that_there_are() -> None:
    sets = ("--test-sets", "conflict:0.5:train,missing:0.3")
    result = call(*sets, "--method", "lda,majority", "--runs", 2, "--jobs", 1, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [one["test_set"] for one in found["comparisons"]] == [
        "clean",
        "conflict:0.5:train",
        "missing:0.3",
    ]
