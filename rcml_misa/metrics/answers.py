"""Answers of an estimator about rows of classes, and their measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy

from rcml_misa import metrics
from rcml_misa.exceptions import DataError
from rcml_misa.opinions import Opinion, dissonance, mutual_information
from rcml_misa.views import MultiView

__all__ = [
    "BINS",
    "COVERAGES",
    "Answers",
    "ScoreAnswers",
    "all_classes",
    "ask",
    "ask_scores",
    "confidence_bins",
    "detection",
    "ranking",
    "ranking_above",
    "risk_curve",
    "score",
    "uncertainty_scores",
]

BINS = 15  # of confidence
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))  # of stored risk curves

Array = NDArray[np.float64]


def all_classes(probability: Array, classes: NDArray[Any], count: int) -> Array:
    """Spread probabilities of the trained classes (n, len(classes)) over all (n, count)."""
    full = np.zeros((len(probability), count))
    full[:, classes.astype(int)] = probability
    return full


@dataclass(frozen=True)
class Answers:
    """Answers of an estimator about n rows of K classes.

    Attributes
    ----------
    predicted : ndarray of int, shape (n,)
    probability : ndarray of shape (n, K)
    uncertainty : ndarray of shape (n,)
        Vacuity of the fused opinion, or `predict_uncertainty`, or one minus the top probability.
    conflict : ndarray of shape (n,) or None
        Mean degree of conflict of the views' opinions, or `predict_conflict`.
    classes : ndarray of int
        Class numbers that were trained on.
    evidence : ndarray of shape (n, len(classes)) or None
        Fused evidence, for evidential methods.
    mutual_information : ndarray of shape (n,) or None
        `predict_mutual_information` in nats, for methods with several members and no evidence.
    """

    predicted: NDArray[Any]
    probability: Array
    uncertainty: Array
    conflict: Array | None
    classes: NDArray[np.int64]
    evidence: Array | None = None
    mutual_information: Array | None = None


def ask(estimator: Any, views: MultiView, classes: int) -> Answers:
    """Ask a fitted estimator about some rows of a set of `classes` classes.

    It has `predict_opinion`, or `predict_proba` and perhaps `predict_uncertainty`,
    `predict_conflict` and `predict_mutual_information`, which give a number per row.

    Raises
    ------
    DataError
        If a probability, an uncertainty or a conflict is NaN or infinite.
    """
    trained = np.asarray(estimator.classes_).astype(np.int64)
    opinion = estimator.predict_opinion(views) if hasattr(estimator, "predict_opinion") else None
    given = estimator.predict_proba(views) if opinion is None else opinion.probability
    probability = all_classes(given, trained, classes)
    _refuse_not_finite(estimator, probability)
    if opinion is not None:
        predicted, uncertainty = trained[opinion.probability.argmax(axis=1)], opinion.uncertainty
        conflict = opinion.conflict if len(opinion.views) > 1 else None
    else:
        uncertainty, conflict = 1 - probability.max(axis=1), None
        if hasattr(estimator, "predict_uncertainty"):
            uncertainty = np.asarray(estimator.predict_uncertainty(views), dtype=np.float64)
        if hasattr(estimator, "predict_conflict") and views.n_views > 1:
            conflict = np.asarray(estimator.predict_conflict(views), dtype=np.float64)
        predicted = estimator.predict(views)
    information = None
    if hasattr(estimator, "predict_mutual_information"):
        information = np.asarray(estimator.predict_mutual_information(views), dtype=np.float64)
    _refuse_not_finite(estimator, uncertainty, conflict, information)
    evidence = None if opinion is None else opinion.evidence
    return Answers(predicted, probability, uncertainty, conflict, trained, evidence, information)


def _refuse_not_finite(estimator: Any, *answers: Array | None) -> None:
    """Refuse numbers (n,) or (n, K) among the answers that are NaN or infinite, and count them."""
    for values in (answer for answer in answers if answer is not None):
        bad = int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
        if bad:
            raise DataError(
                f"{type(estimator).__name__} gives NaN or infinity for {bad} of {len(values)} "
                "rows; it can't use such rows."
            )


@dataclass(frozen=True)
class ScoreAnswers:
    """Predicted scores (n,), or the middles of prediction intervals, and the intervals' bounds."""

    predicted: Array
    low: Array | None = None
    high: Array | None = None


def ask_scores(estimator: Any, views: MultiView) -> ScoreAnswers:
    """Ask a fitted regressor about some rows, by `predict_interval` where it has that.

    Raises
    ------
    DataError
        If a score or a bound of an interval is NaN or infinite.
    """
    if not hasattr(estimator, "predict_interval"):
        predicted = np.asarray(estimator.predict(views), dtype=np.float64)
        _refuse_not_finite(estimator, predicted)
        return ScoreAnswers(predicted)
    low, high = estimator.predict_interval(views)
    _refuse_not_finite(estimator, low, high)
    return ScoreAnswers((low + high) / 2, low, high)


def score(answers: Answers, target: NDArray[np.int64]) -> dict[str, float]:
    """Measure accuracy, calibration and selection on rows of class numbers `target`."""
    right = answers.predicted == target
    uncertainty, p = answers.uncertainty, answers.probability
    return {
        "accuracy": metrics.accuracy(answers.predicted, target),
        "macro_f1": metrics.macro_f1(answers.predicted, target),
        "balanced_accuracy": metrics.balanced_accuracy(answers.predicted, target),
        "ece": metrics.ece(p, target, bins=BINS),
        "adaptive_ece": metrics.adaptive_ece(p, target, bins=BINS),
        "nll": metrics.nll(p, target),
        "brier": metrics.brier(p, target),
        "aurc": metrics.aurc(uncertainty, right),
        "augrc": metrics.augrc(uncertainty, right),
        "accuracy_at_80": metrics.accuracy_at_coverage(uncertainty, right, 0.8),
        "accuracy_at_90": metrics.accuracy_at_coverage(uncertainty, right, 0.9),
        "auroc_errors": metrics.auroc(uncertainty, ~right),
        "uncertainty": float(uncertainty.mean()),
    }


def confidence_bins(answers: Answers, target: NDArray[np.int64]) -> dict[str, list[float]]:
    """Sum up confidence and correct answers per bin of confidence, so that runs can be pooled."""
    confidence = answers.probability.max(axis=1)
    right = answers.probability.argmax(axis=1) == target
    mean, share, count = metrics.reliability_curve(confidence, right, bins=BINS)
    return {
        "count": count.astype(float).tolist(),
        "confidence": np.nan_to_num(mean * count).tolist(),
        "correct": np.nan_to_num(share * count).tolist(),
    }


def risk_curve(answers: Answers, target: NDArray[np.int64]) -> list[float]:
    """Measure the error among the least uncertain rows at each of `COVERAGES`."""
    right, own = answers.predicted == target, answers.uncertainty
    return [1 - metrics.accuracy_at_coverage(own, right, share) for share in COVERAGES]


def uncertainty_scores(answers: Answers) -> dict[str, Array]:
    """Compute every uncertainty score that the answers allow, each of shape (n,).

    ``own`` is the method's (`Answers.uncertainty`). From `predict_proba` come
    ``max_probability`` (1 - max p), ``entropy`` and ``margin`` (1 minus the gap of the two largest
    p); from fused evidence ``vacuity``, ``mutual_information``, ``dissonance`` and
    ``evidence_margin`` (1 minus the gap of the two largest beliefs); ``mutual_information`` from
    `predict_mutual_information` too; from the views' opinions ``conflict``.
    """
    p = answers.probability
    scores = {
        "own": answers.uncertainty,
        "max_probability": 1 - p.max(axis=1),
        "entropy": np.asarray(entropy(p, axis=1)),
        "margin": 1 - _gap(p),
    }
    if answers.evidence is not None:
        evidence = torch.from_numpy(np.ascontiguousarray(answers.evidence))
        opinion = Opinion(evidence)
        scores |= {
            "vacuity": opinion.uncertainty.numpy(),
            "mutual_information": mutual_information(evidence).numpy(),
            "dissonance": dissonance(evidence).numpy(),
            "evidence_margin": 1 - _gap(opinion.belief.numpy()),
        }
    if answers.mutual_information is not None:
        scores["mutual_information"] = answers.mutual_information
    if answers.conflict is not None:
        scores["conflict"] = answers.conflict
    return scores


def _gap(values: Array) -> Array:
    """Subtract the second largest value of each row from the largest."""
    best = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def ranking(scores: dict[str, Array], positive: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Measure how each score ranks the positive rows above the others: AUROC, AUPR and FPR95."""
    return {
        name: {
            "auroc": metrics.auroc(score, positive),
            "aupr": metrics.aupr(score, positive),
            "fpr95": metrics.fpr95(score, positive),
        }
        for name, score in scores.items()
    }


def ranking_above(
    upper: Answers, lower: Answers, rows: NDArray[np.bool_] | slice = slice(None)
) -> dict[str, dict[str, float]]:
    """Measure how each uncertainty score ranks some rows above those that should be lower."""
    high, low = uncertainty_scores(upper), uncertainty_scores(lower)
    both = {
        name: np.concatenate([high[name][rows], low[name][rows]]) for name in low if name in high
    }
    counts = [len(values["own"][rows]) for values in (high, low)]
    return ranking(both, np.repeat([True, False], counts))


def detection(ranked: dict[str, dict[str, float]]) -> dict[str, float]:
    """Name a record's measures of altered rows that are ranked above their own clean selves."""
    measures = {f"conflict_{name}": value for name, value in ranked["own"].items()}
    for name in ("auroc", "fpr95") if "conflict" in ranked else ():
        measures[f"conflict_{name}_degree"] = ranked["conflict"][name]
    return measures
