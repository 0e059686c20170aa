"""Measures against scikit-learn or plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from rcml_misa import metrics
from rcml_misa.metrics.scores import number_scores

calm = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 9999)


def probabilities(seed: int, rows: int = 57, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.6), size=rows), rng.integers(classes, size=rows)


def scores(seed: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """A score, and flags of both kinds."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 60))
    flags = rng.random(size) < 0.4
    flags[:2] = True, False
    score = rng.normal(size=size) + flags
    return (np.round(score) if ties else score), flags


@calm
@given(seed=seeds)
def test_accuracy(seed) -> None:
    p, y = probabilities(seed)
    assert metrics.accuracy(p.argmax(axis=1), y) == pytest.approx(
        accuracy_score(y, p.argmax(axis=1))
    )


def plain_ece(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    total = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        rows = [
            (max(row), row.argmax() == code)
            for row, code in zip(p, y, strict=True)
            if low < max(row) <= high
        ]
        if rows:
            sure = sum(one for one, _ in rows) / len(rows)
            right = sum(two for _, two in rows) / len(rows)
            total += len(rows) / len(p) * abs(sure - right)
    return total


@calm
@given(seed=seeds, bins=st.integers(1, 20))
def test_ece(seed, bins) -> None:
    p, y = probabilities(seed)
    assert metrics.ece(p, y, bins=bins) == pytest.approx(plain_ece(p, y, bins), abs=1e-12)


def test_ece_of_certain_rows() -> None:
    assert metrics.ece(np.eye(3), [0, 1, 2]) == 0.0
    assert metrics.ece(np.eye(3), [1, 2, 0]) == 1.0


def test_reliability_curve_at_the_edges() -> None:
    mean, share, count = metrics.reliability_curve([0.0, 0.5, 1.0], [True, False, True], bins=2)
    assert count.tolist() == [2, 1]
    assert mean.tolist() == [0.25, 1.0]
    assert share.tolist() == [0.5, 1.0]


@calm
@given(seed=seeds)
def test_nll(seed) -> None:
    p, y = probabilities(seed)
    p = np.maximum(p, 1e-9)
    p /= p.sum(axis=1, keepdims=True)
    assert metrics.nll(p, y) == pytest.approx(log_loss(y, p, labels=range(4)))


def test_nll_of_the_impossible_is_finite() -> None:
    assert metrics.nll([[1.0, 0.0]], [1]) == pytest.approx(12 * math.log(10))


@calm
@given(seed=seeds)
def test_brier(seed) -> None:
    p, y = probabilities(seed)
    plain = sum(
        sum((row[k] - (k == code)) ** 2 for k in range(4)) for row, code in zip(p, y, strict=True)
    )
    assert metrics.brier(p, y) == pytest.approx(plain / len(y))
    # scikit-learn's binary score counts one of the two equal halves
    two = np.column_stack([1 - p[:, 0], p[:, 0]])
    flags = (y == 0).astype(int)
    expected = 2 * brier_score_loss(flags, p[:, 0], pos_label=1)
    assert metrics.brier(two, flags) == pytest.approx(expected)


@calm
@given(seed=seeds, ties=st.booleans())
def test_auroc(seed, ties) -> None:
    score, flags = scores(seed, ties=ties)
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in score[flags] for b in score[~flags]]
    assert metrics.auroc(score, flags) == pytest.approx(sum(wins) / len(wins))
    assert metrics.auroc(score, flags) == pytest.approx(roc_auc_score(flags, score))


@pytest.mark.parametrize("measure", [metrics.auroc, metrics.fpr95])
@pytest.mark.parametrize("flag", [True, False])
def test_one_kind_of_rows_is_nan(measure, flag) -> None:
    assert math.isnan(measure([0.1, 0.2], [flag, flag]))


@calm
@given(seed=seeds, ties=st.booleans())
def test_fpr95(seed, ties) -> None:
    score, flags = scores(seed, ties=ties)
    enough = [
        (score[~flags] >= cut).mean()
        for cut in np.unique(score)
        if (score[flags] >= cut).sum() >= math.ceil(0.95 * flags.sum() - 1e-9)
    ]
    assert metrics.fpr95(score, flags) == pytest.approx(min(enough))


def test_fpr95_at_exactly_95_percent() -> None:
    score = [*range(1, 21), 1.5]  # 19 of 20 positives lie above the one negative
    assert metrics.fpr95(score, [True] * 20 + [False]) == 0.0


def plain_aurc(doubt: np.ndarray, right: np.ndarray) -> float:
    """Mean over coverages of the expected risk when ties are broken at random."""
    risks = []
    for kept in range(1, len(doubt) + 1):
        cut = sorted(doubt)[kept - 1]
        below, level = doubt < cut, doubt == cut
        errors = (~right[below]).sum() + (kept - below.sum()) * (~right[level]).mean()
        risks.append(errors / kept)
    return float(np.mean(risks))


@calm
@given(seed=seeds, ties=st.booleans())
def test_aurc(seed, ties) -> None:
    doubt, right = scores(seed, ties=ties)
    assert metrics.aurc(doubt, right) == pytest.approx(plain_aurc(doubt, right))
    order = np.random.default_rng(seed).permutation(len(doubt))
    assert metrics.aurc(doubt[order], right[order]) == pytest.approx(metrics.aurc(doubt, right))
    coverage, risk = metrics.risk_coverage_curve(doubt, right)
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx((~right).mean())


def test_aurc_of_a_useless_uncertainty_is_the_error() -> None:
    right = np.arange(40) % 4 > 0
    assert metrics.aurc(np.zeros(40), right) == pytest.approx(0.25)


@calm
@given(seed=seeds)
def test_balanced_measures(seed) -> None:
    p, y = probabilities(seed)
    guess = p.argmax(axis=1)
    wanted = f1_score(y, guess, labels=np.unique(y), average="macro", zero_division=0)
    assert metrics.macro_f1(guess, y) == pytest.approx(wanted)
    assert metrics.balanced_accuracy(guess, y) == pytest.approx(balanced_accuracy_score(y, guess))


def test_balanced_measures_leave_out_classes_without_rows() -> None:
    assert metrics.macro_f1([2, 0], [0, 0]) == pytest.approx(2 / 3)
    assert metrics.balanced_accuracy([2, 0], [0, 0]) == 0.5


@calm
@given(seed=seeds, ties=st.booleans())
def test_aupr(seed, ties) -> None:
    score, flags = scores(seed, ties=ties)
    wanted = average_precision_score(flags, score)
    assert metrics.aupr(score, flags) == pytest.approx(wanted)


def test_aupr_of_one_kind_is_unknown() -> None:
    assert math.isnan(metrics.aupr([0.1, 0.2], [True, True]))
    assert math.isnan(metrics.aupr([0.1, 0.2], [False, False]))


@calm
@given(seed=seeds, bins=st.integers(1, 20))
def test_adaptive_ece_by_a_loop(seed, bins) -> None:
    p, y = probabilities(seed)
    rows = sorted(range(len(y)), key=lambda row: p[row].max())
    size, extra = divmod(len(rows), bins)
    wanted, start = 0.0, 0
    for place in range(bins):
        end = start + size + (place < extra)
        part = rows[start:end]
        sure = sum(p[row].max() for row in part) / len(part)
        right = sum(p[row].argmax() == y[row] for row in part) / len(part)
        wanted += len(part) / len(rows) * abs(sure - right)
        start = end
    assert metrics.adaptive_ece(p, y, bins=bins) == pytest.approx(wanted)


@calm
@given(seed=seeds, ties=st.booleans())
def test_augrc_by_its_closed_form(seed, ties) -> None:
    # Traub et al., 2024: (1 - AUROC) acc (1 - acc) + (1 - acc)^2 / 2
    doubt, wrong = scores(seed, ties=ties)
    share = wrong.mean()
    wanted = (1 - roc_auc_score(wrong, doubt)) * share * (1 - share) + share**2 / 2
    assert metrics.augrc(doubt, ~wrong) == pytest.approx(wanted)


def test_augrc_of_one_kind() -> None:
    assert metrics.augrc([0.1, 0.2], [True, True]) == 0
    assert metrics.augrc([0.1, 0.2], [False, False]) == 0.5


@calm
@given(seed=seeds, share=st.floats(0.01, 1.0))
def test_accuracy_at_a_coverage(seed, share) -> None:
    doubt, right = scores(seed, ties=False)
    kept = max(1, math.ceil(share * len(doubt) - 1e-9))
    wanted = right[np.argsort(doubt)][:kept].mean()
    assert metrics.accuracy_at_coverage(doubt, right, share) == pytest.approx(wanted)


@calm
@given(seed=seeds)
def test_number_scores(seed) -> None:
    rng = np.random.default_rng(seed)
    truth = 1000 + 50 * rng.normal(size=int(rng.integers(3, 40)))
    guess = truth + 30 * rng.normal(size=len(truth))
    measures = number_scores(guess, truth)
    assert measures == pytest.approx(
        {
            "mae": mean_absolute_error(truth, guess),
            "rmse": root_mean_squared_error(truth, guess),
            "r2": r2_score(truth, guess),
            "corr": pearsonr(truth, guess).statistic,
            "spearman": spearmanr(truth, guess).statistic,
        }
    )
    moved = number_scores(7 - 2 * guess, 7 - 2 * truth)  # of another unit
    for name, factor in {"mae": 2, "rmse": 2, "r2": 1, "corr": 1, "spearman": 1}.items():
        assert moved[name] == pytest.approx(factor * measures[name])


def test_number_scores_at_their_limits() -> None:
    truth = np.array([1.0, 2.0, 4.0])
    perfect = number_scores(truth, truth)
    assert perfect == pytest.approx({"mae": 0, "rmse": 0, "r2": 1, "corr": 1, "spearman": 1})
    mean = number_scores(np.full(3, truth.mean()), truth)
    assert mean["r2"] == pytest.approx(0)
    assert math.isnan(mean["corr"])
    assert math.isnan(mean["spearman"])
    constant = number_scores(truth, np.ones(3))
    assert all(math.isnan(constant[name]) for name in ("r2", "corr", "spearman"))
    assert constant["rmse"] == pytest.approx(math.sqrt(10 / 3))
