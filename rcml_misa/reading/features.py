"""Column and row scalings of a view, fitted on train rows only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self, get_args
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.reading.quantiles import QuantileTable
from rcml_misa.views import ViewArray, dense, present_rows, row_slices

__all__ = ["FeatureMap", "Features", "PresentRows", "Scaling", "column_spread", "evenly"]

Scaling = Literal["minmax", "standard", "quantile", "none"]
Features = Literal["root-layernorm", "root", "plain", "quantile"]
Array = NDArray[np.float64]

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
        if self.ranked:
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
    def ranked(self) -> bool:
        """Whether the first step is by quantiles."""
        return "quantile" in (self.scaling, self.features)

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
        parts = [self.order] if self.ranked else [self.shift, self.scale]
        digest.update(("quantile" if self.ranked else self.scaling).encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        scaling = digest.hexdigest()
        features = "plain" if self.features == "quantile" else self.features
        digest.update(features.encode())
        for part in (self.mean, self.spread):
            digest.update(np.ascontiguousarray(part).data)
        return scaling, digest.hexdigest()
