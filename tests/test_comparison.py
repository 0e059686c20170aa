"""Tables of a comparison: blocks in every form, published figures, ranks, tests, diagrams."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from rcml_misa.datasets import find_entry
from rcml_misa.estimators.registry import METHODS
from rcml_misa.exceptions import OptionError
from rcml_misa.reporting.blocks import Block, render
from rcml_misa.reporting.checkpoints import checkpoint_blocks
from rcml_misa.reporting.comparison import (
    dataset_block,
    paired_block,
    published_block,
    rank_block,
    rankings,
    summary_blocks,
    winners_block,
)
from rcml_misa.reporting.diagrams import draw_all, draw_critical_difference
from rcml_misa.reporting.experiments import experiment_blocks, experiment_markdown
from rcml_misa.reporting.machine import comparison_json
from rcml_misa.reporting.published import published_figures
from rcml_misa.reporting.uncertainty import copies_block, posthoc_block, score_block, sets_block
from rcml_misa.results import RunRecord, compare, mcnemar

ROWS = 40


def make(
    dataset: str, method: str, run: int, clean: float, conflict: float, **changes: Any
) -> RunRecord:
    rng = np.random.default_rng([run, len(method)])
    doubts = {"own": {"auroc": 0.8, "aupr": 0.5, "fpr95": 0.4}}
    if method == "rcml":
        doubts["conflict"] = {"auroc": 0.9, "aupr": 0.6, "fpr95": 0.2}
    fields: dict[str, Any] = {
        "dataset": dataset,
        "method": method,
        "variant": "-",
        "default": True,
        "run": run,
        "seed": run,
        "config": {},
        "versions": {"python": "3.11"},
        "data_sha256": "",
        "train_rows": 160,
        "test_rows": ROWS,
        "metrics": {
            "clean": {"accuracy": clean, "aurc": 0.01, "nll": 0.5, "ece": 0.1},
            "conflict": {"accuracy": conflict, "conflict_fpr95": 0.5, "copied_share": 0.6},
        },
        "bins": {"clean": {"count": [40.0], "confidence": [36.0], "correct": [38.0]}},
        "timing": {"fit_seconds": 2.0, "predict_seconds": 0.5},
        "rows": [int(row) for row in rng.permutation(200)[:ROWS]],
        "correct": {"clean": "1" * ROWS},
        "scores": {"clean": {"errors": doubts}, "conflict": {"altered": doubts}},
        "curves": {"clean": [0.01 * step for step in range(20)]},
    }
    return RunRecord(**{**fields, **changes})


def records(**changes: Any) -> list[RunRecord]:
    """Three methods on three data sets; the first is never the best on clean rows."""
    levels = {"rcml-misa": 0.90, "rcml": 0.85, "lda": 0.95}
    return [
        make(dataset, method, run, level + 0.01 * run, level - 0.1 - 0.02 * run, **changes)
        for dataset in ("PIE", "CUB", "digits")
        for method, level in levels.items()
        for run in range(3)
    ]


def column(block: Block, name: str) -> dict[str, str]:
    place = list(block.header).index(name)
    return {row[0]: row[place] for row in block.rows}


# forms

SIMPLE = Block("A title", ["method", "x %", "y"], [["a_b", "1.0 ± 2", "<0.001"], ["c|d", "-", "†"]])


def test_text_aligns_and_wraps_its_notes():
    noted = Block("T", ["m", "x"], [["a", "1"]], ["word " * 40])
    lines = render([SIMPLE, noted], "text").splitlines()
    assert lines[:4] == [
        "A title",
        "method      x %       y",
        "a_b     1.0 ± 2  <0.001",
        "c|d           -       †",
    ]
    assert max(map(len, lines)) <= 100


def test_markdown_is_a_table():
    lines = render([SIMPLE], "markdown").splitlines()
    assert lines[0] == "### A title"
    assert lines[2] == "| method | x % | y |"
    assert lines[3] == "|---|---:|---:|"
    assert lines[5] == "| c\\|d | - | † |"
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines[2:])


def test_latex_escapes_everything():
    text = render([Block("T", ["a", "b"], [["x_1 & 2 % # $ { } ~ ^ \\", "± < >"]])], "latex")
    row = text.splitlines()[5]
    assert row == (
        r"x\_1 \& 2 \% \# \$ \{ \} \textasciitilde{} \textasciicircum{} \textbackslash{} & "
        r"$\pm$ $<$ $>$ \\"
    )
    assert text.count("&") - text.count(r"\&") == 2


# published figures


def test_published_figures_name_sources_data_sets_and_methods_that_exist():
    text = files("rcml_misa.reporting").joinpath("published.toml").read_text()
    table = tomllib.loads(text)
    assert {entry["source"] for entry in table["figure"]} == set(table["sources"])
    found = published_figures()
    assert len(found) > 30
    for one in found:
        assert find_entry(one.dataset)
        assert one.method is None or one.method in METHODS
        values = (one.clean, one.conflict, one.conflict_fpr95)
        assert any(value is not None for value in values)
        assert all(value is None or 10 < value < 100 for value in values)
    pairs = [(one.dataset, one.method) for one in found if one.method]
    assert len(pairs) == len(set(pairs))  # one figure for a column


def test_published_figures_have_a_column_of_their_own():
    block = dataset_block("PIE", [one for one in records() if one.dataset == "PIE"])
    assert column(block, "published") == {
        "rcml-misa": "-",
        "rcml": "94.71 / 84.00",
        "lda": "-",
    }
    assert column(block, "clean %")["rcml"] == "86.00 ± 0.82"
    assert column(block, "conflictive %")["rcml"] == "73.00 ± 1.63"
    assert column(block, "ECE %")["rcml"] == "5.0"
    assert column(block, "FPR95 %")["rcml"] == "50.0"
    assert column(block, "s/run")["rcml"] == "2.5"
    apart = published_block(["PIE", "CUB"])
    assert ["ECML", "CUB", "98.50 / -", "2.75 / -", "-", "[1]"] in [list(r) for r in apart.rows]
    assert apart.notes[0].startswith("[1] Xu et al.")


def test_leaky_runs_are_marked_and_can_not_win():
    every = [
        make("PIE", "rcml-misa", 0, 0.9, 0.8),
        make("PIE", "rcml", 0, 0.99, 0.9, config={"leaky": True}),
        make("PIE", "lda", 0, 0.95, 0.7),
    ]
    block = dataset_block("PIE", every)
    assert [row[0] for row in block.rows] == ["rcml-misa", "rcml †", "lda"]
    assert any(note.startswith("†") for note in block.notes)
    assert list(winners_block(every).rows[0])[1] == "lda"
    for block in experiment_blocks(every):
        for row in block.rows:
            assert "rcml" not in row or "rcml †" in row, block.title
    assert "rcml †" in comparison_json(every, how="h")["comparisons"][0]["second"]
    assert not any("†" in note for note in dataset_block("PIE", every[:1]).notes)


# tests and ranks


def test_paired_table_holds_what_the_statistics_say():
    some = [one for one in records() if one.dataset == "PIE"]
    block = paired_block("PIE", some, test_set="conflict")
    groups = [[one for one in some if one.method == name] for name in ("rcml-misa", "rcml", "lda")]
    wanted = compare(groups[0], groups[2], test_set="conflict")
    row = {line[0]: line for line in block.rows}["lda"]
    assert row[1] == f"{100 * wanted.difference:+.2f}" == "-5.00"
    assert row[5] == "0/3"
    assert row[6] == "-"  # the runs' test rows overlap
    assert next(iter(block.header)) == "rcml-misa minus"
    assert paired_block("PIE", groups[0], test_set="clean") is None


def test_mcnemar_is_shown_where_no_row_counts_twice():
    folds = [
        make("PIE", method, run, 0.5, 0.5, rows=list(range(4 * run, 4 * run + 4)), correct=digits)
        for method, digits in (("a", {"clean": "1110"}), ("b", {"clean": "0000"}))
        for run in range(3)
    ]
    block = paired_block("PIE", folds, test_set="clean")
    p = mcnemar(folds[:3], folds[3:]).p
    assert column(block, "McNemar p")["b"] == f"{p:.3f}" == "0.004"


def test_ranks_and_winners():
    ranked = rankings(records())
    assert set(ranked) == {"clean", "conflict"}
    assert ranked["clean"].methods == ("lda", "rcml-misa", "rcml")
    block = rank_block(ranked)
    assert column(block, "clean") == {"lda": "1.00", "rcml-misa": "2.00", "rcml": "3.00"}
    assert "Friedman p 0.050" in block.notes[0]
    winners = winners_block(records())
    assert [row[1] for row in winners.rows] == ["lda", "lda", "lda"]
    assert winners.rows[0][3].startswith("-5.00 (p ")
    one = [record for record in records() if record.dataset == "PIE"]
    assert rankings(one) == {}
    assert [block.title for block in summary_blocks(one)] == ["Who wins where"]
    assert summary_blocks(one[:3]) == []


# uncertainty


def test_score_table_has_a_column_for_each_score():
    some = [one for one in records() if one.dataset == "PIE"]
    block = score_block("PIE", some, test_set="conflict", task="altered")
    assert column(block, "conflict") == {
        "rcml-misa": "-",
        "rcml": "0.90 / 0.60 / 0.20",
        "lda": "-",
    }
    assert column(block, "own")["lda"] == "0.80 / 0.50 / 0.40"
    assert score_block("PIE", some, test_set="clean", task="held_out") is None


def test_further_test_sets_and_refusals():
    sets = {"test_sets": ["clean", "conflict", "noise:1", "missing:0.5"]}
    scored = {"clean": {"accuracy": 0.9}, "noise:1": {"accuracy": 0.5}}
    every = [
        make(
            "PIE", "rcml", 0, 0, 0, metrics=scored, protocol=sets, failures={"missing:0.5": "no."}
        ),
        make("PIE", "lda", 0, 0, 0, metrics=scored, protocol=sets),
    ]
    block = sets_block("PIE", every)
    assert column(block, "noise:1") == {"rcml": "50.00", "lda": "50.00"}
    assert column(block, "missing:0.5") == {"rcml": "refused", "lda": "-"}
    assert "refused: no." in block.notes
    assert sets_block("PIE", records()) is None


def test_copies_and_mended_tables():
    assert copies_block("PIE", records()[:3]).rows[0][:2] == ["rcml-misa", "60.0"]
    assert posthoc_block("PIE", records()[:3]) is None
    mended = {
        "clean": {
            "accuracy": 0.9,
            "nll": 1.0,
            "temperature_nll": 0.5,
            "ece": 0.2,
            "temperature_ece": 0.05,
            "conformal_coverage": 0.91,
            "conformal_size": 1.5,
        }
    }
    block = posthoc_block("PIE", [make("PIE", "rcml", 0, 0, 0, metrics=mended)])
    assert block.rows == [["rcml, clean", "1.000", "0.500", "20.0", "5.0", "91.0", "1.50"]]


def test_checkpoints_and_the_nearest_setting():
    def noted(variant: str, run: int, early: float, late: float) -> RunRecord:
        marks = {"50": {"clean": early, "conflict": 0.1}, "100": {"clean": late, "conflict": 0.2}}
        return make("PIE", "notes", run, late, 0.2, variant=variant, checkpoints=marks)

    every = [
        noted(f"{row} lr={rate}", run, 0.1 * rate, 0.7 + 0.01 * rate)
        for row in ("x", "y")
        for rate in (1, 2)
        for run in range(2)
    ]
    told = {
        f"notes {row} lr={rate}": (f"lr={rate}", figure)
        for row, figure in (("x", 0.72), ("y", 0.73))
        for rate in (1, 2)
    }
    table, nearest = checkpoint_blocks("PIE", every, told)
    assert list(table.header) == ["method", "told %", "epoch 50", "epoch 100", "last"]
    assert table.rows[0] == ["notes x lr=1", "72.00", "10.0 / 10.0", "71.0 / 20.0", "71.0 / 20.0"]
    assert nearest.rows[0][0].startswith("lr=2, epoch 100, clean rows")
    assert nearest.rows[0][1] == "0.50"
    assert nearest.notes == ["told: 72.00 73.00 %"]
    assert checkpoint_blocks("PIE", records()[:3], {}) == []
    assert len(checkpoint_blocks("PIE", every, {})) == 1


# the whole


def test_page_and_blocks_of_a_comparison():
    titles = [block.title for block in experiment_blocks(records())]
    assert titles[:3] == ["Overview", "Who wins where", "Ranks over the data sets"]
    assert titles.count("PIE") == titles.count("digits") == 1
    assert titles[-1] == "Published figures, not measured here"
    assert len(experiment_blocks(records(), uncertainty=False)) < len(titles)
    page = experiment_markdown(records(), title="T", command="t.toml", how="some splits")
    assert "some splits, shared by all methods" in page
    assert page.count("```") % 2 == 0
    assert page == experiment_markdown(records(), title="T", command="t.toml", how="some splits")


def test_json_keeps_published_figures_apart():
    found = comparison_json(records(), how="h")
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert {row["method"] for row in found["results"]} == {"rcml-misa", "rcml", "lda"}
    assert {one["source"] for one in found["published"]} & {"Xu et al., RCML, AAAI 2024"}
    assert found["ranks"]["clean"]["methods"] == ["lda", "rcml-misa", "rcml"]
    assert len(found["comparisons"]) == 3 * 2 * 2
    assert found["uncertainty"][0]["scores"]["own"]["auroc"] == pytest.approx(0.8)


def test_diagrams_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    drawn = draw_all(records(), tmp_path)
    assert sorted(path.name for path in drawn) == [
        "ranks-clean.png",
        "ranks-conflict.png",
        "risk-CUB.png",
        "risk-PIE.png",
        "risk-digits.png",
    ]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in drawn)
    ranked = rankings(records())["clean"]
    path = draw_critical_difference(ranked, tmp_path / "x.svg", title="t")
    text = path.read_text()
    assert text.startswith("<?xml")


def test_diagrams_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("rcml_misa.reporting.diagrams.find_spec", lambda _: None)
    assert draw_all(records(), tmp_path) == []
    with pytest.raises(OptionError, match="need matplotlib"):
        draw_critical_difference(rankings(records())["clean"], tmp_path / "x.png")
