"""The width of score opinions, corrected on held-out rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcml_misa.calibration import ScaleCalibrator
from rcml_misa.metrics.scores import error_correlation
from rcml_misa.opinions.nig import NIG, nig_nll


def stated(gamma, scale, *, seed: int = 0) -> tuple[NIG, NIG]:
    """Fused opinions of a given predictive scale, and two views' around them."""
    rng = np.random.default_rng(seed)
    n = len(gamma)
    alpha, nu = np.full(n, 4.0), rng.uniform(1, 2, n)
    fused = (gamma, nu, alpha, scale**2 * nu * alpha / (1 + nu))
    views = (
        gamma[:, None] + rng.normal(0, 0.2, (n, 2)),
        rng.uniform(0.5, 1, (n, 2)),
        np.full((n, 2), 3.0),
        np.ones((n, 2)),
    )
    return NIG(*map(torch.from_numpy, fused)), NIG(*map(torch.from_numpy, views))


def rows(n: int, seed: int):
    """Errors four times as large near the mean as far from it; the network states 0.3."""
    rng = np.random.default_rng(seed)
    gamma = rng.normal(size=n)
    spread = np.where(np.abs(gamma) < 0.7, 1.2, 0.3)
    target = torch.from_numpy(gamma + spread * rng.normal(size=n))
    return *stated(gamma, np.full(n, 0.3), seed=seed), target


def test_a_scale_that_says_nothing_learns_where_errors_are_large() -> None:
    calibrator = ScaleCalibrator.fit(*rows(230, 0))
    fused, views, target = rows(2000, 1)
    fixed = calibrator(fused, views)
    error = (target - fused.gamma).numpy()
    assert abs(error_correlation(fused.scale + 1e-9 * fused.gamma, error)) < 0.2
    assert error_correlation(fixed.scale, error) > 0.35
    assert nig_nll(fixed, target).mean() < nig_nll(fused, target).mean() - 0.5
    torch.testing.assert_close(fixed.gamma, fused.gamma)
    assert calibrator.weights[1] < -0.2  # far from the mean, surer


def test_a_wrong_constant_is_put_right_whatever_it_was() -> None:
    rng = np.random.default_rng(0)
    gamma = rng.normal(size=300)
    target = torch.from_numpy(gamma + rng.normal(0, 0.8, 300))
    found = [
        ScaleCalibrator.fit(*stated(gamma, np.full(300, scale)), target)(
            *stated(gamma, np.full(300, scale))
        ).scale
        for scale in (0.05, 5.0)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=0)
    assert found[0].median().item() == pytest.approx(0.7, abs=0.15)  # of a t of 8 degrees


def test_a_good_scale_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    gamma, scale = rng.normal(size=3000), rng.uniform(0.2, 2, 3000)
    target = torch.from_numpy(gamma + scale * rng.standard_t(8, 3000))
    fused, views = stated(gamma, scale)
    fixed = ScaleCalibrator.fit(fused, views, target)(fused, views)
    torch.testing.assert_close(fixed.scale, fused.scale, rtol=0.15, atol=0)


def test_few_rows_and_constant_features_change_little() -> None:
    one = torch.ones(12, dtype=torch.float64)
    fused = NIG(0 * one, one, 3 * one, one)
    views = NIG(*(part.unsqueeze(1) for part in fused))
    target = torch.from_numpy(np.random.default_rng(0).normal(size=12))
    calibrator = ScaleCalibrator.fit(fused, views, target)
    np.testing.assert_allclose(calibrator.weights, 0, atol=1e-6)
    far = NIG(100 * one, one, 3 * one, one)  # beyond anything seen: still finite
    assert torch.isfinite(calibrator(far, views).scale).all()
