"""Scores of all kernel experts of a set of views at once, with shared maps and distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.experts.ridge import KERNELS
from rcml_misa.reading.plan import Reading, ReadingPlan, Slot
from rcml_misa.views import ViewArray

if TYPE_CHECKING:
    from rcml_misa.experts.expert import KernelExpert

__all__ = ["ExpertScorer", "RawScores", "scored"]

Array = NDArray[Any]
ENTRIES = 2**17  # entries of a kernel matrix at once, which the caches hold


@dataclass(frozen=True)
class RawScores:
    """Unbounded scores (n, K) of each view's expert and of the joint one."""

    views: list[Array]
    joint: Array


@dataclass(frozen=True)
class _Block:
    """One view in one kind of map, for one expert.

    `matrix` (m, d + 2) times mapped columns x, |x|^2 and 1 gives minus the squared distances to
    the m landmarks; `linear` (K, d + 2) times the same is the linear part of the scores.
    """

    slot: Slot
    matrix: Tensor
    linear: Tensor


class _Parts:
    """An expert's blocks per view and kind, and the terms in which Gaussians add up to its scores.

    `terms` are widths of the Gaussians of each view by itself, with their weights over that of the
    product over views; `product` is the width of that product, None where it is a term of the only
    view; `weights`, (K, m), are those of kernel values over the weight of the product.
    """

    def __init__(self, expert: KernelExpert, plan: ReadingPlan, places: Sequence[int]) -> None:
        kernel, columns = KERNELS[expert.kernel_], expert.columns_
        exact = expert.landmark_values_.astype(np.float64)
        kinds, views = len(columns.maps), len(columns.maps[0])
        self.landmarks = len(exact)
        self.weights = _tensor(expert.weights_.T / kinds, plan.dtype)
        self.intercept = _tensor(expert.intercept_[:, None], plan.dtype)
        self.terms = dict.fromkeys(kernel.additive, 1 / (views * len(kernel.additive)))
        self.product: float | None = kernel.product / views
        if views == 1:
            self.terms[kernel.product] = 1 + self.terms.get(kernel.product, 0.0)
            self.product = None
        self.blocks: list[list[_Block]] = [[] for _ in range(views)]
        start = 0
        for kind, factors in zip(columns.maps, columns.factors, strict=True):
            for view, (mapping, factor) in enumerate(zip(kind, factors, strict=True)):
                part = exact[:, start : start + mapping.width]
                start += mapping.width
                ends = np.full((len(part), 1), -(factor**2)), -(part**2).sum(axis=1, keepdims=True)
                matrix = np.concatenate([2 * factor * part, *ends], axis=1)
                linear = kernel.linear * factor / (kinds * views) * (expert.weights_.T @ part)
                self.blocks[view].append(
                    _Block(
                        plan.add(places[view], mapping, squares=True),
                        _tensor(matrix, plan.dtype),
                        _tensor(np.pad(linear, ((0, 0), (0, 2))), plan.dtype),
                    )
                )


def _tensor(array: Array, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


class ExpertScorer:
    """The experts of `ViewExperts` made ready to score new rows.

    Each view is mapped once for its own and the joint expert. Where a view's landmarks are the
    first of the joint expert's, distances to them are worked out once, and so is a Gaussian that
    both experts have. `views` holds an expert per view, or none where `joint` alone is to score.
    Columns are read by `plan`, or one of its own.
    """

    def __init__(
        self,
        views: Sequence[KernelExpert],
        joint: KernelExpert,
        plan: ReadingPlan | None = None,
    ) -> None:
        count = len(joint.columns_.maps[0])
        double = joint.landmark_values_.dtype == np.float64
        dtype = torch.float64 if double else torch.float32
        self.plan = ReadingPlan(count, dtype) if plan is None else plan
        self.joint = _Parts(joint, self.plan, range(count))
        alone = views if len(views) > 1 else ()
        self.own = [_Parts(expert, self.plan, [view]) for view, expert in enumerate(alone)]
        self.shared = [
            all(
                mine.slot == theirs.slot and torch.equal(mine.matrix[: own.landmarks], theirs.matrix)
                for mine, theirs in zip(blocks, own.blocks[0], strict=True)
            )
            for own, blocks in zip(self.own, self.joint.blocks, strict=False)
        ]
        self.rows = max(32, ENTRIES // self.joint.landmarks)

    def __call__(self, arrays: Sequence[ViewArray]) -> RawScores:
        """Score rows given by their raw views, which may be missing."""
        own, joint = scored(self.plan, arrays, self.score)
        return RawScores(list(own), joint)

    def score(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Scores (N, K, n) of the views' experts and (K, n) of the joint one for rows read."""
        classes, dtype = len(self.joint.weights), self.joint.weights.dtype
        joint = torch.empty((classes, reading.rows), dtype=dtype)
        own = torch.empty((len(self.own), classes, reading.rows), dtype=dtype)
        for start in range(0, reading.rows, self.rows):
            rows = slice(start, min(start + self.rows, reading.rows))
            self._tile([table[:, rows] for table in reading.tables], own[:, :, rows], joint[:, rows])
        return (own if self.own else joint.unsqueeze(0)), joint

    def _tile(self, tables: Sequence[Tensor], scores: Tensor, total: Tensor) -> None:
        joint, rows = self.joint, tables[0].shape[1]
        entries = (joint.landmarks, rows)
        added = torch.zeros(entries, dtype=total.dtype)
        together = [torch.zeros(entries, dtype=total.dtype) for _ in joint.blocks[0]]
        total.copy_(joint.intercept.expand(-1, rows))
        for view, blocks in enumerate(joint.blocks):
            own = self.own[view] if self.own else None
            near = None if own is None else torch.zeros((own.landmarks, rows), dtype=total.dtype)
            if own is not None:
                scores[view] = own.intercept
            for kind, block in enumerate(blocks):
                table = tables[view][block.slot.whole]
                negative = block.matrix @ table
                total += block.linear @ table
                gaussians = _gaussians(negative, joint.terms)
                for width, weight in joint.terms.items():
                    added.add_(gaussians[width], alpha=weight)
                if joint.product is not None:
                    together[kind].add_(negative)
                if own is None or near is None:
                    continue
                other = own.blocks[0][kind]
                if self.shared[view]:
                    missing = {w: v for w, v in own.terms.items() if w not in gaussians}
                    gaussians |= _gaussians(negative[: own.landmarks], missing)
                else:
                    table = tables[view][other.slot.whole]
                    gaussians = _gaussians(other.matrix @ table, own.terms)
                scores[view] += other.linear @ table
                for width, weight in own.terms.items():
                    near.add_(gaussians[width][: own.landmarks], alpha=weight)
            if own is not None and near is not None:
                scores[view] += own.weights @ near
        if joint.product is not None:
            for negative in together:
                added += negative.mul_(joint.product).exp_()
        total += joint.weights @ added


def _gaussians(negative: Tensor, widths: Any) -> dict[float, Tensor]:
    """Gaussians of some widths of minus the squared distances.

    A Gaussian eight times as narrow as another one is three times its square, which takes less
    time than an exponential.
    """
    gaussians: dict[float, Tensor] = {}
    for width in sorted(widths):
        base = gaussians.get(width / 8)
        if base is None:
            gaussians[width] = (negative * width).exp_()
        else:
            gaussians[width] = base.square().square_().square_()
    return gaussians


def scored(
    plan: ReadingPlan, arrays: Sequence[ViewArray], score: Any
) -> tuple[Array, Array]:
    """Score rows block by block: (N, n, K) of each view and (n, K) of all, in float64."""
    blocks = [score(plan(arrays, rows)) for rows in plan.blocks(arrays)]
    own, joint = (torch.cat(part, dim=-1).double() for part in zip(*blocks, strict=True))
    return (
        np.ascontiguousarray(own.transpose(1, 2).numpy()),
        np.ascontiguousarray(joint.T.numpy()),
    )
