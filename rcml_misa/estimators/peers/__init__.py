"""The peers' methods, each from its paper and checked against its formulas."""

from rcml_misa.estimators.peers.evidential import (
    CCMLClassifier,
    EDLClassifier,
    ETMCClassifier,
    TMCClassifier,
)
from rcml_misa.estimators.peers.fuml import FUMLClassifier

__all__ = [
    "CCMLClassifier",
    "EDLClassifier",
    "ETMCClassifier",
    "FUMLClassifier",
    "TMCClassifier",
]
