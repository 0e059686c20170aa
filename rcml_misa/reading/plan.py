"""Readings of new rows by all maps of a model: every distinct map is evaluated once per block."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import CLIP, FARTHEST, FARTHEST_UNSCALED, HUGE, FeatureMap
from rcml_misa.views import ViewArray, dense, present_rows

__all__ = ["EXTRA", "ColumnPlan", "LinearReading", "Reading", "ReadingPlan", "Slot", "even_slices"]

ENTRIES = 2**19  # raw values that are read at once: what is made of them stays in the caches
FEWEST, MOST = 64, 1024  # rows of a block
EXTRA = 3  # rows after the columns of a map
NEAR = 64  # units from an origin at which a shift is too far: float32 leaves 1e-5 of a unit there
FLAT = 1e-12  # spread of a row without one


def even_slices(total: int, most: int) -> Iterator[slice]:
    """Cut so many rows into as few slices of at most `most` rows as there can be, of like sizes.

    Examples
    --------
    >>> list(even_slices(10, 4))
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    size = -(-total // max(-(-total // most), 1))
    for start in range(0, total, size or 1):
        yield slice(start, min(start + size, total))


@dataclass(frozen=True)
class Slot:
    """Place of a map's d columns in a view's table: rows `start` to `start` + d, then three more.

    These hold the sum of the columns' squares, 1, and 1 in rows that have the view, else 0, so
    that a single product gives distances, or adds constants.
    """

    view: int
    start: int
    width: int

    @property
    def whole(self) -> slice:
        """Rows of the columns, and the three after them."""
        return slice(self.start, self.start + self.width + EXTRA)

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
    held : dict
        What was made of the tables and serves several parts of a model.
    """

    tables: list[Tensor]
    present: NDArray[np.bool_] | None
    rows: int
    held: dict[str, Tensor] = field(default_factory=dict)

    def part(self, slot: Slot) -> Tensor:
        """Columns of a map, and the three rows after them, (d + 3, n)."""
        return self.tables[slot.view][slot.whole]

    def tiles(self, rows: int) -> Iterator[tuple[slice, Reading]]:
        """Cut into readings of at most so many rows."""
        for some in even_slices(self.rows, rows):
            if some == slice(0, self.rows):
                yield some, self
                continue
            present = None if self.present is None else self.present[some]
            tables = [table[:, some] for table in self.tables]
            held = {name: value[:, some] for name, value in self.held.items()}
            yield some, Reading(tables, present, some.stop - some.start, held)


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
        Type of the mapped columns. Raw values are shifted in float64, and all that follows is
        computed in this type.

    Examples
    --------
    >>> values = np.array([[0.0, 2.0], [1.0, 4.0], [4.0, 6.0]])
    >>> plan = ReadingPlan(1)
    >>> slot = plan.add(0, FeatureMap.fit(values, features="plain"), squares=True)
    >>> plan([values]).part(slot)[:, 1].tolist()  # two columns, their squares' sum, 1, 1
    [0.25, 0.5, 0.3125, 1.0, 1.0]
    """

    def __init__(self, views: int, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self._maps: list[dict[str, tuple[FeatureMap, Slot]]] = [{} for _ in range(views)]
        self._squared: set[Slot] = set()
        self._steps: list[_Steps | None] = [None] * views

    def add(self, view: int, mapping: FeatureMap, *, squares: bool = False) -> Slot:
        """Return the slot of a map of a view; maps asked for in turn lie side by side.

        The sum of the columns' squares is computed only where `squares` are asked for, else 0.
        """
        maps = self._maps[view]
        key = mapping.keys[1]
        if key not in maps:
            start = sum(slot.width + EXTRA for _, slot in maps.values())
            maps[key] = mapping, Slot(view, start, mapping.width)
            self._steps[view] = None
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
        yield from even_slices(int(arrays[0].shape[0]), self.rows(arrays))

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
        count = sum(slot.width + EXTRA for _, slot in slots)
        table = torch.empty((count, len(values)), dtype=self.dtype)
        missing = None if here.all() else torch.from_numpy(~here)
        if missing is not None:
            values = np.where(here[:, None], values, 0.0)
        steps = self._steps[view]
        if steps is None:
            steps = self._steps[view] = _Steps([mapping for mapping, _ in slots], self.dtype)
        read = steps(values, [table[slot.columns] for _, slot in slots])
        for mapping, slot in slots:
            out = table[slot.columns]
            if not read:  # of sizes that need every care
                out.copy_(torch.from_numpy(mapping.transform(values).T))
            if missing is not None:
                out[:, missing] = 0.0
            squares, ones, known = table[slot.columns.stop : slot.whole.stop]
            if slot in self._squared:
                torch.sum(out.square(), dim=0, out=squares)
            else:
                squares.zero_()
            ones.fill_(1.0)
            known.fill_(1.0)
            if missing is not None:
                known[missing] = 0.0
        return table


@dataclass(frozen=True)
class _Scaling:
    """Linear scaling of columns' differences from an origin."""

    offset: Tensor | None
    factor: Tensor
    limit: float

    def __call__(self, differences: Tensor, _: Tensor, out: Tensor) -> Tensor:
        """Scale columns (d, n) into `out`."""
        if self.offset is not None:
            differences = torch.sub(differences, self.offset, out=out)
        return torch.mul(differences, self.factor, out=out).clamp_(-self.limit, self.limit)


class _Steps:
    """Steps of the maps of a view, those that several share done once.

    Values are turned to differences from an origin in float64, and rounded to the type of a
    reading; all other steps are in that type. In float32, maps whose shift is within `NEAR` of
    their units of an origin share its differences.

    Parameters
    ----------
    maps : sequence of FeatureMap
    dtype : torch.dtype
    """

    def __init__(self, maps: Sequence[FeatureMap], dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.origins: list[NDArray[np.float64]] = []
        self._columns: list[Tensor] = []
        self._scalings: dict[str, tuple[int, Callable[..., Tensor]]] = {}
        self._maps: list[tuple[str, FeatureMap, list[Tensor]]] = []
        for mapping in maps:
            key = mapping.keys[0]
            if key not in self._scalings:
                self._scalings[key] = self._scaling(mapping)
            statistics = [mapping.mean, 1 / mapping.spread]
            held = [torch.from_numpy(part).to(dtype).unsqueeze(1) for part in statistics]
            self._maps.append((key, mapping, held))

    def _origin(self, shift: NDArray[np.float64], near: NDArray[np.float64] | float) -> int:
        """Number of an origin that is so near to a shift."""
        for number, origin in enumerate(self.origins):
            if (np.abs(shift - origin) <= near).all():
                return number
        self.origins.append(shift)
        self._columns.append(torch.from_numpy(shift.copy()).unsqueeze(1))
        return len(self.origins) - 1

    def _scaling(self, mapping: FeatureMap) -> tuple[int, Callable[..., Tensor]]:
        """The number of the origin, and what scales differences from it."""
        if mapping.ranked:
            number = self._origin(mapping.order[0], np.inf)
            return number, mapping.table.lookup(self.origins[number], self.dtype)
        near = NEAR * mapping.scale if self.dtype == torch.float32 else 0.0
        number = self._origin(mapping.shift, near)
        shift = mapping.shift - self.origins[number]
        limit = FARTHEST_UNSCALED if mapping.scaling == "none" else FARTHEST
        offset, factor = (
            torch.from_numpy(part).to(self.dtype).unsqueeze(1)
            for part in (shift, 1 / mapping.scale)
        )
        return number, _Scaling(offset if shift.any() else None, factor, limit)

    def __call__(self, values: NDArray[np.float64], outs: Sequence[Tensor]) -> bool:
        """Read rows (n, d) into `outs`, (width, n), or tell that they are too large for that."""
        turned = torch.from_numpy(np.array(values.T, order="C"))
        differences = []
        for origin in self._columns:
            part = torch.sub(turned, origin).to(self.dtype)
            # such a value is huge, or so is the origin
            if not max(float(part.amax()), -float(part.amin())) <= HUGE / 2:
                return False
            differences.append(part)
        scaled: dict[str, Tensor] = {}
        for (key, mapping, held), out in zip(self._maps, outs, strict=True):
            plain = not held[0].numel()
            if key not in scaled:
                number, scale = self._scalings[key]
                place = out if plain else torch.empty_like(differences[number])
                scaled[key] = scale(differences[number], turned, place)
                if plain:
                    continue
            if plain:
                out.copy_(scaled[key])
            else:
                _expand(mapping, scaled[key], held[0], held[1], out)
        return True


def _expand(mapping: FeatureMap, values: Tensor, mean: Tensor, factor: Tensor, out: Tensor) -> None:
    """Standardise the roots of scaled columns (d, n), and their rows' LayerNorm."""
    width = len(values)
    root = values.abs().sqrt_().copysign_(values)
    torch.sub(root, mean[:width], out=out[:width])
    if mapping.features == "root-layernorm":
        root.sub_(root.mean(dim=0))
        spread = root.square().mean(dim=0).sqrt_()
        root.mul_(torch.where(spread <= FLAT, 0.0, 1 / spread))
        torch.sub(root, mean[width:], out=out[width:])
    out.mul_(factor).clamp_(-CLIP, CLIP)


class ColumnPlan:
    """Columns of a `ColumnMap`, read by a plan, as what linear maps of them need.

    Parameters
    ----------
    columns : ColumnMap
    view : int
        Number of the view.
    plan : ReadingPlan
    """

    def __init__(self, columns: ColumnMap, view: int, plan: ReadingPlan) -> None:
        self.slots = [plan.add(view, mapping) for mapping in columns.maps]
        self.dtype, self.width = plan.dtype, columns.width
        digest = hashlib.sha256()
        sizes = np.concatenate(
            [np.full(m.width, f) for m, f in zip(columns.maps, columns.factors, strict=True)]
        )
        self._turn, self._constant = sizes, np.zeros(self.width)
        self.reduced = bool(columns.components.size)
        if self.reduced:
            self._turn = sizes[:, None] * columns.components
            self._constant = -columns.centre @ columns.components
        for part in (self._turn, self._constant):
            digest.update(np.ascontiguousarray(part).data)
        keys = [mapping.keys[1] for mapping in columns.maps]
        self.key = "".join([str(view), *keys, digest.hexdigest()])

    def linear(
        self, weights: NDArray[np.float64], constant: NDArray[np.float64] | None = None
    ) -> LinearReading:
        """Prepare weights (h, d) times the columns (d, n), plus a constant (h,).

        Principal components are computed apart, and once, unless the product of both linear maps
        is the cheaper one.
        """
        height = len(weights)
        constant = np.zeros(height) if constant is None else constant
        if not self.reduced:
            return self._reading(weights * self._turn, constant, np.zeros(height))
        together = len(self._turn) * height
        if together < len(self._turn) * self.width + self.width * height:
            folded = weights @ self._turn.T
            return self._reading(folded, constant, weights @ self._constant)
        apart = self._reading(self._turn.T, np.zeros(self.width), self._constant)
        second = np.concatenate([weights, constant[:, None]], axis=1)
        return replace(apart, key=self.key, second=_tensor(second, self.dtype))

    def _reading(
        self,
        weights: NDArray[np.float64],
        constant: NDArray[np.float64],
        present: NDArray[np.float64],
    ) -> LinearReading:
        """Lay weights of mapped columns out for the slots that they are read from."""
        runs: list[tuple[slice, list[NDArray[np.float64]]]] = []
        start, ends = 0, np.stack([np.zeros_like(constant), constant, present], axis=1)
        for slot in self.slots:
            part = [weights[:, start : start + slot.width], ends]
            start, ends = start + slot.width, np.zeros_like(ends)
            if runs and runs[-1][0].stop == slot.start:
                runs[-1] = slice(runs[-1][0].start, slot.whole.stop), [*runs[-1][1], *part]
            else:
                runs.append((slot.whole, part))
        matrices = [
            (rows, _tensor(np.concatenate(parts, axis=1), self.dtype)) for rows, parts in runs
        ]
        return LinearReading(self.slots[0].view, matrices)


@dataclass(frozen=True)
class LinearReading:
    """A linear map of the columns of a view, (d, n) to (h, n).

    Parameters
    ----------
    view : int
    matrices : list of (slice, Tensor)
        Rows of the view's table, and their weights.
    key : str, optional
        Name of the principal components that `matrices` give, which `second`, with a constant in
        its last column, turns into the result.
    second : Tensor, optional
    """

    view: int
    matrices: list[tuple[slice, Tensor]]
    key: str = ""
    second: Tensor | None = None

    def __call__(self, reading: Reading, out: Tensor | None = None) -> Tensor:
        """Compute the result for a block of rows, into `out` where that is given."""
        if self.second is None:
            return self._product(reading, out)
        parts = self.prepare(reading)
        constant = self.second[:, -1:]
        return torch.addmm(constant, self.second[:, :-1], parts, out=out)

    def rows(self, some: slice) -> LinearReading:
        """Select some of the h rows of the result."""
        if self.second is not None:
            return replace(self, second=self.second[some])
        return replace(self, matrices=[(place, matrix[some]) for place, matrix in self.matrices])

    def prepare(self, reading: Reading) -> Tensor:
        """Compute the principal components of a block of rows, once for all that read them."""
        if self.key not in reading.held:
            reading.held[self.key] = self._product(reading, None)
        return reading.held[self.key]

    def _product(self, reading: Reading, out: Tensor | None) -> Tensor:
        table = reading.tables[self.view]
        (rows, matrix), *others = self.matrices
        result = torch.mm(matrix, table[rows], out=out)
        for rows, matrix in others:
            result.addmm_(matrix, table[rows])
        return result


def _tensor(array: NDArray[np.float64], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
