"""Tables of a comparison: published figures, ranks, paired tests, uncertainty, diagrams."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from rcml_misa.datasets import find_entry
from rcml_misa.estimators.registry import METHODS
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.reporting import comparison_json, experiment_page, experiment_tables
from rcml_misa.reporting.comparison import (
    dataset_table,
    published_figures,
    published_table,
    rank_table,
    rankings,
    winners_table,
)
from rcml_misa.reporting.details import (
    checkpoint_tables,
    detection_table,
    recalibration_table,
    scores_table,
    sets_table,
    uncertainty_tables,
)
from rcml_misa.reporting.figures import draw_all, draw_critical_difference, draw_risk_coverage
from rcml_misa.reporting.table import Table
from rcml_misa.reporting.tables import paired_comparisons, paired_table
from rcml_misa.results import AFTER_SCALING, RunRecord, compare, mcnemar, summarise

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


def lines(table: Table) -> list[list[str]]:
    """Rows as people see them."""
    return [[str(cell) for cell in row] for row in table.rows]


def column(table: Table, name: str) -> dict[str, str]:
    place = [one.heading for one in table.columns].index(name)
    return {row[0]: row[place] for row in lines(table)}


def paired(records: list[RunRecord], test_set: str) -> Table:
    pairs = paired_comparisons(records, test_sets=[test_set])
    return paired_table(pairs, corrected=True, records=records)


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
    block = dataset_table("PIE", [one for one in records() if one.dataset == "PIE"])
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
    apart = published_table(["PIE", "CUB"])
    assert ["ECML", "CUB", "98.50 / -", "2.75 / -", "-", "[1]"] in lines(apart)
    assert apart.notes[0].startswith("[1] Xu et al.")


def test_leaky_runs_are_marked_and_can_not_win():
    every = [
        make("PIE", "rcml-misa", 0, 0.9, 0.8),
        make("PIE", "rcml", 0, 0.99, 0.9, config={"leaky": True}),
        make("PIE", "lda", 0, 0.95, 0.7),
    ]
    block = dataset_table("PIE", every)
    assert [row[0] for row in lines(block)] == ["rcml-misa", "rcml †", "lda"]
    assert any(note.startswith("†") for note in block.notes)
    assert lines(winners_table(every))[0][1] == "lda"
    for block in experiment_tables(every):
        for row in lines(block):
            assert "rcml" not in row or "rcml †" in row, block.title
    assert "rcml †" in comparison_json(every, how="h")["comparisons"][0]["second"]
    assert not any("†" in note for note in dataset_table("PIE", every[:1]).notes)


# tests and ranks


def test_paired_table_holds_what_the_statistics_say():
    some = [one for one in records() if one.dataset == "PIE"]
    block = paired(some, "conflict")
    groups = [[one for one in some if one.method == name] for name in ("rcml-misa", "rcml", "lda")]
    wanted = compare(groups[0], groups[2], test_set="conflict")
    row = {line[0]: line for line in lines(block)}["lda"]
    assert row[1] == f"{100 * wanted.difference:+.2f}" == "-5.00"
    assert row[5] == "0/3"
    headings = [column.heading for column in block.columns]
    assert headings[0] == "rcml-misa minus"
    assert "McNemar p" not in headings  # the runs' test rows overlap
    assert block.notes[0].startswith("interval and t p: Nadeau and Bengio's")
    assert paired_comparisons(groups[0]) == []


def test_the_note_tells_which_interval_it_is():
    given = {"protocol": {"split": "given"}}
    some = [one for one in records(**given) if one.dataset == "PIE"]
    assert paired(some, "clean").notes[0].startswith("interval and t p: Student's t over the seeds")


def test_mcnemar_is_shown_where_no_row_counts_twice():
    folds = [
        make("PIE", method, run, 0.5, 0.5, rows=list(range(4 * run, 4 * run + 4)), correct=digits)
        for method, digits in (("a", {"clean": "1110"}), ("b", {"clean": "0000"}))
        for run in range(3)
    ]
    block = paired(folds, "clean")
    p = mcnemar(folds[:3], folds[3:]).p
    assert column(block, "McNemar p")["b"] == f"{p:.3f}" == "0.004"


def test_ranks_and_winners():
    ranked = rankings(records())
    assert set(ranked) == {"clean", "conflict"}
    assert ranked["clean"].methods == ("lda", "rcml-misa", "rcml")
    block = rank_table(ranked)
    assert column(block, "clean") == {"lda": "1.00", "rcml-misa": "2.00", "rcml": "3.00"}
    assert "Friedman p 0.050" in block.notes[0]
    winners = winners_table(records())
    assert [row[1] for row in lines(winners)] == ["lda", "lda", "lda"]
    assert lines(winners)[0][3].startswith("-5.00 (p ")
    one = [record for record in records() if record.dataset == "PIE"]
    assert rankings(one) == {}
    titles = [table.title for table in experiment_tables(one)]
    assert titles[:3] == ["Overview", "Who wins where", "PIE"]
    titles = [table.title for table in experiment_tables(one[:3])]
    assert titles[:2] == ["Overview", "PIE"]


# calibration


def test_ece_after_scaling_stands_beside_ece_where_rows_were_held_back():
    sure = {"count": [40.0], "confidence": [36.0], "correct": [38.0]}
    bins = {"clean": sure, f"clean{AFTER_SCALING}": {**sure, "confidence": [37.6]}}
    plain, scaled = records()[:3], records(bins=bins)[:3]
    tables = [
        (dataset_table("PIE", some), detection_table(summarise(some))) for some in (plain, scaled)
    ]
    for table in tables[0]:
        assert "after scaling" not in [column.heading for column in table.columns]
        assert any("--valid-share" in note for note in table.notes)
    for table in tables[1]:
        headings = [column.heading for column in table.columns]
        place = headings.index("ECE %")
        assert headings[place + 1] == "after scaling"
        assert lines(table)[0][place : place + 2] == ["5.0", "1.0"]
        assert any("temperature scaling fitted on rows held back" in note for note in table.notes)
        assert not any("--valid-share" in note for note in table.notes)
    # a method that lacks it among others that have it
    mixed = dataset_table("PIE", [*scaled, *records()[3:6]])
    assert column(mixed, "after scaling") == {"rcml-misa": "1.0", "rcml": "-"}


# uncertainty


def test_score_table_has_a_column_for_each_score():
    some = [one for one in records() if one.dataset == "PIE"]
    block = scores_table("PIE", some, task="altered")
    assert column(block, "conflict") == {
        "rcml-misa": "-",
        "rcml": "0.90 / 0.60 / 0.20",
        "lda": "-",
    }
    assert column(block, "own")["lda"] == "0.80 / 0.50 / 0.40"
    assert scores_table("PIE", some, task="held_out") is None


def test_further_test_sets_and_refusals():
    sets = {"test_sets": ["clean", "conflict", "noise:1", "missing:0.5"]}
    scored = {"clean": {"accuracy": 0.9}, "noise:1": {"accuracy": 0.5}}
    every = [
        make(
            "PIE", "rcml", 0, 0, 0, metrics=scored, protocol=sets, failures={"missing:0.5": "no."}
        ),
        make("PIE", "lda", 0, 0, 0, metrics=scored, protocol=sets),
    ]
    block = sets_table("PIE", every)
    assert column(block, "noise:1") == {"rcml": "50.00", "lda": "50.00"}
    assert column(block, "missing:0.5") == {"rcml": "refused", "lda": "-"}
    assert "refused: no." in block.notes
    assert sets_table("PIE", records()) is None


def test_copies_and_mended_tables():
    titled = {table.title: table for table in uncertainty_tables("PIE", records()[:3])}
    copies = titled["PIE: the donors of the published conflictive rows"]
    assert lines(copies)[0] == ["rcml-misa", "60.0", "-", "-"]
    assert recalibration_table("PIE", records()[:3]) is None
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
    block = recalibration_table("PIE", [make("PIE", "rcml", 0, 0, 0, metrics=mended)])
    assert lines(block) == [["rcml, clean", "1.000", "0.500", "20.0", "5.0", "91.0", "1.50"]]
    assert len(set(block.plain()[0])) == 7


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
    table, nearest = checkpoint_tables("PIE", every, told)
    headings = [column.heading for column in table.columns]
    assert headings == ["method", "stated %", "epoch 50", "epoch 100", "last"]
    assert lines(table)[0] == ["notes x lr=1", "72.00", "10.0 / 10.0", "71.0 / 20.0", "71.0 / 20.0"]
    assert lines(nearest)[0][0].startswith("lr=2, epoch 100, clean rows")
    assert lines(nearest)[0][1] == "0.50"
    assert nearest.notes == ("stated: 72.00 73.00 %",)
    assert checkpoint_tables("PIE", records()[:3], {}) == []
    assert len(checkpoint_tables("PIE", every, {})) == 1


# the whole


def test_page_and_blocks_of_a_comparison():
    titles = [block.title for block in experiment_tables(records())]
    assert titles[:3] == ["Overview", "Who wins where", "Ranks over the data sets"]
    assert titles.count("PIE") == titles.count("digits") == 1
    assert titles[-1] == "Published figures, not measured here"
    assert len(experiment_tables(records(), uncertainty=False)) < len(titles)
    options = {"title": "T", "command": "t.toml", "how": "some splits", "full": True}
    page = experiment_page(records(), **options)
    assert "some splits, shared by all methods" in page
    assert page.count("```") % 2 == 0
    assert page == experiment_page(records(), **options)


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
    monkeypatch.setattr("rcml_misa.reporting.style.find_spec", lambda _: None)
    assert draw_all(records(), tmp_path) == []
    with pytest.raises(OptionError, match="need matplotlib"):
        draw_critical_difference(rankings(records())["clean"], tmp_path / "x.png")


def test_diagrams_of_records_without_curves_and_scores(tmp_path):
    """Records of 0.1 with a given split, and records of scores."""
    pytest.importorskip("matplotlib")
    bare = {"rows": [], "correct": {}, "scores": {}, "curves": {}, "bins": {}}
    every = [one for one in records(**bare) if one.dataset == "PIE"]
    assert draw_all(every, tmp_path) == []
    assert len(experiment_tables(every)) > 3
    with pytest.raises(DataError, match="PIE have no curve"):
        draw_risk_coverage("PIE", every, tmp_path / "x.png")
    scores = [
        make("MOSI", method, run, 0, 0, metrics={"clean": {"mae": 1.0 + run}}, **bare)
        for method in ("misa", "ridge")
        for run in range(2)
    ]
    assert draw_all(scores, tmp_path) == []
    titles = [table.title for table in experiment_tables(scores)]
    assert titles == ["MOSI: measures over the runs", "MOSI: paired differences"]
    # one method with curves among others without
    mixed = [*every, *(make("PIE", "rcml-tuned", run, 0.5, 0.5) for run in range(2))]
    assert [path.name for path in draw_all(mixed, tmp_path)] == ["risk-PIE.png"]
