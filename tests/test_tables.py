"""Tables for people and machines."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pandas as pd
import pytest

from rcml_misa.reporting import (
    as_csv,
    as_json,
    as_markdown,
    as_text,
    comparison_lines,
    uncertainty_lines,
)
from rcml_misa.reporting.blocks import grid
from rcml_misa.reporting.experiments import experiment_markdown
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


def test_grid_aligns() -> None:
    lines = grid(["name", "x", "long head"], [["a", "1.00", "2"], ["longest", "10.00", ""]])
    assert lines == [
        "name         x  long head",
        "a         1.00          2",
        "longest  10.00",
    ]


def test_text(rows, pairs) -> None:
    text = as_text(rows, pairs)
    lines = text.splitlines()
    assert "  rcml-misa separate *, clean: 75.00 81.25 87.50" in lines
    assert "  rcml-misa tied, conflictive: 50.00 50.00 50.00" in lines
    (line,) = [
        line for line in lines if line.startswith("rcml-misa separate *   ") and "81" in line
    ]
    # mean in percent, variance of the fraction, deviation in points, seconds
    assert line.split()[3:] == ["clean", "81.25", "0.002604", "5.10", "1.5"]
    (line,) = [
        line for line in lines if "rcml-misa separate - rcml-misa tied" in line and "clean" in line
    ]
    assert "+4.17" in line
    assert line.endswith("2/0")
    assert "* the recommended configuration of its method" in lines
    assert all(line == line.rstrip() for line in lines)


def test_text_is_narrow_with_many_runs(rows) -> None:
    every = records(30)
    both = [compare(every[:30], every[30:], test_set=name) for name in ("clean", "conflict")]
    text = as_text(summarise(every), both)
    assert max(map(len, text.splitlines())) <= 100
    assert max(map(len, uncertainty_lines(rows))) <= 100
    longest = comparison_lines(both, corrected=True)
    assert max(map(len, longest)) <= 110


def test_text_of_one_run_has_dashes() -> None:
    every = records(1)
    lines = comparison_lines([compare(every[:1], every[1:], test_set="clean")])
    assert lines[1].split()[-4:] == ["-", "-", "-", "0/0"]


def test_comparisons_can_be_corrected(pairs) -> None:
    plain, corrected = comparison_lines(pairs), comparison_lines(pairs, corrected=True)
    assert "(Holm)" not in plain[0]
    assert "(Holm)" in corrected[0]
    assert f"{pairs[0].p_wilcoxon:.3f}" in plain[1]
    assert f"{min(1, 2 * pairs[0].p_wilcoxon):.3f}" in corrected[1]


def test_tiny_p_values() -> None:
    one = PairedComparison(
        "d", "clean", "accuracy", "a", "b", 0.1, 0.05, 0.15, 1e-9, math.nan, 3, 0
    )
    line = comparison_lines([one])[1]
    assert line.split()[-3:] == ["<0.001", "-", "3/0"]
    assert "[+5.00, +15.00]" in line


def test_uncertainty(rows) -> None:
    lines = uncertainty_lines(rows)
    assert lines[1].startswith("rcml-misa separate *")
    # no bins, AURC in percent, undefined AUROC, detection by uncertainty only
    assert lines[1].split()[3:] == ["-", "1.23", "-", "0.700", "-", "-", "-"]


def test_json_has_the_promised_keys(rows, pairs) -> None:
    found: dict[str, Any] = json.loads(
        json.dumps(as_json(rows, pairs, dataset="digits", runs=3), allow_nan=False)
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
    table = pd.read_csv(io.StringIO(as_csv(rows)))
    assert len(table) == 4
    assert table["mean"].tolist() == [row.mean for row in rows]
    assert table["test_set"].tolist() == ["clean", "conflict"] * 2
    assert table["runs"].tolist() == [3] * 4
    assert table["default"].tolist() == [True, True, False, False]
    assert table["auroc_errors"].isna().all()
    assert table["conflict_auroc"].dropna().tolist() == pytest.approx([0.7, 0.7])


def test_markdown(rows, pairs) -> None:
    lines = as_markdown(rows, pairs).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 6
    assert {line.count("|") for line in table} == {8}
    assert table[2] == (
        "| digits | rcml-misa separate \\* | clean | 81.25 | 0.002604 | 5.10 | 1.5 |"
    )
    assert lines.count("```") == 2
    assert "```" not in as_markdown(rows, [])


def test_experiment_page() -> None:
    page = experiment_markdown(records(), title="Toy", command="toy.toml")
    lines = page.splitlines()
    assert lines[0] == "# Toy"
    assert "`rcml-misa experiment toy.toml`" in page
    assert "Seeds 0 to 2" in page
    assert lines.count("```") % 2 == 0
    (line,) = [line for line in lines if line.startswith("rcml-misa separate  ") and "/" in line]
    assert line.endswith("81.25 / 50.00")
    assert "## digits" in lines


def test_experiment_page_of_one_method_and_an_absent_one() -> None:
    page = experiment_markdown(records()[:3], title="One", command="x.toml")
    assert "paired difference" not in page
    other = [RunRecord(**{**vars(record), "dataset": "other"}) for record in records()[:3]]
    page = experiment_markdown([*records(), *other], title="Two", command="x.toml")
    (line,) = [
        line for line in page.splitlines() if line.startswith("rcml-misa tied  ") and " / " in line
    ]
    assert line.split()[-1] == "-"
