"""Kernel features of rows for several experts at once, with shared maps and distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.experts.logits import RowWeights
from rcml_misa.experts.mapped_views import Columns, MappedViews
from rcml_misa.experts.ridge import (
    BLOCK,
    BlockKernel,
    KernelSum,
    beside_squares,
    distance_matrix,
)
from rcml_misa.experts.sums import Sample, tensor

__all__ = ["KernelMember", "KernelRows"]

Array = NDArray[Any]
Rows = NDArray[np.int64]
ENTRIES = 2**19  # of a kernel matrix at once, which the caches hold


@dataclass(frozen=True)
class KernelMember:
    """An expert whose ridge is to be fitted: its columns, kernel and landmarks.

    Attributes
    ----------
    columns : Columns
    kernel : BlockKernel
    weights : RowWeights
        Rows that it learns from, and their weights.
    chosen : ndarray of shape (m,)
        Row numbers of its landmarks.
    landmarks : Tensor of shape (m, d)
        Their columns.
    root : Tensor of shape (m, m)
        See `nystroem_root`.
    whole : bool
        Whether the landmarks are all its rows, in their order. Their features are then the rows of
        `root`, which need no turn.
    """

    columns: Columns
    kernel: BlockKernel
    weights: RowWeights
    chosen: Rows
    landmarks: Tensor
    root: Tensor
    whole: bool

    @property
    def matrices(self) -> list[list[Tensor]]:
        """Matrices of the landmarks in each kind and view; see `distance_matrix`."""
        widths = self.columns.layout
        parts = iter(torch.split(self.landmarks, [w for kind in widths for w in kind], dim=1))
        return [[distance_matrix(next(parts)) for _ in kind] for kind in widths]

    @cached_property
    def squares(self) -> Tensor:
        """Squared lengths of the landmarks, (m,)."""
        squares: Tensor = torch.linalg.vecdot(self.landmarks, self.landmarks)
        return squares

    def scaled(self, mapped: Sequence[Sequence[Array]]) -> list[list[Tensor]]:
        """Scale mapped columns in each kind and view, beside their squares."""
        dtype = np.float64 if self.columns.double else np.float32
        pairs = zip(mapped, self.columns.factors, strict=True)
        return [
            [
                beside_squares(
                    torch.from_numpy(np.asarray(part * factor, dtype)).to(self.landmarks.device)
                )
                for part, factor in zip(kind, factors, strict=True)
            ]
            for kind, factors in pairs
        ]


class KernelRows:
    """Kernel features of the rows of a table for its members; see `RowSource`.

    The last member is an expert of all views, any others are one of each view. Rows are mapped once
    for all of them, and a view's distances to the joint expert's landmarks serve its own, where
    these are the first ones. Features are kernel values,
    and those of up to 8192 rows are kept.
    """

    def __init__(
        self,
        views: MappedViews,
        members: Sequence[KernelMember],
        codes: Rows,
        classes: int,
    ) -> None:
        self.views, self.members, self.codes, self.classes = views, members, codes, classes
        self.rows = len(codes)
        self.nested: list[slice | None] = [None] * len(members)
        self.roots = [None if member.whole else member.root for member in members]
        self._matrices = [member.matrices for member in members]
        joint = members[-1]
        self._shared = [self._shares(member, joint) for member in members[:-1]]
        self._tile = max(32, ENTRIES // len(joint.chosen))
        self._kept: list[Tensor] | None = None
        if self.rows <= BLOCK:
            self._kept = self._features(slice(0, self.rows))

    @staticmethod
    def _shares(own: KernelMember, joint: KernelMember) -> bool:
        first = joint.chosen[: len(own.chosen)]
        return own.weights.here is None and np.array_equal(own.chosen, first)

    def __call__(self, rows: slice | Rows) -> list[Sample]:
        """Compute the features of some rows."""
        features = self._features(rows) if self._kept is None else [f[rows] for f in self._kept]
        codes, samples = self.codes[rows], []
        for member, whole in zip(self.members, features, strict=True):
            weights = member.weights(rows, codes)
            own, part, device = codes, whole, whole.device
            if member.weights.here is not None:
                here = member.weights.here[rows]
                own, part = codes[here], part[tensor(here, device)]
            samples.append(Sample(part, tensor(own, device), tensor(weights, device)))
        return samples

    def _features(self, rows: slice | Rows) -> list[Tensor]:
        """Kernel values (n, m) of some rows for each member; where it is whole, rows of its root.

        Those of rows without its view have no meaning.
        """
        numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        features = []
        for member in self.members:
            part = member.landmarks.new_zeros(len(numbers), len(member.chosen))
            if member.whole:
                places = np.searchsorted(member.chosen, numbers)
                here = member.weights.here
                seen = np.ones(len(numbers), dtype=bool) if here is None else here[numbers]
                part[tensor(seen, part.device)] = member.root[places[seen]].to(part)
            features.append(part)
        if all(member.whole for member in self.members):
            return features
        mapped = self.views(rows)
        columns = [
            member.scaled(mapped if member is self.members[-1] else [[k[view]] for k in mapped])
            if view >= len(self._shared) or not self._shared[view]
            else []
            for view, member in enumerate(self.members)
        ]
        for start in range(0, len(numbers), self._tile):
            tile = slice(start, start + self._tile)
            self._set_kernels(
                [[[part[tile] for part in kind] for kind in own] for own in columns],
                [part[tile] for part in features],
            )
        return features

    def _set_kernels(self, columns: list[list[list[Tensor]]], values: list[Tensor]) -> None:
        """Set the kernel values (n, m) of rows and each member's landmarks.

        `columns` are those of each member, scaled, or none where the joint expert's serve.
        """
        *others, joint = self.members
        total = KernelSum(joint.kernel, joint.columns.layout)
        for view in range(len(columns[-1][0])):
            own = others[view] if others and not others[view].whole else None
            alone = None if own is None else KernelSum(own.kernel, own.columns.layout)
            left = [[kind[view]] for kind in columns[-1]]
            if own is not None and not self._shared[view]:
                left = columns[view]
            for kind, matrices in enumerate(self._matrices[-1]):
                negative = columns[-1][kind][view] @ matrices[view]
                nears = total.add(kind, negative)
                if own is None or alone is None:
                    continue
                if self._shared[view]:
                    first = slice(0, len(own.chosen))
                    first_nears = {width: near[:, first] for width, near in nears.items()}
                    alone.add(kind, negative[:, first], first_nears)
                else:
                    alone.add(kind, left[kind][0] @ self._matrices[view][kind][0])
            if own is not None and alone is not None:
                values[view][:] = alone.values(_squares(left), own.squares)
        values[-1][:] = total.values(_squares(columns[-1]), joint.squares)


def _squares(columns: Sequence[Sequence[Tensor]]) -> Tensor:
    """Sum the squares of each row's columns in all kinds and views."""
    return torch.stack([part[:, -2] for kind in columns for part in kind]).sum(dim=0)
