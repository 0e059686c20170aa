"""Sentiment measures against plain loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, mean_absolute_error

from rcml_misa.metrics.scores import class_scores, regression_scores


def _loop(guess, right) -> dict[str, float]:
    """Row by row, with Python's own rounding (halves to even)."""
    rows = list(zip(guess, right, strict=True))

    def cut(value, limit):
        return round(max(-limit, min(limit, value)))

    found = {
        f"acc{2 * limit + 1}": sum(cut(g, limit) == cut(r, limit) for g, r in rows) / len(rows)
        for limit in (2, 3)
    }
    signed = [(g, r) for g, r in rows if r != 0]
    for name, kept, test in (
        ("has0", rows, lambda value: value >= 0),
        ("non0", signed, lambda value: value > 0),
    ):
        pairs = [(test(g), test(r)) for g, r in kept]
        found[f"acc2_{name}"] = sum(g == r for g, r in pairs) / len(pairs)
        found[f"f1_{name}"] = f1_score(
            [r for _, r in pairs], [g for g, _ in pairs], average="weighted"
        )
    return found


@given(st.integers(0, 10_000))
def test_regression_measures_are_a_loop(seed) -> None:
    rng = np.random.default_rng(seed)
    right = np.round(rng.uniform(-3, 3, 40), 1)
    guess = right + rng.normal(0, 1, 40)
    guess[:8] = np.round(guess[:8] * 2) / 2  # halves, to see how they are rounded
    found = regression_scores(guess, right)
    for name, value in _loop(guess, right).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["mae"] == pytest.approx(mean_absolute_error(right, guess), abs=1e-12)
    assert found["corr"] == pytest.approx(pearsonr(guess, right).statistic, abs=1e-12)


def test_zeros_count_as_non_negative_or_not_at_all() -> None:
    found = regression_scores([-0.1, 0.0, 2.0], [0.0, 0.0, 1.0])
    assert found["acc2_has0"] == pytest.approx(2 / 3)
    assert found["acc2_non0"] == 1.0


def test_constant_scores_have_no_correlation() -> None:
    assert np.isnan(regression_scores([1.0, 1.0], [0.0, 2.0])["corr"])
    assert np.isnan(regression_scores([1.0], [0.0])["acc2_non0"])


def test_three_classes() -> None:
    share = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])
    truth = np.array([-2.0, 0.0, 1.0, 2.0])
    found = class_scores(share, truth, (-1, 0, 1))
    assert found["acc3"] == 0.75  # the third row says neutral
    assert found["acc2_has0"] == 1.0  # neutral counts as non-negative
    assert found["acc2_non0"] == pytest.approx(2 / 3)  # a tie is not positive
    target = np.sign(truth)
    guess = np.array([-1, 0, 0, 1])
    assert found["f1_3"] == pytest.approx(f1_score(target, guess, average="weighted"))


def test_two_and_seven_classes() -> None:
    two = class_scores([[0.9, 0.1], [0.2, 0.8]], [0.0, 2.0], (-1, 1))
    assert two["acc2_has0"] == 0.5
    assert two["acc2_non0"] == 1.0
    assert "acc2" not in two
    share = np.eye(7)[[0, 3, 5]]
    seven = class_scores(share, [-2.9, 0.2, 1.4], (-3, -2, -1, 0, 1, 2, 3))
    assert seven["acc7"] == pytest.approx(2 / 3)
    assert seven["acc2_has0"] == 1.0


def test_given_classes_decide() -> None:
    found = class_scores([[0.6, 0.3, 0.1]], [1.0], (-1, 0, 1), predicted=[2])
    assert found["acc3"] == 1.0
