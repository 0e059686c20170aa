"""Tables for people and machines."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pandas as pd
import pytest

from rcml_misa.reporting import experiment_page, render, results_json
from rcml_misa.reporting.details import detection_table
from rcml_misa.reporting.tables import (
    measures_table,
    moments_table,
    paired_comparisons,
    paired_table,
    runs_table,
    spread_table,
    summary_table,
    values_table,
)
from rcml_misa.results import PairedComparison, RunRecord, SummaryRow, compare, summarise

CLEAN = {"separate": [0.75, 0.8125, 0.875], "tied": [0.75, 0.75, 0.8125]}


def records(runs: int = 3) -> list[RunRecord]:
    return [
        RunRecord(
            dataset="digits",
            method="rcml-misa",
            variant=variant,
            default=variant == "separate",
            run=run,
            seed=run,
            config={},
            versions={"python": "3.11"},
            data_sha256="",
            train_rows=80,
            test_rows=20,
            metrics={
                "clean": {"accuracy": values[run % 3], "aurc": 0.0123, "auroc_errors": math.nan},
                "conflict": {"accuracy": 0.5, "conflict_auroc": 0.7},
            },
            timing={"fit_seconds": 1.0, "predict_seconds": 0.5},
        )
        for variant, values in CLEAN.items()
        for run in range(runs)
    ]


@pytest.fixture
def rows() -> list[SummaryRow]:
    return summarise(records())


@pytest.fixture
def pairs() -> list[PairedComparison]:
    every = records()
    return [compare(every[:3], every[3:], test_set=name) for name in ("clean", "conflict")]


def text_of(rows: list[SummaryRow], pairs: list[PairedComparison]) -> list[str]:
    """Lines that `run` shows."""
    tables = [runs_table(rows), moments_table(rows), paired_table(pairs)]
    return render(tables, "text", width=80).splitlines()


def test_text(rows, pairs) -> None:
    lines = text_of(rows, pairs)
    assert "rcml-misa separate *  clean        75.00 81.25 87.50" in lines
    assert "rcml-misa tied        conflictive  50.00 50.00 50.00" in lines
    (line,) = [line for line in lines if line.startswith("rcml-misa separate *") and "002" in line]
    # mean in percent, variance of the fraction, deviation in points, seconds
    assert line.split()[3:] == ["clean", "81.25", "0.002604", "5.10", "1.5"]
    (line,) = [line for line in lines if "rcml-misa tied" in line and "+4.17" in line]
    assert line.split()[2] == "clean"
    assert line.endswith("2/0")
    assert paired_table(pairs).columns[0].heading == "rcml-misa separate minus"
    assert "* the recommended configuration of its method" in lines
    assert all(line == line.rstrip() for line in lines)


def test_text_is_narrow_with_many_runs(rows) -> None:
    every = records(30)
    both = [compare(every[:30], every[30:], test_set=name) for name in ("clean", "conflict")]
    lines = text_of(summarise(every), both)
    lines += render([detection_table(rows), paired_table(both, corrected=True)], "text", width=80)
    assert max(map(len, lines)) <= 80
    assert sum(line.count("81.25") for line in lines) >= 20


def test_text_of_one_run_has_dashes() -> None:
    every = records(1)
    table = paired_table([compare(every[:1], every[1:], test_set="clean")])
    assert [str(cell) for cell in table.rows[0]][-4:] == ["-", "-", "-", "0/0"]


def test_comparisons_can_be_corrected(pairs) -> None:
    plain, corrected = (paired_table(pairs, corrected=flag) for flag in (False, True))
    assert [str(row[5]) for row in plain.rows][1] == "1.000"
    assert str(plain.rows[0][5]) == f"{pairs[0].p_wilcoxon:.3f}"
    assert str(corrected.rows[0][5]) == f"{min(1, 2 * pairs[0].p_wilcoxon):.3f}"
    assert "Wilcoxon p (Holm)" in [column.heading for column in corrected.columns]


def test_tiny_p_values() -> None:
    pair = PairedComparison(
        "d", "clean", "accuracy", "a", "b", 0.1, 0.05, 0.15, 1e-9, math.nan, 3, 0
    )
    cells = [str(cell) for cell in paired_table([pair]).rows[0]]
    assert cells == ["b", "+10.00", "[+5.00, +15.00]", "<0.001", "-", "3/0"]


def test_any_measure_is_compared() -> None:
    every = records()
    pairs = paired_comparisons(every, test_sets=["clean"], measures=["accuracy", "aurc", "none"])
    table = paired_table(pairs)
    assert [str(row[1]) for row in table.rows] == ["accuracy", "aurc"]
    assert table.columns[2].heading == "difference"


def test_uncertainty(rows) -> None:
    table = detection_table(rows)
    assert table is not None
    # no bins, AURC in percent, undefined AUROC, detection by uncertainty only
    assert [str(cell) for cell in table.rows[0]] == [
        *("rcml-misa separate", "-", "1.23", "-", "0.700", "-", "-", "-")
    ]


def test_json_has_the_promised_keys(rows, pairs) -> None:
    found: dict[str, Any] = json.loads(
        json.dumps(results_json(rows, pairs, dataset="digits", runs=3), allow_nan=False)
    )
    assert found["dataset"] == "digits"
    assert found["runs"] == 3
    assert len(found["results"]) == 4
    for result in found["results"]:
        assert {
            "method",
            "variant",
            "test_set",
            "default",
            "accuracy",
            "mean",
            "var",
            "std",
            "seconds_per_run",
        } <= set(result)
    first = found["results"][0]
    assert (first["method"], first["variant"]) == ("rcml-misa", "separate")
    assert (first["test_set"], first["default"]) == ("clean", True)
    assert first["accuracy"] == CLEAN["separate"]  # fractions
    assert first["measures"]["auroc_errors"] is None
    assert [one["difference"] for one in found["comparisons"]] == pytest.approx([1 / 24, 0.0])


def test_csv_parses(rows) -> None:
    table = pd.read_csv(io.StringIO(render([summary_table(rows)], "csv")))
    assert len(table) == 4
    assert table.columns[:11].tolist() == [
        *("dataset", "method", "variant", "test_set", "default", "leaky", "runs"),
        *("mean", "var", "std", "seconds_per_run"),
    ]
    assert table["mean"].tolist() == [row.mean for row in rows]
    assert table["test_set"].tolist() == ["clean", "conflict"] * 2
    assert table["runs"].tolist() == [3] * 4
    assert table["default"].tolist() == [True, True, False, False]
    assert table["auroc_errors"].isna().all()
    assert table["conflict_auroc"].dropna().tolist() == pytest.approx([0.7, 0.7])


def test_markdown(rows, pairs) -> None:
    lines = render([moments_table(rows)], "markdown").splitlines()
    assert lines[0] == "### digits: accuracy over the runs"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 6
    assert {line.count("|") for line in table} == {7}
    assert table[2] == "| rcml-misa separate \\* | clean | 81.25 | 0.002604 | 5.10 | 1.5 |"


def test_measures_of_sentiment() -> None:
    every = [
        RunRecord(**{**vars(record), "metrics": {"clean": {"mae": 1.25, "acc2": 0.5 + value}}})
        for record, value in zip(records(), [0, 0.25, 0.5] * 2, strict=True)
    ]
    rows = summarise(every)
    table = measures_table(rows)
    assert [[str(cell) for cell in row] for row in table.rows[:3]] == [
        ["rcml-misa separate", "mean", "1.2500", "75.00", "2"],
        ["", "var", "0.000000", "0.041667", ""],
        ["", "std", "0.0000", "20.41", ""],
    ]
    (first, _) = spread_table(rows).rows
    assert [str(cell) for cell in first][1:] == ["1.2500 ± 0.0000", "75.00 ± 20.41", "1.5"]
    values = pd.read_csv(io.StringIO(render([values_table(rows)], "csv")))
    assert values["values"][1] == "0.5 0.75 1.0"
    assert values["mean"][1] == 0.75
    page = experiment_page(every, title="T", command="t.toml")
    assert "| rcml-misa tied | 1.2500 ± 0.0000 | 75.00 ± 20.41 | 1.5 |" in page
    assert len(page.splitlines()) <= 60


def test_experiment_page() -> None:
    page = experiment_page(records(), title="Toy", command="toy.toml", full=True)
    lines = page.splitlines()
    assert lines[0] == "# Toy"
    assert "`rcml-misa experiment toy.toml --full`" in page
    assert "Seeds 0 to 2" in page
    assert lines.count("```") % 2 == 0
    (line,) = [line for line in lines if line.startswith("rcml-misa separate  ") and "/" in line]
    assert line.endswith("81.25 / 50.00")
    assert "## digits" in lines


def test_experiment_page_of_one_method_and_an_absent_one() -> None:
    page = experiment_page(records()[:3], full=True, title="One", command="x.toml")
    assert "paired difference" not in page
    other = [RunRecord(**{**vars(record), "dataset": "other"}) for record in records()[:3]]
    page = experiment_page([*records(), *other], full=True, title="Two", command="x.toml")
    (line,) = [
        line for line in page.splitlines() if line.startswith("rcml-misa tied  ") and " / " in line
    ]
    assert line.split()[-1] == "-"
