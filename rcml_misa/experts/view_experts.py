"""Experts of a set of views: one per view, one joint, their agreement and their stacking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from rcml_misa.experts.expert import KernelExpert, MappedViews
from rcml_misa.experts.ridge import KernelChoice, blocks, squared_distances
from rcml_misa.experts.scoring import ExpertScorer
from rcml_misa.opinions import SHARED_WEIGHT, log_shares, membership
from rcml_misa.reading.features import Scaling, evenly
from rcml_misa.views import MultiView, dense

__all__ = ["ExpertLogits", "Familiarity", "ViewExperts", "stack_weights"]

Array = NDArray[np.float64]
LEAST_TRUST = 0.02  # share of its mass that a row whose views contradict each other keeps
DECAY = 1.5  # fall of familiarity per upper spread of the train rows' distances
ENOUGH = 20_000  # rows that suffice for a handful of weights
STIFFNESS = 10.0  # pull of the stack towards the plain ratio, in nats per squared weight
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


def stack_weights(
    logs: Array, codes: NDArray[np.int64], plain: Array, weights: Array | None = None
) -> Array:
    """Fit weights w of M experts in softmax(sum_m w_m log p_m) on rows new to the experts.

    The total cross-entropy plus 10 |w - s plain|^2 is minimised over w >= 0 and s, so that with
    few errors to learn from the weights stay in the plain ratio while their scale calibrates the
    product: experts that see the same row are not independent, and a plain product overconfident.

    Parameters
    ----------
    logs : ndarray of shape (n, M, K)
        Log-probabilities of each expert (leave-one-out, held out).
    codes, weights : ndarray of shape (n,)
        Class numbers, and weights of the rows, of mean 1.
    plain : ndarray of shape (M,)
        Ratio of the weights without any data.

    References
    ----------
    Wolpert, Stacked generalization, Neural Networks 5, 1992; product (logarithmic) pooling:
    Genest and Zidek, Combining probability distributions, Statistical Science 1, 1986.

    Examples
    --------
    The second expert knows nothing:

    >>> good = np.log(np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]] * 9))
    >>> weights = stack_weights(
    ...     np.stack([good, np.log(np.full(good.shape, 0.5))], axis=1),
    ...     np.array([0, 1, 0, 0] * 9), np.ones(2))
    >>> bool(weights[0] > 0.3)
    True
    """
    weights = np.ones(len(codes)) if weights is None else weights
    rows = np.arange(len(codes))
    observed = weights @ logs[rows, :, codes]

    def objective(values: Array) -> tuple[float, Array]:
        shares, scale = values[:-1], values[-1]
        pooled = np.tensordot(shares, logs, axes=(0, 1))
        gap = shares - scale * plain
        loss = -(weights @ log_softmax(pooled, axis=1)[rows, codes]) + STIFFNESS * gap @ gap
        expected = weights[:, None] * softmax(pooled, axis=1)
        slope = np.einsum("nk,nmk->m", expected, logs) - observed
        slope += 2 * STIFFNESS * gap
        return float(loss), np.append(slope, -2 * STIFFNESS * gap @ plain)

    fitted = minimize(
        objective,
        np.append(0.5 * plain, 0.5),
        jac=True,
        bounds=[(0, None)] * (len(plain) + 1),
        method="L-BFGS-B",
    )
    return np.asarray(fitted.x[:-1])


@dataclass(frozen=True)
class ExpertLogits:
    """Logits of the experts for n rows, with their agreement and the rows' familiarity.

    Attributes
    ----------
    views, joint : ndarray of shape (n, N, K) and (n, K)
        Bounded, tempered scores of the views' experts and of the joint one.
    agreement : ndarray of shape (n,)
        Posterior that no view is bogus, from the views' unbounded scores.
    familiarity : ndarray of shape (n,)
        Near 0 for rows far from all train rows; see `Familiarity`.
    present : ndarray of bool of shape (n, N), optional
        Which views each row has, where some are missing; the others' logits are 0.
    """

    views: Array
    joint: Array
    agreement: Array
    familiarity: Array
    present: NDArray[np.bool_] | None = None

    @property
    def trust(self) -> Array:
        """Factor in (0, 1] on the mass of a fused opinion: agreement times familiarity."""
        return (LEAST_TRUST + (1 - LEAST_TRUST) * self.agreement) * self.familiarity

    def stack(
        self, codes: NDArray[np.int64], *, weights: Array | None = None, joint: bool = True
    ) -> Array:
        """Fit weights (N + 1,) of the experts' product, the joint one's last; see `stack_weights`.

        The rows must be new to the experts. Without `joint`, the joint expert's weight is 0.
        """
        some = evenly(len(codes), min(len(codes), ENOUGH))
        views, codes = self.views[some], codes[some]
        weights = None if weights is None else weights[some]
        parts = [views, self.joint[some, None]] if joint else [views]
        shares = softmax(np.concatenate(parts, axis=1), axis=2)
        logs = log_shares(torch.from_numpy(shares)).numpy()
        plain = np.append(np.ones(self.views.shape[1]), SHARED_WEIGHT)[: shares.shape[1]]
        stack = stack_weights(logs, codes, plain, weights)
        return stack if joint else np.append(stack, 0.0)

    def take(self, rows: slice) -> ExpertLogits:
        """Select some of the rows."""
        return ExpertLogits(
            self.views[rows],
            self.joint[rows],
            self.agreement[rows],
            self.familiarity[rows],
            None if self.present is None else self.present[rows],
        )


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
        self,
        scores: Sequence[Array],
        joint: Array,
        familiarity: Array,
        present: NDArray[np.bool_],
    ) -> ExpertLogits:
        some = None if present.all() else present

        def bounded(expert: KernelExpert, score: Array) -> Array:
            return expert.temperature_ * np.minimum(score, expert.bound_)

        def agreed(rows: slice) -> Array:
            pairs = zip(self.views_, scores, strict=True)
            raw = np.stack([e.raw_temperature_ * part[rows] for e, part in pairs], axis=1)
            if len(self.views_) < 2:
                return np.ones(len(raw))
            here = None if some is None else torch.from_numpy(some[rows])
            posterior, _ = membership(torch.from_numpy(softmax(raw, axis=2)), here)
            return posterior[:, 0].numpy()

        stacked = np.stack([*map(bounded, self.views_, scores)], axis=1)
        if some is not None:
            stacked[~some] = 0
        return ExpertLogits(
            views=stacked,
            joint=bounded(self.joint_, joint),
            agreement=np.concatenate([agreed(block) for block in blocks(len(joint))]),
            familiarity=familiarity,
            present=some,
        )
