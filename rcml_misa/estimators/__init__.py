"""Scikit-learn estimators of every method: this package's, its peers' and the controls."""

from rcml_misa.estimators.base import MultiViewClassifier, MultiViewEstimator, MultiViewRegressor
from rcml_misa.estimators.bml import BMLClassifier
from rcml_misa.estimators.closed_form import KernelExpertClassifier, RidgeExpertClassifier
from rcml_misa.estimators.controls import ControlClassifier
from rcml_misa.estimators.evidential import EvidentialClassifier
from rcml_misa.estimators.evidential_regression import RCMLMISARegressor
from rcml_misa.estimators.misa import MISAClassifier, MISARegressor
from rcml_misa.estimators.opinion import ArrayOpinion, MultiViewOpinion, ScoreOpinion
from rcml_misa.estimators.peers import (
    CCMLClassifier,
    EDLClassifier,
    ETMCClassifier,
    FUMLClassifier,
    TMCClassifier,
)
from rcml_misa.estimators.pipeline import ViewPipeline
from rcml_misa.estimators.published import NotesClassifier, RCMLClassifier
from rcml_misa.estimators.rcml_misa import RCMLMISAClassifier
from rcml_misa.estimators.softmax import EnsembleDirichletClassifier, SoftmaxClassifier
from rcml_misa.experts.expert import KernelExpert

__all__ = [
    "ArrayOpinion",
    "BMLClassifier",
    "CCMLClassifier",
    "ControlClassifier",
    "EDLClassifier",
    "ETMCClassifier",
    "EnsembleDirichletClassifier",
    "EvidentialClassifier",
    "FUMLClassifier",
    "KernelExpert",
    "KernelExpertClassifier",
    "MISAClassifier",
    "MISARegressor",
    "MultiViewClassifier",
    "MultiViewEstimator",
    "MultiViewOpinion",
    "MultiViewRegressor",
    "NotesClassifier",
    "RCMLClassifier",
    "RCMLMISAClassifier",
    "RCMLMISARegressor",
    "RidgeExpertClassifier",
    "ScoreOpinion",
    "SoftmaxClassifier",
    "TMCClassifier",
    "ViewPipeline",
]
