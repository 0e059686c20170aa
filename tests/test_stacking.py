"""Weights of experts in their product."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from rcml_misa.experts.logits import ExpertLogits, stack_weights


def opinions(rng, target, skills, classes=3):
    """Log-probabilities of independent experts of some skill each."""
    scores = rng.normal(size=(len(target), len(skills), classes))
    for place, skill in enumerate(skills):
        scores[np.arange(len(target)), place, target] += skill
    return log_softmax(scores, axis=2)


def plain_loss(weights, scale, logs, target, plain):
    total = 0.0
    for row, right in zip(logs, target, strict=True):
        pooled = sum(w * one for w, one in zip(weights, row, strict=True))
        total -= pooled[right] - np.log(np.exp(pooled).sum())
    return total + 10 * ((weights - scale * plain) ** 2).sum()


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_least_of_their_objective(seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(3, size=60)
    logs, plain = opinions(rng, target, (1.0, 2.0, 0.2)), np.array([1.0, 1.0, 1.5])
    found = stack_weights(logs, target, plain)
    assert (found >= 0).all()
    wanted = minimize(
        lambda x: plain_loss(np.abs(x[:3]), abs(x[3]), logs, target, plain),
        np.full(4, 0.4),
        method="Nelder-Mead",
        options={"xatol": 1e-5, "fatol": 1e-8, "maxiter": 4000},
    )
    np.testing.assert_allclose(found, np.abs(wanted.x[:3]), atol=5e-3)


def test_skill_counts_and_repetition_does_not():
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=900)
    logs = opinions(rng, target, (2.0, 0.0))
    weights = stack_weights(logs, target, np.ones(2))
    assert weights[0] > 5 * weights[1]
    twice = stack_weights(logs[:, [0, 0]], target, np.ones(2))
    assert twice.sum() == pytest.approx(weights[0], rel=0.1)


def test_weights_stay_in_the_plain_ratio_where_nothing_is_wrong():
    target = np.arange(30) % 3
    sure = np.log(np.full((30, 3, 3), 0.005) + 0.985 * np.eye(3)[target][:, None])
    weights = stack_weights(sure, target, np.array([1.0, 1.0, 1.5]))
    np.testing.assert_allclose(weights / weights[0], [1.0, 1.0, 1.5], rtol=1e-3)


def test_order_of_experts_does_not_matter():
    rng = np.random.default_rng(1)
    target = rng.integers(4, size=200)
    logs, plain = opinions(rng, target, (1.0, 0.5, 2.0), 4), np.array([1.0, 1.0, 1.5])
    order = [2, 0, 1]
    moved = stack_weights(logs[:, order], target, plain[order])
    np.testing.assert_allclose(moved, stack_weights(logs, target, plain)[order], atol=1e-3)


def test_many_rows_are_sampled_evenly(monkeypatch):
    monkeypatch.setattr("rcml_misa.experts.logits.ENOUGH", 100)
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=5000)
    logs = opinions(rng, target, (1.0, 1.0, 0.5))
    said = ExpertLogits(logs[:, :2], logs[:, 2], np.ones(5000), np.ones(5000))
    rows = np.linspace(0, 4999, 100).round().astype(int)
    few = ExpertLogits(logs[rows, :2], logs[rows, 2], np.ones(100), np.ones(100))
    np.testing.assert_array_equal(said.stack(target), few.stack(target[rows]))
