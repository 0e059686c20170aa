"""Scores of all kernel experts of a set of views at once, without doing anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rcml_misa.estimators.expert import KernelExpert
from rcml_misa.estimators.kernels import KERNELS, BlockKernel
from rcml_misa.estimators.preprocessing import FeatureMap
from rcml_misa.views import ViewArray, dense

__all__ = ["ExpertScorer", "RawScores"]

Array = NDArray[Any]
ENTRIES = 2**19  # of a kernel matrix at once: what the caches hold


@dataclass(frozen=True)
class RawScores:
    """Unbounded scores of n rows.

    Attributes
    ----------
    views : list of ndarray of shape (n, K)
        Of each view's expert.
    joint : ndarray of shape (n, K)
    nearest : ndarray of shape (n,)
        Squared distance to the joint expert's nearest landmark, in its columns.
    """

    views: list[Array]
    joint: Array
    nearest: Array


@dataclass(frozen=True)
class _Block:
    """What a view's columns of one kind mean for one expert.

    -|x - l|^2 for mapped columns x and landmarks l is linear in x, |x|^2 and 1, so that one
    product gives it for all landmarks.

    Attributes
    ----------
    map : FeatureMap
    factor : float
        Of the mapped columns.
    landmarks : ndarray of shape (m, d)
    matrix : ndarray of shape (d + 2, m)
    linear : ndarray of shape (d, K)
        The whole linear part of the kernel, summed over landmarks.
    """

    map: FeatureMap
    factor: float
    landmarks: Array
    matrix: Array
    linear: Array

    @classmethod
    def of(
        cls, one: FeatureMap, factor: float, landmarks: Array, weights: Array, linear: float
    ) -> Self:
        """Build from mapped landmarks (m, d) and the expert's weights (m, K)."""
        exact = landmarks.astype(np.float64)
        squares = (exact**2).sum(axis=1)[None, :]
        matrix = np.concatenate([2 * exact.T, np.full((1, len(exact)), -1.0), -squares])
        dtype = landmarks.dtype
        whole = (linear * (exact.T @ weights)).astype(dtype)
        return cls(one, factor, landmarks, matrix.astype(dtype), whole)

    def same(self, other: _Block) -> bool:
        """Whether both give the same distances."""
        return (
            self.factor == other.factor
            and np.array_equal(self.landmarks, other.landmarks)
            and _same_map(self.map, other.map)
        )

    def mapped(self, part: Array) -> Array:
        """Mapped columns x of raw rows (n, d_v), then |x|^2 and 1."""
        dtype = self.landmarks.dtype
        table = np.empty((len(part), self.landmarks.shape[1] + 2), dtype=dtype)
        columns = table[:, :-2]
        np.multiply(self.map.transform(part, dtype.type), dtype.type(self.factor), out=columns)
        table[:, -2] = np.einsum("ij,ij->i", columns, columns)
        table[:, -1] = 1
        return table


class _Expert:
    """One expert's kernel, weights and blocks, kind after kind and view after view."""

    def __init__(self, expert: KernelExpert) -> None:
        self.kernel: BlockKernel = KERNELS[expert.kernel_]
        self.intercept, self.weights = expert.intercept_, expert.weights_
        columns = expert.columns_
        self.blocks: list[list[_Block]] = []
        count = sum(len(kind) for kind in columns.maps)
        start = 0
        for kind, factors in zip(columns.maps, columns.factors, strict=True):
            found = []
            for one, factor in zip(kind, factors, strict=True):
                part = np.ascontiguousarray(expert.landmark_values_[:, start : start + one.width])
                linear = self.kernel.linear / count
                found.append(_Block.of(one, factor, part, self.weights, linear))
                start += one.width
            self.blocks.append(found)
        self.count = count

    def near(self, gaps: Array, known: dict[float, Array]) -> Array:
        """The additive part's kernel values of one block, from -|x - l|^2; unscaled.

        Parameters
        ----------
        gaps : ndarray of shape (n, m)
        known : dict
            exp(w gaps) by width w, shared with others that use the same gaps.
        """
        total: Array | None = None
        for width in self.kernel.additive:
            one = _exponential(gaps, width, known)
            total = one if total is None else total + one
        return np.zeros_like(gaps) if total is None else total

    @property
    def additive_weights(self) -> Array:
        """Weights of the additive part."""
        share = self.count * max(len(self.kernel.additive), 1)
        return np.asarray(self.weights / self.weights.dtype.type(share))


class ExpertScorer:
    """The experts of `ViewExperts` made ready to score new rows.

    Each view is mapped once for its own and the joint expert, and where both have the same
    landmark rows the distances and the exponentials serve both.

    Parameters
    ----------
    views : sequence of KernelExpert
        One per view.
    joint : KernelExpert
        Of all views; the first of `views` itself where there is one only.
    """

    def __init__(self, views: Sequence[KernelExpert], joint: KernelExpert) -> None:
        self.alone = len(views) == 1
        self.own = [_Expert(one) for one in views]
        self.joint = self.own[0] if self.alone else _Expert(joint)
        self.dtype = joint.landmark_values_.dtype
        self.shared = [
            [own.blocks[kind][0].same(blocks[view]) for view, own in enumerate(self.own)]
            for kind, blocks in enumerate(self.joint.blocks)
        ]
        for kind, flags in enumerate(self.shared):
            for view, same in enumerate(flags):
                if same:  # kept once
                    self.own[view].blocks[kind][0] = self.joint.blocks[kind][view]
        self.rows = max(32, ENTRIES // max(len(joint.landmark_values_), 1))

    def __call__(self, arrays: Sequence[ViewArray]) -> RawScores:
        """Score rows given by their raw views, which may be missing."""
        count, classes = int(arrays[0].shape[0]), self.joint.weights.shape[1]
        scores = [np.empty((count, classes)) for _ in (*self.own, None)]
        nearest = np.empty(count)
        for start in range(0, count, self.rows):
            rows = slice(start, min(start + self.rows, count))
            found = self._tile([dense(array, rows) for array in arrays])
            for whole, part in zip(scores, found[0], strict=True):
                whole[rows] = part
            nearest[rows] = found[1]
        *own, joint = scores
        return RawScores(own, own[0] if self.alone else joint, nearest)

    def _tile(self, parts: Sequence[Array]) -> tuple[list[Array], Array]:
        """Scores of few rows, the joint expert's last, and their nearest landmark."""
        experts = [*self.own, self.joint]
        scores = [one.intercept.astype(self.dtype) for one in experts]
        distance: Array | float = 0.0
        for kind, blocks in enumerate(self.joint.blocks):
            together: Array | None = None
            for view, (part, own) in enumerate(zip(parts, self.own, strict=True)):
                block, mine = blocks[view], own.blocks[kind][0]
                mapped = block.mapped(part)
                gaps = mapped @ block.matrix
                near: dict[float, Array] = {}
                together = gaps if together is None else together + gaps
                if not self.alone:
                    scores[-1] = scores[-1] + self._additive(self.joint, block, mapped, gaps, near)
                if not self.shared[kind][view]:
                    mapped, near = mine.mapped(part), {}
                    gaps = mapped @ mine.matrix
                product = _exponential(gaps, own.kernel.product, near)
                scores[view] = (
                    scores[view]
                    + self._additive(own, mine, mapped, gaps, near)
                    + product @ (own.weights / self.dtype.type(len(self.joint.blocks)))
                )
            if together is None:
                continue
            distance = distance + together
            if not self.alone:
                width = self.joint.kernel.product / len(parts)
                near_all = np.exp(together * self.dtype.type(width))
                weights = self.joint.weights / self.dtype.type(len(self.joint.blocks))
                scores[-1] = scores[-1] + near_all @ weights
        return scores, np.maximum(-np.max(distance, axis=1), 0)

    def _additive(
        self, expert: _Expert, block: _Block, mapped: Array, gaps: Array, known: dict[float, Array]
    ) -> Array:
        """One block's additive and linear parts of an expert's scores."""
        near = expert.near(gaps, known)
        return np.asarray(near @ expert.additive_weights + mapped[:, :-2] @ block.linear)


def _exponential(gaps: Array, width: float, known: dict[float, Array]) -> Array:
    if width not in known:
        known[width] = np.exp(gaps * gaps.dtype.type(width))
    return known[width]


def _same_map(one: FeatureMap, other: FeatureMap) -> bool:
    """Whether two maps give the same columns."""
    if one is other:
        return True
    names = ("shift", "scale", "mean", "spread", "order")
    pairs = ((getattr(one, name), getattr(other, name)) for name in names)
    return one.features == other.features and all(np.array_equal(a, b) for a, b in pairs)
