"""Split-conformal intervals cover as they promise; sparsification against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rcml_misa.calibration import conformal_factor
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.metrics.scores import ause, error_correlation, interval_scores


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_intervals_cover_new_rows_as_often_as_asked(coverage) -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        scale = rng.uniform(0.5, 2, 140)
        error = scale * rng.standard_t(3, 140)
        factor = conformal_factor(error[:99], scale[:99], coverage=coverage)
        inside.append((np.abs(error[99:]) <= factor * scale[99:]).mean())
    # exactly the coverage, in the mean, for 99 rows: (n + 1) coverage is a whole number
    assert np.mean(inside) == pytest.approx(coverage, abs=0.012)


@given(n=st.integers(1, 60), coverage=st.floats(0.05, 0.97))
@settings(max_examples=80, deadline=None)
def test_factor_is_the_order_statistic_or_there_are_too_few_rows(n, coverage) -> None:
    errors = np.random.default_rng(n).normal(size=n)
    place = int(np.ceil((n + 1) * coverage - 1e-9))
    if place > n:
        with pytest.raises(DataError, match="too few"):
            conformal_factor(errors, np.ones(n), coverage=coverage)
    else:
        found = conformal_factor(errors, np.ones(n), coverage=coverage)
        assert found == sorted(np.abs(errors))[place - 1]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1.0, 2.0])
def test_coverage_has_limits(coverage) -> None:
    with pytest.raises(OptionError, match="not between 0 and 1"):
        conformal_factor([1.0], [1.0], coverage=coverage)


def test_scores_of_intervals() -> None:
    found = interval_scores([0, 0, 0, 0], [1, 1, 2, 2], [0, 1, 3, -1])
    assert found == {"coverage": 0.5, "width": 1.5}


def plain_ause(doubt, error) -> float:
    error = np.abs(error)

    def curve(order_by):
        rows = np.argsort(order_by)
        return np.array([error[rows[: n + 1]].mean() for n in range(len(rows))])

    return (curve(doubt) - curve(error)).mean() / error.mean()


def test_ause_against_a_plain_loop_and_its_limits() -> None:
    rng = np.random.default_rng(0)
    error, doubt = rng.normal(size=80), rng.random(80)
    assert ause(doubt, error) == pytest.approx(plain_ause(doubt, error), abs=1e-12)
    assert ause(np.abs(error), error) == 0
    assert ause(-np.abs(error), error) > ause(doubt, error) > 0
    assert ause(doubt, np.zeros(80)) == 0


def test_ause_does_not_depend_on_the_order_of_rows_that_tie() -> None:
    rng = np.random.default_rng(0)
    error, doubt = rng.normal(size=60), rng.integers(0, 4, 60)
    order = rng.permutation(60)
    assert ause(doubt, error) == pytest.approx(ause(doubt[order], error[order]), abs=1e-12)


def test_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    error, doubt = rng.normal(size=50), rng.random(50)
    wanted = stats.spearmanr(doubt, np.abs(error)).statistic
    assert error_correlation(doubt, error) == pytest.approx(wanted)
    assert np.isnan(error_correlation(np.ones(50), error))
