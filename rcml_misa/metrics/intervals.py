"""Prediction intervals by split conformal, and how well an uncertainty orders errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from rcml_misa.exceptions import DataError, OptionError

__all__ = ["ause", "conformal_factor", "conformal_rank", "error_correlation", "interval_scores"]

Array = NDArray[np.float64]


def conformal_rank(rows: int, coverage: float) -> int:
    """Rank of the finite-sample quantile of split conformal: ceil((n + 1) coverage).

    Examples
    --------
    >>> conformal_rank(19, 0.9)
    18
    """
    return math.ceil((rows + 1) * coverage - 1e-9)  # less than rounding makes of a whole number


def conformal_factor(error: ArrayLike, scale: ArrayLike, *, coverage: float = 0.9) -> float:
    """How many times its scale an interval must reach to each side.

    The ceil((n + 1) coverage)-th least of |error| / scale over n held-out rows. An interval
    prediction +- factor scale then holds the target of a new row with at least that probability,
    if the row comes from where the held-out rows come from, whatever the model.

    Parameters
    ----------
    error, scale : array of shape (n,)
        Errors of held-out rows, and the model's scale for each; 1 for intervals of equal width.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    float

    Raises
    ------
    OptionError
        If the coverage is out of range.
    DataError
        If there are too few rows: fewer than coverage / (1 - coverage).

    References
    ----------
    Lei et al., Distribution-free predictive inference for regression, JASA 113, 2018, section
    5.2 (locally weighted split conformal).

    Examples
    --------
    >>> conformal_factor(np.arange(1.0, 20.0), np.ones(19), coverage=0.9)
    18.0
    """
    if not 0 < coverage < 1:
        raise OptionError(f"coverage={coverage} is not between 0 and 1; 0.9 is usual.")
    ratios = np.sort(np.abs(np.asarray(error, dtype=np.float64)) / np.asarray(scale))
    rank = conformal_rank(len(ratios), coverage)
    if rank > len(ratios):
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise DataError(
            f"{len(ratios)} validation rows are too few for intervals of coverage {coverage:g}; "
            f"give {least} or more."
        )
    return float(ratios[rank - 1])


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
