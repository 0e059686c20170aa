"""What a network reads of some rows: mapped views, expert logits and targets side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import ViewArray, dense

__all__ = ["InputTable"]

KEPT = 16_384  # rows whose mapped columns are kept; more are mapped batch by batch


class InputTable:
    """Float32 columns of n rows, so that a batch is drawn and mixed in one go.

    Mapped views of many rows would take more memory than the raw ones: beyond 16 384 rows each
    batch is mapped when it is asked for.

    Parameters
    ----------
    maps : sequence of FeatureMap
        One per view.
    arrays : sequence of arrays of shape (n, d_v)
        Raw views, dense or sparse.
    others : sequence of Tensor of shape (n, k)
        Columns that come after the views'.
    device : torch.device
        Where the columns are wanted.

    Attributes
    ----------
    widths : tuple of int
        Mapped columns of each view.
    """

    def __init__(
        self,
        maps: Sequence[FeatureMap],
        arrays: Sequence[ViewArray],
        others: Sequence[Tensor],
        *,
        device: torch.device,
    ) -> None:
        self.maps = maps
        self.arrays = arrays
        self.others = others
        self.device = device
        self.rows = int(arrays[0].shape[0])
        self.widths = tuple(part.shape[1] for part in self._map(slice(0, 1))[: len(maps)])
        few = self.rows <= KEPT
        self.whole = torch.cat(self._map(slice(None)), dim=1) if few else None

    def _map(self, rows: slice | NDArray[Any]) -> list[Tensor]:
        mapped = [
            torch.from_numpy(one.transform(dense(array, rows), np.float32))
            for one, array in zip(self.maps, self.arrays, strict=True)
        ]
        return [part.to(self.device) for part in (*mapped, *(other[rows] for other in self.others))]

    def __call__(self, rows: slice | NDArray[Any]) -> Tensor:
        """Columns of some rows."""
        return torch.cat(self._map(rows), dim=1) if self.whole is None else self.whole[rows]
