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
from rcml_misa.reading.plan import EXTRA, Reading, ReadingPlan, Slot, even_slices
from rcml_misa.views import ViewArray

if TYPE_CHECKING:
    from rcml_misa.experts.expert import KernelExpert

__all__ = ["ExpertScorer", "RawScores", "scored"]

Array = NDArray[Any]
ROWS, LANDMARKS = 256, 512  # of a kernel matrix at once, which the caches hold
POWERS = (2, 3, 4, 8)  # of a Gaussian that take less time than an exponential


@dataclass(frozen=True)
class RawScores:
    """Unbounded scores (n, K) of each view's expert and of the joint one."""

    views: list[Array]
    joint: Array


@dataclass(frozen=True)
class _Block:
    """One view in one kind of map, for one expert.

    `matrix` (m, d + 3) times a slot, mapped columns x, |x|^2, 1 and presence, gives minus the
    squared distances to the m landmarks, which the scorer multiplies by the least width of their
    Gaussians; `linear` (K, d + 3) times it is the linear part of the
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
        owners = zip(self.own, self.shared, strict=True)
        terms = [own.terms if shared else {} for own, shared in owners]
        self.widths = [
            sorted(self.joint.terms | (terms[view] if terms else {})) for view in range(count)
        ]
        for widths, blocks in zip(self.widths, self.joint.blocks, strict=True):
            for block in blocks:
                block.matrix.mul_(widths[0])
        for own, shared in zip(self.own, self.shared, strict=True):
            for block in () if shared else own.blocks[0]:
                block.matrix.mul_(min(own.terms))
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
        kinds = len(self.joint.blocks[0])
        most = max(len(widths) for widths in [*self.widths, *(own.terms for own in self.own)])
        memory = torch.empty((3 + kinds + most, self.landmarks, rows), dtype=dtype)
        for block in even_slices(reading.rows, rows):
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
        for some in self._tiles(self.joint, self.own):
            self._tile(tables, scores, total, some, memory[:, : some.stop - some.start])
        for own, score, shared in zip(self.own, scores, self.shared, strict=True):
            for some in () if shared else self._tiles(own, ()):
                held = memory[:, : some.stop - some.start]
                sums = _kernel_sums(own.blocks[0], tables, some, sorted(own.terms), held)
                _add(score, own, some, sums)

    def _tiles(self, expert: _Parts, others: Sequence[_Parts]) -> Iterator[slice]:
        """Cut an expert's landmarks where those of others end, and at most so many at once."""
        ends = {expert.landmarks, *(min(o.landmarks, expert.landmarks) for o in others)}
        start = 0
        for end in sorted(ends):
            while start < end:
                yield slice(start, min(start + self.landmarks, end))
                start = min(start + self.landmarks, end)

    def _tile(
        self,
        tables: Sequence[Tensor],
        scores: Tensor,
        total: Tensor,
        some: slice,
        memory: Tensor,
    ) -> None:
        """Add what some landmarks of the joint expert, and those that views share, give."""
        joint, kinds = self.joint, len(self.joint.blocks[0])
        added, *products = memory[: 1 + kinds]
        if joint.product is None:
            products = []
        for view, (blocks, widths) in enumerate(zip(joint.blocks, self.widths, strict=True)):
            factor = (joint.product or 0.0) / widths[0]
            sums = _kernel_sums(
                blocks, tables, some, widths, memory[1 + kinds :], products, factor, first=not view
            )
            for number, (width, weight) in enumerate(joint.terms.items()):
                if view or number:
                    added.add_(sums[width], alpha=weight)
                else:
                    torch.mul(sums[width], weight, out=added)
            if self.own and self.shared[view] and some.start < self.own[view].landmarks:
                _add(scores[view], self.own[view], some, sums)
        for product in products:
            added.add_(product.exp_())
        total.addmm_(joint.weights[:, some], added)


def _add(score: Tensor, own: _Parts, some: slice, sums: dict[float, Tensor]) -> None:
    """Add what some landmarks of a view's own expert give; the first of `sums` is written over."""
    (first, weight), *others = own.terms.items()
    near = sums[first]
    for width, other in others:
        near.add_(sums[width], alpha=other / weight)
    score.addmm_(own.weights[:, some], near, alpha=weight)


def _kernel_sums(
    blocks: Sequence[_Block],
    tables: Sequence[Tensor],
    some: slice,
    widths: Sequence[float],
    memory: Tensor,
    products: Sequence[Tensor] = (),
    factor: float = 0.0,
    *,
    first: bool = False,
) -> dict[float, Tensor]:
    """Gaussians of a view by width, summed over the kinds, of some landmarks (m, n).

    The blocks' products give minus the squared distances times the least of the rising `widths`;
    they are added to `products`, of each kind, times a factor, which they replace for the `first`
    view. Gaussians whose width is two to eight times the least are powers of its own, which takes
    less time than an exponential. The results lie in `memory`.
    """
    spare, more, base, *rest = memory
    least, *others = widths
    sums = {least: base} | dict(zip(others, rest, strict=False))
    for kind, block in enumerate(blocks):
        near = spare if kind else base
        torch.mm(block.matrix[some], tables[block.slot.view][block.slot.whole], out=near)
        if products and first:
            torch.mul(near, factor, out=products[kind])
        elif products:
            products[kind].add_(near, alpha=factor)
        ratios = {width: round(width / least, 9) for width in others}
        for width, ratio in ratios.items():
            if ratio in POWERS:
                continue
            gaussian = torch.mul(near, ratio, out=sums[width] if not kind else more).exp_()
            if kind:
                sums[width].add_(gaussian)
        near.exp_()
        for width in others:
            if ratios[width] in POWERS:
                factors = _factors(near, int(ratios[width]), more)
                if kind:
                    sums[width].addcmul_(*factors)
                else:
                    torch.mul(*factors, out=sums[width])
        if kind:
            base.add_(near)
    return sums


def _factors(base: Tensor, power: int, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Two factors of a power among `POWERS`; the memory is written over."""
    if power == 2:
        return base, base
    left = torch.square(base, out=memory)
    if power == 8:
        left.square_()
    return left, base if power == 3 else left


def scored(
    plan: ReadingPlan,
    arrays: Sequence[ViewArray],
    score: Callable[[Reading], tuple[Tensor, Tensor]],
) -> tuple[Array, Array]:
    """Score rows block by block: (N, n, K) of each view and (n, K) of all, in float64."""
    blocks = [score(plan(arrays, rows)) for rows in plan.blocks(arrays)]
    own, joint = (torch.cat(part, dim=-1).double() for part in zip(*blocks, strict=True))
    return own.transpose(1, 2).numpy(), joint.T.numpy()
