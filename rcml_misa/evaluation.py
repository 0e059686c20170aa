"""What an estimator answers about test rows, and how the answers are scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa import metrics
from rcml_misa.views import MultiView

__all__ = ["Answers", "ask", "confidence_bins", "detection", "score"]

BINS = 15


def _full(probability: NDArray[Any], classes: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Probabilities of all classes, where some were not among the train rows."""
    full = np.zeros((len(probability), count))
    full[:, classes.astype(int)] = probability
    return full


@dataclass(frozen=True)
class Answers:
    """What an estimator says of some rows.

    Attributes
    ----------
    predicted : ndarray of int, shape (n,)
    probability : ndarray of shape (n, K)
    uncertainty : ndarray of shape (n,)
        Vacuity of the fused opinion; one minus the top probability for methods without opinions.
    conflict : ndarray of shape (n,) or None
        Mean degree of conflict of the views' opinions.
    """

    predicted: NDArray[Any]
    probability: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    conflict: NDArray[np.float64] | None


def ask(estimator: Any, views: MultiView, classes: int) -> Answers:
    """Ask a fitted estimator about some rows of a set of `classes` classes."""
    probability = _full(estimator.predict_proba(views), estimator.classes_, classes)
    if not hasattr(estimator, "predict_opinion"):
        predicted = estimator.predict(views)
        return Answers(predicted, probability, 1 - probability.max(axis=1), None)
    opinion = estimator.predict_opinion(views)
    predicted = estimator.classes_[opinion.evidence.argmax(axis=1)]
    return Answers(predicted, probability, opinion.uncertainty, opinion.conflict)


def score(answers: Answers, target: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, calibration and selection on rows of class numbers `target`."""
    right = answers.predicted == target
    return {
        "accuracy": metrics.accuracy(answers.predicted, target),
        "ece": metrics.ece(answers.probability, target, bins=BINS),
        "nll": metrics.nll(answers.probability, target),
        "brier": metrics.brier(answers.probability, target),
        "aurc": metrics.aurc(answers.uncertainty, right),
        "auroc_errors": metrics.auroc(answers.uncertainty, ~right),
        "uncertainty": float(answers.uncertainty.mean()),
    }


def confidence_bins(answers: Answers, target: NDArray[np.int64]) -> dict[str, list[float]]:
    """Sums per bin of confidence, so that runs can be pooled."""
    sure = answers.probability.max(axis=1)
    right = answers.probability.argmax(axis=1) == target
    mean, share, count = metrics.reliability_curve(sure, right, bins=BINS)
    return {
        "count": [float(value) for value in count],
        "confidence": [float(value) for value in np.nan_to_num(mean * count)],
        "correct": [float(value) for value in np.nan_to_num(share * count)],
    }


def detection(clean: Answers, copy: Answers, replaced: NDArray[np.bool_]) -> dict[str, float]:
    """How well rows with a replaced view are told from their own clean selves."""
    flags = np.repeat([True, False], int(replaced.sum()))
    doubt = np.concatenate([copy.uncertainty[replaced], clean.uncertainty[replaced]])
    found = {
        "conflict_auroc": metrics.auroc(doubt, flags),
        "conflict_fpr95": metrics.fpr95(doubt, flags),
    }
    if clean.conflict is not None and copy.conflict is not None:
        degree = np.concatenate([copy.conflict[replaced], clean.conflict[replaced]])
        found["conflict_auroc_degree"] = metrics.auroc(degree, flags)
        found["conflict_fpr95_degree"] = metrics.fpr95(degree, flags)
    return found
