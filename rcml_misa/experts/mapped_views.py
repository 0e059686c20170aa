"""Mapped columns of views for kernel experts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.experts.sums import SMALL, referred
from rcml_misa.reading.columns import READINGS
from rcml_misa.reading.features import FeatureMap, Scaling, evenly
from rcml_misa.views import ViewArray, dense

__all__ = ["Columns", "MappedViews"]

Array = NDArray[Any]
Rows = NDArray[np.int64]
BLOCK = 8192  # rows whose mapped columns are kept, and that factors come from


@dataclass(frozen=True)
class Columns:
    """Mapped columns of one or several views for the kernel.

    Two kinds of map stand side by side, roots with their row-LayerNorm and normal quantiles, each
    with a fitted map per view and a factor that brings the view's total variance over train rows
    to 1, whatever its width. Columns are `double` (float64) where train rows are few.
    """

    maps: tuple[tuple[FeatureMap, ...], ...]
    factors: tuple[tuple[float, ...], ...]
    double: bool = False

    def __call__(self, parts: Sequence[Array]) -> Array:
        """Map rows given as one raw array (n, d_v) per view."""
        return self.join(_map(self.maps, parts, np.float64 if self.double else np.float32))

    @property
    def owners(self) -> NDArray[np.intp]:
        """Number of the view that each column belongs to."""
        widths = [[mapping.width for mapping in kind] for kind in self.maps]
        return np.concatenate([np.repeat(np.arange(len(kind)), kind) for kind in widths])

    @property
    def layout(self) -> tuple[tuple[int, ...], ...]:
        """Number of columns of each view in each kind."""
        return tuple(tuple(mapping.width for mapping in kind) for kind in self.maps)

    def join(self, mapped: Sequence[Sequence[Array]]) -> Array:
        """Scale and join views that are mapped already."""
        dtype = np.float64 if self.double else np.float32
        scaled = [
            np.asarray(part * factor, dtype=dtype)
            for kind, factors in zip(mapped, self.factors, strict=True)
            for part, factor in zip(kind, factors, strict=True)
        ]
        return np.concatenate(scaled, axis=1)


class MappedViews:
    """Train rows' views (n, d_v) with fitted maps, so that experts share the mapping's cost.

    `maps` may hold the fitted maps, one per view in each of the kinds `READINGS`. The mapped
    columns of up to 8192 rows are kept.
    """

    def __init__(
        self,
        parts: Sequence[ViewArray],
        *,
        scaling: Scaling,
        maps: Sequence[Sequence[FeatureMap]] | None = None,
    ) -> None:
        self.parts = referred(parts)
        self.rows = int(parts[0].shape[0])
        self.maps = maps or [
            [FeatureMap.fit(part, scaling=scaling, features=kind) for part in parts]
            for kind in READINGS
        ]
        self._kept = None if self.rows > BLOCK else self._mapped(slice(None))

    def _mapped(self, rows: slice | Rows) -> list[list[Array]]:
        dtype = np.float64 if self.rows <= SMALL else np.float32
        return _map(self.maps, [dense(part, rows) for part in self.parts], dtype)

    def __call__(self, rows: slice | Rows) -> list[list[Array]]:
        """Map some rows, in each kind and view."""
        if self._kept is None:
            return self._mapped(rows)
        return [[part[rows] for part in kind] for kind in self._kept]

    def only(self, view: int) -> MappedViews:
        """Select one view."""
        single = object.__new__(MappedViews)
        single.parts, single.rows = [self.parts[view]], self.rows
        single.maps = [[kind[view]] for kind in self.maps]
        kept = self._kept
        single._kept = None if kept is None else [[kind[view]] for kind in kept]
        return single

    def columns(self, having: Rows) -> Columns:
        """Make the join of these views, with factors by the rows of these numbers."""
        some = having[evenly(len(having), min(len(having), BLOCK))]
        return Columns(
            tuple(tuple(kind) for kind in self.maps),
            tuple(tuple(map(_unit_variance, kind)) for kind in self(some)),
            double=len(having) <= SMALL,
        )


def _map(
    maps: Sequence[Sequence[FeatureMap]], parts: Sequence[Array], dtype: type[np.floating[Any]]
) -> list[list[Array]]:
    pairs = [zip(kind, parts, strict=True) for kind in maps]
    return [[mapping.transform(part, dtype) for mapping, part in kind] for kind in pairs]


def _unit_variance(part: Array) -> float:
    """Compute the factor that brings the total variance of an array (n, d) to 1."""
    variance = float(part.var(axis=0, dtype=np.float64).sum())
    return 1 / math.sqrt(variance) if variance > 0 else 1.0
