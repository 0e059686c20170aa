"""Two methods on the same splits: paired differences, McNemar's test, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rcml_misa.exceptions import DataError
from rcml_misa.results.records import RunRecord

__all__ = ["McNemar", "PairedComparison", "compare", "holm", "mcnemar"]


@dataclass(frozen=True)
class PairedComparison:
    """First minus second over the same splits.

    Attributes
    ----------
    difference : float
        Mean difference of accuracy (a fraction).
    low, high : float
        Nadeau and Bengio's corrected 95 % interval; NaN for a single run.
    p_corrected : float
        Two-sided p of the corrected t test.
    p_wilcoxon : float
        Two-sided p of Wilcoxon's signed ranks; 1 where no run differs, NaN for a single run.
    wins, losses : int
        Runs in which the first is better, worse.
    """

    dataset: str
    test_set: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_corrected: float
    p_wilcoxon: float
    wins: int
    losses: int


def _pairs(
    first: Sequence[RunRecord], second: Sequence[RunRecord]
) -> list[tuple[RunRecord, RunRecord]]:
    """The runs that both variants have, by seed."""
    others = {record.seed: record for record in second}
    return [(one, others[one.seed]) for one in first if one.seed in others]


def _corrected(gaps: np.ndarray, ratio: float) -> tuple[float, float, float]:
    """Interval and p of the mean of paired differences with Nadeau and Bengio's variance."""
    runs, mean = len(gaps), float(gaps.mean())
    if runs < 2:
        return math.nan, math.nan, math.nan
    spread = math.sqrt((1 / runs + ratio) * float(gaps.var(ddof=1)))
    if spread == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    half = float(stats.t.ppf(0.975, runs - 1)) * spread
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / spread, runs - 1))


def compare(
    first: Sequence[RunRecord],
    second: Sequence[RunRecord],
    *,
    test_set: str,
    measure: str = "accuracy",
) -> PairedComparison:
    """Compare two variants over the runs that both have, by accuracy or another measure.

    References
    ----------
    Nadeau and Bengio, Machine Learning 52, 2003: the variance of the mean difference over R
    random splits is (1/R + n_test/n_train) times the sample variance.

    Raises
    ------
    DataError
        If the two share no run.
    """
    pairs = [
        (one, two)
        for one, two in _pairs(first, second)
        if test_set in one.metrics and test_set in two.metrics
    ]
    if not pairs:
        raise DataError("the two variants share no run, so they can't be compared in pairs.")
    gaps = np.array([a.metrics[test_set][measure] - b.metrics[test_set][measure] for a, b in pairs])
    one, two = pairs[0]
    low, high, p = _corrected(gaps, one.test_rows / one.train_rows)
    ranked = 1.0 if len(gaps) > 1 else math.nan
    if np.any(gaps != 0) and len(gaps) > 1:
        # rounding must not break ties between equal differences
        ranked = float(stats.wilcoxon(gaps.round(12)).pvalue)
    return PairedComparison(
        one.dataset,
        test_set,
        one.label,
        two.label,
        float(gaps.mean()),
        low,
        high,
        p,
        ranked,
        int((gaps > 0).sum()),
        int((gaps < 0).sum()),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests; NaN stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04])
    [0.02, 0.04]
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    order = sorted(known, key=lambda index: p_values[index])
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


@dataclass(frozen=True)
class McNemar:
    """Rows that one of two classifiers has right and the other wrong.

    Attributes
    ----------
    only_first, only_second : int
        Rows that the first, the second alone has right.
    p : float
        Two-sided p of the exact test that both are as likely.
    rows : int
        Rows that both answered.
    """

    only_first: int
    only_second: int
    p: float
    rows: int


def mcnemar(
    first: Sequence[RunRecord], second: Sequence[RunRecord], *, test_set: str = "clean"
) -> McNemar:
    """McNemar's exact test of two classifiers, within a run or over the disjoint folds of a k-fold.

    Parameters
    ----------
    first, second : sequence of RunRecord
        Of one run each, or of runs whose test rows are disjoint: then the rows are pooled. Runs
        are paired by seed.
    test_set : str

    References
    ----------
    McNemar, Psychometrika 12, 1947; Dietterich, Approximate statistical tests for comparing
    supervised classification learning algorithms, Neural Computation 10, 1998, section 3.1.

    Raises
    ------
    DataError
        If the runs share no test rows between the two, or share them with each other: rows that
        count twice are not independent.
    """
    pairs = [
        (one, two)
        for one, two in _pairs(first, second)
        if test_set in one.correct and test_set in two.correct
    ]
    if not pairs or any(list(one.rows) != list(two.rows) for one, two in pairs):
        raise DataError("the two variants share no run on the same test rows.")
    rows = np.concatenate([np.asarray(one.rows) for one, _ in pairs])
    if len(np.unique(rows)) < len(rows):
        raise DataError(
            "these runs test some rows more than once, so McNemar's test can't pool them; give it "
            "one run, or the folds of one partition."
        )
    a, b = (
        np.array([digit == "1" for pair in pairs for digit in pair[side].correct[test_set]])
        for side in (0, 1)
    )
    won, lost = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return McNemar(won, lost, p, len(rows))
