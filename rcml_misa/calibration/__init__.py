"""Temperatures, conformal sets and scales of scores, fitted on rows that the model was not."""

from rcml_misa.calibration.evidence import Calibrator
from rcml_misa.calibration.posthoc import (
    ConformalSets,
    EvidenceTemperature,
    ProbabilityTemperature,
)
from rcml_misa.calibration.scores import ScaleCalibrator

__all__ = [
    "Calibrator",
    "ConformalSets",
    "EvidenceTemperature",
    "ProbabilityTemperature",
    "ScaleCalibrator",
]
