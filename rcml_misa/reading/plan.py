"""Readings of new rows by all maps of a model: every distinct map is evaluated once per block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.reading.features import CLIP, FARTHEST, FARTHEST_UNSCALED, HUGE, FeatureMap
from rcml_misa.views import ViewArray, dense, present_rows

__all__ = ["Reading", "ReadingPlan", "Slot"]

ENTRIES = 2**19  # raw values that are read at once: what is made of them stays in the caches
FEWEST, MOST = 64, 1024  # rows of a block


@dataclass(frozen=True)
class Slot:
    """Place of a map's d columns in a view's table: rows `start` to `start` + d, then two more.

    The first of these holds the sum of the columns' squares, the other one 1, so that a single
    product gives distances, or adds a constant.
    """

    view: int
    start: int
    width: int

    @property
    def whole(self) -> slice:
        """Rows of the columns, of the sum of their squares and of the ones."""
        return slice(self.start, self.start + self.width + 2)

    @property
    def columns(self) -> slice:
        """Rows of the columns."""
        return slice(self.start, self.start + self.width)


@dataclass(frozen=True)
class Reading:
    """Readings of a block of n rows.

    Attributes
    ----------
    tables : list of Tensor of shape (d_v, n)
        Mapped columns of each view, a row for each column, in the slots of a `ReadingPlan`.
    present : ndarray of bool of shape (n, N), or None
        Which views each row has; None where all have every view. The columns of a missing view
        are 0.
    rows : int
    """

    tables: list[Tensor]
    present: NDArray[np.bool_] | None
    rows: int

    def part(self, slot: Slot) -> Tensor:
        """Columns, their squares' sum and ones (d + 2, n) of a map."""
        return self.tables[slot.view][slot.whole]


class ReadingPlan:
    """Distinct feature maps of each view, which a model's parts read.

    A part asks for the slot of each map that it reads (`add`) while it is made ready; then the
    plan reads blocks of rows for all of them. Maps that share a step, such as the scaling or the
    quantiles, share its cost, and maps with the same statistics are one.

    Parameters
    ----------
    views : int
        Number of views.
    dtype : torch.dtype
        Type of the mapped columns. Raw values are scaled, and quantiles looked up, in float64.

    Examples
    --------
    >>> values = np.array([[0.0, 2.0], [1.0, 4.0], [4.0, 6.0]])
    >>> plan = ReadingPlan(1)
    >>> slot = plan.add(0, FeatureMap.fit(values, features="plain"), squares=True)
    >>> plan([values]).part(slot)[:, 1].tolist()  # two columns, their squares' sum, 1
    [0.25, 0.5, 0.3125, 1.0]
    """

    def __init__(self, views: int, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._maps: list[dict[str, tuple[FeatureMap, Slot]]] = [{} for _ in range(views)]
        self._squared: set[Slot] = set()
        self._constants: dict[str, list[Tensor]] = {}

    def add(self, view: int, mapping: FeatureMap, *, squares: bool = False) -> Slot:
        """Return the slot of a map of a view; maps asked for in turn lie side by side.

        The sum of the columns' squares is computed only where `squares` are asked for, else 0.
        """
        maps = self._maps[view]
        key = mapping.keys[1]
        if key not in maps:
            start = sum(slot.width + 2 for _, slot in maps.values())
            maps[key] = mapping, Slot(view, start, mapping.width)
        slot = maps[key][1]
        if squares:
            self._squared.add(slot)
        return slot

    def rows(self, arrays: Sequence[ViewArray]) -> int:
        """Number of rows of a block of such views."""
        columns = sum(int(array.shape[1]) for array in arrays)
        return int(min(max(ENTRIES // columns, FEWEST), MOST))

    def blocks(self, arrays: Sequence[ViewArray]) -> Iterator[slice]:
        """Yield slices of rows that cover all rows of the views."""
        total, rows = int(arrays[0].shape[0]), self.rows(arrays)
        for start in range(0, total, rows):
            yield slice(start, min(start + rows, total))

    def __call__(self, arrays: Sequence[ViewArray], rows: slice = slice(None)) -> Reading:
        """Read rows of raw views, some of which may be missing."""
        parts = [dense(array, rows) for array in arrays]
        present = np.stack([present_rows(part) for part in parts], axis=1)
        tables = [
            self._table(view, part, here)
            for view, (part, here) in enumerate(zip(parts, present.T, strict=True))
        ]
        return Reading(tables, None if present.all() else present, len(present))

    def _table(self, view: int, values: NDArray[np.float64], here: NDArray[np.bool_]) -> Tensor:
        slots = list(self._maps[view].values())
        count = sum(slot.width + 2 for _, slot in slots)
        table = torch.empty((count, len(values)), dtype=self.dtype)
        turned = torch.from_numpy(np.array(values.T, order="C"))
        missing = None if here.all() else torch.from_numpy(~here)
        if missing is not None:
            turned[:, missing] = 0.0
        extremes = torch.aminmax(turned)
        huge = max(float(extremes.max), -float(extremes.min)) > HUGE
        scaled: dict[str, Tensor] = {}
        for mapping, slot in slots:
            out = table[slot.columns]
            if huge:
                part = mapping.transform(values)
                out.copy_(torch.from_numpy(part.T))
            else:
                self._map(mapping, turned, scaled, out)
            if missing is not None:
                out[:, missing] = 0.0
            squares, ones = table[slot.columns.stop], table[slot.columns.stop + 1]
            if slot in self._squared:
                torch.sum(out.square(), dim=0, out=squares)
            else:
                squares.zero_()
            ones.fill_(1.0)
        return table

    def _map(
        self, mapping: FeatureMap, turned: Tensor, scaled: dict[str, Tensor], out: Tensor
    ) -> None:
        """Map columns (d, n) of usual sizes as `FeatureMap.transform` does."""
        plain = mapping.features in ("plain", "quantile")
        key, name = mapping.keys
        if key not in scaled:
            scaled[key] = self._scale(mapping, key, turned, out if plain else None)
        values = scaled[key]
        if plain:
            if values is not out:
                out.copy_(values)
            return
        root = torch.abs(values)
        root.sqrt_().copysign_(values)
        width = len(root)
        mean, factor = self._held(name, mapping.mean, 1 / mapping.spread)
        torch.sub(root, mean[:width], out=out[:width])
        if mapping.features == "root-layernorm":
            centred = root.sub_(root.mean(dim=0))
            spread = centred.square().mean(dim=0).sqrt_()
            flat = spread <= 1e-12
            centred.mul_(torch.where(flat, 0.0, 1 / spread))
            torch.sub(centred, mean[width:], out=out[width:])
        out.mul_(factor).clamp_(-CLIP, CLIP)

    def _scale(
        self, mapping: FeatureMap, key: str, turned: Tensor, out: Tensor | None
    ) -> Tensor:
        if "quantile" in (mapping.scaling, mapping.features):
            out = torch.empty(turned.shape, dtype=self.dtype) if out is None else out
            return mapping.table.turned(turned, out)
        if key not in self._constants:
            parts = (mapping.shift, 1 / mapping.scale)
            self._constants[key] = [torch.from_numpy(part).unsqueeze(1) for part in parts]
        shift, factor = self._constants[key]
        limit = FARTHEST_UNSCALED if mapping.scaling == "none" else FARTHEST
        values = turned - shift
        values *= factor
        values.clamp_(-limit, limit)
        if out is None:
            return values.to(self.dtype)
        return out.copy_(values)

    def _held(self, name: str, *parts: NDArray[np.float64]) -> list[Tensor]:
        """Statistics of a map as columns, made once."""
        if name not in self._constants:
            self._constants[name] = [
                torch.from_numpy(part).to(self.dtype).unsqueeze(1) for part in parts
            ]
        return self._constants[name]
