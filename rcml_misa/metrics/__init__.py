"""Measures of classes, scores, sentiment and intervals, and the answers that they are taken of."""

from rcml_misa.metrics._classes import (
    accuracy,
    accuracy_at_coverage,
    adaptive_ece,
    augrc,
    aupr,
    aurc,
    auroc,
    balanced_accuracy,
    brier,
    ece,
    fpr95,
    macro_f1,
    nll,
    reliability_curve,
    risk_coverage_curve,
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
    "reliability_curve",
    "risk_coverage_curve",
]
