"""The peers' methods, each from its paper and checked against its formulas."""

from rcml_misa.estimators.peers.ccml import CCMLClassifier
from rcml_misa.estimators.peers.edl import EDLClassifier
from rcml_misa.estimators.peers.fuml import FUMLClassifier
from rcml_misa.estimators.peers.tmc import ETMCClassifier, TMCClassifier

__all__ = [
    "CCMLClassifier",
    "EDLClassifier",
    "ETMCClassifier",
    "FUMLClassifier",
    "TMCClassifier",
]
