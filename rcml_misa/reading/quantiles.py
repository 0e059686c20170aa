"""Normal quantiles of an empirical distribution, for many columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["QuantileTable"]

Array = NDArray[np.float64]
CELLS = 1024


class QuantileTable:
    """Looks mid-ranks up in sorted columns and turns them into normal quantiles.

    The quantile of a value x in a column of q order statistics is that of the probability
    (#{o < x} + #{o <= x}) / 2q, kept within half a rank of 0 and 1, so that ties and constant
    columns land in the middle of their mass. Each column's range is cut into cells by a function
    that rises with x, the same for order statistics and for values, so that only the order
    statistics in a value's own cell are left to compare; most cells hold none or one.

    Parameters
    ----------
    order : ndarray of shape (q, d)
        Each column sorted.

    Examples
    --------
    >>> QuantileTable(np.array([[1.0], [2.0], [3.0]]))(np.array([[2.0], [9.0]])).round(3).tolist()
    [[0.0], [0.967]]
    """

    def __init__(self, order: Array) -> None:
        rows, width = order.shape
        self.least = order[0].copy()
        span = order[-1] - order[0]
        with np.errstate(over="ignore"):
            scale = CELLS / np.where(span > 0, span, 1.0)
        self.scale = np.where(np.isfinite(scale) & (span > 0), scale, 0.0)
        found = [np.unique(column, return_counts=True) for column in order.T]
        columns = [values for values, _ in found]
        counts = [np.concatenate([[0], np.cumsum(count)]) for _, count in found]
        sizes = np.array([len(column) for column in columns])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.values = np.concatenate([*columns, [np.inf]])  # a place to look at past the end
        self.ends = np.append(starts[1:], len(self.values) - 1)
        # for distinct value i of a column, ranks of what lies just below it and of itself; one
        # entry more per column for what lies above all
        self.shift = 2 * np.arange(width, dtype=np.int32)
        ranks = np.concatenate(
            [
                np.stack([2 * count, count + np.append(count[1:], count[-1])], axis=1).ravel()
                for count in counts
            ]
        )
        self.quantiles = ndtri(np.clip(ranks / (2 * rows), 0.5 / rows, 1 - 0.5 / rows))
        owners = np.repeat(np.arange(width), sizes)
        cells = self._cells(self.values[:-1], self.least[owners], self.scale[owners])
        filled = np.bincount(owners * CELLS + cells, minlength=width * CELLS)
        ends = filled.reshape(width, CELLS).cumsum(axis=1) + starts[:, None]
        first = np.concatenate([starts[:, None], ends], axis=1)
        self.first = first.ravel().astype(np.int32)
        self.offsets = (np.arange(width) * (CELLS + 1)).astype(np.int32)

    @staticmethod
    def _cells(values: Array, least: Array, scale: Array) -> NDArray[np.int32]:
        with np.errstate(over="ignore", invalid="ignore"):
            places = values - least
            places *= scale
        np.clip(places, 0, CELLS - 1, out=places)
        return places.astype(np.int32)

    def __call__(self, values: Array) -> Array:
        """Quantiles of rows (n, d)."""
        # column by column, so that what is looked up lies close together
        turned = np.ascontiguousarray(values.T)
        cells = self._cells(turned, self.least[:, None], self.scale[:, None])
        cells += self.offsets[:, None]
        low = self.first.take(cells, mode="clip").ravel()  # clip: without a look at the bounds
        cells += 1
        high, flat = self.first.take(cells, mode="clip").ravel(), turned.ravel()
        # of most values nothing is left to compare, or one; a binary search does the rest
        places = np.flatnonzero(low < high)
        left, right = low.take(places, mode="clip"), high.take(places, mode="clip")
        wanted = flat.take(places, mode="clip")
        while places.size:
            middle = (left + right) >> 1
            less = self.values.take(middle, mode="clip") < wanted
            left, right = np.where(less, middle + 1, left), np.where(less, right, middle)
            going = left < right
            if going.all():
                continue
            low[places] = left
            places, wanted = places[going], wanted[going]
            left, right = left[going], right[going]
        found = low.reshape(turned.shape)
        equal = self.values.take(found, mode="clip") == turned
        equal &= found < self.ends[:, None]
        found *= 2
        found += self.shift[:, None]
        found += equal
        return np.asarray(self.quantiles.take(found, mode="clip").T)
