"""Columns that a network reads of a table: one or two readings side by side, few of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from rcml_misa.reading.features import FeatureMap, Features, PresentRows, Scaling
from rcml_misa.views import ViewArray

__all__ = ["READINGS", "ColumnMap", "Readings"]

Readings = Literal["both", "root-layernorm", "root", "plain", "quantile"]
Array = NDArray[np.float64]

#: The two readings of ``"both"``.
READINGS: tuple[Features, ...] = ("root-layernorm", "quantile")
WIDEST = 256  # columns of a view; more are reduced to as many principal components
SAMPLE = 8192  # rows from which variances and principal components are computed


@dataclass(frozen=True)
class ColumnMap:
    """Read a table in one or two ways, each of mean column variance 1, and reduce wide results.

    Build it with `ColumnMap.fit`; every statistic comes from the rows given there.

    Parameters
    ----------
    maps : tuple of FeatureMap
        Readings, whose columns lie side by side.
    factors : tuple of float
        Factors of the readings, which bring their mean column variance over train rows to 1.
    centre : ndarray of shape (d,)
        Mean of the columns; empty where they are not reduced.
    components : ndarray of shape (d, 256)
        Principal components of the columns, not whitened; empty where they are not reduced.

    Examples
    --------
    >>> columns = ColumnMap.fit(np.array([[0.0, 2.0], [1.0, 4.0], [4.0, 6.0]]), readings="both")
    >>> columns.width  # two roots, their row-LayerNorm, two quantiles
    6
    """

    maps: tuple[FeatureMap, ...]
    factors: tuple[float, ...]
    centre: Array
    components: Array

    @classmethod
    def fit(
        cls, values: ViewArray, *, scaling: Scaling = "minmax", readings: Readings = "both"
    ) -> Self:
        """Learn the statistics of `values`, (n_rows, n_columns), but of rows without the view.

        Variances and components come from at most 8192 rows, evenly spaced.

        Raises
        ------
        OptionError
            If the scaling or a reading does not exist; see `FeatureMap.fit`.
        """
        present = PresentRows(values)
        kinds: tuple[Features, ...] = READINGS if readings == "both" else (readings,)
        maps = tuple(FeatureMap.fit(present, scaling=scaling, features=kind) for kind in kinds)
        some = present.sample(SAMPLE)
        parts = [mapping.transform(some) for mapping in maps]
        factors = tuple(_unit_variance(part) for part in parts)
        joined = np.concatenate([part * f for part, f in zip(parts, factors, strict=True)], axis=1)
        rows, width = joined.shape
        if width <= WIDEST:
            return cls(maps, factors, np.empty(0), np.empty((0, 0)))
        solver = "covariance_eigh" if rows > width else "full"
        pca = PCA(min(WIDEST, rows), svd_solver=solver).fit(joined)
        return cls(maps, factors, pca.mean_, np.ascontiguousarray(pca.components_.T))

    @property
    def width(self) -> int:
        """Number of columns that result."""
        return self.components.shape[1] or sum(mapping.width for mapping in self.maps)

    def transform(self, values: Array, dtype: type[np.floating[Any]] = np.float64) -> Array:
        """Read rows of shape (n, n_columns); a row without the view becomes zeros."""
        parts = [
            mapping.transform(values, dtype) * dtype(factor)
            for mapping, factor in zip(self.maps, self.factors, strict=True)
        ]
        joined = np.concatenate(parts, axis=1)
        if not self.components.size:
            return joined
        joined -= self.centre.astype(dtype)
        reduced = joined @ self.components.astype(dtype)
        reduced[np.isnan(values[:, 0])] = 0
        return np.asarray(reduced)


def _unit_variance(part: Array) -> float:
    """Compute the factor that brings the mean column variance of an array (n, d) to 1."""
    variance = float(part.var(axis=0).mean())
    return 1 / math.sqrt(variance) if variance > 1e-18 else 1.0
