"""Measures of accuracy, calibration, selection and detection, as pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

__all__ = [
    "accuracy",
    "accuracy_at_coverage",
    "adaptive_ece",
    "augrc",
    "aupr",
    "aurc",
    "auroc",
    "balanced_accuracy",
    "brier",
    "ece",
    "fpr95",
    "macro_f1",
    "nll",
    "rank_correlation",
    "reliability_curve",
    "risk_coverage_curve",
]

Array = NDArray[np.float64]


def accuracy(predicted: ArrayLike, target: ArrayLike) -> float:
    """Measure the share of rows predicted right.

    Examples
    --------
    >>> accuracy([0, 1, 1], [0, 1, 0])
    0.6666666666666666
    """
    return float((np.asarray(predicted) == np.asarray(target)).mean())


def macro_f1(predicted: ArrayLike, target: ArrayLike) -> float:
    """Average over the target's classes the harmonic mean of precision and recall.

    Examples
    --------
    >>> macro_f1([0, 1, 1], [0, 1, 1])
    1.0
    """
    labels = np.unique(np.asarray(target))
    return float(f1_score(target, predicted, labels=labels, average="macro", zero_division=0))


def balanced_accuracy(predicted: ArrayLike, target: ArrayLike) -> float:
    """Average over the target's classes the share of their rows predicted right.

    Examples
    --------
    >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
    0.75
    """
    labels = np.unique(np.asarray(target))
    return float(recall_score(target, predicted, labels=labels, average="macro", zero_division=0))


def _top(probability: ArrayLike, target: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    p = np.asarray(probability, dtype=np.float64)
    return p.max(axis=1), p.argmax(axis=1) == np.asarray(target)


def reliability_curve(
    confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Compute mean confidence, accuracy and count per equal-width bin; NaN where empty.

    Confidence (n,) is in [0, 1]; bins are closed on the right, the first one on both sides.

    Examples
    --------
    >>> mean, right, count = reliability_curve([0.9, 0.8], [True, False], bins=2)
    >>> right.tolist(), count.tolist()
    ([nan, 0.5], [0, 2])
    """
    stated, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    place = np.clip(np.ceil(stated * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=stated, minlength=bins) / count
        share = np.bincount(place, weights=right, minlength=bins) / count
    return mean, share, count.astype(np.int64)


def ece(probability: ArrayLike, target: ArrayLike, *, bins: int = 15) -> float:
    """Measure the expected calibration error of the top class in equal-width bins.

    Probabilities have the shape (n, K), class numbers (n,); Guo et al., ICML 2017, equation 3.

    Examples
    --------
    >>> ece([[1.0, 0.0], [1.0, 0.0]], [0, 1])
    0.5
    """
    confidence, right = _top(probability, target)
    mean, share, count = reliability_curve(confidence, right, bins=bins)
    return float(np.nansum(count * np.abs(mean - share)) / len(confidence))


def adaptive_ece(probability: ArrayLike, target: ArrayLike, *, bins: int = 15) -> float:
    """Measure the expected calibration error of the top class in bins of equal numbers of rows.

    Nguyen and O'Connor, Posterior calibration and exploratory analysis, EMNLP 2015.

    Examples
    --------
    >>> adaptive_ece([[1.0, 0.0], [0.5, 0.5]], [0, 0], bins=2)
    0.25
    """
    confidence, right = _top(probability, target)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(part) * abs(confidence[part].mean() - right[part].mean()) for part in parts]
    return float(sum(gaps) / len(confidence))


def nll(probability: ArrayLike, target: ArrayLike) -> float:
    """Compute the mean negative log-likelihood in nats; a probability counts as at least 1e-12.

    Examples
    --------
    >>> round(nll([[0.5, 0.5]], [0]), 4)
    0.6931
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(target)
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def brier(probability: ArrayLike, target: ArrayLike) -> float:
    """Average over rows the squared distance to the one-hot class, in [0, 2].

    Examples
    --------
    >>> brier([[0.5, 0.5]], [0])
    0.5
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(target)
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def _detect(
    measure: Callable[[NDArray[np.bool_], Array], float], score: ArrayLike, positive: ArrayLike
) -> float:
    """Take a measure of a score and flags of positives; NaN where all rows are of one kind."""
    flags = np.asarray(positive, dtype=bool)
    return float(measure(flags, np.asarray(score))) if 0 < flags.sum() < flags.size else math.nan


def auroc(score: ArrayLike, positive: ArrayLike) -> float:
    """Measure the area under the ROC curve of a score high for positives; NaN for one kind.

    Examples
    --------
    >>> auroc([0.1, 0.9], [False, True])
    1.0
    """
    return _detect(roc_auc_score, score, positive)


def aupr(score: ArrayLike, positive: ArrayLike) -> float:
    """Measure the average precision of a score that should be high for positives; NaN for one kind.

    Examples
    --------
    >>> aupr([0.1, 0.9], [False, True])
    1.0
    """
    return _detect(average_precision_score, score, positive)


def fpr95(score: ArrayLike, positive: ArrayLike) -> float:
    """Find the least share of negatives flagged at a threshold that flags 95 % of positives.

    Examples
    --------
    >>> fpr95([0.1, 0.9], [False, True])
    0.0
    """

    def least(flags: NDArray[np.bool_], values: Array) -> float:
        false, true, _ = roc_curve(flags, values, drop_intermediate=False)
        return float(false[true >= 0.95].min())

    return _detect(least, score, positive)


def risk_coverage_curve(uncertainty: ArrayLike, correct: ArrayLike) -> tuple[Array, Array]:
    """Trace coverage 1/n..1 and the error among that share of the least uncertain rows.

    Rows of equal uncertainty share their mean error, so that the order of rows does not count.

    Examples
    --------
    >>> coverage, risk = risk_coverage_curve([0.1, 0.2], [True, False])
    >>> coverage.tolist(), risk.tolist()
    ([0.5, 1.0], [0.0, 0.5])
    """
    risk = mean_accepted(uncertainty, 1.0 - np.asarray(correct, dtype=float))
    return np.arange(1, len(risk) + 1) / len(risk), risk


def mean_accepted(order_by: ArrayLike, loss: ArrayLike) -> Array:
    """Average the losses of the 1, 2, ..., n rows of least `order_by`; ties share their mean."""
    _, place, count = np.unique(order_by, return_inverse=True, return_counts=True)
    mean = np.bincount(place, weights=loss) / count
    ordered = np.repeat(mean, count)
    return np.asarray(np.cumsum(ordered) / np.arange(1, len(ordered) + 1))


def aurc(uncertainty: ArrayLike, correct: ArrayLike) -> float:
    """Measure the area under the risk-coverage curve, the mean risk; lower is better.

    Geifman, Uziel and El-Yaniv, ICLR 2019.

    Examples
    --------
    >>> aurc([0.1, 0.2], [True, False])
    0.25
    """
    return float(risk_coverage_curve(uncertainty, correct)[1].mean())


def augrc(uncertainty: ArrayLike, correct: ArrayLike) -> float:
    """Measure the area under the generalised risk-coverage curve; lower is better.

    The generalised risk at a coverage is the share of all rows that are accepted and wrong, so
    that every error counts alike wherever it is ranked; trapezoids from coverage 0. Traub et al.,
    Overcoming common flaws in the evaluation of selective classification systems, NeurIPS 2024,
    equation 5.

    Examples
    --------
    >>> augrc([0.1, 0.2], [True, False])
    0.125
    """
    coverage, risk = risk_coverage_curve(uncertainty, correct)
    joint = np.concatenate([[0.0], coverage * risk])
    return float((joint[1:] + joint[:-1]).mean() / 2)


def accuracy_at_coverage(uncertainty: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Measure accuracy among the least uncertain rows, a share `coverage` of all, rounded up.

    Examples
    --------
    >>> accuracy_at_coverage([0.1, 0.2, 0.3, 0.4], [True, True, False, False], 0.5)
    1.0
    """
    risk = risk_coverage_curve(uncertainty, correct)[1]
    return float(1 - risk[max(int(np.ceil(coverage * len(risk) - 1e-9)), 1) - 1])


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Compute Spearman's correlation of two scores (n,); NaN where one is constant.

    Examples
    --------
    >>> round(rank_correlation([1, 2, 4], [0.1, 0.2, 9.0]), 6), rank_correlation([1, 1], [1, 2])
    (1.0, nan)
    """
    values, others = np.asarray(first), np.asarray(second)
    if np.ptp(values) == 0 or np.ptp(others) == 0:
        return math.nan
    return float(spearmanr(values, others).statistic)
