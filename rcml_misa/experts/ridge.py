"""Kernels of several views, features of rows, and ridge with exact leave-one-out scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = [
    "KERNELS",
    "BlockKernel",
    "KernelChoice",
    "NystroemFeatures",
    "Ridge",
    "RotatedFeatures",
    "RowFeatures",
    "blocks",
    "fit_ridge",
    "squared_distances",
]

Array = NDArray[Any]
Layout = Sequence[Sequence[int]]
KernelChoice = Literal["auto", "smooth", "medium", "rough", "fine"]
BLOCK = 8192  # rows held at once
LIFTS = 4  # attempts to lift the diagonal, each ten times the last
SMALL = 400  # landmarks up to which float64 costs nothing


def squared_distances(left: Array, right: Array, inner: Array | None = None) -> Array:
    """Compute |a - b|^2 for all pairs of rows; `inner` may hold their inner products.

    Examples
    --------
    >>> squared_distances(np.array([[0.0]]), np.array([[3.0], [4.0]]))
    array([[ 9., 16.]])
    """
    products = left @ right.T if inner is None else inner
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :]
    squares -= 2 * products
    return np.asarray(np.maximum(squares, 0, out=squares))


@dataclass(frozen=True)
class BlockKernel:
    """A sum of Gaussian kernels and a linear one over blocks of columns.

    Columns lie kind after kind (ways to map raw columns), and in each kind view after view. With
    d_kv the squared distance of two rows in view v of kind k, m kinds and N views,

        k(a, b) = mean_k exp(-g mean_v d_kv) + mean_{w, k, v} exp(-w d_kv)
                  + linear mean_{k, v} <a_kv, b_kv>.

    The first term, a product over views of width g, is near only to rows that are near in every
    view; the second, an additive one of widths w, generalises from each view by itself.

    Examples
    --------
    >>> kernel = BlockKernel(product=0.25, additive=(0.5,))
    >>> kernel(np.zeros((1, 2)), np.zeros((3, 2)), ((1, 1),))
    array([[2., 2., 2.]])
    """

    product: float
    additive: tuple[float, ...]
    linear: float = 0.1

    def __call__(self, left: Array, right: Array, layout: Layout) -> Array:
        """Compute kernel values (n, m); `layout` has the columns of each view in each kind."""
        edges = [0, *accumulate(width for kind in layout for width in kind)]
        blocks = len(edges) - 1
        result = np.zeros((len(left), len(right)), dtype=left.dtype)
        place = 0
        for kind in layout:
            together = np.zeros_like(result)
            for _ in kind:
                block = slice(edges[place], edges[place + 1])
                a, b = left[:, block], right[:, block]
                inner = a @ b.T
                squared = squared_distances(a, b, inner)
                together += squared
                for width in self.additive:
                    near = np.exp(squared * -width)
                    near /= blocks * len(self.additive)
                    result += near
                inner *= self.linear / blocks
                result += inner
                place += 1
            together *= -self.product / len(kind)
            np.exp(together, out=together)
            together /= len(layout)
            result += together
        return result


#: Kernels by name, from smooth to fine; an expert chooses among them by its leave-one-out scores.
KERNELS: Mapping[str, BlockKernel] = {
    "smooth": BlockKernel(product=0.05, additive=(0.2,)),
    "medium": BlockKernel(product=0.25, additive=(0.5,)),
    "rough": BlockKernel(product=0.5, additive=(1.5,)),
    "fine": BlockKernel(product=0.5, additive=(0.5, 4.0)),
}


def blocks(rows: int) -> Iterator[slice]:
    """Yield slices of at most 8192 rows that cover `rows` rows."""
    for start in range(0, rows, BLOCK):
        yield slice(start, min(start + BLOCK, rows))


class RowFeatures(Protocol):
    """Features of rows, (n, m) in all, block by block; `dtype` is theirs."""

    @property
    def width(self) -> int:
        """Number m of features."""

    @property
    def dtype(self) -> Any:
        """Type of the features' numbers."""

    def __call__(self, block: slice) -> Array:
        """Compute the features (len(block), m) of a block."""


class NystroemFeatures:
    """Features K_nm L^-T of n rows, L L' = K_mm over m landmarks, block by block.

    Their inner products are the Nystroem kernel. The diagonal of K_mm is lifted by rounding's
    worth, and tenfold where that is not enough, so that its Cholesky factor exists. `values` gives
    the mapped columns of a slice of rows; it is None where the rows are the landmarks themselves,
    in their order. The features of up to 8192 rows are kept.
    """

    def __init__(
        self,
        values: Callable[[slice], Array] | None,
        rows: int,
        landmarks: Array,
        kernel: Callable[[Array, Array], Array],
    ) -> None:
        self.values = values
        self.rows = rows
        self.landmarks = landmarks
        self.kernel = kernel
        square = kernel(landmarks, landmarks).astype(np.float64)
        self.factor = _lifted_cholesky(square, 1e-6 * square.trace() / len(square) + 1e-5)
        self._narrow = self.factor.astype(landmarks.dtype)
        if values is None:
            self._kept: Array | None = self._narrow
        else:
            self._kept = self._compute(slice(0, rows), values) if rows <= BLOCK else None

    @property
    def width(self) -> int:
        """Number of landmarks."""
        return len(self.landmarks)

    @property
    def dtype(self) -> Any:
        """Type of the landmarks' numbers."""
        return self.landmarks.dtype

    def kernel_weights(self, coefficients: Array) -> Array:
        """Turn coefficients (m, K) of these features into weights of kernel values."""
        weights = solve_triangular(self.factor.T, coefficients, lower=False, check_finite=False)
        return np.asarray(weights.astype(self.dtype))

    def _compute(self, block: slice, values: Callable[[slice], Array]) -> Array:
        cross = self.kernel(values(block), self.landmarks)
        solved = solve_triangular(self._narrow, cross.T, lower=True, check_finite=False)
        return np.asarray(solved.T)

    def __call__(self, block: slice) -> Array:
        """Compute the features (len(block), m) of a block."""
        if self._kept is None and self.values is not None:
            return self._compute(block, self.values)
        return np.asarray(self._kept)[block]


class RotatedFeatures:
    """Features (n, m) of fewer rows than columns, rotated into as many dimensions as rows.

    Ridge is the same in any rotation, and its cost falls with the number of columns.
    """

    def __init__(self, values: Array) -> None:
        spectrum, left = _eigh((values @ values.T).astype(np.float64), values.dtype)
        rounding = 1e-10 if values.dtype == np.float64 else 1e-6
        seen = spectrum > rounding * max(float(spectrum[-1]), 1e-300)
        roots = np.sqrt(spectrum[seen])
        self.basis = values.T.astype(np.float64) @ (left[:, seen] / roots)
        self._values = (left[:, seen] * roots).astype(values.dtype)
        self.width, self.dtype = int(seen.sum()), values.dtype

    def __call__(self, block: slice) -> Array:
        """Look up the rotated features of a block."""
        return np.asarray(self._values[block])

    def back(self, coefficients: Array) -> Array:
        """Turn coefficients (r, K) of the rotated features into those of the columns, (m, K)."""
        return np.asarray(self.basis @ coefficients)


def _lifted_cholesky(square: Array, lift: float) -> Array:
    """Factorise a kernel matrix that rounding may have left with eigenvalues below 0."""
    diagonal = np.diag_indices(len(square))
    for _ in range(LIFTS):
        square[diagonal] += lift
        try:
            return np.linalg.cholesky(square)
        except np.linalg.LinAlgError:
            lift *= 10
    square[diagonal] += lift
    return np.linalg.cholesky(square)


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression.

    Its coefficients (m, K) act on the features; `loo_scores` (n, K) hold for each row the
    prediction of the ridge fitted without it, y - r / (1 - h).
    """

    coefficients: Array
    intercept: Array
    penalty: float
    loo_scores: Array


def _eigh(matrix: Array, dtype: Any) -> tuple[Array, Array]:
    """Compute eigenvalues and vectors; in float32 where the matrix is large, in half the time."""
    if len(matrix) <= SMALL or dtype == np.float64:
        spectrum, basis = np.linalg.eigh(matrix)
        return spectrum, basis
    # torch's routine is the faster one; the penalties start far above float32's rounding
    values, vectors = torch.linalg.eigh(torch.from_numpy(matrix.astype(np.float32)))
    return values.double().numpy(), vectors.double().numpy()


def fit_ridge(
    phi: RowFeatures,
    onehot: Array,
    penalties: Sequence[float],
    weights: Array | None = None,
) -> Ridge:
    """Regress centred one-hot classes on centred features; choose the penalty by leave-one-out.

    One eigendecomposition of the features' covariance serves all penalties and all leverages, so
    that no n x n matrix appears. The penalty of least leave-one-out square error is kept. Weights
    (n,) of the rows' square errors are positive, and scaled to the mean 1; a leverage is in
    proportion to its row's. Source: Allen, Technometrics 16, 1974 (PRESS): the residual without
    row i is r_i / (1 - h_i).
    """
    weights = None if weights is None else weights / weights.mean()

    def weighed(values: Array, block: slice) -> Array:
        return values if weights is None else values * weights[block, None].astype(values.dtype)

    rows, count, dtype = len(onehot), phi.width, phi.dtype
    gram, total = np.zeros((count, count)), np.zeros(count)
    moments = np.zeros((count, onehot.shape[1]))
    for block in blocks(rows):
        values = phi(block)
        weighted = weighed(values, block)
        gram += values.T @ weighted
        total += weighted.sum(axis=0, dtype=np.float64)
        moments += weighted.T @ onehot[block]
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
    blocked = []
    for block in blocks(rows):
        rotated = phi(block) @ narrow - shift
        leverage = weighed((1 / rows + (rotated**2) @ inverse).astype(np.float64), block)
        for number in range(len(penalties)):
            squares = residuals(rotated, leverage, block, number) ** 2
            errors[number] += float(weighed(squares, block).sum())
        blocked.append((rotated if rows <= BLOCK else None, leverage))
    best = int(np.argmin(errors))
    scores = np.empty(onehot.shape)
    for block, (held, leverage) in zip(blocks(rows), blocked, strict=True):
        rotated = phi(block) @ narrow - shift if held is None else held
        scores[block] = onehot[block] - residuals(rotated, leverage, block, best)
    coefficients = basis @ solutions[best]
    return Ridge(
        coefficients=coefficients,
        intercept=base - centre @ coefficients,
        penalty=float(penalties[best]),
        loo_scores=scores,
    )
