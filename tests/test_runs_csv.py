"""The table of every run's values: it comes back exactly, and pages need nothing else."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from rcml_misa.exceptions import DataError
from rcml_misa.reporting import experiment_page
from rcml_misa.results import (
    AFTER_SCALING,
    RunRecord,
    mean_scores,
    read_runs_csv,
    runs_csv,
    summarise,
)

ROWS = 137
METHODS = ["rcml-misa", "kernel-expert", "lda", "rcml"]


def record(dataset: str, method: str, seed: int, **changes) -> RunRecord:
    rng = np.random.default_rng([seed, len(method), len(dataset)])
    count = np.full(15, 0.0)
    count[:2] = 100, 37
    scores = {
        score: {name: float(rng.random()) for name in ("auroc", "aupr", "fpr95")}
        for score in ("own", "entropy", "max_probability")
    }
    measures = ("aurc", "nll", "ece", "macro_f1", "copied_share", "noise_flagged")
    metrics = {
        test_set: {
            "accuracy": int(rng.integers(60, ROWS)) / ROWS,
            **{name: float(rng.random()) for name in measures},
            "auroc_errors": math.nan,
        }
        for test_set in ("clean", "conflict", "noise:1")
    }
    fields = {
        "dataset": dataset,
        "method": method,
        "variant": "separate" if method == "rcml-misa" else "-",
        "default": method == "rcml-misa",
        "run": seed - 3,
        "seed": seed,
        "config": {"leaky": method == "rcml"},
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
        "data_sha256": "x",
        "train_rows": 544,
        "test_rows": ROWS,
        "metrics": metrics,
        "timing": {"fit_seconds": 1.25, "predict_seconds": 0.5},
        "bins": {"clean": {"count": count, "confidence": 0.9 * count, "correct": 0.8 * count}},
        "protocol": {
            "split": "random",
            "selection": "last",
            "test_sets": ["clean", "conflict", "noise:1", "missing:0.5"],
        },
        "rows": list(range(seed, seed + ROWS)),
        "scores": {
            "clean": {"errors": scores, "held_out": scores},
            "conflict": {"errors": scores, "altered": scores},
        },
        "checkpoints": {"50": {"clean": 1 / 3, "conflict": 0.25}},
        "failures": {"missing:0.5": 'no answer, "because"\nof that'},
    }
    return RunRecord(**{**fields, **changes})


def records() -> list[RunRecord]:
    return [
        record(dataset, method, seed)
        for dataset in ("PIE", "digits")
        for method in METHODS
        for seed in (3, 4, 5)
    ]


def test_what_is_written_comes_back() -> None:
    every = records()
    text = runs_csv(every)
    back = read_runs_csv(text)
    assert runs_csv(back) == text
    for a, b in zip(every, back, strict=True):
        for name in ("dataset", "method", "variant", "default", "run", "seed", "label", "leaky"):
            assert getattr(a, name) == getattr(b, name)
        assert (a.train_rows, a.test_rows, a.versions) == (b.train_rows, b.test_rows, b.versions)
        assert a.checkpoints == b.checkpoints
        assert a.failures == b.failures
        assert list(b.protocol["test_sets"]) == a.protocol["test_sets"]
        for test_set, measures in a.metrics.items():
            assert list(measures) == list(b.metrics[test_set])
            assert measures["accuracy"] == b.metrics[test_set]["accuracy"]  # exactly
            np.testing.assert_allclose(
                list(measures.values()), list(b.metrics[test_set].values()), rtol=1e-5
            )
    for a, b in zip(summarise(every), summarise(back), strict=True):
        if a.test_set == "clean":
            assert a.pooled_ece == pytest.approx(b.pooled_ece, rel=1e-5)
        assert (a.mean, a.var, a.std, a.seconds_per_run) == (
            b.mean,
            b.var,
            b.std,
            b.seconds_per_run,
        )
    for test_set, task in (("clean", "errors"), ("conflict", "altered"), ("clean", "held_out")):
        a, b = (mean_scores(some[:3], test_set=test_set, task=task) for some in (every, back))
        assert list(a) == list(b)
        for score, values in a.items():
            assert values == pytest.approx(b[score], rel=1e-5)
    assert back[0].scores["conflict"].keys() == {"altered"}


def test_errors_after_scaling_come_back_where_there_are_some() -> None:
    assert "scaled_bin_gaps" not in runs_csv(records())
    scaled = {"count": [3.0, 1.0], "confidence": [1.5, 0.9], "correct": [2.0, 1.0]}
    some = [record("PIE", "lda", seed) for seed in (0, 1)]
    both = {**some[0].bins, f"clean{AFTER_SCALING}": scaled}
    every = [record("PIE", "lda", 0, bins=both, test_rows=4), some[1]]
    text = runs_csv(every)
    back = read_runs_csv(text)
    assert runs_csv(back) == text
    for each in (every, back):
        row = next(row for row in summarise(each) if row.test_set == "clean")
        assert row.pooled_temperature_ece == pytest.approx(0.6 / 4)


@pytest.mark.parametrize("full", [False, True])
def test_page_of_the_table_is_that_of_the_records(full) -> None:
    every = records()
    options = {"title": "T", "command": "t.toml", "full": full}
    page = experiment_page(read_runs_csv(runs_csv(every)), **options)
    assert page == experiment_page(every, **options)
    for part in ("Overview", "Who wins where"):
        assert f"## {part}" in page
    if full:
        for part in ("by uncertainty score", "accuracy between epochs", "refused: no answer"):
            assert part in page


def test_given_splits_are_told_apart_in_records_of_any_version() -> None:
    versions = {"python": "3.11", "rcml-misa": "0.1.0"}
    old = record("MOSI", "lda", 0, rows=[], versions=versions, protocol={"split": "random"})
    new = record("MOSI", "lda", 0, protocol={"split": "given"})
    drawn = record("MOSI", "lda", 0, versions=versions)
    equal = [record("MOSI", "lda", seed, rows=[1, 2]) for seed in (0, 1)]
    back = [read_runs_csv(runs_csv(some))[0] for some in ([old], [new], equal, [drawn])]
    assert [one.protocol["split"] for one in back] == ["given", "given", "given", "drawn"]


def test_records_of_scores() -> None:
    metrics = {"clean": {"mae": 0.987654321, "acc7": 0.375}, "valid": {"mae": 1.0}}
    every = [
        record("MOSI", method, seed, metrics=metrics, scores={}, bins={}, failures={}, protocol={})
        for method in ("misa", "ridge")
        for seed in (0, 1)
    ]
    back = read_runs_csv(runs_csv(every))
    assert back[0].metrics["clean"] == {"mae": 0.987654, "acc7": 0.375}
    assert back[0].metrics["valid"] == {"mae": 1.0}
    page = experiment_page(back, title="T", command="t.toml")
    assert "| misa | 0.9877 ± 0.0000 | 37.50 ± 0.00 | 1.8 |" in page


def test_short_pages_have_at_most_60_lines() -> None:
    names = [f"method-{number}" for number in range(40)]
    every = [
        record(dataset, method, seed, metrics={
            name: {"accuracy": (10 * place + seed + 7 * len(dataset)) / 500}
            for name in ("clean", "conflict")
        })
        for dataset in ("PIE", "Scene15", "HandWritten", "LandUse21", "CUB", "digits")
        for place, method in enumerate(names)
        for seed in (0, 1)
    ]  # fmt: skip
    page = experiment_page(every, title="T", command="t.toml")
    lines = page.splitlines()
    assert 50 <= len(lines) <= 60
    assert "rows by mean rank; --full has them all" in page
    overview = lines[lines.index("## Overview") : lines.index("## Who wins where")]
    shown = [row.split()[1] for row in overview if row.startswith("| method-")]
    assert shown[0] == names[0]  # the first method, and the best
    assert shown[1:] == names[-len(shown) + 1 :]
    assert sum(row.startswith("| PIE | ") for row in lines) >= 3


def test_the_largest_experiment_stays_small() -> None:
    scores = {
        f"score_number_{number}": dict.fromkeys(("auroc", "aupr", "fpr95"), 0.1234567)
        for number in range(9)
    }
    measures = {f"measure_{number}": 0.1234567 * number for number in range(16)}
    one = record(
        "HandWritten",
        "logistic-regression-per-view",
        0,
        metrics={name: {"accuracy": 1 / 3, **measures} for name in ("clean", "conflict")},
        scores={"clean": {"errors": scores}, "conflict": {"errors": scores, "altered": scores}},
    )
    header, *rows = runs_csv([one]).splitlines()
    assert len(header) + 1300 * sum(map(len, rows)) < 1.8e6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", "no column 'dataset'"),
        (lambda text: text.replace("test_set", "testset", 1), "no column 'test_set'"),
        (lambda text: text.replace(",544,", ",many,", 1), "line 2"),
        (lambda text: text.replace(",544,", ",5e2,", 1), "line 2"),
        (lambda text: text.replace(",PIE", "", 1).replace("PIE,", "", 1), "cells"),
        (lambda text: text[: len(text) // 2].rpartition(",")[0], "cells"),
        (lambda text: "\x00" + text, "no column"),
    ],
)
def test_broken_tables_are_refused_in_one_sentence(change, words) -> None:
    with pytest.raises(DataError, match=re.escape(words)) as caught:
        read_runs_csv(change(runs_csv(records()[:2])))
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("write it again") == 1
