"""Temperatures and conformal sets against grids, closed forms and their guarantee."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from rcml_misa.calibration import (
    ConformalSets,
    EvidenceTemperature,
    ProbabilityTemperature,
)

calm = settings(deadline=None, max_examples=30, derandomize=True)
CLASSES = 4


def rows(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are three times too large, and classes drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, CLASSES))
    codes = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return softmax(3 * logits, axis=1), codes


def surprise(p: np.ndarray, codes: np.ndarray) -> float:
    """Mean negative log-likelihood."""
    return float(-np.log(p[np.arange(len(codes)), codes]).mean())


@pytest.mark.parametrize("seed", range(3))
def test_probability_temperature_is_the_best_of_a_grid(seed):
    p, codes = rows(seed)
    fitted = ProbabilityTemperature.fit(p, codes)
    grid = np.linspace(0.1, 2.0, 400)
    losses = [surprise(ProbabilityTemperature(one)(p), codes) for one in grid]
    assert fitted.exponent == pytest.approx(grid[int(np.argmin(losses))], abs=0.01)
    assert fitted.exponent == pytest.approx(1 / 3, abs=0.1)
    scaled = fitted(p)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert (scaled.argmax(axis=1) == p.argmax(axis=1)).all()


@pytest.mark.parametrize("seed", range(3))
def test_evidence_temperature_is_the_best_of_a_grid(seed):
    p, codes = rows(seed)
    evidence = 500 * p
    fitted = EvidenceTemperature.fit(evidence, codes)
    grid = np.exp(np.linspace(-8, 4, 601))
    losses = [surprise(EvidenceTemperature(one)(evidence), codes) for one in grid]
    assert fitted.factor == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)
    assert fitted.factor < 0.2  # far too sure before
    scaled = fitted(evidence)
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert (scaled.argmax(axis=1) == evidence.argmax(axis=1)).all()
    assert surprise(scaled, codes) < surprise(EvidenceTemperature(1.0)(evidence), codes)


def test_rows_that_are_all_right_and_probabilities_of_zero_are_survived():
    p = np.eye(3)[[0, 1, 2]]
    fitted = ProbabilityTemperature.fit(p, np.array([0, 1, 2]))
    assert np.isfinite(fitted(p)).all()
    wrong = ProbabilityTemperature.fit(p, np.array([1, 2, 0]))
    assert np.isfinite(wrong(p)).all()
    assert np.isfinite(EvidenceTemperature.fit(9 * p, np.array([0, 1, 2]))(0 * p)).all()


@calm
@given(count=st.integers(1, 60), level=st.floats(0.5, 0.99), seed=st.integers(0, 99))
def test_conformal_threshold_by_counting(count, level, seed):
    rng = np.random.default_rng(seed)
    p, codes = rng.dirichlet(np.ones(CLASSES), size=count), rng.integers(CLASSES, size=count)
    sets = ConformalSets.fit(p, codes, level=level)
    own = p[np.arange(count), codes]
    need = int(np.ceil((count + 1) * level - 1e-9))
    if need > count:
        assert sets.threshold < 0
        assert sets(p).all()
    else:
        covered = int((own >= sets.threshold).sum())
        assert covered >= need
        assert int((own > sets.threshold).sum()) < need


def test_coverage_on_rows_like_those_held_back():
    found = []
    for seed in range(60):
        p, codes = rows(seed, 250)
        sets = ConformalSets.fit(p[:50], codes[:50], level=0.9)
        found.append(sets(p[50:])[np.arange(200), codes[50:]].mean())
    # the mean coverage lies between the level and the level + 1 / (n + 1)
    assert 0.89 < np.mean(found) < 0.935
