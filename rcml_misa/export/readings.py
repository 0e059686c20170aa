"""Readings of tables in torch: scaled columns, quantiles, principal components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.special import ndtri
from torch import Tensor, nn

from rcml_misa.exceptions import DataError
from rcml_misa.experts.components import WhiteColumns
from rcml_misa.experts.standing import EDGE
from rcml_misa.experts.standing import FARTHEST as FARTHEST_COMPONENT
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import (
    CLIP,
    FARTHEST,
    FARTHEST_UNSCALED,
    HUGE,
    STRAY,
    FeatureMap,
)

__all__ = ["ColumnReading", "FeatureReading", "Quantiles", "WhiteReading", "tensor"]

Array = NDArray[np.float64]
LEAST_SPREAD = 1e-12  # of a row, below which its LayerNorm is 0


def tensor(array: NDArray[np.floating[Any]], dtype: torch.dtype = torch.float64) -> Tensor:
    """Copy an array into a tensor."""
    return torch.from_numpy(np.array(array, dtype=np.float64)).to(dtype)


class Quantiles(nn.Module):
    """Normal quantiles of mid-ranks in sorted columns of each view, (q, d_v); see `QuantileTable`.

    The distinct values of each column are padded with infinity to a power of two, in which as many
    halvings find the place of any value.
    """

    values: Tensor
    quantiles: Tensor
    starts: Tensor

    def __init__(self, orders: Sequence[Array]) -> None:
        super().__init__()
        columns = [
            (len(order), *np.unique(column, return_counts=True))
            for order in orders
            for column in order.T
        ]
        # one place more than values, for what is above all of them
        most = max(len(values) for _, values, _ in columns)
        self.halvings = math.ceil(math.log2(most + 1))
        size, width = 2**self.halvings, len(columns)
        table, shares = np.full((width, size), np.inf), np.ones((width, 2 * size))
        for place, (rows, values, counts) in enumerate(columns):
            below = np.concatenate([[0], np.cumsum(counts)])
            table[place, : len(values)] = values
            # shares of values just below a distinct one, and of itself
            shares[place, : 2 * len(values) : 2] = below[:-1] / rows
            shares[place, 1 : 2 * len(values) : 2] = (below[:-1] + below[1:]) / (2 * rows)
            shares[place] = np.clip(shares[place], 0.5 / rows, 1 - 0.5 / rows)
        self.register_buffer("values", tensor(table.ravel()))
        self.register_buffer("quantiles", tensor(ndtri(shares).ravel()))
        self.register_buffer("starts", torch.arange(width) * size)

    def forward(self, values: Tensor) -> Tensor:
        """Look rows (n, d) of all views' columns up."""
        low = torch.zeros_like(values, dtype=torch.int64) + self.starts
        for halving in reversed(range(self.halvings)):
            middle = low + 2**halving
            low = torch.where(self.values[middle - 1] < values, middle, low)
        equal = self.values[low] == values
        return self.quantiles[2 * low + equal.long()]


class FeatureReading(nn.Module):
    """Columns of all views as `FeatureMap`s of one kind read them.

    Columns of all views lie side by side, so that a graph has most steps once. The views' results
    are multiplied by `factors`; steps after the scaling are computed in `dtype`.
    """

    owners: Tensor
    shift: Tensor
    scale: Tensor
    least: Tensor
    span: Tensor
    factor: Tensor
    mean: Tensor
    spread: Tensor

    def __init__(
        self,
        maps: Sequence[FeatureMap],
        factors: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        kinds = {(mapping.scaling, mapping.features) for mapping in maps}
        if len(kinds) > 1:
            raise DataError("the model reads its views in different ways; fit it again to export.")
        ((scaling, self.features),) = kinds
        self.limit = FARTHEST_UNSCALED if scaling == "none" else FARTHEST
        self.dtype = dtype
        self.widths = [len(mapping.shift) for mapping in maps]
        owners = np.repeat(np.arange(len(maps)), self.widths)
        self.quantiles = None
        if "quantile" in (scaling, self.features):
            self.quantiles = Quantiles([mapping.order for mapping in maps])
        ends = [_ends(mapping) for mapping in maps]
        parts = {
            "shift": [mapping.shift for mapping in maps],
            "scale": [mapping.scale for mapping in maps],
            "least": [least for least, _ in ends],
            "span": [span for _, span in ends],
            "factor": [np.array(factors or np.ones(len(maps)))[owners]],
        }
        if self.features in ("root", "root-layernorm"):
            # of the roots, then of their row-LayerNorm
            for name in ("mean", "spread"):
                values = [np.split(getattr(m, name), [len(m.shift)]) for m in maps]
                parts[name] = [part[0] for part in values] + [part[1] for part in values]
        for name, part in parts.items():
            own = dtype if name in ("factor", "mean", "spread") else torch.float64
            self.register_buffer(name, tensor(np.concatenate(part), own))
        self.register_buffer("owners", torch.from_numpy(owners))

    def forward(self, values: Tensor, missing: Tensor) -> list[Tensor]:
        """Read rows (n, d_1 + ... + d_N) into N tables, zeros where a view is `missing` (n, N)."""
        gone = missing[:, self.owners]
        values = torch.where(gone, self.shift, values)
        if self.quantiles is not None:
            mapped = self.quantiles(values)
        else:
            mapped = ((values - self.shift) / self.scale).clamp(-self.limit, self.limit)
        mapped = mapped.to(self.dtype)
        kinds = [mapped]
        if self.features in ("root", "root-layernorm"):
            root = mapped.sign() * mapped.abs().sqrt()
            kinds = [root]
            if self.features == "root-layernorm":
                parts = torch.split(root, self.widths, dim=1)
                kinds.append(torch.cat([_row_layer_norm(part) for part in parts], dim=1))
            means, spreads = self.mean.view(len(kinds), -1), self.spread.view(len(kinds), -1)
            kinds = [
                ((kind - means[number]) / spreads[number]).clamp(-CLIP, CLIP)
                for number, kind in enumerate(kinds)
            ]
        if self.features != "plain":
            strays = ((values - self.least).abs() / self.span > FARTHEST) & (values.abs() > HUGE)
            kinds[0] = torch.where(strays, STRAY * values.sign().to(self.dtype), kinds[0])
        zeroed = [torch.where(gone, 0.0, kind * self.factor) for kind in kinds]
        tables = [torch.split(kind, self.widths, dim=1) for kind in zeroed]
        if len(tables) == 1:
            return list(tables[0])
        return [torch.cat(pair, dim=1) for pair in zip(*tables, strict=True)]


def _row_layer_norm(values: Tensor) -> Tensor:
    """Centre each row and scale it to unit variance, step by step as NumPy does."""
    centred = values - values.mean(dim=1, keepdim=True)
    again = centred - centred.mean(dim=1, keepdim=True)
    spread = again.square().mean(dim=1, keepdim=True).sqrt()
    flat = spread <= LEAST_SPREAD
    return torch.where(flat, 0.0, centred / torch.where(flat, 1.0, spread))


def _ends(mapping: FeatureMap) -> tuple[Array, Array]:
    """Least value of each train column, and its range or deviation."""
    if not mapping.order.size:
        return mapping.shift, mapping.scale
    span = mapping.order[-1] - mapping.order[0]
    return mapping.order[0], np.where(span > 0, span, 1.0)


class ColumnReading(nn.Module):
    """Columns of all views as their `ColumnMap`s read them, in `dtype`."""

    def __init__(self, columns: Sequence[ColumnMap], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        maps = zip(*(each.maps for each in columns), strict=True)
        factors = zip(*(each.factors for each in columns), strict=True)
        self.readings = nn.ModuleList(
            FeatureReading(*pair, dtype) for pair in zip(maps, factors, strict=True)
        )
        self.reduced = [bool(each.components.size) for each in columns]
        for number, each in enumerate(columns):
            self.register_buffer(f"centre{number}", tensor(each.centre, dtype))
            self.register_buffer(f"components{number}", tensor(each.components, dtype))

    def forward(self, values: Tensor, missing: Tensor) -> list[Tensor]:
        """Read rows into N tables; see `FeatureReading`."""
        read = [reading(values, missing) for reading in self.readings]
        tables = [torch.cat(parts, dim=1) for parts in zip(*read, strict=True)]
        for number, reduced in enumerate(self.reduced):
            if reduced:
                centred = tables[number] - getattr(self, f"centre{number}")
                table = centred @ getattr(self, f"components{number}")
                tables[number] = torch.where(missing[:, number : number + 1], 0.0, table)
        return tables


class WhiteReading(nn.Module):
    """Principal components of all views as their `WhiteColumns` compute them."""

    centre: Tensor
    components: Tensor
    deviations: Tensor
    members: Tensor
    sizes: Tensor
    owners: Tensor

    def __init__(self, columns: Sequence[WhiteColumns]) -> None:
        super().__init__()
        self.reading = FeatureReading([each.map for each in columns])
        numbers = np.arange(len(columns))
        mapped, widths = (
            np.repeat(numbers, [each.components.shape[axis] for each in columns]) for axis in (0, 1)
        )
        blocks = block_diag(*(each.components for each in columns))
        self.register_buffer("centre", tensor(np.concatenate([each.centre for each in columns])))
        self.register_buffer("components", tensor(blocks))
        deviations = np.concatenate([each.deviations for each in columns])
        self.register_buffer("deviations", tensor(deviations))
        self.register_buffer("sizes", tensor(np.array([each.size for each in columns])))
        self.register_buffer("members", tensor(np.eye(len(columns))[mapped]))
        self.register_buffer("spanned", tensor(np.eye(len(columns))[widths]))
        self.register_buffer("owners", torch.from_numpy(widths))

    spanned: Tensor

    def forward(self, values: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Compute components (n, m) of all views and the distances (n, N) from their planes."""
        mapped = torch.cat(self.reading(values, missing), dim=1)
        mapped = mapped.clamp(-FARTHEST_COMPONENT, FARTHEST_COMPONENT)
        cut = mapped.clamp(-EDGE, EDGE)
        centred = cut - self.centre
        parts = centred @ self.components
        left = centred.square() @ self.members
        left = left - (parts * self.deviations).square() @ self.spanned
        left = left.clamp_min(0) + (mapped - cut).square() @ self.members
        return torch.where(missing[:, self.owners], 0.0, parts), left.sqrt() / self.sizes
