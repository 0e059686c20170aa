"""What an estimator answers about test rows, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy

from rcml_misa.calibration.classes import (
    ConformalSets,
    EvidenceTemperature,
    ProbabilityTemperature,
)
from rcml_misa.exceptions import DataError
from rcml_misa.metrics import classes as metrics
from rcml_misa.opinions import Opinion, dissonance, mutual_information
from rcml_misa.views import MultiView

__all__ = [
    "COVERAGES",
    "Answers",
    "ask",
    "confidence_bins",
    "detection",
    "mend",
    "ranking",
    "risk_curve",
    "score",
    "uncertainty_scores",
]

BINS = 15
LEVEL = 0.9  # of conformal sets
COVERAGES = tuple(round(0.05 * step, 2) for step in range(1, 21))  # of stored risk curves

Array = NDArray[np.float64]


def _full(probability: Array, classes: NDArray[Any], count: int) -> Array:
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
        The method's own: vacuity of the fused opinion, or what `predict_uncertainty` says; one
        minus the top probability for methods without either.
    conflict : ndarray of shape (n,) or None
        Mean degree of conflict of the views' opinions, or what `predict_conflict` says.
    classes : ndarray of int
        Class numbers that were trained on.
    evidence : ndarray of shape (n, len(classes)) or None
        Fused evidence, for evidential methods.
    """

    predicted: NDArray[Any]
    probability: Array
    uncertainty: Array
    conflict: Array | None
    classes: NDArray[np.int64]
    evidence: Array | None = None


def ask(estimator: Any, views: MultiView, classes: int) -> Answers:
    """Ask a fitted estimator about some rows of a set of `classes` classes.

    It has `predict_opinion` (a `MultiViewOpinion`), or `predict_proba` and perhaps
    `predict_uncertainty` and `predict_conflict`, which give a number per row.

    Raises
    ------
    DataError
        If it answers with what are no numbers.
    """
    known = np.asarray(estimator.classes_).astype(np.int64)
    opinion = estimator.predict_opinion(views) if hasattr(estimator, "predict_opinion") else None
    given = estimator.predict_proba(views) if opinion is None else opinion.probability
    probability = _full(given, known, classes)
    if not np.isfinite(probability).all():
        raise DataError(
            f"{type(estimator).__name__} gives NaN for {_bad_rows(probability)} of "
            f"{len(probability)} rows; it can't use such rows."
        )
    if opinion is not None:
        predicted = known[opinion.evidence.argmax(axis=1)]
        conflict = opinion.conflict if len(opinion.views) > 1 else None
        return Answers(
            predicted, probability, opinion.uncertainty, conflict, known, opinion.evidence
        )
    uncertainty, conflict = 1 - probability.max(axis=1), None
    if hasattr(estimator, "predict_uncertainty"):
        uncertainty = estimator.predict_uncertainty(views)
    if hasattr(estimator, "predict_conflict") and views.n_views > 1:
        conflict = estimator.predict_conflict(views)
    return Answers(estimator.predict(views), probability, uncertainty, conflict, known)


def _bad_rows(probability: Array) -> int:
    return int((~np.isfinite(probability)).any(axis=1).sum())


def score(answers: Answers, target: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, calibration and selection on rows of class numbers `target`."""
    right = answers.predicted == target
    doubt, p = answers.uncertainty, answers.probability
    return {
        "accuracy": metrics.accuracy(answers.predicted, target),
        "macro_f1": metrics.macro_f1(answers.predicted, target),
        "balanced_accuracy": metrics.balanced_accuracy(answers.predicted, target),
        "ece": metrics.ece(p, target, bins=BINS),
        "adaptive_ece": metrics.adaptive_ece(p, target, bins=BINS),
        "nll": metrics.nll(p, target),
        "brier": metrics.brier(p, target),
        "aurc": metrics.aurc(doubt, right),
        "augrc": metrics.augrc(doubt, right),
        "accuracy_at_80": metrics.accuracy_at_coverage(doubt, right, 0.8),
        "accuracy_at_90": metrics.accuracy_at_coverage(doubt, right, 0.9),
        "auroc_errors": metrics.auroc(doubt, ~right),
        "uncertainty": float(doubt.mean()),
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


def risk_curve(answers: Answers, target: NDArray[np.int64]) -> list[float]:
    """Error among the surest rows at each of `COVERAGES`."""
    right = answers.predicted == target
    doubt = answers.uncertainty
    return [1 - metrics.accuracy_at_coverage(doubt, right, share) for share in COVERAGES]


def uncertainty_scores(answers: Answers) -> dict[str, Array]:
    """Every uncertainty score that the answers allow, each of shape (n,), high where unsure.

    ``own`` is the method's (`Answers.uncertainty`). From `predict_proba` come
    ``max_probability`` (1 - max p), ``entropy`` and ``margin`` (1 minus the gap of the two largest
    p); from fused evidence ``vacuity``, ``mutual_information``, ``dissonance`` and
    ``evidence_margin`` (1 minus the gap of the two largest beliefs); from the views' opinions
    ``conflict``.
    """
    p = answers.probability
    found = {
        "own": answers.uncertainty,
        "max_probability": 1 - p.max(axis=1),
        "entropy": np.asarray(entropy(p, axis=1)),
        "margin": 1 - _gap(p),
    }
    if answers.evidence is not None:
        evidence = torch.from_numpy(np.ascontiguousarray(answers.evidence))
        opinion = Opinion(evidence)
        found |= {
            "vacuity": opinion.uncertainty.numpy(),
            "mutual_information": mutual_information(evidence).numpy(),
            "dissonance": dissonance(evidence).numpy(),
            "evidence_margin": 1 - _gap(opinion.belief.numpy()),
        }
    if answers.conflict is not None:
        found["conflict"] = answers.conflict
    return found


def _gap(values: Array) -> Array:
    """How far the largest value of each row is from the second one."""
    best = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def ranking(doubts: dict[str, Array], positive: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """How well each score ranks the positive rows above the others: AUROC, AUPR and FPR95."""
    return {
        name: {
            "auroc": metrics.auroc(doubt, positive),
            "aupr": metrics.aupr(doubt, positive),
            "fpr95": metrics.fpr95(doubt, positive),
        }
        for name, doubt in doubts.items()
    }


def detection(clean: Answers, copy: Answers, altered: NDArray[np.bool_]) -> dict[str, float]:
    """How well altered rows are told from their own clean selves."""
    flags = np.repeat([True, False], int(altered.sum()))
    doubt = np.concatenate([copy.uncertainty[altered], clean.uncertainty[altered]])
    found = {
        "conflict_auroc": metrics.auroc(doubt, flags),
        "conflict_aupr": metrics.aupr(doubt, flags),
        "conflict_fpr95": metrics.fpr95(doubt, flags),
    }
    if clean.conflict is not None and copy.conflict is not None:
        degree = np.concatenate([copy.conflict[altered], clean.conflict[altered]])
        found["conflict_auroc_degree"] = metrics.auroc(degree, flags)
        found["conflict_fpr95_degree"] = metrics.fpr95(degree, flags)
    return found


def mend(
    valid: Answers, valid_target: NDArray[np.int64], test: Answers, target: NDArray[np.int64]
) -> dict[str, float]:
    """Fit a temperature and conformal sets on rows held back, and score them on test rows.

    The temperature scales evidence where there is some, else the probabilities' logarithms.
    Conformal sets have a level of 90 %; rows held back whose class was not trained on are left out.
    """
    known = np.isin(valid_target, valid.classes)
    codes = np.searchsorted(valid.classes, valid_target[known])
    count = test.probability.shape[1]
    if valid.evidence is not None and test.evidence is not None:
        heated: EvidenceTemperature | ProbabilityTemperature = EvidenceTemperature.fit(
            valid.evidence[known], codes
        )
        scaled = heated(test.evidence)
    else:
        heated = ProbabilityTemperature.fit(valid.probability[known][:, valid.classes], codes)
        scaled = heated(test.probability[:, valid.classes])
    probability = _full(scaled, test.classes, count)
    sets = ConformalSets.fit(valid.probability[known], valid_target[known], level=LEVEL)
    members = sets(test.probability)
    return {
        "temperature_nll": metrics.nll(probability, target),
        "temperature_ece": metrics.ece(probability, target, bins=BINS),
        "conformal_coverage": float(members[np.arange(len(target)), target].mean()),
        "conformal_size": float(members.sum(axis=1).mean()),
    }
