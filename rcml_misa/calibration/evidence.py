"""Probabilities from fused evidence, calibrated on the train rows' own opinions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax

__all__ = ["Calibrator"]

Array = NDArray[np.float64]
LEAST_SHARE = 1e-6
TIE = 1e-6


def _log_shares(evidence: Array) -> Array:
    total = np.maximum(evidence.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(np.log(evidence / total + LEAST_SHARE))


@dataclass(frozen=True)
class Calibrator:
    """Sharpen shares of evidence by an exponent, then map the top one's odds.

    The exponent is the one of least cross-entropy. That fit is ruled by the classes of small
    probability, so that the top class may still be overconfident: its probability p becomes
    sigmoid(slope logit(p) + offset), fitted on whether the top class is right, and the other
    classes divide the rest as before. The most probable class stays the same.

    Build it with `Calibrator.fit`, on rows whose evidence comes from a model that has not seen
    them (leave-one-out, held out).

    Attributes
    ----------
    exponent, slope, offset : float

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017; Platt, 1999.

    Examples
    --------
    >>> evidence = np.array([[3.0, 1.0], [3.0, 1.0], [1.0, 3.0], [3.0, 1.0]] * 9)
    >>> calibrator = Calibrator.fit(evidence, np.array([0, 1, 1, 0] * 9))
    >>> calibrator(evidence)[0].round(2).tolist()
    [0.75, 0.25]
    """

    exponent: float
    slope: float
    offset: float

    @classmethod
    def fit(cls, evidence: Array, codes: NDArray[np.int64], weights: Array | None = None) -> Self:
        """Fit on evidence (n, K), class numbers (n,) and weights of the rows (n,)."""
        logs, rows = _log_shares(evidence), np.arange(len(codes))

        def cross_entropy(log_exponent: float) -> float:
            likelihood = log_softmax(np.exp(log_exponent) * logs, axis=1)[rows, codes]
            return float(-np.average(likelihood, weights=weights))

        least = minimize_scalar(cross_entropy, bounds=(-3.0, 3.0), method="bounded")
        exponent = float(np.exp(least.x))
        probability = softmax(exponent * logs, axis=1)
        right = probability.argmax(axis=1) == codes
        odds = logit(np.clip(probability.max(axis=1), 1e-9, 1 - 1e-9))

        def top_loss(values: Array) -> float:
            score = values[0] * odds + values[1]
            # one prior row on each side keeps the fit finite where every row is right
            each = np.logaddexp(0, np.where(right, -score, score))
            loss = each.sum() if weights is None else weights @ each
            return float(loss + np.logaddexp(0, values[1]) + np.logaddexp(0, -values[1]))

        # a falling map would turn the order of rows around
        fitted = minimize(top_loss, [1.0, 0.0], bounds=[(0.05, 5.0), (-5.0, 5.0)])
        return cls(exponent, float(fitted.x[0]), float(fitted.x[1]))

    def __call__(self, evidence: Array) -> Array:
        """Probabilities (n, K) of rows with evidence (n, K)."""
        probability = softmax(self.exponent * _log_shares(evidence), axis=1)
        rows, best = np.arange(len(probability)), probability.argmax(axis=1)
        top = np.clip(probability[rows, best], 1e-9, 1 - 1e-9)
        others = probability.copy()
        others[rows, best] = 0
        others /= np.maximum(others.sum(axis=1, keepdims=True), 1e-300)
        second = others.max(axis=1)
        # above where the second class would catch up, by more than float32 rounds away
        least = (second + TIE) / (1 + second)
        mapped = np.maximum(expit(self.slope * logit(top) + self.offset), least)
        result = others * (1 - mapped)[:, None]
        result[rows, best] = mapped
        result[~evidence.any(axis=1)] = 1 / evidence.shape[1]  # no evidence, no favourite
        return np.asarray(result)
