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
        RidgeExpertClassifier,
        ViewPipeline,
    )
    from rcml_misa.estimators.registry import load
    from rcml_misa.export import export_onnx
    from rcml_misa.reading.mapping import open_mapped
    from rcml_misa.reading.preparer import TablePreparer
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
    "RidgeExpertClassifier",
    "TablePreparer",
    "ViewPipeline",
    "__version__",
    "export_onnx",
    "load",
    "load_dataset",
    "open_mapped",
]

__version__ = "0.2.0"

# the other names are the estimators'
_HOMES = {
    "MultiView": "views",
    "TablePreparer": "reading.preparer",
    "export_onnx": "export",
    "load": "estimators.registry",
    "load_dataset": "datasets",
    "open_mapped": "reading.mapping",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"rcml_misa.{_HOMES.get(name, 'estimators')}"), name)
    raise AttributeError(f"module 'rcml_misa' has no attribute {name!r}")
