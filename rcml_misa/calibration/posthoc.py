"""What can be mended after training, on rows held back: temperature and conformal sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from rcml_misa.metrics.intervals import conformal_rank

__all__ = ["ConformalSets", "EvidenceTemperature", "ProbabilityTemperature"]

Array = NDArray[np.float64]
TINY = 1e-12
WIDEST = 8.0  # of the logarithm of a factor that is looked for


@dataclass(frozen=True)
class EvidenceTemperature:
    """Evidence times one factor: p = (t e + 1) / (t sum e + K), t of least negative log-likelihood.

    The order of the classes of a row stays; uncertainty changes with the factor.

    Examples
    --------
    >>> evidence = np.array([[90.0, 10.0]] * 4)
    >>> scaled = EvidenceTemperature.fit(evidence, np.array([0, 0, 0, 1]))
    >>> scaled(evidence)[0].round(2).tolist()
    [0.75, 0.25]
    """

    factor: float

    @classmethod
    def fit(cls, evidence: Array, codes: NDArray[np.int64]) -> Self:
        """Fit on evidence (n, K) and class numbers (n,) of rows that were not trained on."""
        rows = np.arange(len(codes))

        def loss(log_factor: float) -> float:
            alpha = np.exp(log_factor) * evidence + 1
            return float((np.log(alpha.sum(axis=1)) - np.log(alpha[rows, codes])).mean())

        found = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded")
        return cls(float(np.exp(found.x)))

    def __call__(self, evidence: Array) -> Array:
        """Probabilities (n, K) of rows with evidence (n, K)."""
        alpha = self.factor * evidence + 1
        return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class ProbabilityTemperature:
    """Probabilities to one power: softmax(log p / T), T of least negative log-likelihood.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2.

    Examples
    --------
    >>> probability = np.array([[0.9, 0.1]] * 4)
    >>> scaled = ProbabilityTemperature.fit(probability, np.array([0, 0, 0, 1]))
    >>> scaled(probability)[0].round(2).tolist()
    [0.75, 0.25]
    """

    exponent: float

    @classmethod
    def fit(cls, probability: Array, codes: NDArray[np.int64]) -> Self:
        """Fit on probabilities (n, K) and class numbers (n,) of rows not trained on."""
        logs, rows = np.log(np.maximum(probability, TINY)), np.arange(len(codes))

        def loss(log_exponent: float) -> float:
            return float(-log_softmax(np.exp(log_exponent) * logs, axis=1)[rows, codes].mean())

        found = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded")
        return cls(float(np.exp(found.x)))

    def __call__(self, probability: Array) -> Array:
        """Probabilities (n, K) of rows with probabilities (n, K)."""
        return np.asarray(softmax(self.exponent * np.log(np.maximum(probability, TINY)), axis=1))


@dataclass(frozen=True)
class ConformalSets:
    """Split-conformal sets of classes: those of a probability at or above one threshold.

    The threshold is the finite-sample quantile of 1 - p_y on rows held back, so that a new row
    that is exchangeable with them has its class in the set with a chance of at least the level.

    Attributes
    ----------
    threshold : float
        Least probability of a member; below 0 where too few rows were held back to exclude any.

    References
    ----------
    Sadinle, Lei and Wasserman, Least ambiguous set-valued classifiers with bounded error levels,
    JASA 2019; Angelopoulos and Bates, A gentle introduction to conformal prediction, 2021.

    Examples
    --------
    >>> probability = np.linspace(0.05, 0.95, 19)[:, None] * [[1.0, -1.0]] + [[0.0, 1.0]]
    >>> sets = ConformalSets.fit(probability, np.zeros(19, int), level=0.9)
    >>> round(sets.threshold, 2), sets(np.array([[0.5, 0.5], [0.95, 0.05]])).sum(axis=1).tolist()
    (0.1, [2, 1])
    """

    threshold: float

    @classmethod
    def fit(cls, probability: Array, codes: NDArray[np.int64], *, level: float = 0.9) -> Self:
        """Fit on probabilities (n, K) and class numbers (n,) of rows not trained on."""
        own = np.sort(probability[np.arange(len(codes)), codes])[::-1]
        rank = conformal_rank(len(own), level)
        return cls(float(own[rank - 1]) if rank <= len(own) else -1.0)

    def __call__(self, probability: Array) -> NDArray[np.bool_]:
        """Members (n, K) of each row's set."""
        return np.asarray(probability >= self.threshold)
