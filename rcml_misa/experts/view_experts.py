"""Kernel experts of a set of views, one per view and one joint, and familiarity of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rcml_misa.experts.expert import KernelExpert, MappedViews
from rcml_misa.experts.logits import ExpertLogits, expert_logits
from rcml_misa.experts.ridge import KernelChoice, squared_distances
from rcml_misa.experts.scoring import ExpertScorer
from rcml_misa.reading.features import Scaling
from rcml_misa.views import MultiView, dense

__all__ = ["Familiarity", "ViewExperts"]

Array = NDArray[np.float64]
DECAY = 1.5  # fall of familiarity per upper spread of the train rows' distances
SAMPLE = 2000  # train rows whose distances define what is familiar


@dataclass(frozen=True)
class Familiarity:
    """Nearness of a row to the train rows, against their nearness to each other.

    exp(-1.5 z) with z = max(0, (d - d95) / (d95 - d50)), d the distance to the nearest of the joint
    expert's landmarks (m, d), in mapped columns, and d50, d95 the median and upper quantile of
    that distance over train rows, each without itself.

    Examples
    --------
    >>> line = np.arange(10.0, dtype=np.float32)[:, None]
    >>> near = Familiarity.fit(line + 0.1 * line**2, line + 0.1 * line**2)
    >>> near(np.array([[0.0], [90.0]], dtype=np.float32)).round(2).tolist()
    [1.0, 0.0]
    """

    landmarks: Array
    median: float
    upper: float

    @classmethod
    def fit(cls, landmarks: Array, values: Array) -> Self:
        """Measure on train rows `values`, (n, d), which may hold the landmarks themselves."""
        squared = squared_distances(values, landmarks)
        # a row that is a landmark is its own nearest one: rounding's worth above zero
        squared[squared < 1e-6 * max(float(squared.max()), 1e-30)] = np.inf
        nearest = np.sqrt(squared.min(axis=1))
        nearest = nearest[np.isfinite(nearest)]
        if not len(nearest):
            return cls(landmarks, 0.0, 1.0)
        median, upper = np.quantile(nearest, [0.5, 0.95])
        return cls(landmarks, float(median), float(max(upper, 1.05 * median, 1e-12)))

    def __call__(
        self, values: Array, columns: slice | NDArray[np.bool_] = slice(None), share: float = 1.0
    ) -> Array:
        """Compute the familiarity (n,) of mapped rows (n, d), by the columns of a share of views.

        Each view has the same part in squared distances, which are scaled up to that of all.
        """
        squared = squared_distances(values[:, columns], self.landmarks[:, columns])
        return self.of_distance(np.sqrt(squared.min(axis=1) / share))

    def of_distance(self, nearest: Array) -> Array:
        """Compute the familiarity (n,) of rows at a distance from the nearest landmark."""
        excess = np.maximum(0, (nearest - self.upper) / (self.upper - self.median))
        return np.asarray(np.exp(-DECAY * excess), dtype=np.float64)


class ViewExperts:
    """One `KernelExpert` per view and one for all views side by side.

    Parameters
    ----------
    landmarks : int
        Largest number of Nystroem landmarks of the joint expert; where there are more rows, each
        view's own expert has half as many.
    kernel, scaling, random_state
        See `KernelExpert`.

    Attributes
    ----------
    train_logits_ : ExpertLogits
        Leave-one-out logits of the train rows.
    """

    def __init__(
        self,
        *,
        landmarks: int = 2100,
        kernel: KernelChoice = "auto",
        scaling: Scaling = "minmax",
        random_state: int | None = None,
    ) -> None:
        self.landmarks = landmarks
        self.kernel = kernel
        self.scaling = scaling
        self.random_state = random_state

    def fit(
        self, views: MultiView, codes: NDArray[np.int64], *, weights: Array | None = None
    ) -> Self:
        """Fit every expert on the rows of `views`, class numbers `codes` and weights (n,).

        A view's expert learns from the rows that have the view, the joint one from all, with the
        columns' means in place of missing views.
        """
        vars(self).pop("_scorer", None)
        mapped = MappedViews(views.arrays, scaling=self.scaling)

        def expert(*groups: int) -> KernelExpert:
            # one view is learnt from fewer landmarks than all of them together
            fewer = len(groups) < len(views) and len(codes) > self.landmarks
            return KernelExpert(
                groups=groups,
                landmarks=max(self.landmarks // 2, 1) if fewer else self.landmarks,
                kernel=self.kernel,
                scaling=self.scaling,
                random_state=self.random_state,
            )

        classes, present = np.arange(codes.max() + 1), views.present
        self.views_ = [
            expert(width).fit_mapped(
                mapped.only(view),
                codes[here],
                weights=None if weights is None else weights[here],
                classes=classes,
            )
            for view, (width, here) in enumerate(zip(views.widths, present.T, strict=True))
        ]
        self.joint_ = (
            expert(*views.widths).fit_mapped(mapped, codes, weights=weights)
            if len(views) > 1
            else self.views_[0]
        )
        sample = np.random.default_rng(self.random_state).permutation(len(codes))[:SAMPLE]
        whole = present[sample].all(axis=1)
        if whole.any():  # rows that have every view define what is familiar
            sample = sample[whole]
        self.familiarity_ = Familiarity.fit(
            self.joint_.landmark_values_,
            self.joint_.columns_([dense(array, sample) for array in views.arrays]),
        )
        scores = np.zeros((len(views), len(codes), len(classes)))
        for score, own, rows in zip(scores, self.views_, present.T, strict=True):
            score[rows] = own.loo_scores_
        self.train_logits_ = self._logits(
            list(scores), self.joint_.loo_scores_, np.ones(len(codes)), present
        )
        return self

    def logits(self, views: MultiView) -> ExpertLogits:
        """Compute the logits of new rows."""
        scores, present = self._scorer(views.arrays), views.present
        familiarity = self.familiarity_.of_distance(np.sqrt(scores.nearest))
        gaps = np.flatnonzero(~present.all(axis=1))
        if gaps.size:
            parts = [dense(array, gaps) for array in views.arrays]
            familiarity[gaps] = self._familiar(parts, present[gaps])
        return self._logits(scores.views, scores.joint, familiarity, present)

    @cached_property
    def _scorer(self) -> ExpertScorer:
        return ExpertScorer(self.views_, self.joint_)

    def __getstate__(self) -> dict[str, Any]:
        # made again when it is needed
        return {name: value for name, value in vars(self).items() if name != "_scorer"}

    def _familiar(self, parts: Sequence[Array], present: NDArray[np.bool_]) -> Array:
        """Compute the familiarity of rows with gaps, by the columns of the views that each has."""
        values = self.joint_.columns_(parts)
        familiarity = np.ones(len(values))
        owners = self.joint_.columns_.owners
        for pattern in np.unique(present, axis=0):
            rows = (present == pattern).all(axis=1)
            if pattern.any():
                familiarity[rows] = self.familiarity_(
                    values[rows], pattern[owners], float(pattern.mean())
                )
        return familiarity

    def _logits(
        self, scores: Sequence[Array], joint: Array, familiarity: Array, present: NDArray[np.bool_]
    ) -> ExpertLogits:
        members = [*self.views_, self.joint_]
        return expert_logits(members, scores, joint, familiarity, present)
