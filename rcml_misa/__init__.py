"""Evidential multi-view classification: a class, and an honest account of how far to trust it.

Names are imported when they are first used, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcml_misa.datasets import load_dataset
    from rcml_misa.estimators import (
        KernelExpertClassifier,
        MISAClassifier,
        MISARegressor,
        MultiViewOpinion,
        RCMLClassifier,
        RCMLMISAClassifier,
        RCMLMISARegressor,
    )
    from rcml_misa.estimators.registry import load
    from rcml_misa.views import MultiView

__all__ = [
    "KernelExpertClassifier",
    "MISAClassifier",
    "MISARegressor",
    "MultiView",
    "MultiViewOpinion",
    "RCMLClassifier",
    "RCMLMISAClassifier",
    "RCMLMISARegressor",
    "__version__",
    "load",
    "load_dataset",
]

__version__ = "0.2.0"

_HOMES = {
    "KernelExpertClassifier": "rcml_misa.estimators",
    "MISAClassifier": "rcml_misa.estimators",
    "MISARegressor": "rcml_misa.estimators",
    "MultiView": "rcml_misa.views",
    "MultiViewOpinion": "rcml_misa.estimators",
    "RCMLClassifier": "rcml_misa.estimators",
    "RCMLMISAClassifier": "rcml_misa.estimators",
    "RCMLMISARegressor": "rcml_misa.estimators",
    "load": "rcml_misa.estimators.registry",
    "load_dataset": "rcml_misa.datasets",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rcml_misa' has no attribute {name!r}")
