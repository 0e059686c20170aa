"""Measures of predicted numbers and intervals, and of classes on a sentiment scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score

from rcml_misa.metrics import mean_accepted, rank_correlation

__all__ = [
    "ause",
    "class_scores",
    "error_correlation",
    "interval_scores",
    "number_scores",
    "regression_scores",
    "sims_scores",
]

Array = NDArray[np.float64]


def _pearson(predicted: Array, truth: Array) -> float:
    """Pearson's correlation; NaN where one of the two is constant."""
    a, b = predicted - predicted.mean(), truth - truth.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def _whole(values: Array, limit: int) -> NDArray[np.int64]:
    """Clip to [-limit, limit] and round, halves to even."""
    return np.round(np.clip(values, -limit, limit)).astype(np.int64)


def _binary(predicted: ArrayLike, truth: ArrayLike, name: str) -> dict[str, float]:
    """Accuracy and F1 weighted by the classes' true shares; NaN without rows."""
    guess, right = np.asarray(predicted), np.asarray(truth)
    if not right.size:
        return {f"acc2_{name}": float("nan"), f"f1_{name}": float("nan")}
    return {
        f"acc2_{name}": float((guess == right).mean()),
        f"f1_{name}": float(f1_score(right, guess, average="weighted", zero_division=0)),
    }


def number_scores(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compute the measures of a regression on any scale, for numbers (n,).

    ``mae`` and ``rmse``, mean absolute error and root of the mean squared error, in the unit of the
    target; ``r2``, the share of the variance of `truth` that is explained, 1 at most and negative
    for what is worse than its mean; ``corr`` (Pearson) and ``spearman``. The last three are NaN
    where `truth` is constant, the last two also where the prediction is.

    Examples
    --------
    >>> measures = number_scores([1.0, 2.0, 3.0], [2.0, 2.0, 5.0])
    >>> {name: round(value, 3) for name, value in measures.items()}
    {'mae': 1.0, 'rmse': 1.291, 'r2': 0.167, 'corr': 0.866, 'spearman': 0.866}
    """
    guess, right = (np.asarray(values, dtype=np.float64) for values in (predicted, truth))
    error = guess - right
    total = float(((right - right.mean()) ** 2).sum()) if np.ptp(right) else float("nan")
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1 - float((error**2).sum()) / total,
        "corr": _pearson(guess, right),
        "spearman": rank_correlation(guess, right),
    }


def regression_scores(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compute the measures of MOSI's and MOSEI's tables for scores (n,) in [-3, 3].

    ``mae``; ``corr`` (Pearson); ``acc7`` and ``acc5`` (both clipped to [-3, 3], [-2, 2] and
    rounded, halves to even); ``acc2_has0`` and ``f1_has0`` (negative against the rest);
    ``acc2_non0`` and ``f1_non0`` (negative against positive, rows of true zeros left out). F1 is
    weighted by the classes' shares; all but ``mae`` are fractions. Hazarika, Zimmermann and
    Poria, MISA, ACM MM 2020, section 4.2.

    Examples
    --------
    >>> measures = regression_scores([1.0, -1.0, 0.4, -0.2], [2.0, -1.0, 0.0, 0.0])
    >>> round(measures["mae"], 3), measures["acc2_has0"], measures["acc2_non0"]
    (0.4, 0.75, 1.0)
    """
    guess, right = (np.asarray(values, dtype=np.float64) for values in (predicted, truth))
    signed = right != 0
    return {
        "mae": float(np.abs(guess - right).mean()),
        "corr": _pearson(guess, right),
        "acc7": float((_whole(guess, 3) == _whole(right, 3)).mean()),
        "acc5": float((_whole(guess, 2) == _whole(right, 2)).mean()),
        **_binary(guess >= 0, right >= 0, "has0"),
        **_binary(guess[signed] > 0, right[signed] > 0, "non0"),
    }


def class_scores(
    probability: ArrayLike,
    truth: ArrayLike,
    values: Sequence[float],
    *,
    predicted: ArrayLike | None = None,
) -> dict[str, float]:
    """Compute accuracy and F1 of the classes, and of the sign both ways.

    A class of value 0 counts as non-negative in ``has0``; in ``non0`` rows of true zeros are left
    out, and the larger of the negative and the positive classes' probability decides.

    Parameters
    ----------
    probability : array of shape (n, K)
        Or any scores of the classes that are non-negative and comparable within a row.
    truth : array of shape (n,)
        Scores in [-3, 3], or the classes' values.
    values : sequence of float
        Place of each class on the scale: (-1, 0, 1), (-1, 1) or (-3, ..., 3).
    predicted : array of int of shape (n,), optional
        Class numbers; those of largest probability by default.

    Returns
    -------
    dict of str to float
        ``accK``, ``f1_K`` for K other than 2, and the sign's, as in `regression_scores`.

    Examples
    --------
    >>> measures = class_scores([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]], [1.0, -2.0], (-1, 0, 1))
    >>> measures["acc3"], measures["acc2_has0"], measures["acc2_non0"]
    (0.5, 1.0, 1.0)
    """
    share, right, place = (
        np.asarray(given, dtype=np.float64) for given in (probability, truth, values)
    )
    chosen = share.argmax(axis=1) if predicted is None else np.asarray(predicted)
    limit = int(np.abs(place).max())
    measures: dict[str, float] = {}
    if len(place) != 2:
        # the sign for three classes, the nearest whole number for more
        target = np.sign(right) if limit == 1 else _whole(right, limit)
        guess = place[chosen].astype(np.int64)
        measures[f"acc{len(place)}"] = float((guess == target).mean())
        weighted = f1_score(target.astype(np.int64), guess, average="weighted", zero_division=0)
        measures[f"f1_{len(place)}"] = float(weighted)
    signed = right != 0
    positive = share[:, place > 0].sum(axis=1) > share[:, place < 0].sum(axis=1)
    return {
        **measures,
        **_binary(place[chosen] >= 0, right >= 0, "has0"),
        **_binary(positive[signed], right[signed] > 0, "non0"),
    }


def sims_scores(predicted: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Compute the measures of CH-SIMS's tables, for scores (n,) in [-1, 1].

    Both are clipped to [-1, 1] first. Classes are half-open on the left: two at 0, where 0 is
    negative; three at -0.1 and 0.1; five at -0.7, -0.1, 0.1 and 0.7. ``mae``, ``corr`` (Pearson),
    ``acc2``, ``f1`` of the two classes, weighted by their shares, ``acc3`` and ``acc5``. Yu et
    al., CH-SIMS, ACL 2020, section 4.

    Examples
    --------
    >>> measures = sims_scores([0.2, -0.05, 0.9], [0.1, -0.2, 0.8])
    >>> measures["acc2"], round(measures["acc3"], 3)
    (1.0, 0.333)
    """
    guess, right = (
        np.clip(np.asarray(values, dtype=np.float64), -1, 1) for values in (predicted, truth)
    )
    measures = {"mae": float(np.abs(guess - right).mean()), "corr": _pearson(guess, right)}
    for edges in ((0.0,), (-0.1, 0.1), (-0.7, -0.1, 0.1, 0.7)):
        classes = [np.searchsorted(edges, values, side="left") for values in (guess, right)]
        measures[f"acc{len(edges) + 1}"] = float((classes[0] == classes[1]).mean())
    weighted = f1_score(right > 0, guess > 0, average="weighted", zero_division=0)
    return {**measures, "f1": float(weighted)}


def interval_scores(low: ArrayLike, high: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """Measure the share of targets inside their intervals, bounds included, and the mean width.

    Examples
    --------
    >>> interval_scores([0.0, 0.0], [1.0, 3.0], [0.5, 4.0])
    {'coverage': 0.5, 'width': 2.0}
    """
    a, b, y = (np.asarray(values, dtype=np.float64) for values in (low, high, target))
    inside = (a <= y) & (y <= b)
    return {"coverage": float(inside.mean()), "width": float((b - a).mean())}


def ause(uncertainty: ArrayLike, error: ArrayLike) -> float:
    """Measure the area between the sparsification curves of an uncertainty and of the error itself.

    Rows are taken away, the most uncertain first; the mean absolute error of those that are left,
    minus what it would be if the errors themselves had been the order, relative to the mean error
    of all rows, on average over all shares left. 0 is a perfect order. Ilg et al., Uncertainty
    estimates and multi-hypotheses networks for optical flow, ECCV 2018.

    Examples
    --------
    >>> ause([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])
    0.0
    """
    distance = np.abs(np.asarray(error, dtype=np.float64))
    if not distance.mean():
        return 0.0
    order = np.asarray(uncertainty, dtype=np.float64)
    gap = mean_accepted(order, distance) - mean_accepted(distance, distance)
    return float(gap.mean() / distance.mean())


def error_correlation(uncertainty: ArrayLike, error: ArrayLike) -> float:
    """Correlate uncertainty and absolute error by Spearman; NaN where one is constant.

    Examples
    --------
    >>> error_correlation([0.1, 0.2, 0.3], [-1.0, 2.0, 3.0])
    1.0
    """
    return rank_correlation(uncertainty, np.abs(np.asarray(error)))
