"""Column and row scalings of a view, fitted on train rows only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import ViewArray, dense, present_rows, row_slices

__all__ = ["FeatureMap", "Features", "PresentRows", "Scaling", "column_spread", "evenly"]

Scaling = Literal["minmax", "standard", "quantile", "none"]
Features = Literal["root-layernorm", "root", "plain", "quantile"]
Array = NDArray[np.float64]

CELLS = 1024  # of each column's range, in which a value's quantile is looked up
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
    statistics in a value's own cell are left to compare; most cells hold none or one. Each column
    of `order` (q, d) is sorted.
    """

    def __init__(self, order: Array) -> None:
        rows, width = order.shape
        self.least = order[0].copy()
        span = order[-1] - order[0]
        with np.errstate(over="ignore"):
            scale = CELLS / np.where(span > 0, span, 1.0)
        self.scale = np.where(np.isfinite(scale) & (span > 0), scale, 0.0)
        distinct = [np.unique(column, return_counts=True) for column in order.T]
        columns = [values for values, _ in distinct]
        counts = [np.concatenate([[0], np.cumsum(count)]) for _, count in distinct]
        sizes = np.array([len(column) for column in columns])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.values = np.concatenate([*columns, [np.inf]])  # a place past the end
        self.ends = np.append(starts[1:], len(self.values) - 1)
        # for distinct value i of a column, the ranks of values just below it and of itself, and
        # one entry more per column for values above all
        self.shift = 2 * np.arange(width, dtype=np.int32)
        pairs = [(2 * count, count + np.append(count[1:], count[-1])) for count in counts]
        ranks = np.concatenate([np.stack(pair, axis=1).ravel() for pair in pairs])
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
        """Compute the quantiles of rows (n, d)."""
        # column by column, so that values to compare lie close together
        turned = np.ascontiguousarray(values.T)
        cells = self._cells(turned, self.least[:, None], self.scale[:, None])
        cells += self.offsets[:, None]
        low = self.first.take(cells, mode="clip").ravel()  # clip: without a look at the bounds
        cells += 1
        high, flat = self.first.take(cells, mode="clip").ravel(), turned.ravel()
        # most cells leave no value to compare, or a single one; a binary search does the rest
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
        ranks = low.reshape(turned.shape)
        equal = self.values.take(ranks, mode="clip") == turned
        equal &= ranks < self.ends[:, None]
        ranks *= 2
        ranks += self.shift[:, None]
        ranks += equal
        return np.asarray(self.quantiles.take(ranks, mode="clip").T)


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
                shift, highest = rows.extremes
                span = highest - shift
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
            return self._table(values)
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
    def _table(self) -> QuantileTable:
        return QuantileTable(self.order)
