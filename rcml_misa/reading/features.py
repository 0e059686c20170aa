"""Column and row scalings of a view, fitted on train rows only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, get_args
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import ViewArray, dense, present_rows, row_slices

__all__ = ["FeatureMap", "Features", "PresentRows", "Scaling", "column_spread", "evenly"]

Scaling = Literal["minmax", "standard", "quantile", "none"]
Features = Literal["root-layernorm", "root", "plain", "quantile"]
Array = NDArray[np.float64]

CELLS = 1024  # least number of cells of a column's range, in which quantiles are looked up
MOST_CELLS = 2**22  # of all columns together, beyond their least number
STEPS = range(1, 7)  # numbers of steps that may look for a value in its cell
SEARCH = 40  # cost of a search for a single value, in steps; some more where there are any
MOST_ALIKE = 3  # order statistics that may be rounded to the same float32
PAST = 68  # entries between the order statistics of two columns: all that the steps may reach
TILE = 2**14  # values that are looked up at once
QUANTILES = 2000  # order statistics kept per column
SAMPLE = 20_000  # rows for means, deviations and quantiles; least and largest use all
CLIP = 5.0  # standard deviations; a far outlier must not own a kernel or a first layer
# spans or deviations of a column: farther values are read as so far, so that float32 holds what
# networks make of them; without a scaling there is no unit but that of the column
FARTHEST, FARTHEST_UNSCALED = 1e6, 1e15
# a value so far out, and of a size above HUGE, is no measurement (nodata, overflow): where readings
# are bounded it stands at STRAY instead, so that no such row looks familiar
HUGE, STRAY = 1e15, 100.0


def evenly(rows: int, count: int) -> NDArray[np.int64]:
    """Spread `count` row numbers over `rows` rows, first and last among them.

    Examples
    --------
    >>> evenly(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.linspace(0, rows - 1, count).round().astype(np.int64)


class PresentRows:
    """Rows of a view that are present: their number, a sample of them, the extremes of all.

    Parameters
    ----------
    values : array, sparse matrix or mapped table of shape (n_rows, n_columns)
    """

    def __init__(self, values: ViewArray) -> None:
        self.values = values
        present = present_rows(values)
        self.numbers = None if present.all() else np.flatnonzero(present)
        self.count = values.shape[0] if self.numbers is None else len(self.numbers)

    def sample(self, most: int) -> Array:
        """Make at most so many rows dense, evenly spaced."""
        rows: Any = slice(None) if self.count <= most else evenly(self.count, most)
        return dense(self.values, rows if self.numbers is None else self.numbers[rows])

    @cached_property
    def extremes(self) -> tuple[Array, Array]:
        """Least and largest value of each column, made dense block by block."""
        blocks = row_slices(*self.values.shape)
        parts = [_extremes(dense(self.values, block)) for block in blocks]
        lowest, highest = zip(*parts, strict=True)
        return np.fmin.reduce(lowest, axis=0), np.fmax.reduce(highest, axis=0)


def _extremes(values: Array) -> tuple[Array, Array]:
    """Find the least and largest value of each column; missing rows are NaN."""
    return np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)


def column_spread(values: Array) -> Array:
    """Compute column standard deviations, 1 where a column is constant up to rounding."""
    spread = values.std(axis=0)
    floor = 1e-9 * np.maximum(np.abs(values).max(axis=0), 1e-300)
    return np.where(spread > floor, spread, 1.0)


def _row_layer_norm(values: Array) -> Array:
    """Centre each row and scale it to unit variance; rows without spread become 0."""
    centred = values - values.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    flat = spread <= 1e-12
    spread[flat] = 1
    centred /= spread
    centred[flat[:, 0]] = 0
    return np.asarray(centred)


class QuantileTable:
    """Normal quantiles of the mid-ranks of values in sorted columns.

    The quantile of a value x in a column of q order statistics is that of the probability
    (#{o < x} + #{o <= x}) / 2q, kept within half a rank of 0 and 1, so that ties and constant
    columns land in the middle of their mass. Each column's range is cut into cells by a function
    that rises with x, the same for order statistics and for values, so that only the order
    statistics in a value's own cell are left to compare. A few steps that halve the rest find the
    place in a usual cell; values in the other ones, with more order statistics than these steps
    tell apart, are searched for one by one. All this is done on differences from a column's least
    value, rounded to float32 where that keeps the order statistics apart; then the value itself is
    compared with the one order statistic that may have been rounded to the same. Each column of
    `order` (q, d) is sorted.
    """

    def __init__(self, order: Array) -> None:
        self._order = order
        rows = len(order)
        turned = np.ascontiguousarray(order.T)
        self.least = torch.from_numpy(turned[:, :1].copy())
        new = np.ones(turned.shape, dtype=bool)
        np.not_equal(turned[:, 1:], turned[:, :-1], out=new[:, 1:])
        sizes = new.sum(axis=1)  # distinct values of each column
        starts = np.concatenate([[0], np.cumsum(sizes + PAST)])
        owners, below = np.nonzero(new)
        places = (
            starts[owners] + np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        )
        # infinity past the end of a column stops every step
        exact = np.full(starts[-1], np.inf)
        exact[places] = turned[new]
        self.exact = torch.from_numpy(exact)
        # order statistics below each distinct value, and all of them past the last one
        count = np.full(starts[-1] + 1, rows)
        count[places] = below
        # for distinct value i of a column, the quantiles of values just below it and of itself
        ranks = np.stack([2 * count[:-1], count[:-1] + count[1:]], axis=1).ravel()
        normal = ndtri(np.clip(np.arange(2 * rows + 1) / (2 * rows), 0.5 / rows, 1 - 0.5 / rows))
        self.quantiles = torch.from_numpy(normal[ranks])
        self.ends = torch.from_numpy(starts[:-1] + sizes)
        # rounded differences serve where few order statistics are rounded to the same
        rounded = self.exact - torch.repeat_interleave(self.least, torch.from_numpy(sizes + PAST))
        rounded = rounded.float()
        apart = np.append(True, (rounded[1:] != rounded[:-1]).numpy())
        apart[starts[1:-1]] = True
        apart |= self.exact.isinf().numpy()
        alike = int(np.diff(np.flatnonzero(np.append(apart, True))).max())
        finite = bool(rounded[places].isfinite().all())
        self.alike = alike if alike <= MOST_ALIKE and finite else 0
        self.values = rounded if self.alike else self.exact
        self._cut(torch.from_numpy(owners), self.values[places], sizes, starts)

    def __reduce__(self) -> tuple[type[Self], tuple[Array]]:
        return type(self), (self._order,)

    def _cut(
        self, owners: Tensor, values: Tensor, sizes: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> None:
        """Cut the range of each column's distinct values, (m,) with their columns, into cells."""
        width, most = len(sizes), int(sizes.max())
        enough = 1 << (2 * most - 1).bit_length()
        self.cells = min(max(CELLS, min(enough, MOST_CELLS // width)), enough)
        ends = np.cumsum(sizes)
        least = values[ends - sizes].unsqueeze(1)
        span = values[ends - 1].unsqueeze(1) - least
        scale = self.cells / torch.where(span > 0, span, torch.inf)
        self.scale = torch.where(scale.isfinite(), scale, 0.0)
        self.flat = not bool(self.scale.all())
        self.base = None if self.alike else least
        own = self._places(values.unsqueeze(1), owners).squeeze(1).long()
        cells = (own + self.cells * owners).numpy()
        counts = np.bincount(cells, minlength=width * self.cells).astype(np.int32)
        counts = counts.reshape(width, self.cells)
        first: NDArray[np.int32] = np.cumsum(counts, axis=1, dtype=np.int32)
        first -= counts
        first += starts[:-1, None].astype(np.int32)
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
        self.crowded = bool(crowded.any())
        self.first = torch.from_numpy(first.ravel())
        self.offsets = (self.cells * torch.arange(width, dtype=torch.int32)).unsqueeze(1)

    def _wanted(self, values: Tensor, columns: slice) -> Tensor:
        """Values (d, n) of some columns as they are compared with `values`."""
        return (values - self.least[columns]).float() if self.alike else values

    def _places(self, wanted: Tensor, columns: slice | Tensor) -> Tensor:
        """Cells of values (d, n) of some columns, as whole numbers of 32 bits."""
        far = wanted if self.base is None else wanted - self.base[columns]
        places = far * self.scale[columns]
        if self.flat:  # infinity times 0 is not a number
            places.nan_to_num_(nan=0.0)
        return places.clamp_(0, self.cells - 1).to(torch.int32)

    def __call__(self, values: Array) -> Array:
        """Compute the quantiles of rows (n, d)."""
        turned = torch.from_numpy(np.array(values.T, dtype=np.float64, order="C"))
        return np.asarray(self.turned(turned, torch.empty_like(turned)).numpy().T)

    def turned(self, values: Tensor, out: Tensor) -> Tensor:
        """Compute the quantiles of columns (d, n) in float64 into `out`, of any floats."""
        quantiles = self.quantiles if out.dtype == torch.float64 else self._quantiles_narrow
        columns = max(1, TILE // values.shape[1])
        # few columns at a time, so that values to compare lie close together
        for start in range(0, len(values), columns):
            block = slice(start, start + columns)
            some = values[block]
            wanted = self._wanted(some, block)
            cells = self._places(wanted, block).add_(self.offsets[block]).view(-1)
            wanted = wanted.reshape(-1)
            low = self.first.index_select(0, cells)
            places = (low < 0).nonzero().squeeze(1) if self.crowded else low[:0]
            if len(places):
                starts = -1 - low[places]
                low[places] = starts
            near = torch.empty_like(wanted)
            for step in self.steps:
                torch.index_select(self.values[step - 1 :], 0, low, out=near)
                low.add_(near < wanted, alpha=step)
            if len(places):
                owners = start + places // values.shape[1]
                low[places] = self._search(wanted[places], starts, self.ends[owners])
            exact, some = torch.empty_like(some).view(-1), some.reshape(-1)
            for _ in range(self.alike):  # those that were rounded to the same may lie below
                torch.index_select(self.exact, 0, low, out=exact)
                low.add_(exact < some)
            torch.index_select(self.exact, 0, low, out=exact)
            low.mul_(2).add_(exact == some)
            torch.index_select(quantiles, 0, low, out=out[block].view(-1))
        return out

    def _search(self, wanted: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Count the order statistics below values, from `low` on, by a binary search."""
        low, high = low.long(), high.clone()
        while bool((low < high).any()):
            middle = (low + high) >> 1
            less = self.values.index_select(0, middle) < wanted
            less &= low < high
            high = torch.where(less, high, torch.minimum(middle, high))
            low = torch.where(less, middle + 1, low)
        return low.to(torch.int32)

    @cached_property
    def _quantiles_narrow(self) -> Tensor:
        return self.quantiles.float()


_TABLES: WeakValueDictionary[str, QuantileTable] = WeakValueDictionary()


@dataclass(frozen=True)
class FeatureMap:
    """Turn one view's raw columns into the columns that a model reads.

    Build it with `FeatureMap.fit`; every statistic comes from the rows given there.

    Parameters
    ----------
    scaling : {"minmax", "standard", "quantile", "none"}
        First step, per column; ``"quantile"`` gives normal quantiles of the train rows' empirical
        distribution. ``"none"`` is for columns of a size up to 1e15: what is larger
        is read as that.
    features : {"root-layernorm", "root", "plain", "quantile"}
        Second step. ``"root"`` is the signed square root, standardised per column;
        ``"root-layernorm"`` appends the standardised row-LayerNorm of the root to it, which
        keeps a row's profile and forgets its overall level; ``"quantile"`` gives normal quantiles
        in place of the scaling; ``"plain"`` stops after the scaling.
    shift, scale : ndarray of shape (n_columns,)
        The scaling's statistics.
    mean, spread : ndarray
        The second step's statistics (empty for ``"plain"`` and ``"quantile"``).
    order : ndarray of shape (min(n_rows, 2000), n_columns)
        Order statistics of the train values (empty unless one step is ``"quantile"``).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 2.0], [1.0, 4.0], [4.0, 6.0]])
    >>> FeatureMap.fit(x, features="plain").transform(x)[:, 1]
    array([0. , 0.5, 1. ])
    """

    scaling: Scaling
    features: Features
    shift: Array
    scale: Array
    mean: Array
    spread: Array
    order: Array

    @classmethod
    def fit(
        cls,
        values: ViewArray | PresentRows,
        *,
        scaling: Scaling = "minmax",
        features: Features = "root-layernorm",
    ) -> Self:
        """Learn the statistics of `values`, an array of shape (n_rows, n_columns).

        Rows without the view are left out. Of more than 20 000 rows, means, deviations and
        quantiles come from as many evenly spaced ones, least and largest values from all.

        Raises
        ------
        OptionError
            If `scaling` or `features` is not one of the names above.
        DataError
            If values are so large that their statistics overflow.
        """
        for name, value, kind in (("scaling", scaling, Scaling), ("features", features, Features)):
            if value not in get_args(kind):
                raise OptionError(f"{name}={value!r} is not one of {', '.join(get_args(kind))}.")
        rows = values if isinstance(values, PresentRows) else PresentRows(values)
        some = rows.sample(SAMPLE)
        width = some.shape[1]
        shift, scale = np.zeros(width), np.ones(width)
        with np.errstate(over="ignore", invalid="ignore"):
            if scaling == "minmax":
                lowest, highest = rows.extremes
                shift, span = lowest.copy(), highest - lowest
                scale = np.where(span > 0, span, 1.0)
            elif scaling == "standard":
                shift, scale = some.mean(axis=0), column_spread(some)
        if not (np.isfinite(shift).all() and np.isfinite(scale).all()):
            raise DataError(
                f"a column has values up to {np.abs(some).max():.3g}, of which no range or "
                "deviation can be computed; correct them or leave their rows out."
            )
        empty, order = np.empty(0), np.empty((0, width))
        if "quantile" in (scaling, features):
            picked = evenly(len(some), min(len(some), QUANTILES))
            order = np.sort(some, axis=0)[picked]
        raw = cls(scaling, features, shift, scale, empty, empty, order)
        if features in ("plain", "quantile"):
            return raw
        expanded = raw._expand(some)
        return replace(raw, mean=expanded.mean(axis=0), spread=column_spread(expanded))

    def _scale(self, values: Array) -> Array:
        if "quantile" in (self.scaling, self.features):
            return self.table(values)
        with np.errstate(over="ignore"):
            scaled = values - self.shift
            scaled /= self.scale
        limit = FARTHEST_UNSCALED if self.scaling == "none" else FARTHEST
        return np.asarray(np.clip(scaled, -limit, limit, out=scaled))

    def _expand(self, values: Array, dtype: type[np.floating[Any]] = np.float64) -> Array:
        scaled = self._scale(values).astype(dtype, copy=False)
        root = np.abs(scaled)
        np.sqrt(root, out=root)
        np.copysign(root, scaled, out=root)
        if self.features == "root":
            return root
        return np.concatenate([root, _row_layer_norm(root)], axis=1)

    @property
    def width(self) -> int:
        """Number of mapped columns."""
        return self.mean.size or self.shift.size

    def transform(self, values: Array, dtype: type[np.floating[Any]] = np.float64) -> Array:
        """Map rows of shape (n, n_columns) with the fitted statistics.

        A row without the view becomes zeros, the mean of columns that are standardised. Scaled
        values are clipped at 1e6 spans or deviations, unscaled ones at 1e15, so that a finite value
        of any size gives finite columns. Beyond both, a value stands at 100 deviations where roots
        and quantiles are bounded otherwise. Steps after the scaling are computed in `dtype`.
        """
        missing = np.isnan(values[:, 0])
        if missing.any():
            values = np.where(missing[:, None], self.shift, values)
        if self.features in ("plain", "quantile"):
            mapped = self._scale(values).astype(dtype, copy=False)
        else:
            mapped = self._expand(values, dtype)
            mapped -= self.mean.astype(dtype, copy=False)
            mapped /= self.spread.astype(dtype, copy=False)
            np.clip(mapped, -CLIP, CLIP, out=mapped)
        if self.features != "plain":
            self._set_strays(mapped, values)
        if missing.any():
            mapped[missing] = 0
        return mapped

    def _set_strays(self, mapped: Array, values: Array) -> None:
        """Put values far beyond the train rows' range at `STRAY` in mapped columns."""
        if not values.size or max(values.max(), -values.min()) <= HUGE:  # nearly always
            return
        least, span = self.shift, self.scale
        if self.order.size:
            least, span = self.order[0], self.order[-1] - self.order[0]
            span = np.where(span > 0, span, 1.0)
        with np.errstate(over="ignore"):
            strays = np.abs(values - least) / span > FARTHEST
        strays &= np.abs(values) > HUGE
        columns = mapped[:, : values.shape[1]]
        columns[strays] = np.copysign(STRAY, values[strays])

    @cached_property
    def table(self) -> QuantileTable:
        """Table of the quantiles of the order statistics; maps with the same ones share it."""
        key = self.keys[0]
        table = _TABLES.get(key)
        if table is None:
            table = _TABLES[key] = QuantileTable(self.order)
        return table

    @cached_property
    def keys(self) -> tuple[str, str]:
        """Digests of the scaling with its statistics, and of those with the second step's."""
        digest = hashlib.sha256()
        ranked = "quantile" in (self.scaling, self.features)
        parts = [self.order] if ranked else [self.shift, self.scale]
        digest.update(("quantile" if ranked else self.scaling).encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        scaling = digest.hexdigest()
        features = "plain" if self.features == "quantile" else self.features
        digest.update(features.encode())
        for part in (self.mean, self.spread):
            digest.update(np.ascontiguousarray(part).data)
        return scaling, digest.hexdigest()
