"""Readings of raw views before an estimator learns: feature maps, quantiles, rows, input tables."""

from rcml_misa.reading.features import FeatureMap, Features, Scaling
from rcml_misa.reading.inputs import InputOptions, ViewReaders
from rcml_misa.reading.rows import InputTable, hold_out, row_weights

__all__ = [
    "FeatureMap",
    "Features",
    "InputOptions",
    "InputTable",
    "Scaling",
    "ViewReaders",
    "hold_out",
    "row_weights",
]
