"""Scores of all kernel experts of a set of views at once, with shared maps and distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.experts.ridge import KERNELS
from rcml_misa.reading.plan import EXTRA, Reading, ReadingPlan, Slot
from rcml_misa.views import ViewArray

if TYPE_CHECKING:
    from rcml_misa.experts.expert import KernelExpert

__all__ = ["ExpertScorer", "RawScores", "scored"]

Array = NDArray[Any]
ROWS, LANDMARKS = 256, 512  # of a kernel matrix at once, which the caches hold


@dataclass(frozen=True)
class RawScores:
    """Unbounded scores (n, K) of each view's expert and of the joint one."""

    views: list[Array]
    joint: Array


@dataclass(frozen=True)
class _Block:
    """One view in one kind of map, for one expert.

    `matrix` (m, d + 3) times a slot, mapped columns x, |x|^2, 1 and presence, gives minus the
    squared distances to the m landmarks; `linear` (K, d + 3) times it is the linear part of the
    scores.
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
                ends = np.zeros((len(part), EXTRA))
                ends[:, 0], ends[:, 1] = -(factor**2), -(part**2).sum(axis=1)
                matrix = np.concatenate([2 * factor * part, ends], axis=1)
                linear = kernel.linear * factor / (kinds * views) * (expert.weights_.T @ part)
                self.blocks[view].append(
                    _Block(
                        plan.add(places[view], mapping, squares=True),
                        _tensor(matrix, plan.dtype),
                        _tensor(np.pad(linear, ((0, 0), (0, EXTRA))), plan.dtype),
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
                mine.slot == theirs.slot
                and torch.equal(mine.matrix[: own.landmarks], theirs.matrix)
                for mine, theirs in zip(blocks, own.blocks[0], strict=True)
            )
            for own, blocks in zip(self.own, self.joint.blocks, strict=False)
        ]
        most = max(part.landmarks for part in [self.joint, *self.own])
        self.rows, self.landmarks = ROWS, math.ceil(most / max(1, round(most / LANDMARKS)))

    def __call__(self, arrays: Sequence[ViewArray]) -> RawScores:
        """Score rows given by their raw views, which may be missing."""
        own, joint = scored(self.plan, arrays, self.score)
        return RawScores(list(own), joint)

    def score(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Scores (N, K, n) of the views' experts and (K, n) of the joint one for rows read."""
        classes, dtype = len(self.joint.weights), self.joint.weights.dtype
        joint = torch.empty((classes, reading.rows), dtype=dtype)
        own = torch.empty((len(self.own), classes, reading.rows), dtype=dtype)
        rows = min(self.rows, reading.rows)
        memory = torch.empty((4 + len(self.joint.blocks[0]), self.landmarks, rows), dtype=dtype)
        for start in range(0, reading.rows, rows):
            block = slice(start, min(start + rows, reading.rows))
            tables = [table[:, block] for table in reading.tables]
            held = memory[:, :, : block.stop - block.start]
            self._score(tables, own[:, :, block], joint[:, block], held)
        return (own if self.own else joint.unsqueeze(0)), joint

    def _score(
        self, tables: Sequence[Tensor], scores: Tensor, total: Tensor, memory: Tensor
    ) -> None:
        """Score a few rows, some landmarks at a time; `memory` holds their kernel values."""
        total.copy_(self.joint.intercept.expand_as(total))
        for blocks in self.joint.blocks:
            for block in blocks:
                total.addmm_(block.linear, tables[block.slot.view][block.slot.whole])
        for own, score in zip(self.own, scores, strict=True):
            score.copy_(own.intercept.expand_as(score))
            for block in own.blocks[0]:
                score.addmm_(block.linear, tables[block.slot.view][block.slot.whole])
        for start in range(0, self.joint.landmarks, self.landmarks):
            some = slice(start, min(start + self.landmarks, self.joint.landmarks))
            self._tile(tables, scores, total, some, memory[:, : some.stop - start])
        for own, score, shared in zip(self.own, scores, self.shared, strict=True):
            for start in range(0, 0 if shared else own.landmarks, self.landmarks):
                some = slice(start, min(start + self.landmarks, own.landmarks))
                self._alone(own, tables, score, some, memory[:, : some.stop - start])

    def _tile(
        self,
        tables: Sequence[Tensor],
        scores: Tensor,
        total: Tensor,
        some: slice,
        memory: Tensor,
    ) -> None:
        """Add what some landmarks of the joint expert, and those that views share, give."""
        joint = self.joint
        added, near, negative, spare, *together = memory
        added.zero_()
        for view, blocks in enumerate(joint.blocks):
            own = self.own[view] if self.own and self.shared[view] else None
            few = 0 if own is None else min(max(own.landmarks - some.start, 0), len(added))
            weights = {} if own is None or not few else own.terms
            near[:few].zero_()
            for kind, block in enumerate(blocks):
                table = tables[view][block.slot.whole]
                torch.mm(block.matrix[some], table, out=negative)
                if joint.product is not None and view:
                    together[kind].add_(negative)
                elif joint.product is not None:
                    together[kind].copy_(negative)
                widths = joint.terms | weights
                for width, gaussian in _gaussians(negative, sorted(widths), spare):
                    if width in joint.terms:
                        added.add_(gaussian, alpha=joint.terms[width])
                    if width in weights:
                        near[:few].add_(gaussian[:few], alpha=weights[width])
            if own is not None and few:
                scores[view].addmm_(own.weights[:, some.start : some.start + few], near[:few])
        for negatives in together if joint.product is not None else ():
            added.add_(negatives.mul_(joint.product).exp_())
        total.addmm_(joint.weights[:, some], added)

    def _alone(
        self, own: _Parts, tables: Sequence[Tensor], score: Tensor, some: slice, memory: Tensor
    ) -> None:
        """Add what some landmarks of a view's own expert give."""
        near, negative, spare = memory[:3]
        near.zero_()
        for block in own.blocks[0]:
            torch.mm(block.matrix[some], tables[block.slot.view][block.slot.whole], out=negative)
            for width, gaussian in _gaussians(negative, sorted(own.terms), spare):
                near.add_(gaussian, alpha=own.terms[width])
        score.addmm_(own.weights[:, some], near)


def _gaussians(
    negative: Tensor, widths: Sequence[float], spare: Tensor
) -> Iterator[tuple[float, Tensor]]:
    """Yield Gaussians of rising widths of minus the squared distances, each held until the next.

    Those whose width is two to eight times another one's are powers of it, which takes less time
    than an exponential; both memories are written over.
    """
    first, *others = widths
    powers = [round(width / first) for width in others]
    if all(power in (2, 3, 4, 8) for power in powers):
        base = negative.mul_(first).exp_()
        yield first, base
        for width, power in zip(others, powers, strict=True):
            if power == 3:
                torch.pow(base, 3, out=spare)
            else:
                torch.square(base, out=spare)
                for _ in range(power.bit_length() - 2):
                    spare.square_()
            yield width, spare
        return
    for width in widths:
        yield width, torch.mul(negative, width, out=spare).exp_()


def scored(
    plan: ReadingPlan,
    arrays: Sequence[ViewArray],
    score: Callable[[Reading], tuple[Tensor, Tensor]],
) -> tuple[Array, Array]:
    """Score rows block by block: (N, n, K) of each view and (n, K) of all, in float64."""
    blocks = [score(plan(arrays, rows)) for rows in plan.blocks(arrays)]
    own, joint = (torch.cat(part, dim=-1).double() for part in zip(*blocks, strict=True))
    return own.transpose(1, 2).numpy(), joint.T.numpy()
