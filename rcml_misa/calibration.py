"""Temperatures, conformal sets and intervals, and scales of scores, fitted on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, softmax
from torch import Tensor

from rcml_misa import metrics
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.metrics.answers import BINS, Answers, all_classes
from rcml_misa.opinions.nig import NIG

__all__ = [
    "Calibrator",
    "ConformalSets",
    "MondrianSets",
    "ScaleCalibrator",
    "choose_calibrator",
    "conformal_factor",
    "fit_exponent",
    "recalibrate",
    "temperature_scaled",
]

Array = NDArray[np.float64]
LEAST_SHARE = 1e-6  # added to a class's share of the evidence before its logarithm
SUREST = 1 - 1e-9  # largest probability of a class
TIE = 1e-6  # least lead of the first class over the second
TINY = 1e-12
LEVEL = 0.9  # of conformal sets
WIDEST = (-8.0, 8.0)  # bounds of the logarithm of a fitted factor
RIDGE = 5.0  # a prior of deviation 0.3 on each feature's weight
LIMIT = 3.0  # standard deviations beyond which a feature's value counts no more


def fit_exponent(
    logs: Array,
    codes: NDArray[np.int64],
    weights: Array | None = None,
    *,
    bounds: tuple[float, float] = WIDEST,
    tolerance: float = 1e-5,
) -> float:
    """Fit the exponent t = 1 / temperature of least cross-entropy of softmax(t logs).

    Parameters
    ----------
    logs : ndarray of shape (n, K)
        Logarithms of probabilities, or scores, of rows that were not trained on.
    codes, weights : ndarray of shape (n,)
        Class numbers, and weights of the rows where they differ.
    bounds, tolerance : float
        Least and largest logarithm of t, and the error of that logarithm.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017, section 4.2.

    Examples
    --------
    >>> logs = np.log(np.array([[0.9, 0.1]] * 4))
    >>> round(fit_exponent(logs, np.array([0, 0, 0, 1])), 2)
    0.5
    """
    gaps = logs - logs.max(axis=1, keepdims=True)
    own = gaps[np.arange(len(codes)), codes]
    powers = np.empty_like(gaps)

    def loss(log_exponent: float) -> float:
        exponent = np.exp(log_exponent)
        np.exp(np.multiply(gaps, exponent, out=powers), out=powers)
        return float(np.average(np.log(powers.sum(axis=1)) - exponent * own, weights=weights))

    return _least(loss, bounds, tolerance)


def _least(
    loss: Callable[[float], float], bounds: tuple[float, float], tolerance: float = 1e-5
) -> float:
    """Find the positive number whose logarithm has the least loss."""
    least = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": tolerance})
    return float(np.exp(least.x))


def _log_shares(evidence: Array) -> Array:
    total = np.maximum(evidence.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(np.log(evidence / total + LEAST_SHARE))


@dataclass(frozen=True)
class Calibrator:
    """Sharpen shares of evidence by an exponent, then map the top one's odds.

    The exponent has the least cross-entropy. That fit is ruled by the classes of small
    probability, so that the top class may still be overconfident: its probability p becomes
    sigmoid(slope logit(p) + offset), fitted on whether the top class is right, and the other
    classes divide the rest as before. The most probable class stays the same.

    Build it with `Calibrator.fit`, on rows whose evidence comes from a model that has not seen
    them (leave-one-out, held out).

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
        logs = _log_shares(evidence)
        exponent = fit_exponent(logs, codes, weights, bounds=(-3.0, 3.0))
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
        """Compute probabilities (n, K) of rows with evidence (n, K)."""
        probability = softmax(self.exponent * _log_shares(evidence), axis=1)
        # of the evidence, since logarithms may round a small lead away
        rows, best = np.arange(len(probability)), evidence.argmax(axis=1)
        top = np.clip(probability[rows, best], 1e-9, 1 - 1e-9)
        others = probability.copy()
        others[rows, best] = 0
        others /= np.maximum(others.sum(axis=1, keepdims=True), 1e-300)
        second = others.max(axis=1)
        # above where the second class would catch up, by more than float32 rounds away
        least = (second + TIE) / (1 + second)
        mapped = np.maximum(expit(self.slope * logit(top) + self.offset), least)
        mapped = np.minimum(mapped, SUREST)  # no class is ruled out
        result = others * (1 - mapped)[:, None]
        result[rows, best] = mapped
        result[~evidence.any(axis=1)] = 1 / evidence.shape[1]  # no evidence, no favourite
        return np.asarray(result)


IDENTITY = Calibrator(exponent=1.0, slope=1.0, offset=0.0)
FOLDS = 5


def choose_calibrator(
    evidence: Array,
    codes: NDArray[np.int64],
    weights: Array | None = None,
    *,
    stated: Array | None = None,
) -> Calibrator | None:
    """Fit a `Calibrator`, or leave probabilities as they are where that is no worse.

    Each fifth of the rows is scored by a calibrator of the others; the fitted one is taken where
    its mean negative log-likelihood is the lower one. Parameters are those of `Calibrator.fit`.
    The probabilities to beat are the shares of evidence, which a calibrator that changes nothing
    returns, or those that a model has `stated` (n, K), where the result is None if they are better.

    Examples
    --------
    Shares of .9 that are right in three rows of four:

    >>> evidence = np.array([[9.0, 1.0], [1.0, 9.0], [9.0, 1.0], [9.0, 1.0]] * 25)
    >>> choose_calibrator(evidence, np.array([0, 1, 0, 1] * 25))(evidence)[0].round(2).tolist()
    [0.75, 0.25]
    """
    rows = np.arange(len(codes))
    fitted = np.empty(len(codes))
    unchanged = IDENTITY if stated is None else None
    for fold in range(FOLDS):
        apart = rows % FOLDS == fold
        if not apart.any() or apart.all():
            return unchanged
        own = None if weights is None else weights[~apart]
        calibrated = Calibrator.fit(evidence[~apart], codes[~apart], own)(evidence[apart])
        fitted[apart] = calibrated[np.arange(apart.sum()), codes[apart]]
    plain = (IDENTITY(evidence) if stated is None else stated)[rows, codes]
    gain = np.log(np.maximum(fitted, TINY)) - np.log(np.maximum(plain, TINY))
    if np.average(gain, weights=weights) <= 0:
        return unchanged
    return Calibrator.fit(evidence, codes, weights)


@dataclass(frozen=True)
class EvidenceTemperature:
    """Evidence times one factor: p = (t e + 1) / (t sum e + K), t of least negative log-likelihood.

    The order of the classes of a row stays; uncertainty changes with the factor.
    """

    factor: float

    @classmethod
    def fit(cls, evidence: Array, codes: NDArray[np.int64]) -> Self:
        """Fit on evidence (n, K) and class numbers (n,) of rows that were not trained on."""

        def loss(log_factor: float) -> float:
            alpha = np.exp(log_factor) * evidence + 1
            own = alpha[np.arange(len(codes)), codes]
            return float((np.log(alpha.sum(axis=1)) - np.log(own)).mean())

        return cls(_least(loss, WIDEST))

    def __call__(self, evidence: Array) -> Array:
        """Compute probabilities (n, K) of rows with evidence (n, K)."""
        alpha = self.factor * evidence + 1
        return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class ProbabilityTemperature:
    """Probabilities to one power: softmax(log p / T), T fitted by `fit_exponent`."""

    exponent: float

    @classmethod
    def fit(cls, probability: Array, codes: NDArray[np.int64]) -> Self:
        """Fit on probabilities (n, K) and class numbers (n,) of rows not trained on."""
        return cls(fit_exponent(np.log(np.maximum(probability, TINY)), codes))

    def __call__(self, probability: Array) -> Array:
        """Compute probabilities (n, K) of rows with probabilities (n, K)."""
        return np.asarray(softmax(self.exponent * np.log(np.maximum(probability, TINY)), axis=1))


@dataclass(frozen=True)
class ConformalSets:
    """Split-conformal sets of classes: those of a probability at or above one threshold.

    The threshold is the finite-sample quantile of 1 - p_y on rows held back, so that a new row
    that is exchangeable with them has its class in the set with a chance of at least the level. It
    is below 0 where too few rows were held back to exclude any class. Sadinle, Lei and Wasserman,
    Least ambiguous set-valued classifiers with bounded error levels, JASA 2019; Angelopoulos and
    Bates, A gentle introduction to conformal prediction, 2021.
    """

    threshold: float

    @classmethod
    def fit(cls, probability: Array, codes: NDArray[np.int64], *, level: float = 0.9) -> Self:
        """Fit on probabilities (n, K) and class numbers (n,) of rows not trained on."""
        return cls(_threshold(probability[np.arange(len(codes)), codes], level))

    def __call__(self, probability: Array) -> NDArray[np.bool_]:
        """Mark the members (n, K) of each row's set."""
        return np.asarray(probability >= self.threshold)


@dataclass(frozen=True)
class MondrianSets:
    """Split-conformal sets of classes whose coverage holds within each group of rows or classes.

    Every group has the threshold of `ConformalSets` of its own rows held back; with `by_class`,
    class k is judged by the rows held back that are of class k, so that the sets of the rows of
    each class hold that class with a chance of at least the level. A group of too few rows, or of
    none, gets every class. Vovk, Conditional validity of inductive conformal predictors, ACML 2012.

    Build it with `MondrianSets.fit`.

    Attributes
    ----------
    thresholds : ndarray of shape (G, K)
        Least probability of a member, by group and class.

    Examples
    --------
    >>> probability = np.tile([[0.6, 0.4], [0.9, 0.1]], (20, 1))
    >>> groups = np.arange(40) % 2
    >>> sets = MondrianSets.fit(probability, np.zeros(40, dtype=int), groups=groups)
    >>> sets.thresholds.tolist()
    [[0.6, 0.6], [0.9, 0.9]]
    """

    thresholds: Array

    @classmethod
    def fit(
        cls,
        probability: Array,
        codes: NDArray[np.int64],
        *,
        groups: NDArray[np.integer] | None = None,
        by_class: bool = False,
        level: float = LEVEL,
    ) -> Self:
        """Fit on probabilities (n, K) and class numbers (n,) of rows not trained on.

        Their groups (n,) are numbers from 0 to G - 1; one group by default.
        """
        own = probability[np.arange(len(codes)), codes]
        places = np.zeros(len(codes), dtype=np.int64) if groups is None else groups
        thresholds = np.empty((int(places.max(initial=0)) + 1, probability.shape[1]))
        for (group, code), _ in np.ndenumerate(thresholds):
            counted = (places == group) & ((codes == code) | (not by_class))
            thresholds[group, code] = _threshold(own[counted], level)
        return cls(thresholds)

    def __call__(
        self, probability: Array, groups: NDArray[np.integer] | None = None
    ) -> NDArray[np.bool_]:
        """Mark the members (n, K) of each row's set; rows of a group never seen get every class."""
        places = np.zeros(len(probability), dtype=np.int64) if groups is None else groups
        seen = places < len(self.thresholds)
        return np.asarray(
            (probability >= self.thresholds[np.where(seen, places, 0)]) | ~seen[:, None]
        )


def temperature_scaled(valid: Answers, valid_target: NDArray[np.int64], test: Answers) -> Array:
    """Compute probabilities (n, K) of test rows after temperature scaling on rows held back.

    The temperature scales evidence where there is some, else the probabilities' logarithms. Rows
    held back whose class was not trained on are left out.
    """
    trained = np.isin(valid_target, valid.classes)
    codes = np.searchsorted(valid.classes, valid_target[trained])
    temperature: EvidenceTemperature | ProbabilityTemperature
    if valid.evidence is not None and test.evidence is not None:
        temperature = EvidenceTemperature.fit(valid.evidence[trained], codes)
        scaled = temperature(test.evidence)
    else:
        temperature = ProbabilityTemperature.fit(
            valid.probability[trained][:, valid.classes], codes
        )
        scaled = temperature(test.probability[:, valid.classes])
    return all_classes(scaled, test.classes, test.probability.shape[1])


def recalibrate(
    valid: Answers, valid_target: NDArray[np.int64], test: Answers, target: NDArray[np.int64]
) -> dict[str, float]:
    """Fit a temperature and conformal sets on rows held back, and score them on test rows.

    The temperature is that of `temperature_scaled`. Conformal sets have a level of 90 %; rows held
    back whose class was not trained on are left out.

    Returns
    -------
    dict of str to float
        ``temperature_nll``, ``temperature_ece``, ``conformal_coverage`` and ``conformal_size``.
    """
    trained = np.isin(valid_target, valid.classes)
    probability = temperature_scaled(valid, valid_target, test)
    sets = ConformalSets.fit(valid.probability[trained], valid_target[trained], level=LEVEL)
    members = sets(test.probability)
    return {
        "temperature_nll": metrics.nll(probability, target),
        "temperature_ece": metrics.ece(probability, target, bins=BINS),
        "conformal_coverage": float(members[np.arange(len(target)), target].mean()),
        "conformal_size": float(members.sum(axis=1).mean()),
    }


def _threshold(own: Array, level: float) -> float:
    """Find the rank-th largest probability of the own class; below 0 for too few rows."""
    rank = _conformal_rank(len(own), level)
    return float(np.sort(own)[::-1][rank - 1]) if rank <= len(own) else -1.0


def _conformal_rank(rows: int, coverage: float) -> int:
    """Compute the rank of the finite-sample quantile: ceil((n + 1) coverage)."""
    return math.ceil((rows + 1) * coverage - 1e-9)  # less than rounding makes of a whole number


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
    rank = _conformal_rank(len(ratios), coverage)
    if rank > len(ratios):
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise DataError(
            f"{len(ratios)} validation rows are too few for intervals of coverage {coverage:g}; "
            f"give {least} or more."
        )
    return float(ratios[rank - 1])


@dataclass(frozen=True)
class ScaleCalibrator:
    """Correction of an opinion's scale by a factor that depends on the opinion.

    A network's errors on its train rows are small, and so is the scale that it states. The
    logarithm of the scale is corrected by a constant and by three standardised features: the
    stated scale itself, the distance of the prediction from the mean target, and the spread of
    the views' predictions. Their weights have the greatest likelihood on held-out rows, under a
    ridge.

    Build it with `ScaleCalibrator.fit`.

    Attributes
    ----------
    centre, spread, weights : ndarray of shape (3,)
        Means, deviations and weights of the features.
    offset : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ones = torch.ones(200, dtype=torch.float64)
    >>> opinion = NIG(0 * ones, ones, 20 * ones, ones)
    >>> error = torch.from_numpy(rng.normal(0, 2, 200))
    >>> fixed = ScaleCalibrator.fit(opinion, opinion, error)(opinion, opinion)
    >>> bool((fixed.scale > 4 * opinion.scale).all())
    True
    """

    centre: Array
    spread: Array
    weights: Array
    offset: float

    @classmethod
    def fit(cls, fused: NIG, views: NIG, target: Tensor) -> Self:
        """Fit to opinions about held-out rows, (n,) and (n, N), and their targets (n,).

        All in units of the train rows' standard deviation around their mean.
        """
        raw = _features(fused, views)
        centre, spread = raw.mean(axis=0), raw.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        features = np.clip((raw - centre) / spread, -LIMIT, LIMIT)
        error = (target - fused.gamma).double().numpy()
        scale, degrees = fused.scale.double().numpy(), fused.degrees.double().numpy()

        def loss(values: Array) -> float:
            widened = scale * np.exp(values[0] + features @ values[1:])
            likelihood = np.asarray(stats.t.logpdf(error, degrees, scale=widened)).sum()
            return float(RIDGE * (values[1:] ** 2).sum() - likelihood)

        start = np.zeros(1 + features.shape[1])
        offset, *slopes = minimize(loss, start, method="BFGS").x
        return cls(centre, spread, np.array(slopes), float(offset))

    def __call__(self, fused: NIG, views: NIG) -> NIG:
        """Correct the scale of fused opinions."""
        features = (_features(fused, views) - self.centre) / self.spread
        clipped = np.clip(features, -LIMIT, LIMIT)
        factor = torch.from_numpy(np.exp(self.offset + clipped @ self.weights)).to(fused.beta)
        return fused._replace(beta=fused.beta * factor.square())


def _features(fused: NIG, views: NIG) -> Array:
    """Compute log scale, distance from the mean, and the views' spread around the prediction."""
    apart = (views.nu * (views.gamma - fused.gamma.unsqueeze(-1)).square()).sum(dim=-1)
    columns = [fused.scale.log(), fused.gamma.abs(), (apart / views.nu.sum(dim=-1)).sqrt()]
    return torch.stack([column.double().cpu() for column in columns], dim=1).numpy()
