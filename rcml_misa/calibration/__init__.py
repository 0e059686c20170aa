"""Temperatures, conformal sets and intervals, and scales of scores, fitted on held-out rows."""

from rcml_misa.calibration.classes import (
    Calibrator,
    ConformalSets,
    EvidenceTemperature,
    ProbabilityTemperature,
)
from rcml_misa.calibration.scores import ScaleCalibrator, conformal_factor

__all__ = [
    "Calibrator",
    "ConformalSets",
    "EvidenceTemperature",
    "ProbabilityTemperature",
    "ScaleCalibrator",
    "conformal_factor",
]
