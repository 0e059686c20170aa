"""The command `experiment`: a tiny grid, and files that it refuses."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rcml_misa.cli import main

TINY = """
title = "Two controls"
datasets = ["digits"]
methods = ["lda", { method = "logistic-regression", set = { C = 0.5 } }]
runs = 2
seed = 5
"""


def call(text: str | None, folder: Path, *words: object) -> Result:
    file = folder / "tiny.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(main, ["experiment", str(file), "--jobs", "1", *map(str, words)])


def test_tiny_grid(tmp_path) -> None:
    result = call(TINY, tmp_path)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "tiny.md").read_text()
    assert page in result.stdout
    lines = page.splitlines()
    assert len(lines) <= 60
    assert lines[0] == "# Two controls"
    assert "Seeds 5 to 6" in page
    assert f"rcml-misa experiment {tmp_path / 'tiny.toml'}" in page
    start = lines.index("## Paired differences to the strongest others")
    assert lines[start + 2].startswith("| lda minus | test rows |")
    assert lines[start + 4].startswith("| logistic-regression C=0.5 | clean |")
    table = pd.read_csv(tmp_path / "tiny.csv")
    assert table["method"].tolist() == ["lda"] * 4 + ["logistic-regression"] * 4
    assert table["default"].tolist() == [1] * 4 + [0] * 4
    assert table["seed"].tolist() == [5, 5, 6, 6] * 2
    assert (table["accuracy"] > 0.8).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "records",
        "tiny.csv",
        "tiny.md",
        "tiny.toml",
    ]


@pytest.fixture
def nothing_runs(monkeypatch):
    """Refuse every run."""

    def refuse(*args, **options):
        raise AssertionError("a run was started")

    def start() -> None:
        monkeypatch.setattr(import_module("rcml_misa.cli.experiment"), "run_session", refuse)

    return start


def test_files_of_ones_own_are_read_as_the_file_says(tmp_path) -> None:
    rows = range(60)
    frame = pd.DataFrame({"a": [(7 * row) % 11 for row in rows], "who": [row % 2 for row in rows]})
    frame["part"] = ["test" if row % 5 == 0 else "train" for row in rows]
    frame.to_csv(tmp_path / "own.csv", index=False)
    text = f'''datasets = ["{tmp_path / "own.csv"}"]
methods = ["majority"]
runs = 1
[files]
target = "who"
split_column = "part"
'''
    assert call(text, tmp_path).exit_code == 0
    table = pd.read_csv(tmp_path / "tiny.csv")
    assert set(table["test_rows"]) == {12}
    result = call(text.replace("split_column", "split"), tmp_path)
    assert "files has an unknown key 'split'; did you mean" in " ".join(result.stderr.split())


def test_full_page_is_made_of_the_csv_alone(tmp_path, nothing_runs) -> None:
    assert call(TINY, tmp_path).exit_code == 0
    short = (tmp_path / "tiny.md").read_text()
    nothing_runs()
    result = call(None, tmp_path, "--full")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    start = lines.index("### digits, clean rows: paired differences")
    assert lines[start + 3].startswith("lda minus ")
    assert lines[start + 4].startswith("logistic-regression C=0.5 ")
    assert "### digits: errors among clean rows, by uncertainty score" in lines
    assert max(map(len, lines[8:])) <= 100
    assert (tmp_path / "tiny.md").read_text() == short
    # the short page, too
    (tmp_path / "tiny.md").unlink()
    assert call(None, tmp_path, "--from-csv").exit_code == 0
    assert (tmp_path / "tiny.md").read_text() == short


def test_full_page_runs_what_the_csv_lacks(tmp_path, nothing_runs) -> None:
    assert call(TINY, tmp_path, "--runs", 1).exit_code == 0
    result = call(None, tmp_path, "--full")
    assert result.exit_code == 0, result.output
    assert "Seeds 5 to 6" in result.stdout
    nothing_runs()
    assert call(None, tmp_path, "--full").stdout == result.stdout


def test_page_without_a_csv(tmp_path) -> None:
    refused(call(TINY, tmp_path, "--from-csv"), tmp_path, "tiny.csv", "run the experiment first")
    (tmp_path / "old.csv").write_text("dataset,mean\ndigits,0.5\n")
    (tmp_path / "old.toml").write_text(TINY)
    result = CliRunner().invoke(main, ["experiment", str(tmp_path / "old.toml"), "--from-csv"])
    assert result.exit_code == 2
    assert "no column 'method'" in result.stderr


def test_options_win_over_the_file(tmp_path) -> None:
    out = tmp_path / "out"
    text = TINY.replace('"lda", {', "{")
    result = call(text, tmp_path, "--out", out, "--runs", 1, "--seed", 2)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.iterdir()) == ["records", "tiny.csv", "tiny.md"]
    assert "Seeds 2 to 2" in (out / "tiny.md").read_text()
    assert (pd.read_csv(out / "tiny.csv")["seed"] == 2).all()


def refused(result: Result, folder: Path, *parts: str) -> None:
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert all(part in lines[0] for part in parts), lines
    assert not {path.suffix for path in folder.iterdir()} & {".md", ".csv"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (TINY + "run = 3", ("'run'", "runs")),
        (TINY.replace("set =", "sets ="), ("'sets'", "set")),
        (TINY.replace("C =", "c ="), ("'c'", "C")),
        (TINY.replace("runs = 2", "runs = 0"), ("runs 0 is below 1",)),
        (TINY.replace("runs = 2", 'runs = "2"'), ("runs='2'", "whole number")),
        (TINY.replace('["digits"]', "[]"), ("datasets=[]", "give names")),
        (TINY.replace('["digits"]', '"digits"'), ("datasets='digits'", "give names")),
        (TINY.replace('["digits"]', '["digit"]'), ("'digit'", "digits")),
        (TINY.replace('"lda"', '"ldda"'), ("'ldda'", "lda")),
        (TINY.replace('"lda"', "{ preset = 'default' }"), ("method = NAME",)),
        (TINY + "[protocol]\nfold = 3", ("protocol has an unknown key 'fold'", "folds")),
        (TINY + "[protocol]\nfolds = true", ("folds=True",)),
        (TINY + "[protocol]\nfolds = 2.5", ("folds=2.5",)),
        (TINY + "[protocol]\nsplit = 'sorted'", ("split='sorted'",)),
        (TINY + "protocol = 3", ("is no table",)),
        (TINY.replace("set =", "grid ="), ("grid.C=0.5", "lists")),
        (TINY.replace("set = {", "figure = 76, set = {"), ("figure=76", "fraction")),
        (TINY.replace('["lda", {', '["lda", "lda", {'), ("lda - twice", "label")),
        ("datasets = [", ("is not TOML",)),
        ("", ("lacks the key datasets, methods",)),
        (None, ("tiny.toml", "can't be read")),
    ],
)
def test_refused_files(tmp_path, text, parts) -> None:
    refused(call(text, tmp_path), tmp_path, *parts)


def test_file_that_is_no_text(tmp_path) -> None:
    (tmp_path / "tiny.toml").write_bytes(b"\xff\xfe\x00")
    refused(call(None, tmp_path), tmp_path, "is not TOML")


def test_folder_that_cannot_be_made(tmp_path) -> None:
    blocked = tmp_path / "tiny.toml" / "out"
    refused(call(TINY, tmp_path, "--out", blocked), tmp_path, "can't be written to")


@pytest.mark.parametrize(
    "text",
    [
        TINY.replace('["digits"]', "[3]"),
        TINY.replace('"lda"', "{ method = 3 }"),
        TINY.replace("{ C = 0.5 }", '"C=0.5"'),
    ],
)
def test_values_of_wrong_types(tmp_path, text) -> None:
    refused(call(text, tmp_path), tmp_path)


def test_negative_seed(tmp_path) -> None:
    refused(call(TINY.replace("seed = 5", "seed = -1"), tmp_path), tmp_path)


def test_no_jobs(tmp_path) -> None:
    # the last --jobs counts
    refused(call(TINY.replace("runs = 2", "runs = 1"), tmp_path, "--jobs", -1), tmp_path)


def test_two_configurations_of_one_method_stay_apart(tmp_path) -> None:
    methods = 'methods = ["lda", { method = "lda", set = { features = "root" } }]'
    lines = [methods if line.startswith("methods") else line for line in TINY.splitlines()]
    result = call("\n".join(lines), tmp_path)
    if result.exit_code == 2:  # refusing them would do as well
        return
    table = pd.read_csv(tmp_path / "tiny.csv")
    assert len(table) == 8
    assert (table.groupby(["variant", "test_set"]).size() == 2).all()


def test_list_as_a_value(tmp_path) -> None:
    entry = '{ method = "rcml", set = { hidden = [8], epochs = 1 } }'
    text = TINY.replace('"lda"', entry).replace("runs = 2", "runs = 1")
    assert call(text, tmp_path).exit_code == 0


NOTED = """
datasets = ["digits"]
methods = [
    { method = "rcml", label = "row x", set = { hidden = [4] }, figure = 0.5, \
grid = { learning_rate = [0.001, 0.01] } },
    { method = "rcml", label = "row y", figure = 0.6, grid = { epochs = [2] } },
]
runs = 1

[protocol]
checkpoints = [1, 2]
test_sets = ["conflict", "noise:0.1"]
"""


def test_grid_labels_figures_and_checkpoints(tmp_path) -> None:
    text = NOTED.replace("set = { hidden = [4] }", "set = { hidden = [4], epochs = 2 }")
    result = call(text, tmp_path, "--records", tmp_path / "kept")
    assert result.exit_code == 0, result.output
    page = call(text, tmp_path, "--full").stdout
    table = pd.read_csv(tmp_path / "tiny.csv")
    assert table["variant"].drop_duplicates().tolist() == [
        "row x learning_rate=0.001",
        "row x learning_rate=0.01",
        "row y epochs=2",
    ]
    for part in (
        "accuracy between epochs, %",
        "the settings nearest to the stated figures",
        "stated: 50.00 60.00 %",
        "accuracy on each test set, %",
        "learning_rate=0.01, epoch 2, clean rows",
    ):
        assert part in page
    names = sorted(path.name for path in (tmp_path / "kept").glob("*.json"))
    assert names[0].startswith("digits-rcml-row x learning_rate=0.001-seed0-")


def test_the_same_file_gives_the_same_page(tmp_path) -> None:
    entry = '{ method = "rcml", set = { epochs = 2 } }'
    text = TINY.replace('"lda"', entry)
    first, second = (call(text, tmp_path, "--out", tmp_path / name) for name in ("a", "b"))
    assert first.exit_code == second.exit_code == 0
    pages = [(tmp_path / name / "tiny.md").read_text() for name in ("a", "b")]
    assert pages[0] == pages[1]
    tables = [pd.read_csv(tmp_path / name / "tiny.csv") for name in ("a", "b")]
    plain = [table.drop(columns="seconds") for table in tables]
    pd.testing.assert_frame_equal(plain[0], plain[1], check_exact=True)


def test_every_committed_experiment_can_be_read() -> None:
    from rcml_misa.cli.experiment import read_plan
    from rcml_misa.datasets import find_entry

    files = sorted((Path(__file__).parents[1] / "experiments").glob("*.toml"))
    assert files
    for file in files:
        plan = read_plan(file)
        assert plan.entries
        for name in plan.datasets:
            assert find_entry(name)


def test_a_table_does_not_replace_the_data_set_beside_it(tmp_path: Path) -> None:
    rows = [f"{i % 2},{i},{i % 2}" for i in range(20)]
    data = "\n".join(["a__0,b__0,target", *rows])
    (tmp_path / "mine.csv").write_text(data)
    file = tmp_path / "mine.toml"
    file.write_text(f'datasets = ["{tmp_path}/mine.csv"]\nmethods = ["lda"]\nruns = 1\n')
    result = CliRunner().invoke(main, ["experiment", str(file), "--jobs", "1"])
    assert result.exit_code == 2
    assert "would replace its data set" in " ".join(result.stderr.split())
    assert (tmp_path / "mine.csv").read_text() == data
