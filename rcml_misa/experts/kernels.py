"""Kernels over blocks of columns: Gaussian ones of all views together and of each view, linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["KERNELS", "BlockKernel", "KernelChoice", "squared_distances"]

Array = NDArray[Any]
Layout = Sequence[Sequence[int]]
KernelChoice = Literal["auto", "smooth", "medium", "rough", "fine"]


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

    The first term, a product over views, is near only to rows that are near in every view; the
    second, a sum over views, generalises from each view by itself.

    Parameters
    ----------
    product : float
        Width g of the product over views.
    additive : tuple of float
        Widths w of the sum over views.
    linear : float
        Weight of the linear part.

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
        """Compute kernel values for all pairs of rows.

        Parameters
        ----------
        left, right : ndarray of shape (n, d) and (m, d)
        layout : sequence of sequence of int
            For each kind the columns of each view; they add up to d.

        Returns
        -------
        ndarray of shape (n, m)
        """
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
