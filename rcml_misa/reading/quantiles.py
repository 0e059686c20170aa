"""Normal quantiles of values in columns of order statistics, looked up in cells."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

__all__ = ["QuantileLookup", "QuantileTable"]

Array = NDArray[np.float64]
CELLS = 1024  # least number of cells of a column's range, in which quantiles are looked up
MOST_CELLS = 2**22  # of all columns together, beyond their least number
STEPS = range(2, 8)  # numbers of steps that may look for a value in its cell
SEARCH = 40  # cost of a search for a single value, in steps; some more where there are any
PAST = 1 << STEPS.stop  # entries between the limits of two columns: all that the steps may reach
DOUBLE = torch.float64
TILE = 2**16  # values that are looked up at once


class _Distinct(NamedTuple):
    """Distinct numbers of d columns, one column after the other, sorted.

    Attributes
    ----------
    values, owners : ndarray of shape (m,)
        Numbers, and the number of their column.
    sizes : ndarray of shape (d,)
        How many numbers each column has.
    quantiles : ndarray of shape (m, 2)
        Results of values between the number before and this one, and of this one.
    last : float
        Result of values beyond all numbers of a column.
    """

    values: NDArray[Any]
    owners: NDArray[np.int64]
    sizes: NDArray[np.int64]
    quantiles: Array
    last: float

    def only(self, columns: NDArray[np.bool_]) -> _Distinct:
        """Select some of the columns."""
        some = columns[self.owners]
        numbers = np.cumsum(columns) - 1
        return _Distinct(
            self.values[some],
            numbers[self.owners[some]],
            self.sizes[columns],
            self.quantiles[some],
            self.last,
        )


class _Places:
    """Places of values among the sorted distinct numbers of columns, in one floating-point type.

    Each number o of a column has two limits, the number just below it and itself, so that the
    count of limits below a value x is twice the number of those below x, and one more where x is
    one of them. Each column's range is cut into cells by a function that rises with x, the same
    for limits and for values, so that only the limits in a value's own cell are left to compare.
    A few steps that halve the rest count those of a usual cell; values in the other ones, with
    more limits than these steps tell apart, are searched for one by one.

    Parameters
    ----------
    columns : _Distinct
    dtype : torch.dtype
        Type of the values; float32 or float64.
    """

    def __init__(self, columns: _Distinct, dtype: torch.dtype) -> None:
        sizes, owners = columns.sizes, columns.owners
        width, most = len(sizes), int(sizes.max())
        self.whole = torch.int32 if dtype == torch.float32 else torch.int64
        self.sign = torch.iinfo(self.whole).bits - 1
        self.largest = torch.finfo(dtype).max
        numbers = torch.from_numpy(columns.values).to(dtype)
        ends = np.cumsum(sizes)
        starts = np.concatenate([[0], np.cumsum(2 * sizes + PAST)])
        places = starts[owners] + 2 * (np.arange(len(owners)) - (ends - sizes)[owners])
        # infinity past the end of a column stops every step
        self.limits = torch.full((int(starts[-1]),), torch.inf, dtype=dtype)
        below = torch.nextafter(numbers, torch.full_like(numbers, -torch.inf))
        # minus 0 less 0 would count as below 0
        self.limits[places], self.limits[places + 1] = below + 0.0, numbers + 0.0
        self.quantiles = torch.full_like(self.limits, columns.last)
        for place, results in enumerate(columns.quantiles.T):
            self.quantiles[places + place] = torch.from_numpy(results).to(dtype)
        enough = 1 << (2 * most - 1).bit_length()
        self.cells = min(max(CELLS, min(enough, MOST_CELLS // width)), enough)
        self.least = numbers[ends - sizes].unsqueeze(1)
        span = numbers[ends - 1].unsqueeze(1) - self.least
        scale = self.cells / torch.where(span > 0, span, torch.inf)
        self.scale = torch.where(scale.isfinite(), scale, 0.0)
        self.flat = not bool(self.scale.all())
        self.first, self.crowded = self._cut(
            self.limits[np.stack([places, places + 1], axis=1).ravel()],
            torch.from_numpy(np.repeat(owners, 2)),
            starts,
        )
        self.ends = torch.from_numpy(starts[1:] - PAST)
        self.offsets = (self.cells * torch.arange(width, dtype=torch.int32)).unsqueeze(1)

    def _cut(
        self, limits: Tensor, owners: Tensor, starts: NDArray[np.int64]
    ) -> tuple[Tensor, bool]:
        """First limit of each cell, below 0 where there are many, and whether there are such."""
        width = len(self.least)
        own = self._cells(limits.unsqueeze(1), owners).squeeze(1).long()
        cells = np.bincount((own + self.cells * owners).numpy(), minlength=width * self.cells)
        counts = cells.astype(np.int32).reshape(width, self.cells)
        kind: Any = np.int32 if self.whole == torch.int32 else np.int64
        first: NDArray[Any] = np.cumsum(counts, axis=1, dtype=kind)
        first -= counts
        first += starts[:-1, None].astype(kind)
        filled = counts[counts > 0]
        shares = [filled[filled >= 1 << steps].sum() / filled.sum() for steps in STEPS]
        costs = [
            steps + SEARCH * share + (share > 0) * SEARCH / 4
            for steps, share in zip(STEPS, shares, strict=True)
        ]
        steps = STEPS[int(np.argmin(costs))]
        self.steps = [1 << place for place in reversed(range(steps))]
        crowded = counts >= 1 << steps
        first[crowded] = -1 - first[crowded]
        return torch.from_numpy(first.ravel()), bool(crowded.any())

    def _cells(self, values: Tensor, columns: slice | Tensor) -> Tensor:
        """Cells of values (d, n) of some columns, as whole numbers of 32 bits."""
        cells = (values - self.least[columns]).mul_(self.scale[columns])
        if self.flat:  # infinity times 0 is not a number
            cells.nan_to_num_(nan=0.0)
        return cells.clamp_(0, self.cells - 1).to(torch.int32)

    def __call__(self, values: Tensor, out: Tensor) -> Tensor:
        """Write the results for columns (d, n) into `out`; both have the type of the table."""
        columns = max(1, TILE // values.shape[1])
        # few columns at a time, so that values to compare lie close together
        for start in range(0, len(values), columns):
            block = slice(start, start + columns)
            some = values[block]
            cells = self._cells(some, block).add_(self.offsets[block]).view(-1)
            some = some.clamp(max=self.largest).view(-1)
            low = self.first.index_select(0, cells)
            places = (low < 0).nonzero().squeeze(1) if self.crowded else low[:0]
            if len(places):
                starts = -1 - low[places]
                low[places] = starts
            near = torch.empty_like(some)
            less = near.view(self.whole)  # -1 where a difference is below 0, else 0
            for step in self.steps:
                torch.index_select(self.limits[step - 1 :], 0, low, out=near)
                near.sub_(some)
                low.sub_(less.bitwise_right_shift_(self.sign), alpha=step)
            if len(places):
                owners = start + places // values.shape[1]
                low[places] = self._search(some[places], starts, self.ends[owners])
            torch.index_select(self.quantiles, 0, low, out=out[block].view(-1))
        return out

    def _search(self, wanted: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Count the limits below values, from `low` on, by a binary search."""
        low, high = low.long(), high.clone()
        while bool((low < high).any()):
            middle = (low + high) >> 1
            less = self.limits.index_select(0, middle) < wanted
            less &= low < high
            high = torch.where(less, high, torch.minimum(middle, high))
            low = torch.where(less, middle + 1, low)
        return low.to(self.whole)


class QuantileTable:
    """Normal quantiles of the mid-ranks of values in sorted columns.

    The quantile of a value x in a column of q order statistics is that of the probability
    (#{o < x} + #{o <= x}) / 2q, kept within half a rank of 0 and 1, so that ties and constant
    columns land in the middle of their mass. Each column of `order` (q, d) is sorted.
    """

    def __init__(self, order: Array) -> None:
        self._order = order

    def __reduce__(self) -> tuple[type[Self], tuple[Array]]:
        return type(self), (self._order,)

    @cached_property
    def _columns(self) -> _Distinct:
        rows, turned = len(self._order), np.ascontiguousarray(self._order.T)
        new = np.ones(turned.shape, dtype=bool)
        np.not_equal(turned[:, 1:], turned[:, :-1], out=new[:, 1:])
        owners, below = np.nonzero(new)  # order statistics below each distinct one
        past = np.append(below[1:], rows)
        past[np.append(owners[1:] != owners[:-1], True)] = rows
        normal = ndtri(np.clip(np.arange(2 * rows + 1) / (2 * rows), 0.5 / rows, 1 - 0.5 / rows))
        quantiles = normal[np.stack([2 * below, below + past], axis=1)]
        return _Distinct(turned[new], owners, new.sum(axis=1), quantiles, float(normal[-1]))

    @cached_property
    def _wide(self) -> _Places:
        return _Places(self._columns, torch.float64)

    def __call__(self, values: Array) -> Array:
        """Compute the quantiles of rows (n, d)."""
        turned = torch.from_numpy(np.array(values.T, dtype=np.float64, order="C"))
        return np.asarray(self._wide(turned, torch.empty_like(turned)).numpy().T)

    def lookup(self, origin: Array, dtype: torch.dtype) -> QuantileLookup:
        """Make the table ready for differences of values from an origin (d,) in one type."""
        return QuantileLookup(self._columns, origin, dtype)


class QuantileLookup:
    """A `QuantileTable` for differences of values from an origin, in the type of a reading.

    In float32, the order statistics of most columns stay distinct when they are rounded, and a
    value that is rounded to one of them counts as equal to it. Columns in which some are rounded
    to the same are looked up in float64.

    Parameters
    ----------
    columns : _Distinct
    origin : ndarray of shape (d,)
    dtype : torch.dtype
    """

    def __init__(self, columns: _Distinct, origin: Array, dtype: torch.dtype) -> None:
        narrow = np.full(len(columns.sizes), dtype == torch.float32)
        with np.errstate(over="ignore"):
            rounded = (columns.values - origin[columns.owners]).astype(np.float32)
        blurred = ~np.isfinite(rounded)
        blurred[1:] |= (rounded[1:] <= rounded[:-1]) & (columns.owners[1:] == columns.owners[:-1])
        narrow[columns.owners[blurred]] = False
        self.parts: list[tuple[bool, Any, _Places]] = []
        for kind, values in ((True, rounded), (False, columns.values)):
            chosen = narrow == kind
            if not chosen.any():
                continue
            part = columns._replace(values=values)
            rows: Any = slice(None)
            if not chosen.all():
                part, rows = part.only(chosen), torch.from_numpy(np.flatnonzero(chosen))
            self.parts.append((kind, rows, _Places(part, torch.float32 if kind else DOUBLE)))

    def __call__(self, differences: Tensor, turned: Tensor, out: Tensor) -> Tensor:
        """Write the quantiles of columns (d, n) of values, and of their differences, into `out`.

        `turned` are the values, in float64, of which columns that float32 blurs are taken.
        """
        for rounded, rows, places in self.parts:
            given = (differences if rounded else turned)[rows]
            whole = isinstance(rows, slice) and out.dtype == given.dtype
            result = places(given, out if whole else torch.empty_like(given))
            if not whole:
                out[rows] = result.to(out.dtype)
        return out
