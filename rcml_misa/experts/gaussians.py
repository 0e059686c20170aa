"""Gaussians of the views' columns: how well a view fits the rest of its row, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from rcml_misa.experts.components import Part, WhiteColumns
from rcml_misa.experts.standing import PATTERNS, FoldedGaussians
from rcml_misa.reading.features import FeatureMap
from rcml_misa.reading.plan import ReadingPlan
from rcml_misa.views import MultiView, dense

__all__ = ["Metric", "RowGaussians", "ViewGaussians"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
PSEUDO = 1.0  # rows at the common mean that are added to each class


@dataclass(frozen=True)
class ViewGaussians:
    """Gaussians of all views' components side by side, one mean per class and one covariance.

    Parameters
    ----------
    means : ndarray of shape (K, m)
    covariance : ndarray of shape (m, m)
    widths : tuple of int
        Components of each view.
    prior : ndarray of shape (K,)
        Shares of the classes.
    """

    means: Array
    covariance: Array
    widths: tuple[int, ...]
    prior: Array

    @classmethod
    def fit(cls, parts: list[Array], codes: Rows, present: NDArray[np.bool_], classes: int) -> Self:
        """Learn from components (n, m_v) of each view, class numbers and presence (n, N)."""
        values = np.concatenate(parts, axis=1)
        onehot = np.zeros((len(codes), classes))
        onehot[np.arange(len(codes)), codes] = 1
        here = np.repeat(present, [part.shape[1] for part in parts], axis=1)
        counts, sums = onehot.T @ here, onehot.T @ values
        # each row's deviation from the mean of the others of its class, as new rows deviate
        others = (sums[codes] - values) / (counts[codes] - here + PSEUDO)
        deviations = np.where(here, values - others, 0.0)
        whole = present.all(axis=1)
        some = whole if whole.sum() >= min(2 * values.shape[1], len(values)) else slice(None)
        covariance = LedoitWolf(assume_centered=True).fit(deviations[some]).covariance_
        ridge = 1e-6 * max(float(np.trace(covariance)) / len(covariance), 1e-12)
        return cls(
            sums / (counts + PSEUDO),
            covariance + ridge * np.eye(len(covariance)),
            tuple(part.shape[1] for part in parts),
            onehot.mean(axis=0),
        )

    def __call__(
        self, parts: list[Array], others: Array, present: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """Compare each view with what the row's other views make of it.

        Returns log p(x_v) - log sum_c q_vc p(x_v | x_others, c), (n, N), q_v = exp `others`[:, v]
        (n, N, K) the class shares by the other views, and the least squared distance (n, N) of a
        view to a class by itself. A view that a row lacks has 0.
        """
        values = np.concatenate(parts, axis=1)
        ratio, distance = np.zeros(present.shape), np.zeros(present.shape)
        prior = np.log(np.maximum(self.prior, 1e-12))
        for view, (own, metric) in enumerate(zip(self._columns, self.alone, strict=True)):
            having = present[:, view]
            squares = metric(values[np.ix_(having, own)])
            ratio[having, view] = _log_sum(prior - squares / 2) + metric.scale
            distance[having, view] = squares.min(axis=1)
        alike = (present == present[:1]).all()  # nearly always, and faster to see
        for pattern in present[:1] if alike else np.unique(present, axis=0):
            rows = np.flatnonzero((present == pattern).all(axis=1))
            some = np.flatnonzero(pattern)
            if not some.size:
                continue
            every, precision, metrics = self.together(some)
            pulled = values[np.ix_(rows, every)] @ precision
            ends = np.cumsum([self.widths[place] for place in some])
            blocks = np.split(pulled, ends[:-1], axis=1)
            for place, block, metric in zip(some, blocks, metrics, strict=True):
                squares = metric(block)
                ratio[rows, place] -= _log_sum(others[rows, place] - squares / 2) - metric.scale
        return ratio, distance

    @cached_property
    def _columns(self) -> list[Rows]:
        """Columns of each view."""
        return np.split(np.arange(sum(self.widths)), np.cumsum(self.widths)[:-1])

    @cached_property
    def alone(self) -> list[Metric]:
        """Distances of each view by itself."""
        return [
            Metric.of(self.means[:, own], _inverse(self.covariance[np.ix_(own, own)]))
            for own in self._columns
        ]

    @cached_property
    def _patterns(self) -> dict[tuple[int, ...], tuple[Rows, Array, list[Metric]]]:
        """Results of `together` for patterns of presence that were met."""
        return {}

    def together(self, some: Rows) -> tuple[Rows, Array, list[Metric]]:
        """Columns of some views, their precision, and distances of each given the others."""
        pattern = tuple(some.tolist())
        if pattern in self._patterns:
            return self._patterns[pattern]
        every = np.concatenate([self._columns[view] for view in some])
        precision = _inverse(self.covariance[np.ix_(every, every)])
        pulled, metrics, start = self.means[:, every] @ precision, [], 0
        for view in some:
            # given the other views, the deviation times its precision is a block of the
            # whole deviation times the whole precision, and its precision that block
            block = slice(start, start + self.widths[view])
            metrics.append(Metric.of(pulled[:, block], _inverse(precision[block, block])))
            start = block.stop
        if len(self._patterns) >= PATTERNS:
            self._patterns.clear()
        self._patterns[pattern] = every, precision, metrics
        return self._patterns[pattern]


@dataclass(frozen=True)
class Metric:
    """Squared Mahalanobis distances to K means.

    Parameters
    ----------
    root : ndarray of shape (m, m)
        Cholesky factor of the precision.
    centres : ndarray of shape (K, m)
        Means times it.
    scale : float
        Half the log determinant of the precision.
    """

    root: Array
    centres: Array
    scale: float

    @classmethod
    def of(cls, means: Array, precision: Array) -> Self:
        """Prepare for means (K, m) and a precision (m, m)."""
        root = np.asarray(np.linalg.cholesky((precision + precision.T) / 2), dtype=np.float64)
        return cls(root, means @ root, float(np.log(np.diag(root)).sum()))

    def __call__(self, values: Array) -> Array:
        """Compute squared distances (n, K) of rows (n, m)."""
        turned = values @ self.root
        squares = (turned**2).sum(axis=1)[:, None] - 2 * turned @ self.centres.T
        squares += (self.centres**2).sum(axis=1)
        return np.asarray(np.maximum(squares, 0))


def _inverse(matrix: Array) -> Array:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _log_sum(logs: Array) -> Array:
    """Compute log sum exp of each row (n, K); SciPy's takes most of the time for one row."""
    largest = logs.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(logs - largest).sum(axis=1)) + largest[:, 0])


@dataclass(frozen=True)
class RowGaussians:
    """Gaussians of rows of N tables in R readings; build them with `RowGaussians.fit`.

    Parameters
    ----------
    columns : tuple of tuple of WhiteColumns
        Per reading and view.
    gaussians : tuple of ViewGaussians
        Per reading.
    """

    columns: tuple[tuple[WhiteColumns, ...], ...]
    gaussians: tuple[ViewGaussians, ...]

    @classmethod
    def fit(
        cls, maps: Sequence[Sequence[FeatureMap]], tables: MultiView, codes: Rows, classes: int
    ) -> Self:
        """Learn from rows of tables, read by fitted `maps` (R, N), and their class numbers."""
        columns = tuple(
            tuple(WhiteColumns.fit(m, a) for m, a in zip(reading, tables.arrays, strict=True))
            for reading in maps
        )
        return cls.of(columns, cls(columns, ()).parts(tables), codes, tables.present, classes)

    @classmethod
    def of(
        cls,
        columns: tuple[tuple[WhiteColumns, ...], ...],
        parts: Sequence[Sequence[Part]],
        codes: Rows,
        present: NDArray[np.bool_],
        classes: int,
    ) -> Self:
        """Learn from components of rows, their class numbers (n,) and presence (n, N)."""
        gaussians = tuple(
            ViewGaussians.fit([part.values for part in reading], codes, present, classes)
            for reading in parts
        )
        return cls(columns, gaussians)

    def folded(self, plan: ReadingPlan) -> FoldedGaussians:
        """Make the Gaussians ready for new rows that a plan reads."""
        return FoldedGaussians(self.columns, self.gaussians, plan)

    def parts(self, tables: MultiView) -> list[list[Part]]:
        """Compute the components of rows, per reading and view."""
        arrays = [dense(array) for array in tables.arrays]
        return [
            [columns(array) for columns, array in zip(reading, arrays, strict=True)]
            for reading in self.columns
        ]

    def __call__(
        self, parts: Sequence[Sequence[Part]], others: Array, present: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """Compute ratios (R, n, N) and distances (2 R, n, N) of rows.

        Ratios are those of `ViewGaussians`; distances are those to the nearest class, and from the
        components' plane.
        """
        ratios, distances = [], []
        for model, reading in zip(self.gaussians, parts, strict=True):
            ratio, squares = model([part.values for part in reading], others, present)
            ratios.append(ratio)
            distances += [np.sqrt(squares), np.stack([part.left for part in reading], axis=1)]
        return np.stack(ratios), np.stack(distances)
