"""Principal components of mapped views: of all rows, and of the rows beside each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from rcml_misa.experts.standing import EDGE, FARTHEST
from rcml_misa.reading.features import FeatureMap, Features, Scaling
from rcml_misa.views import ViewArray, dense, present_rows

__all__ = ["READINGS", "FoldParts", "Part", "ViewSums", "WhiteColumns"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
READINGS: tuple[tuple[Scaling, Features], ...] = (("standard", "plain"), ("minmax", "quantile"))
WIDTH = 24  # principal components of a view in a reading
ROUNDING = 1e-12  # share of the mean square that a variance must exceed
SMALL = 200  # rows of a matrix up to which float64 costs little


@dataclass(frozen=True)
class WhiteColumns:
    """Principal components of one reading of a view, of variance 1 over train rows.

    Parameters
    ----------
    map : FeatureMap
    centre, components : ndarray of shape (d,) and (d, m)
        Mean of the mapped columns, and the components, divided by their deviations.
    deviations : ndarray of shape (m,)
        Standard deviations of the components.
    size : float
        Root of the total variance of the mapped columns.
    """

    map: FeatureMap
    centre: Array
    components: Array
    deviations: Array
    size: float

    @classmethod
    def fit(cls, mapping: FeatureMap, values: ViewArray) -> WhiteColumns:
        """Learn from the rows of `values`, (n, d), that have the view, read by `mapping`."""
        return ViewSums.of(mapping, values).white()

    def __call__(self, values: Array) -> Part:
        """Compute components (n, m) of raw rows (n, d), and how far (n,) they are from the rows.

        The latter is the norm of what the components leave, and of what is cut off columns beyond
        10 deviations, over the root of the total variance.
        """
        return self.part(CutColumns.of(self.map, values))

    def part(self, columns: CutColumns) -> Part:
        """Compute the same of rows that are mapped already."""
        cut, squares, beyond, present = columns
        parts = cut @ self.components - self.centre @ self.components
        # of the centred columns and of their components
        lengths = squares - 2 * cut @ self.centre + self.centre @ self.centre
        left = np.maximum(lengths - ((parts * self.deviations) ** 2).sum(axis=1), 0) + beyond
        parts[~present] = 0
        return Part(parts, np.sqrt(left) / self.size)


class CutColumns(NamedTuple):
    """Mapped columns of n rows of a view, cut at 10 deviations.

    `cut` (n, d) holds the columns, `squares` (n,) the sums of their squares, `beyond` (n,) those of
    what is cut off, `present` (n,) which rows have the view.
    """

    cut: Array
    squares: Array
    beyond: Array
    present: NDArray[np.bool_]

    @classmethod
    def of(cls, mapping: FeatureMap, values: ViewArray) -> Self:
        """Map raw rows (n, d)."""
        cut = mapping.transform(dense(values))
        beyond = np.zeros(len(cut))
        if max(cut.max(initial=0), -cut.min(initial=0)) > EDGE:
            mapped = np.clip(cut, -FARTHEST, FARTHEST)
            cut = np.clip(mapped, -EDGE, EDGE)
            beyond = ((mapped - cut) ** 2).sum(axis=1)
        return cls(cut, np.einsum("nd,nd->n", cut, cut), beyond, present_rows(values))

    def take(self, rows: Rows) -> CutColumns:
        """Select some of the rows."""
        return CutColumns(self.cut[rows], self.squares[rows], self.beyond[rows], self.present[rows])


class ViewSums:
    """Sums over the rows of a view, mapped by `map`, that principal components are solved from.

    They are products of columns, (d, d), or of rows, (n, n), whichever are fewer, and serve any
    part of the rows without a new product of all.
    """

    def __init__(self, mapping: FeatureMap, columns: CutColumns) -> None:
        self.map, self.columns = mapping, columns
        present = columns.present
        self._numbers = np.flatnonzero(present)
        whole = len(self._numbers) == len(present)
        self._cut = columns.cut if whole else columns.cut[present]
        rows, width = self._cut.shape
        self._turned = rows <= width
        self._products = self._cut @ self._cut.T if self._turned else self._cut.T @ self._cut
        self._sum, self._squares = self._cut.sum(axis=0), columns.squares[present]

    @classmethod
    def of(cls, mapping: FeatureMap, values: ViewArray) -> Self:
        """Map raw rows (n, d)."""
        return cls(mapping, CutColumns.of(mapping, values))

    def white(self, without: Rows | None = None) -> WhiteColumns:
        """Compute the components of the rows but those of some numbers."""
        counted = np.ones(len(self.columns.present), dtype=bool)
        counted[[] if without is None else without] = False
        counted = counted[self._numbers]
        apart, rows, width = self._cut[~counted], int(counted.sum()), self._cut.shape[1]
        centre = (self._sum - apart.sum(axis=0)) / rows
        square = float(self._squares[counted].mean())
        variance = square - float(centre @ centre)
        if variance <= ROUNDING * square:  # constant columns, or a single row
            return WhiteColumns(self.map, centre, np.zeros((width, 1)), np.ones(1), 1.0)
        count = max(1, min(WIDTH, width, rows // 4))
        if self._turned:
            products = self._products[np.ix_(counted, counted)]
            means = products.mean(axis=0)
            products -= means
            products -= (means - means.mean())[:, None]
            spectrum, vectors = _largest(products, count)
            basis = np.zeros((len(counted), count))
            basis[counted] = vectors
            components = self._cut.T @ basis - np.outer(centre, vectors.sum(axis=0))
            components /= np.maximum(np.linalg.norm(components, axis=0), 1e-300)
        else:
            products = self._products - rows * np.outer(centre, centre)
            if len(apart):
                products -= apart.T @ apart
            spectrum, components = _largest(products, count)
        explained = np.maximum(spectrum, 0) / (rows - 1)
        spread = np.sqrt(np.maximum(explained, 1e-6 * explained.max()))
        return WhiteColumns(self.map, centre, components / spread, spread, variance**0.5)


def _largest(matrix: Array, count: int) -> tuple[Array, Array]:
    """Compute the largest eigenvalues of a symmetric matrix, falling, and their vectors.

    Those of a large one are computed in float32, in half the time.
    """
    rows = len(matrix)
    spectrum, basis = eigh(
        matrix if rows <= SMALL else matrix.astype(np.float32),
        subset_by_index=[rows - count, rows - 1],
        overwrite_a=True,
        check_finite=False,
    )
    return spectrum[::-1].astype(np.float64), basis[:, ::-1].astype(np.float64)


class Part(NamedTuple):
    """Components (n, m) of a view in a reading, and how far (n,) a row is from their plane."""

    values: Array
    left: Array

    def take(self, rows: slice | Rows) -> Part:
        """Select some of the rows."""
        return Part(self.values[rows], self.left[rows])


class FoldParts:
    """Components of rows of N tables in R readings, by those of all rows and of all but a fold.

    Parameters
    ----------
    tables, noise : sequence of array of shape (n, d_v)
        Rows, and noise in place of each.
    folds : sequence of ndarray
        Row numbers of each fold; None for a fold of no row, whose noise is that of all rows.

    Attributes
    ----------
    columns : list of tuple of tuple of WhiteColumns
        Per fold, reading and view: components of the rows that are not in the fold.
    parts, noise : list of list of list of Part
        The same of all n rows, and of the noise of the fold's rows.
    """

    def __init__(
        self,
        tables: Sequence[ViewArray],
        noise: Sequence[ViewArray],
        folds: Sequence[Rows | None],
    ) -> None:
        readings = [
            [self._read(*pair, reading, folds) for pair in zip(tables, noise, strict=True)]
            for reading in READINGS
        ]
        self.columns = [
            tuple(tuple(white[fold] for white, _, _ in reading) for reading in readings)
            for fold in range(len(folds))
        ]
        self.parts, self.noise = (
            [[[view[fold] for view in reading] for reading in kind] for fold in range(len(folds))]
            for kind in (
                [[own for _, own, _ in reading] for reading in readings],
                [[other for _, _, other in reading] for reading in readings],
            )
        )

    @staticmethod
    def _read(
        table: ViewArray,
        noise: ViewArray,
        reading: tuple[Scaling, Features],
        folds: Sequence[Rows | None],
    ) -> tuple[list[WhiteColumns], list[Part], list[Part]]:
        """Read a view once for all folds."""
        scaling, features = reading
        mapping = FeatureMap.fit(table, scaling=scaling, features=features)
        sums, other = ViewSums.of(mapping, table), CutColumns.of(mapping, noise)
        white = [sums.white(fold) for fold in folds]
        parts = [columns.part(sums.columns) for columns in white]
        noisy = [
            columns.part(other if fold is None else other.take(fold))
            for columns, fold in zip(white, folds, strict=True)
        ]
        return white, parts, noisy
