"""Kernels of several views, and features of rows for a ridge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.experts.sums import Ridge, Sample, eigh, fit_ridges

__all__ = [
    "KERNELS",
    "BlockKernel",
    "KernelChoice",
    "KernelSum",
    "RotatedFeatures",
    "beside_squares",
    "blocks",
    "distance_matrix",
    "fit_ridge",
    "negative_distances",
    "nystroem_root",
]

Array = NDArray[Any]
Layout = Sequence[Sequence[int]]
KernelChoice = Literal["auto", "smooth", "medium", "rough", "fine"]
BLOCK = 8192  # rows held at once
ENTRIES = 2**24  # the same of wide rows, such as opinions of many views about many classes
LIFTS = 4  # attempts to lift the diagonal, each ten times the last


def beside_squares(rows: Tensor) -> Tensor:
    """Put |a|^2 and 1 beside rows a, (n, d + 2)."""
    squares = torch.linalg.vecdot(rows, rows)[:, None]
    return torch.cat([rows, squares, torch.ones_like(squares)], dim=1)


def distance_matrix(landmarks: Tensor) -> Tensor:
    """Make the matrix (d + 2, m) that turns `beside_squares` of rows into -|a - b|^2."""
    squares = torch.linalg.vecdot(landmarks, landmarks)[None]
    return torch.cat([2 * landmarks.T, -torch.ones_like(squares), -squares])


def negative_distances(left: Tensor, right: Tensor) -> Tensor:
    """Compute -|a - b|^2, (n, m), for all pairs of rows.

    Examples
    --------
    >>> negative_distances(torch.tensor([[0.0]]), torch.tensor([[3.0], [4.0]]))
    tensor([[ -9., -16.]])
    """
    return (beside_squares(left) @ distance_matrix(right)).clamp_max_(0)


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
    >>> kernel(torch.zeros(1, 2), torch.zeros(3, 2), ((1, 1),))
    tensor([[2., 2., 2.]])
    """

    product: float
    additive: tuple[float, ...]
    linear: float = 0.1

    def __call__(self, left: Tensor, right: Tensor, layout: Layout) -> Tensor:
        """Compute kernel values (n, m); `layout` has the columns of each view in each kind."""
        total = KernelSum(self, layout)
        start = 0
        for kind, widths in enumerate(layout):
            for width in widths:
                block = slice(start, start + width)
                total.add(kind, negative_distances(left[:, block], right[:, block]))
                start += width
        return total.values((left**2).sum(dim=1), (right**2).sum(dim=1))


class KernelSum:
    """Values of a `BlockKernel`, added up view by view of minus squared distances (n, m).

    Views and kinds may come in any order; the distances are not changed.
    """

    def __init__(self, kernel: BlockKernel, layout: Layout) -> None:
        self.kernel = kernel
        self.kinds, self.views = len(layout), len(layout[0])
        self._products: list[Tensor | None] = [None] * self.kinds  # exponents
        self._total: Tensor | None = None

    def add(
        self, kind: int, negative: Tensor, nears: dict[float, Tensor] | None = None
    ) -> dict[float, Tensor]:
        """Add a view in a kind; its Gaussians by width, of which `nears` may hold some."""
        own = {} if nears is None else nears
        count = self.kinds * self.views * len(self.kernel.additive)
        for width in self.kernel.additive:
            if width not in own:
                own[width] = (negative * width).exp_()
            if self._total is None:
                self._total = torch.zeros_like(negative)
            self._total.add_(own[width], alpha=1 / count)
        before = self._products[kind]
        if before is None:
            self._products[kind] = negative.clone() if self.views > 1 else negative
        else:
            before.add_(negative)
        return own

    def values(self, left: Tensor, right: Tensor) -> Tensor:
        """Compute kernel values (n, m) of rows with squared lengths (n,) and (m,)."""
        kernel = self.kernel
        # the linear part: 2 <a, b> = |a|^2 + |b|^2 - |a - b|^2
        linear = kernel.linear / (2 * self.kinds * self.views)
        result = (linear * left)[:, None] + (linear * right)[None, :]
        for negative in self._products:
            if negative is not None:
                near = (negative * (kernel.product / self.views)).exp_()
                result.add_(near, alpha=1 / self.kinds).add_(negative, alpha=linear)
        return result if self._total is None else result.add_(self._total)


#: Kernels by name, from smooth to fine; an expert chooses among them by its leave-one-out scores.
KERNELS: Mapping[str, BlockKernel] = {
    "smooth": BlockKernel(product=0.05, additive=(0.2,)),
    "medium": BlockKernel(product=0.25, additive=(0.5,)),
    "rough": BlockKernel(product=0.5, additive=(1.5,)),
    "fine": BlockKernel(product=0.5, additive=(0.5, 4.0)),
}


def blocks(rows: int, entries: int = 1) -> Iterator[slice]:
    """Yield slices that cover `rows` rows, of at most 8192 each or 2^24 entries, if rows have such.

    Examples
    --------
    >>> list(blocks(9000)), len(list(blocks(9000, 50_000)))
    ([slice(0, 8192, None), slice(8192, 9000, None)], 27)
    """
    size = max(1, min(BLOCK, ENTRIES // entries))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def nystroem_root(square: Tensor) -> Tensor:
    """Factorise the kernel K_mm = L L' of m landmarks, for Nystroem features L^-1 k of rows.

    Inner products of these features are the Nystroem kernel, k being a row's kernel values (m,).
    The diagonal is lifted by rounding's worth, and tenfold where that is not enough, so that the
    Cholesky factor L, in float64, exists. The landmarks' own features are the rows of L, but for
    what the diagonal was lifted.

    Examples
    --------
    >>> nystroem_root(torch.tensor([[4.0]])).round(decimals=4)
    tensor([[2.]], dtype=torch.float64)
    """
    square = square.double()
    lift = 1e-6 * float(square.trace()) / len(square) + 1e-5
    for _ in range(LIFTS):
        square.diagonal().add_(lift)
        factor: Tensor
        factor, wrong = torch.linalg.cholesky_ex(square)
        if not wrong:
            return factor
        lift *= 10
    square.diagonal().add_(lift)
    factor = torch.linalg.cholesky(square)
    return factor


class RotatedFeatures:
    """Features (n, m) of fewer rows than columns, rotated into as many dimensions as rows.

    Ridge is the same in any rotation, and its cost falls with the number of columns.
    """

    def __init__(self, features: Tensor) -> None:
        spectrum, left = eigh((features @ features.T).double(), features.dtype)
        rounding = 1e-10 if features.dtype == torch.float64 else 1e-6
        seen = spectrum > rounding * max(float(spectrum[-1]), 1e-300)
        roots = spectrum[seen].sqrt()
        self._basis = features.T.double() @ (left[:, seen] / roots)
        self.features = (left[:, seen] * roots).to(features.dtype)

    def back(self, coefficients: Array) -> Array:
        """Turn coefficients (r, K) of the rotated features into those of the columns, (m, K)."""
        turned = self._basis @ torch.from_numpy(coefficients).to(self._basis)
        return np.asarray(turned.cpu().numpy())


class _HeldRows:
    """Features (n, m) of one member that are held whole."""

    nested = (None,)

    def __init__(self, sample: Sample, classes: int, root: Tensor | None) -> None:
        self.sample, self.rows, self.classes = sample, len(sample.codes), classes
        self.roots = (root,)

    def __call__(self, rows: slice | NDArray[np.int64]) -> list[Sample]:
        features, codes, weights = self.sample
        return [Sample(features[rows], codes[rows], None if weights is None else weights[rows])]


def fit_ridge(
    sample: Sample, classes: int, penalties: Sequence[float], root: Tensor | None = None
) -> Ridge:
    """Fit the ridge of one member whose features are held whole; see `fit_ridges`."""
    rows = _HeldRows(sample, classes, root)
    with joblib.parallel_config("sequential"):
        return fit_ridges(rows, np.arange(rows.rows), penalties)[0]
