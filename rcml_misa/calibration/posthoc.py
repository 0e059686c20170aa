"""Calibration after training, on rows held back: temperature, conformal sets and intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.metrics import classes as metrics
from rcml_misa.metrics.answers import BINS, Answers, all_classes

__all__ = [
    "ConformalSets",
    "EvidenceTemperature",
    "ProbabilityTemperature",
    "conformal_factor",
    "conformal_rank",
    "recalibrate",
]

Array = NDArray[np.float64]
TINY = 1e-12
WIDEST = 8.0  # bound of the logarithm of a fitted factor
LEVEL = 0.9  # of conformal sets


def conformal_rank(rows: int, level: float) -> int:
    """Rank, from 1, of the order statistic that covers a new row with at least that probability.

    ceil((n + 1) level); above n where there are too few rows.

    Examples
    --------
    >>> conformal_rank(19, 0.9), conformal_rank(5, 0.9)
    (18, 6)
    """
    return math.ceil((rows + 1) * level - 1e-9)


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

        least = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded")
        return cls(float(np.exp(least.x)))

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

        least = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded")
        return cls(float(np.exp(least.x)))

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


def conformal_factor(error: ArrayLike, scale: ArrayLike, *, coverage: float = 0.9) -> float:
    """Compute how many times its scale a conformal interval reaches to each side.

    The ceil((n + 1) coverage)-th least of |error| / scale over n held-out rows. An interval
    prediction +- factor scale then holds the target of a new row with at least that probability,
    if the row comes from where the held-out rows come from, whatever the model.

    Parameters
    ----------
    error, scale : array of shape (n,)
        Errors of held-out rows, and the model's scale for each; 1 for intervals of equal width.
    coverage : float
        Target coverage, in (0, 1).

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


def recalibrate(
    valid: Answers, valid_target: NDArray[np.int64], test: Answers, target: NDArray[np.int64]
) -> dict[str, float]:
    """Fit a temperature and conformal sets on rows held back, and score them on test rows.

    The temperature scales evidence where there is some, else the probabilities' logarithms.
    Conformal sets have a level of 90 %; rows held back whose class was not trained on are left out.

    Returns
    -------
    dict of str to float
        ``temperature_nll``, ``temperature_ece``, ``conformal_coverage`` and ``conformal_size``.
    """
    trained = np.isin(valid_target, valid.classes)
    codes = np.searchsorted(valid.classes, valid_target[trained])
    count = test.probability.shape[1]
    temperature: EvidenceTemperature | ProbabilityTemperature
    if valid.evidence is not None and test.evidence is not None:
        temperature = EvidenceTemperature.fit(valid.evidence[trained], codes)
        scaled = temperature(test.evidence)
    else:
        own = valid.probability[trained][:, valid.classes]
        temperature = ProbabilityTemperature.fit(own, codes)
        scaled = temperature(test.probability[:, valid.classes])
    probability = all_classes(scaled, test.classes, count)
    sets = ConformalSets.fit(valid.probability[trained], valid_target[trained], level=LEVEL)
    members = sets(test.probability)
    return {
        "temperature_nll": metrics.nll(probability, target),
        "temperature_ece": metrics.ece(probability, target, bins=BINS),
        "conformal_coverage": float(members[np.arange(len(target)), target].mean()),
        "conformal_size": float(members.sum(axis=1).mean()),
    }
