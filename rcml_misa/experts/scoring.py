"""Scores of all kernel experts of a set of views at once, with shared maps and distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.experts.ridge import KERNELS
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import ViewArray, dense

if TYPE_CHECKING:
    from rcml_misa.experts.expert import KernelExpert

__all__ = ["ExpertScorer", "RawScores"]

Array = NDArray[Any]
ENTRIES = 2**19  # entries of a kernel matrix at once, which the caches hold


@dataclass(frozen=True)
class RawScores:
    """Unbounded scores (n, K) of each view's expert and of the joint one."""

    views: list[Array]
    joint: Array


@dataclass(frozen=True)
class _Block:
    """One view in one kind of map, for one expert.

    Mapped columns x, |x|^2 and 1 times `matrix`, (d + 2, m), are minus the squared distances to the
    landmarks; it is None where another expert's product serves as well. `linear`, (d, K), is the
    linear part of the kernel, summed over landmarks.
    """

    map: FeatureMap
    matrix: Array | None
    linear: Array

    def serves(self, other: _Block, landmarks: int) -> bool:
        """Whether the first columns of this product are the other's."""
        mine, theirs = self.matrix, other.matrix
        same = _same_map(self.map, other.map) and mine is not None and theirs is not None
        return same and np.array_equal(np.asarray(mine)[:, :landmarks], np.asarray(theirs))


class _Parts:
    """An expert's blocks per view and kind, and the terms in which Gaussians add up to its scores.

    `terms` are widths of the Gaussians of each view by itself, with their weights over that of the
    product over views; `product` is the width of that product, None where it is a term of the only
    view; `weights`, (m, K), are those of kernel values over the weight of the product.
    """

    def __init__(self, expert: KernelExpert) -> None:
        kernel, columns = KERNELS[expert.kernel_], expert.columns_
        exact = expert.landmark_values_.astype(np.float64)
        kinds, views = len(columns.maps), len(columns.maps[0])
        self.landmarks, self.dtype = len(exact), expert.landmark_values_.dtype.type
        self.weights = (expert.weights_ / kinds).astype(self.dtype)
        self.intercept = expert.intercept_.astype(self.dtype)
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
                squares = (part**2).sum(axis=1)
                rows = [2 * factor * part.T, np.full((1, len(part)), -(factor**2)), -squares[None]]
                linear = kernel.linear * factor / (kinds * views) * (part.T @ expert.weights_)
                matrix = np.concatenate(rows).astype(self.dtype)
                self.blocks[view].append(_Block(mapping, matrix, linear.astype(self.dtype)))


class ExpertScorer:
    """The experts of `ViewExperts` made ready to score new rows.

    Each view is mapped once for its own and the joint expert. Where a view's landmarks are the
    first of the joint expert's, distances to them are worked out once, and so is a Gaussian that
    both experts have. `views` holds an expert per view, or none where `joint` alone is to score.
    """

    def __init__(self, views: Sequence[KernelExpert], joint: KernelExpert) -> None:
        self.joint = _Parts(joint)
        self.own = [_Parts(expert) for expert in views] if len(views) > 1 else []
        self.shared = []
        for own, blocks in zip(self.own, self.joint.blocks, strict=False):
            pairs = list(zip(blocks, own.blocks[0], strict=True))
            self.shared.append(all(mine.serves(theirs, own.landmarks) for mine, theirs in pairs))
            if self.shared[-1]:  # its matrix is not held twice
                own.blocks[0] = [replace(theirs, matrix=None) for _, theirs in pairs]
        self.rows = max(32, ENTRIES // self.joint.landmarks)

    def __call__(self, arrays: Sequence[ViewArray]) -> RawScores:
        """Score rows given by their raw views, which may be missing."""
        count, classes = int(arrays[0].shape[0]), self.joint.weights.shape[1]
        views = [np.empty((count, classes)) for _ in self.own]
        joint = np.empty((count, classes))
        for start in range(0, count, self.rows):
            rows = slice(start, min(start + self.rows, count))
            parts = [dense(array, rows) for array in arrays]
            scores, joint[rows] = self._tile(parts)
            for whole, part in zip(views, scores, strict=True):
                whole[rows] = part
        return RawScores(views or [joint], joint)

    def _tile(self, parts: Sequence[Array]) -> tuple[list[Array], Array]:
        joint, rows = self.joint, len(parts[0])
        together = [np.zeros((rows, joint.landmarks), joint.dtype) for _ in joint.blocks[0]]
        added = np.zeros_like(together[0])
        scores, total = [], np.tile(joint.intercept, (rows, 1))
        for view, part in enumerate(parts):
            own = self.own[view] if self.own else None
            near = None if own is None else np.zeros((rows, own.landmarks), own.dtype)
            score = None if own is None else np.tile(own.intercept, (rows, 1))
            for kind, block in enumerate(joint.blocks[view]):
                table = _mapped(block.map, part, joint.dtype)
                negative = table @ block.matrix
                together[kind] += negative
                total += table[:, :-2] @ block.linear
                gaussians = {w: _gaussian(negative, w, joint.dtype) for w in joint.terms}
                for width, weight in joint.terms.items():
                    _add(added, gaussians[width], weight)
                if own is None or near is None or score is None:
                    continue
                other = own.blocks[0][kind]
                if self.shared[view]:
                    negative = negative[:, : own.landmarks]
                else:
                    gaussians = {}
                    table = _mapped(other.map, part, own.dtype)
                    negative = table @ other.matrix
                score += table[:, :-2] @ other.linear
                for width, weight in own.terms.items():
                    gaussian = gaussians.get(width)
                    if gaussian is None:
                        gaussian = _gaussian(negative, width, own.dtype)
                    _add(near, gaussian[:, : own.landmarks], weight)
            if own is not None and near is not None and score is not None:
                scores.append(score + near @ own.weights)
        for negative in together if joint.product is not None else ():
            added += _gaussian(negative, joint.product, joint.dtype)
        total += added @ joint.weights
        return scores, total


def _gaussian(negative: Array, width: float | None, dtype: type[Any]) -> Array:
    exponents = negative * dtype(width)
    return np.asarray(np.exp(exponents, out=exponents))


def _add(total: Array, values: Array, weight: float) -> None:
    total += values if weight == 1 else values * total.dtype.type(weight)


def _mapped(mapping: FeatureMap, part: Array, dtype: type[Any]) -> Array:
    """Map rows to columns x, then |x|^2 and 1."""
    table = np.empty((len(part), mapping.width + 2), dtype=dtype)
    columns = table[:, :-2]
    columns[:] = mapping.transform(part, dtype)
    table[:, -2] = np.einsum("ij,ij->i", columns, columns)
    table[:, -1] = 1
    return table


def _same_map(left: FeatureMap, right: FeatureMap) -> bool:
    """Whether two maps give the same columns."""
    if left is right:
        return True
    names = ("shift", "scale", "mean", "spread", "order")
    pairs = ((getattr(left, name), getattr(right, name)) for name in names)
    return left.features == right.features and all(np.array_equal(a, b) for a, b in pairs)
