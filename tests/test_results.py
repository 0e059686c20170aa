"""Records, their files and folder, their moments and paired statistics."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from rcml_misa.exceptions import DataError
from rcml_misa.results import RunRecord, RunStore, SummaryRow, compare, holm, summarise
from rcml_misa.storage import write_text

calm = settings(deadline=None, max_examples=40, derandomize=True)
shares = st.integers(0, 100).map(lambda count: count / 100)


def make(run: int = 0, clean: float = 0.9, **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "dataset": "toy",
        "method": "rcml",
        "variant": "mean",
        "default": True,
        "run": run,
        "seed": run + 7,
        "config": {"epochs": 3, "hidden": [4, 5], "views": None},
        "versions": {"python": "3.11"},
        "data_sha256": "ab" * 32,
        "train_rows": 80,
        "test_rows": 20,
        "metrics": {"clean": {"accuracy": clean}, "conflict": {"accuracy": clean / 2}},
        "timing": {"fit_seconds": 1.5, "predict_seconds": 0.5},
    }
    return RunRecord(**{**fields, **changes})


def series(accuracies: list[float], **changes: Any) -> list[RunRecord]:
    return [make(run, value, **changes) for run, value in enumerate(accuracies)]


# records


def test_record_round_trip() -> None:
    record = make(
        bins={"clean": {"count": [1.0, 2.0], "confidence": [0.5, 1.5], "correct": [0.0, 2.0]}},
        history={"loss": [1.0, 0.5]},
    )
    assert RunRecord.from_json(record.to_json()) == record


def test_nan_becomes_null_and_nan_again() -> None:
    metrics = {"clean": {"accuracy": 0.5, "auroc": math.nan}, "conflict": {"accuracy": 0.25}}
    text = make(metrics=metrics).to_json()
    assert json.loads(text)["metrics"]["clean"]["auroc"] is None
    assert "NaN" not in text
    again = RunRecord.from_json(text)
    assert math.isnan(again.metrics["clean"]["auroc"])
    assert again.metrics["conflict"] == {"accuracy": 0.25}


def test_numpy_values_become_plain() -> None:
    config = {"a": np.float64(0.5), "b": np.arange(2), "c": (1, 2), "d": np.bool_(True), "e": dict}
    written = json.loads(make(config=config).to_json())["config"]
    assert written == {"a": 0.5, "b": [0, 1], "c": [1, 2], "d": True, "e": str(dict)}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (make(schema=99).to_json(), "schema is 99, not 2"),
        ("{}", "not a run's record"),
        ("[]", "not a run's record"),
        ('{"schema": 2', "not a run's record"),
        (make().to_json().replace('"seed"', '"sead"'), "not a run's record"),
    ],
)
def test_other_texts_are_refused(text, match) -> None:
    with pytest.raises(DataError, match=match):
        RunRecord.from_json(text)


# files


def test_write_text_replaces_and_leaves_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "näw")
    assert path.read_text(encoding="utf-8") == "näw"
    assert list(tmp_path.iterdir()) == [path]


def test_write_text_keeps_the_old_file_on_failure(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_text_into_no_folder(tmp_path) -> None:
    with pytest.raises(DataError, match="can't be written"):
        write_text(tmp_path / "absent" / "a.txt", "x")


def test_written_files_have_the_usual_mode(tmp_path) -> None:
    usual, written = tmp_path / "usual", tmp_path / "written"
    usual.touch()
    write_text(written, "x")
    assert written.stat().st_mode == usual.stat().st_mode


def test_store_writes_and_reads(tmp_path) -> None:
    store = RunStore(tmp_path / "deep" / "folder")
    assert list(store.folder.iterdir()) == []  # the probe is gone
    records = series([0.5, 0.75])
    paths = [store.write(record) for record in records]
    assert len(set(paths)) == 2
    assert store.read() == records
    store.write(make(0, 0.25))  # the same run again
    assert [record.metrics["clean"]["accuracy"] for record in store.read()] == [0.25, 0.75]
    (store.folder / "summary.csv").write_text("not a record")
    assert len(store.read()) == 2


def test_store_names_stay_in_the_folder(tmp_path) -> None:
    path = RunStore(tmp_path).write(make(dataset="../up"))
    assert path.parent == tmp_path


def test_store_refuses_a_place_it_cannot_write(tmp_path) -> None:
    # root may write anywhere, but never below a file
    file = tmp_path / "file"
    file.write_text("kept")
    for folder in (file, file / "below"):
        with pytest.raises(DataError, match="can't be written to"):
            RunStore(folder)
    assert file.read_text() == "kept"


# moments


@calm
@given(st.lists(shares, min_size=1, max_size=12))
def test_moments_are_the_populations(values) -> None:
    clean, conflict = summarise(series(values))
    assert (clean.test_set, conflict.test_set) == ("clean", "conflict")
    assert clean.accuracy == tuple(values)
    mean = sum(values) / len(values)
    var = sum((value - mean) ** 2 for value in values) / len(values)
    assert clean.mean == pytest.approx(mean)
    assert clean.var == pytest.approx(var, abs=1e-15)
    assert clean.std == pytest.approx(math.sqrt(var), abs=1e-8)
    assert conflict.mean == pytest.approx(mean / 2)
    assert clean.seconds_per_run == 2.0


def test_groups_keep_their_order_and_runs_are_sorted() -> None:
    records = [*reversed(series([0.1, 0.2], variant="b")), *series([0.3], variant="a")]
    rows = summarise(records)
    assert [(row.variant, row.accuracy) for row in rows[::2]] == [("b", (0.1, 0.2)), ("a", (0.3,))]
    assert summarise([]) == []


def test_measures_are_means_that_skip_nan() -> None:
    records = [
        make(
            run,
            metrics={
                "clean": {"accuracy": 1.0, "x": x, "y": math.nan},
                "conflict": {"accuracy": 1.0},
            },
        )
        for run, x in enumerate([0.5, math.nan, 1.0])
    ]
    clean, _ = summarise(records)
    assert clean.measures["x"] == 0.75
    assert math.isnan(clean.measures["y"])


def binned(sure: np.ndarray, right: np.ndarray, bins: int) -> dict[str, list[float]]:
    """Sums per bin, the slow way."""
    sums: dict[str, list[float]] = {"count": [], "confidence": [], "correct": []}
    for place in range(bins):
        inside = [i for i, s in enumerate(sure) if place / bins < s <= (place + 1) / bins]
        sums["count"].append(float(len(inside)))
        sums["confidence"].append(float(sum(sure[i] for i in inside)))
        sums["correct"].append(float(sum(right[i] for i in inside)))
    return sums


@calm
@given(seed=st.integers(0, 999), runs=st.integers(1, 4))
def test_pooled_ece_is_that_of_all_rows_together(seed, runs) -> None:
    rng = np.random.default_rng(seed)
    parts = [(rng.random(30), rng.random(30) < 0.6) for _ in range(runs)]
    records = [make(run, bins={"clean": binned(*part, 15)}) for run, part in enumerate(parts)]
    everything = binned(*(np.concatenate(both) for both in zip(*parts, strict=True)), 15)
    total = sum(everything["count"])
    expected = sum(
        n / total * abs(s / n - r / n) for n, s, r in zip(*everything.values(), strict=True) if n
    )
    clean, conflict = summarise(records)
    assert clean.measures["pooled_ece"] == pytest.approx(expected)
    assert math.isnan(conflict.measures["pooled_ece"])


# paired statistics


def student_tail(t: float, freedom: int) -> float:
    """Two-sided p by integrating the density."""
    c = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    area, _ = integrate.quad(lambda x: c * (1 + x * x / freedom) ** (-(freedom + 1) / 2), 0, abs(t))
    return 1 - 2 * area


@calm
@given(
    st.lists(st.tuples(shares, shares), min_size=2, max_size=12).filter(
        lambda pairs: len({round(100 * (a - b)) for a, b in pairs}) > 1
    )
)
def test_compare_against_the_formula(pairs) -> None:
    first, second = (list(one) for one in zip(*pairs, strict=True))
    found = compare(series(first), series(second, variant="b"), test_set="clean")
    gaps, runs = [a - b for a, b in pairs], len(pairs)
    mean = sum(gaps) / runs
    sample = sum((gap - mean) ** 2 for gap in gaps) / (runs - 1)
    error = math.sqrt((1 / runs + 20 / 80) * sample)
    p = student_tail(mean / error, runs - 1)
    assert found.difference == pytest.approx(mean, abs=1e-12)
    assert found.p == pytest.approx(p, abs=1e-6)
    # the interval is centred, and its end is where p would be 0.05
    assert (found.low + found.high) / 2 == pytest.approx(mean, abs=1e-12)
    assert student_tail((found.high - mean) / error, runs - 1) == pytest.approx(0.05, abs=1e-6)
    exact = [round(100 * a) - round(100 * b) for a, b in pairs]  # without rounding errors
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(exact).pvalue)
    assert found.wins == sum(gap > 0 for gap in exact)
    assert found.losses == sum(gap < 0 for gap in exact)


def test_compare_pairs_by_seed() -> None:
    first = [make(0, 0.5), make(1, 0.75), make(2, 1.0)]
    second = [make(2, 0.25), make(1, 0.25)]
    assert compare(first, second, test_set="clean").difference == pytest.approx(0.625)
    assert compare(first, second, test_set="conflict").difference == pytest.approx(0.3125)
    with pytest.raises(DataError, match="share no run"):
        compare(first[:1], second, test_set="clean")


@pytest.mark.parametrize(("shift", "p"), [(0.0, 1.0), (0.25, 0.0)])
def test_equal_differences(shift, p) -> None:
    values = [0.25, 0.5, 0.75]
    found = compare(series([value + shift for value in values]), series(values), test_set="clean")
    assert (found.difference, found.low, found.high) == (shift, shift, shift)
    assert found.p == p
    assert found.p_wilcoxon == (1.0 if shift == 0 else pytest.approx(0.25))


def test_a_single_run_has_no_interval() -> None:
    found = compare(series([0.75]), series([0.5]), test_set="clean")
    assert found.difference == 0.25
    assert all(math.isnan(value) for value in (found.low, found.high, found.p))
    assert math.isnan(found.p_wilcoxon)
    assert (found.wins, found.losses) == (1, 0)


def plain_holm(values: list[float]) -> list[float]:
    """Largest of (m - j + 1) p_(j) over the smaller p-values, at most 1."""
    ordered = sorted(values)
    return [
        min(1.0, max((len(values) - j) * ordered[j] for j in range(ordered.index(p) + 1)))
        for p in values
    ]


@calm
@given(st.lists(st.floats(0, 1), max_size=8, unique=True))
def test_holm(values) -> None:
    assert holm(values) == pytest.approx(plain_holm(values))


def test_holm_passes_nan_over() -> None:
    found = holm([0.04, math.nan, 0.01])
    assert found[0] == pytest.approx(0.04)
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.02)


def test_lower_is_better_for_errors() -> None:
    def scored(value: float, run: int) -> RunRecord:
        return make(run, 0.5, metrics={"clean": {"accuracy": 0.5, "nll": value}})

    first, second = [scored(0.1, 0), scored(0.3, 1)], [scored(0.2, 0), scored(0.9, 1)]
    result = compare(first, second, test_set="clean", measure="nll")
    assert result.difference == pytest.approx(-0.35)
    assert (result.wins, result.losses) == (2, 0)


def test_a_given_split_has_students_interval() -> None:
    values, others = [0.5, 0.75, 1.0], [0.25, 0.5, 0.25]
    drawn = compare(series(values), series(others, variant="b"), test_set="clean")
    assert drawn.interval == "nadeau-bengio"
    given_split = [
        [make(run, value, variant=name, rows=[3, 4]) for run, value in enumerate(row)]
        for name, row in (("a", values), ("b", others))
    ]
    result = compare(*given_split, test_set="clean")
    wanted = stats.ttest_rel(values, others)
    assert result.interval == "student"
    assert result.p == pytest.approx(wanted.pvalue)
    assert (result.low, result.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert result.as_dict()["p_corrected"] == result.p


def test_a_summary_has_the_values_of_every_measure() -> None:
    records = [
        make(0, 0.5, metrics={"clean": {"accuracy": 0.5, "ece": 0.25}}),
        make(1, 0.75, metrics={"clean": {"accuracy": 0.75}}),
    ]
    (row,) = summarise(records)
    assert row.values["accuracy"] == row.accuracy == (0.5, 0.75)
    assert row.values["ece"][0] == 0.25
    assert math.isnan(row.values["ece"][1])
    assert row.measures["ece"] == 0.25
    assert row.moments("accuracy") == (row.mean, row.var, row.std) == (0.625, 0.015625, 0.125)
    assert math.isnan(row.measures["pooled_ece"])


def test_a_row_of_values_needs_no_records() -> None:
    row = SummaryRow(dataset="d", method="m", values={"mae": (1.0, 3.0)})
    assert (row.runs, row.accuracy, row.moments("mae")) == (2, (), (2.0, 1.0, 1.0))
    assert math.isnan(row.mean)
