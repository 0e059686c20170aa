"""McNemar, Friedman, Nemenyi and critical differences against tables and other code."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rcml_misa.exceptions import DataError
from rcml_misa.results import (
    RunRecord,
    alike_groups,
    compare,
    mcnemar,
    mean_scores,
    rank_methods,
    summarise,
)

calm = settings(deadline=None, max_examples=30, derandomize=True)

# Demsar, JMLR 7, 2006, table 5 (a): q at 5 % for 2 to 10 classifiers
Q05 = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}


def make(correct: str, rows: list[int] | None = None, **changes: Any) -> RunRecord:
    share = correct.count("1") / len(correct)
    fields: dict[str, Any] = {
        "dataset": "toy",
        "method": "a",
        "variant": "-",
        "default": True,
        "run": 0,
        "seed": 0,
        "config": {},
        "versions": {},
        "data_sha256": "",
        "train_rows": 80,
        "test_rows": len(correct),
        "metrics": {"clean": {"accuracy": share, "ece": 0.1 * share}},
        "timing": {},
        "rows": list(range(len(correct))) if rows is None else rows,
        "correct": {"clean": correct},
    }
    return RunRecord(**{**fields, **changes})


@calm
@given(seed=st.integers(0, 999), size=st.integers(1, 60))
def test_mcnemar_is_a_sign_test_of_the_rows_that_differ(seed, size):
    rng = np.random.default_rng(seed)
    first, second = (rng.random(size) < 0.6 for _ in range(2))
    one, two = ("".join("01"[int(x)] for x in some) for some in (first, second))
    found = mcnemar([make(one)], [make(two)])
    won = sum(a > b for a, b in zip(first, second, strict=True))
    lost = sum(a < b for a, b in zip(first, second, strict=True))
    assert (found.only_first, found.only_second, found.rows) == (won, lost, size)
    n = won + lost
    wanted = sum(math.comb(n, k) for k in range(min(won, lost) + 1)) / 2**n * 2 if n else 1.0
    assert found.p == pytest.approx(min(1.0, wanted))


def test_mcnemar_pools_disjoint_folds_and_refuses_rows_that_count_twice():
    folds = [make("1100", [0, 1, 2, 3], seed=0), make("1000", [4, 5, 6, 7], seed=1)]
    others = [make("0100", [0, 1, 2, 3], seed=0), make("0001", [4, 5, 6, 7], seed=1)]
    found = mcnemar(folds, others)
    assert (found.only_first, found.only_second, found.rows) == (2, 1, 8)
    # paired by seed, not by place
    assert mcnemar(folds, others[::-1]) == found
    again = [make("1100", [0, 1, 2, 3], seed=0), make("1000", [3, 4, 5, 6], seed=1)]
    with pytest.raises(DataError, match="more than once"):
        mcnemar(again, [make("0100", [0, 1, 2, 3], seed=0), make("0001", [3, 4, 5, 6], seed=1)])
    with pytest.raises(DataError, match="same test rows"):
        mcnemar(folds, [make("0100", [9, 1, 2, 3], seed=0)])
    with pytest.raises(DataError, match="same test rows"):
        mcnemar(folds, [make("0100", seed=5)])
    with pytest.raises(DataError, match="same test rows"):
        mcnemar(folds, others, test_set="conflict")


def test_other_measures_are_compared_too():
    one, two = [make("1110"), make("1000", seed=1)], [make("1000"), make("1000", seed=1)]
    assert compare(one, two, test_set="clean").difference == pytest.approx(0.25)
    assert compare(one, two, test_set="clean", measure="ece").difference == pytest.approx(0.025)
    with pytest.raises(DataError, match="share no run"):
        compare(one, two, test_set="noise:1")


def figures(seed: int, datasets: int, methods: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(seed)
    return {
        f"d{i}": {f"m{j}": float(np.round(rng.random(), 1)) for j in range(methods)}
        for i in range(datasets)
    }


@calm
@given(seed=st.integers(0, 999), datasets=st.integers(3, 9), methods=st.integers(3, 7))
def test_ranks_and_friedman_by_their_formulas(seed, datasets, methods):
    given_ = figures(seed, datasets, methods)
    found = rank_methods(given_)
    ranks = np.zeros(methods)
    ties = 0.0
    for one in given_.values():
        values = np.array(list(one.values()))
        ranks += [1 + (values > x).sum() + ((values == x).sum() - 1) / 2 for x in values]
        ties += sum(n**3 - n for n in np.unique(values, return_counts=True)[1])
    means = ranks / datasets
    placed = dict(zip(found.methods, found.mean_ranks, strict=True))
    for j in range(methods):
        assert placed[f"m{j}"] == pytest.approx(means[j])
    assert list(found.mean_ranks) == sorted(found.mean_ranks)
    n, k = datasets, methods
    raw = 12 * n / (k * (k + 1)) * ((means**2).sum() - k * (k + 1) ** 2 / 4)
    chi2 = raw / (1 - ties / (n * k * (k**2 - 1)))  # with the usual correction for ties
    assert found.chi2 == pytest.approx(chi2)
    assert found.p_friedman == pytest.approx(stats.chi2.sf(chi2, k - 1))
    f = (n - 1) * chi2 / (n * (k - 1) - chi2)
    assert found.f == pytest.approx(f)
    assert found.p_iman_davenport == pytest.approx(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))


@pytest.mark.parametrize("methods", Q05)
def test_critical_difference_against_the_published_table(methods):
    found = rank_methods(figures(0, 6, methods))
    unit = math.sqrt(methods * (methods + 1) / (6 * 6))
    assert found.critical_difference / unit == pytest.approx(Q05[methods], abs=0.001)


def test_nemenyi_agrees_with_the_critical_difference():
    found = rank_methods(figures(3, 8, 5))
    for i, j in combinations(range(5), 2):
        gap = abs(found.mean_ranks[i] - found.mean_ranks[j])
        assert (found.p_nemenyi[i, j] < 0.05) == (gap > found.critical_difference)
    np.testing.assert_allclose(found.p_nemenyi, found.p_nemenyi.T)
    np.testing.assert_allclose(np.diag(found.p_nemenyi), 1)


def test_methods_that_some_data_set_lacks_are_not_ranked():
    given_ = {"x": {"a": 1.0, "b": 0.5, "c": 0.2}, "y": {"a": 1.0, "b": math.nan, "c": 0.3}}
    found = rank_methods(given_)
    assert found.methods == ("a", "c")
    assert math.isnan(found.chi2)
    assert found.critical_difference == pytest.approx(1.960 * math.sqrt(6 / 12), abs=1e-3)
    with pytest.raises(DataError, match="fewer than two methods"):
        rank_methods({"x": {"a": 1.0}, "y": {"b": 1.0}})


def test_figures_that_differ_by_rounding_are_ties():
    found = rank_methods({"x": {"a": 0.3, "b": 0.1 + 0.2}, "y": {"a": 0.3, "b": 0.1 + 0.2}})
    assert found.mean_ranks == (1.5, 1.5)


@calm
@given(
    ranks=st.lists(st.floats(1, 9), min_size=1, max_size=9).map(sorted),
    critical=st.floats(0.1, 5),
)
def test_groups_are_the_longest_stretches_within_the_difference(ranks, critical):
    count = len(ranks)
    alike = {
        (i, j) for i in range(count) for j in range(i + 1, count) if ranks[j] - ranks[i] < critical
    }
    wanted = {
        (i, j)
        for i, j in alike
        if not any((a <= i and b >= j) and (a, b) != (i, j) for a, b in alike)
    }
    assert set(alike_groups(ranks, critical)) == wanted


def test_mean_scores_of_runs():
    def scored(value: float) -> dict[str, Any]:
        return {"clean": {"errors": {"own": {"auroc": value, "fpr95": math.nan}}}}

    found = mean_scores(
        [make("10", scores=scored(0.5)), make("11", scores=scored(0.7)), make("11")],
        test_set="clean",
        task="errors",
    )
    assert found["own"]["auroc"] == pytest.approx(0.6)
    assert math.isnan(found["own"]["fpr95"])
    assert mean_scores([make("10")], test_set="clean", task="errors") == {}


def test_a_test_set_that_a_method_refuses_has_no_row():
    rows = summarise(
        [
            make("10", metrics={"clean": {"accuracy": 0.5}, "noise:1": {"accuracy": 0.25}}),
            make("10", seed=1, run=1, failures={"noise:1": "no."}),
            make("10", method="b", failures={"noise:1": "no."}),
        ]
    )
    assert [(row.method, row.test_set, len(row.accuracy)) for row in rows] == [
        ("a", "clean", 2),
        ("a", "noise:1", 1),
        ("b", "clean", 1),
    ]


def test_leaky_records_say_so():
    assert make("10", config={"leaky": True}).leaky
    assert make("10", protocol={"selection": "best-test-epoch"}).leaky
    assert not make("10", protocol={"selection": "best-valid"}).leaky
    assert summarise([make("10", config={"leaky": True})])[0].leaky
