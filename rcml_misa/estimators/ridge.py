"""Ridge regression on Nystroem features, in blocks of rows, with exact leave-one-out scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = [
    "NystroemFeatures",
    "Ridge",
    "blocks",
    "fit_ridge",
    "kernel_values",
    "squared_distances",
]

Array = NDArray[Any]
LINEAR = 0.3  # weight of the linear part beside the Gaussian one
BLOCK = 8192  # rows held at once
SMALL = 400  # landmarks up to which float64 costs nothing


def blocks(rows: int) -> Iterator[slice]:
    """Slices of at most 8192 rows that cover `rows` rows."""
    for start in range(0, rows, BLOCK):
        yield slice(start, min(start + BLOCK, rows))


def kernel_values(left: Array, right: Array, gamma: float, widths: Sequence[int]) -> Array:
    """Mean over groups of columns of exp(-gamma |a - b|^2) + 0.3 <a, b>, for all pairs of rows.

    Parameters
    ----------
    left, right : ndarray of shape (n, d) and (m, d)
    gamma : float
        Width of the Gaussian part.
    widths : sequence of int
        Columns of each group; they add up to d.

    Examples
    --------
    >>> kernel_values(np.zeros((1, 2)), np.zeros((3, 2)), 0.5, (2,))
    array([[1., 1., 1.]])
    """
    edges = np.cumsum((0, *widths))
    result = np.zeros((len(left), len(right)), dtype=left.dtype)
    for start, stop in pairwise(edges):
        a, b = left[:, start:stop], right[:, start:stop]
        inner = a @ b.T
        squared = squared_distances(a, b, inner)
        squared *= -gamma
        np.exp(squared, out=squared)
        result += squared
        inner *= LINEAR
        result += inner
    result /= len(widths)
    return result


def squared_distances(left: Array, right: Array, inner: Array | None = None) -> Array:
    """|a - b|^2 for all pairs of rows; `inner` holds their inner products where they are known.

    Examples
    --------
    >>> squared_distances(np.array([[0.0]]), np.array([[3.0], [4.0]]))
    array([[ 9., 16.]])
    """
    products = left @ right.T if inner is None else inner
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    squares -= 2 * products
    return np.asarray(np.maximum(squares, 0, out=squares))


class NystroemFeatures:
    """Features K_nm L^-T of n rows, L L' = K_mm over m landmarks, block by block.

    Their inner products are the Nystroem kernel. The diagonal of K_mm is lifted by rounding's
    worth so that its Cholesky factor exists. The features of up to 8192 rows are kept.

    Parameters
    ----------
    values : callable
        Gives the mapped columns (float32) of a slice of rows.
    rows : int
        n.
    landmarks : ndarray of shape (m, d)
        Mapped columns of the landmarks.
    kernel : callable
        Gives the kernel values of two sets of rows.
    """

    def __init__(
        self,
        values: Callable[[slice], Array],
        rows: int,
        landmarks: Array,
        kernel: Callable[[Array, Array], Array],
    ) -> None:
        self.values = values
        self.rows = rows
        self.landmarks = landmarks
        self.kernel = kernel
        square = kernel(landmarks, landmarks).astype(np.float64)
        square[np.diag_indices(len(square))] += 1e-6 * square.trace() / len(square) + 1e-5
        self.factor = np.linalg.cholesky(square)
        self._narrow = self.factor.astype(landmarks.dtype)
        self._kept = self._compute(slice(0, rows)) if rows <= BLOCK else None

    def _compute(self, block: slice) -> Array:
        cross = self.kernel(self.values(block), self.landmarks)
        solved = solve_triangular(self._narrow, cross.T, lower=True, check_finite=False)
        return np.asarray(solved.T)

    def __call__(self, block: slice) -> Array:
        """Features (len(block), m)."""
        return self._compute(block) if self._kept is None else self._kept


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression.

    Attributes
    ----------
    weights : ndarray of shape (m, K)
        Act on kernel values against the landmarks.
    intercept : ndarray of shape (K,)
    penalty : float
    loo_scores : ndarray of shape (n, K)
        For each row the prediction of the ridge fitted without it: y - r / (1 - h).
    """

    weights: Array
    intercept: Array
    penalty: float
    loo_scores: Array


def _eigh(matrix: Array, dtype: Any) -> tuple[Array, Array]:
    """Eigenvalues and vectors; in float32 where the matrix is large, which halves the time."""
    if len(matrix) <= SMALL or dtype == np.float64:
        spectrum, basis = np.linalg.eigh(matrix)
        return spectrum, basis
    # torch's routine is the faster one; the penalties start far above float32's rounding
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix.astype(np.float32)))
    return values.double().numpy(), vectors.double().numpy()


def fit_ridge(
    phi: NystroemFeatures,
    onehot: Array,
    penalties: Sequence[float],
    weights: Array | None = None,
) -> Ridge:
    """Regress centred one-hot classes on centred features; choose the penalty by leave-one-out.

    One eigendecomposition of the features' covariance serves all penalties and all leverages, so
    that no n x n matrix appears. The penalty of least leave-one-out square error is kept.

    Parameters
    ----------
    phi : NystroemFeatures
    onehot : ndarray of shape (n, K)
    penalties : sequence of float
    weights : ndarray of shape (n,), optional
        Of the rows' square errors, positive, of mean 1; a leverage is in proportion to its row's.

    References
    ----------
    Allen, Technometrics 16, 1974 (PRESS): the residual without row i is r_i / (1 - h_i).
    """

    def weighed(values: Array, block: slice) -> Array:
        return values if weights is None else values * weights[block, None].astype(values.dtype)

    rows, count, dtype = len(onehot), len(phi.landmarks), phi.landmarks.dtype
    gram, total = np.zeros((count, count)), np.zeros(count)
    moments = np.zeros((count, onehot.shape[1]))
    for block in blocks(rows):
        values = phi(block)
        heavy = weighed(values, block)
        gram += values.T @ heavy
        total += heavy.sum(axis=0, dtype=np.float64)
        moments += heavy.T @ onehot[block]
    centre = total / rows
    base = weighed(onehot, slice(None)).mean(axis=0, dtype=np.float64)
    gram -= rows * np.outer(centre, centre)
    moments -= rows * np.outer(centre, base)
    spectrum, basis = _eigh(gram, dtype)
    spectrum = np.maximum(spectrum, 0)
    rotated_moments = basis.T @ moments
    inverse = (1 / (spectrum[:, None] + np.asarray(penalties)[None, :])).astype(dtype)
    narrow, shift = basis.astype(dtype), (centre @ basis).astype(dtype)
    solutions = [rotated_moments * inverse[:, [number]] for number in range(len(penalties))]

    def residuals(rotated: Array, leverage: Array, block: slice, number: int) -> Array:
        fitted = base + rotated @ solutions[number].astype(dtype)
        return np.asarray((onehot[block] - fitted) / np.maximum(1 - leverage[:, [number]], 1e-6))

    errors = np.zeros(len(penalties))
    kept = []
    for block in blocks(rows):
        rotated = phi(block) @ narrow - shift
        leverage = weighed((1 / rows + (rotated**2) @ inverse).astype(np.float64), block)
        for number in range(len(penalties)):
            squares = residuals(rotated, leverage, block, number) ** 2
            errors[number] += float(weighed(squares, block).sum())
        kept.append((rotated if rows <= BLOCK else None, leverage))
    best = int(np.argmin(errors))
    scores = np.empty(onehot.shape)
    for block, (known, leverage) in zip(blocks(rows), kept, strict=True):
        rotated = phi(block) @ narrow - shift if known is None else known
        scores[block] = onehot[block] - residuals(rotated, leverage, block, best)
    coefficients = basis @ solutions[best]
    weights = solve_triangular(phi.factor.T, coefficients, lower=False, check_finite=False)
    return Ridge(
        weights=weights.astype(dtype),
        intercept=base - centre @ coefficients,
        penalty=float(penalties[best]),
        loo_scores=scores,
    )
