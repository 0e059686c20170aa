"""Prediction intervals by split conformal, and how well an uncertainty orders errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["ause", "error_correlation", "interval_scores"]

Array = NDArray[np.float64]


def interval_scores(low: ArrayLike, high: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Share of targets inside their intervals, bounds included, and the mean width.

    Examples
    --------
    >>> interval_scores([0.0, 0.0], [1.0, 3.0], [0.5, 4.0])
    {'coverage': 0.5, 'width': 2.0}
    """
    a, b, y = (np.asarray(values, dtype=np.float64) for values in (low, high, target))
    return {
        "coverage": float(((a <= y) & (y <= b)).mean()),
        "width": float((b - a).mean()),
    }


def _sparsification(order_by: Array, error: Array) -> Array:
    """Mean error of the rows that are left when those of highest `order_by` are taken away."""
    values, place = np.unique(order_by, return_inverse=True)
    tied = np.bincount(place, weights=error) / np.bincount(place)  # ties share their mean
    kept = np.sort(place)
    return np.asarray(np.cumsum(tied[kept]) / np.arange(1, len(values[place]) + 1))


def ause(uncertainty: ArrayLike, error: ArrayLike) -> float:
    """Area between the sparsification curves of an uncertainty and of the error itself.

    Rows are taken away, the most uncertain first; the mean absolute error of those that are left,
    minus what it would be if the errors themselves had been the order, relative to the mean error
    of all rows, on average over all shares left. 0 is a perfect order; rows in random order give
    what the errors' spread makes of it.

    Parameters
    ----------
    uncertainty, error : array of shape (n,)

    References
    ----------
    Ilg et al., Uncertainty estimates and multi-hypotheses networks for optical flow, ECCV 2018.

    Examples
    --------
    >>> ause([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    0.0
    """
    doubt = np.asarray(uncertainty, dtype=np.float64)
    wrong = np.abs(np.asarray(error, dtype=np.float64))
    if not wrong.mean():
        return 0.0
    gap = _sparsification(doubt, wrong) - _sparsification(wrong, wrong)
    return float(gap.mean() / wrong.mean())


def error_correlation(uncertainty: ArrayLike, error: ArrayLike) -> float:
    """Spearman's correlation of uncertainty and absolute error; NaN where one is constant.

    Examples
    --------
    >>> error_correlation([0.1, 0.2, 0.3], [-1.0, 2.0, 3.0])
    1.0
    """
    doubt, wrong = np.asarray(uncertainty), np.abs(np.asarray(error))
    if np.ptp(doubt) == 0 or np.ptp(wrong) == 0:
        return float("nan")
    return float(stats.spearmanr(doubt, wrong).statistic)
