"""Sentiment measures against plain loops and scipy on random vectors, to 1e-12."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from rcml_misa.exceptions import OptionError
from rcml_misa.metrics.scores import regression_scores, sims_scores


def share(pairs) -> float:
    return sum(a == b for a, b in pairs) / len(pairs)


def weighted_f1(guess, right) -> float:
    total = 0.0
    for kind in set(right):
        hit = sum(g == r == kind for g, r in zip(guess, right, strict=True))
        said, there = guess.count(kind), right.count(kind)
        total += there / len(right) * (2 * hit / (said + there) if said + there else 0.0)
    return total


def rounded(value: float, limit: int) -> int:
    return round(max(-limit, min(limit, value)))  # Python rounds halves to even too


def vectors(seed: int, limit: float):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-limit, limit, 200).round(1)
    truth[rng.random(200) < 0.1] = 0.0
    guess = truth + rng.normal(0, 0.4 * limit, 200)
    guess[:4] = [0.0, 0.5, -1.5, 2.5]
    return guess, truth


@pytest.mark.parametrize("seed", range(5))
def test_mosi_measures(seed) -> None:
    guess, truth = vectors(seed, 3.0)
    pairs = list(zip(guess.tolist(), truth.tolist(), strict=True))
    signed = [(g, t) for g, t in pairs if t != 0]
    wanted = {
        "mae": sum(abs(g - t) for g, t in pairs) / len(pairs),
        "corr": stats.pearsonr(guess, truth).statistic,
        "acc7": share([(rounded(g, 3), rounded(t, 3)) for g, t in pairs]),
        "acc5": share([(rounded(g, 2), rounded(t, 2)) for g, t in pairs]),
        "acc2_has0": share([(g >= 0, t >= 0) for g, t in pairs]),
        "acc2_non0": share([(g > 0, t > 0) for g, t in signed]),
        "f1_has0": weighted_f1([g >= 0 for g, _ in pairs], [t >= 0 for _, t in pairs]),
        "f1_non0": weighted_f1([g > 0 for g, _ in signed], [t > 0 for _, t in signed]),
    }
    assert regression_scores(guess, truth) == pytest.approx(wanted, abs=1e-12)


def interval(value: float, edges: list[float]) -> int:
    """Which of the intervals (a, b] holds the value."""
    for place, (low, high) in enumerate(pairwise(edges)):
        if low < value <= high:
            return place
    raise AssertionError(value)


@pytest.mark.parametrize("seed", range(5))
def test_sims_measures(seed) -> None:
    guess, truth = vectors(seed, 1.0)
    guess[4:10] = truth[4:10] = [-0.7, -0.1, 0.0, 0.1, 0.7, 1.0]  # the edges themselves
    pairs = [(max(-1, min(1, g)), t) for g, t in zip(guess.tolist(), truth.tolist(), strict=True)]
    edges = {
        "acc2": [-1.01, 0.0, 1.01],
        "acc3": [-1.01, -0.1, 0.1, 1.01],
        "acc5": [-1.01, -0.7, -0.1, 0.1, 0.7, 1.01],
    }
    wanted = {
        "mae": sum(abs(g - t) for g, t in pairs) / len(pairs),
        "corr": stats.pearsonr([g for g, _ in pairs], truth).statistic,
        "f1": weighted_f1([g > 0 for g, _ in pairs], [t > 0 for _, t in pairs]),
    }
    for name, cuts in edges.items():
        wanted[name] = share([(interval(g, cuts), interval(t, cuts)) for g, t in pairs])
    assert sims_scores(guess, truth) == pytest.approx(wanted, abs=1e-12)


def test_zero_is_negative_on_sims_and_not_elsewhere() -> None:
    assert sims_scores([-0.01], [0.0])["acc2"] == 1.0
    assert regression_scores([-0.01], [0.0])["acc2_has0"] == 0.0


def test_sims_scores_are_no_seven_classes() -> None:
    from rcml_misa.datasets import Dataset, as_task
    from rcml_misa.views import MultiView

    scores = np.array([-1.0, 0.0, 0.6])
    views = MultiView([np.eye(3)])
    data = Dataset("S", views, scores, (), "", "", scores=scores, score_limit=1.0)
    assert as_task(data, "3").target.tolist() == [0, 1, 2]
    with pytest.raises(OptionError, match="no seven classes"):
        as_task(data, "7")
