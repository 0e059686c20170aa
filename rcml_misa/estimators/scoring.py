"""Scores of all kernel experts of a set of views at once, without doing anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.estimators.expert import KernelExpert
from rcml_misa.estimators.preprocessing import FeatureMap
from rcml_misa.estimators.ridge import LINEAR
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
    """One view's part of one expert's Gaussian exponent, for one kind of map.

    -gamma s^2 |x - l|^2 for mapped columns x and landmarks l is linear in x, |x|^2 and 1, so that
    one product gives it for all landmarks.

    Attributes
    ----------
    matrix : ndarray of shape (d + 2, m)
    linear : ndarray of shape (d, K)
        The whole linear part of the kernel, summed over landmarks.
    """

    matrix: Array
    linear: Array

    @classmethod
    def of(cls, landmarks: Array, scale: float, weights: Array, gamma: float, kinds: int) -> _Block:
        """Build from landmarks (m, d) that are scaled already."""
        dtype, exact = landmarks.dtype, landmarks.astype(np.float64)
        matrix = np.concatenate(
            [
                2 * gamma * scale * exact.T,
                np.full((1, len(exact)), -gamma * scale**2),
                -gamma * (exact**2).sum(axis=1)[None, :],
            ]
        )
        linear = LINEAR / kinds * scale * (exact.T @ weights)
        return cls(matrix.astype(dtype), linear.astype(dtype))


class ExpertScorer:
    """The experts of `ViewExperts` made ready to score new rows.

    Each view is mapped once for its own and the joint expert. Where both have the same landmark
    rows, the joint one's exponents are weighted sums of the views' own:
    gamma_J (s_J / s_v)^2 / gamma_v times each.

    Parameters
    ----------
    views : sequence of KernelExpert
        One per view.
    joint : KernelExpert
        Of all views.
    """

    def __init__(self, views: Sequence[KernelExpert], joint: KernelExpert) -> None:
        self.views, self.joint = list(views), joint
        self.kinds = len(joint.columns_.maps)
        self.dtype = joint.landmark_values_.dtype
        self.alone = len(self.views) == 1
        self.own = [self._blocks(one, [0])[0] for one in self.views]
        self.weights = [
            (one.weights_ / self.kinds).astype(self.dtype) for one in (*self.views, joint)
        ]
        self.together = self._blocks(joint, range(len(self.views)))
        self.shared = [self._shared(number) for number in range(len(self.views))]
        for blocks, factors in zip(self.together, self.shared, strict=True):
            if factors is not None:  # not needed again, and as large as the view's own
                blocks[:] = [replace(one, matrix=one.matrix[:0].copy()) for one in blocks]
        self.same_maps = [
            all(
                _same_map(own[0], kind[number])
                for own, kind in zip(one.columns_.maps, joint.columns_.maps, strict=True)
            )
            for number, one in enumerate(self.views)
        ]
        self.rows = max(32, ENTRIES // max(len(joint.landmark_values_), 1))

    def _blocks(self, expert: KernelExpert, views: Sequence[int] | range) -> list[list[_Block]]:
        """For each view of an expert, its blocks, one per kind."""
        columns, found = expert.columns_, [[] for _ in views]  # type: ignore[var-annotated]
        start = 0
        for kind, factor in zip(columns.maps, columns.factors, strict=True):
            for place, one in enumerate(kind):
                scale = factor / np.sqrt(one.width)
                part = expert.landmark_values_[:, start : start + one.width]
                found[place].append(
                    _Block.of(part, scale, expert.weights_, expert.gamma_, len(columns.maps))
                )
                start += one.width
        return found

    def _shared(self, view: int) -> list[float] | None:
        """Factors from a view's own exponents to its part of the joint ones, one per kind."""
        own, joint = self.views[view], self.joint
        if len(own.landmark_values_) != len(joint.landmark_values_):
            return None
        factors = []
        for kind in range(self.kinds):
            scales = [
                one.columns_.factors[kind] / np.sqrt(one.columns_.maps[kind][place].width)
                for one, place in ((joint, view), (own, 0))
            ]
            factors.append(joint.gamma_ / own.gamma_ * (scales[0] / scales[1]) ** 2)
            mine, theirs = self.own[view][kind].matrix, self.together[view][kind].matrix
            if not np.allclose(factors[-1] * mine, theirs, rtol=1e-3, atol=1e-5):
                return None
        return factors

    def __call__(self, arrays: Sequence[ViewArray]) -> RawScores:
        """Score rows given by their raw views, which may be missing."""
        count, classes = int(arrays[0].shape[0]), self.joint.weights_.shape[1]
        scores = [np.empty((count, classes)) for _ in (*self.views, None)]
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
        scores = [one.intercept_.astype(self.dtype) for one in (*self.views, self.joint)]
        distance: Array | float = 0.0
        for kind in range(self.kinds):
            joint: Array | None = None
            for view, part in enumerate(parts):
                mapped = self._mapped(self.joint, kind, view, part)
                factors = self.shared[view]
                alike = factors is not None and self.same_maps[view]
                own = mapped
                if not self.same_maps[view]:
                    own = self._mapped(self.views[view], kind, 0, part)
                exponents = own @ self.own[view][kind].matrix
                scores[view] = scores[view] + own[:, :-2] @ self.own[view][kind].linear
                if not self.alone:
                    scores[-1] = scores[-1] + mapped[:, :-2] @ self.together[view][kind].linear
                if alike and factors is not None:
                    share = exponents * self.dtype.type(factors[kind])
                else:
                    share = mapped @ self.together[view][kind].matrix
                joint = share if joint is None else np.add(joint, share, out=joint)
                np.exp(exponents, out=exponents)
                scores[view] = scores[view] + exponents @ self.weights[view]
            if joint is None:
                continue
            distance = distance + joint
            if not self.alone:
                scores[-1] = scores[-1] + np.exp(joint) @ self.weights[-1]
        nearest = np.maximum(-np.max(distance, axis=1) / self.joint.gamma_, 0)
        return scores, nearest

    def _mapped(self, expert: KernelExpert, kind: int, view: int, part: Array) -> Array:
        """Mapped columns x of rows, then |x|^2 and 1."""
        one = expert.columns_.maps[kind][view]
        table = np.empty((len(part), one.width + 2), dtype=self.dtype)
        columns = table[:, :-2]
        columns[:] = one.transform(part, self.dtype.type)
        table[:, -2] = np.einsum("ij,ij->i", columns, columns)
        table[:, -1] = 1
        return table


def _same_map(one: FeatureMap, other: FeatureMap) -> bool:
    """Whether two maps give the same columns."""
    if one is other:
        return True
    names = ("shift", "scale", "mean", "spread", "order")
    pairs = ((getattr(one, name), getattr(other, name)) for name in names)
    return one.features == other.features and all(np.array_equal(a, b) for a, b in pairs)
