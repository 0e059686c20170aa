"""Ridge experts of a set of views: closed-form members that store no train row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.experts.expert import fit_temperature
from rcml_misa.experts.logits import ExpertLogits, Member, expert_logits, presence_weights
from rcml_misa.experts.ridge import SMALL, RotatedFeatures, RowFeatures, fit_ridge
from rcml_misa.experts.ridge_scoring import RidgeScorer
from rcml_misa.experts.scoring import scored
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import Scaling
from rcml_misa.reading.plan import ReadingPlan
from rcml_misa.views import MultiView, dense

__all__ = ["Lift", "RidgeExperts", "RidgeMember"]

Array = NDArray[Any]
UNITS = 512  # random ReLU units of a view
MOST_UNITS = 1536  # of all views together
GAIN = 0.7  # standard deviation of the units' random weights
PENALTIES = tuple(float(10**power) for power in np.arange(-3.0, 4.25, 0.5))
CAP = 0.7  # quantile of the true classes' leave-one-out scores that bounds scores above


@dataclass(frozen=True)
class Lift:
    """Columns of one view beside random ReLU features of them.

    x, scaled to total variance 2 over train rows, becomes [x, 2 relu(x G + b) / sqrt(units)], the
    entries of G normal with deviation 0.7. Source: random features, Rahimi and Recht, NeurIPS 2008.
    """

    columns: ColumnMap
    scale: float
    weights: Array
    offset: Array

    @classmethod
    def fit(cls, columns: ColumnMap, values: Array, units: int, rng: np.random.Generator) -> Self:
        """Measure the scale on mapped rows that have the view, (n, d), and draw the units."""
        variance = float(values.var(axis=0).sum())
        scale = float(np.sqrt(2 / variance)) if variance > 1e-18 else 1.0
        weights = GAIN * rng.normal(size=(values.shape[1], units))
        return cls(columns, scale, weights, GAIN / 2 * rng.normal(size=units))

    def __call__(self, mapped: Array) -> Array:
        """Compute features (n, d + units) of mapped columns (n, d)."""
        scaled = mapped * self.scale
        lifted = np.maximum(scaled @ self.weights + self.offset, 0)
        lifted *= 2 / np.sqrt(len(self.offset))
        return np.concatenate([scaled, lifted], axis=1)


@dataclass(frozen=True)
class RidgeMember:
    """A fitted ridge on lifted columns: weights (m, K), intercept, and how its scores are read."""

    weights: Array
    intercept: Array
    penalty: float
    bound_: float
    temperature_: float
    raw_temperature_: float


class _Stacked:
    """Features (n, m) that are held whole."""

    def __init__(self, values: Array) -> None:
        self.values, self.width, self.dtype = values, values.shape[1], values.dtype

    def __call__(self, block: slice) -> Array:
        return np.asarray(self.values[block])


class RidgeExperts:
    """One closed-form ridge per view and one for all views, which keep no train row.

    Each is a ridge regression of centred one-hot classes on the columns of `ColumnMap` and random
    ReLU features of them, with exact leave-one-out scores for the train rows; see `fit_ridge`.

    Parameters
    ----------
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling; see `FeatureMap`.
    random_state : int, optional
        Seed of the random features.

    Attributes
    ----------
    lifts_ : list of Lift
        Features of each view.
    members_ : list of RidgeMember
        Ridges of the views, the joint one last.
    double_ : bool
        Whether new rows are scored in float64, as train rows were that are few.
    train_logits_ : ExpertLogits
        Leave-one-out logits of the train rows.
    """

    double_: bool = False  # not in older model files

    def __init__(self, *, scaling: Scaling = "minmax", random_state: int | None = None) -> None:
        self.scaling = scaling
        self.random_state = random_state

    def fit(
        self,
        views: MultiView,
        codes: NDArray[np.int64],
        *,
        weights: NDArray[np.float64] | None = None,
        maps: Sequence[ColumnMap] | None = None,
    ) -> Self:
        """Fit every ridge on the rows of `views`, class numbers `codes` and weights (n,).

        `maps` may hold the fitted columns of the views. A view's ridge learns from the rows that
        have the view, the joint one from all, with the columns' means in place of missing views.
        """
        vars(self).pop("_scorer", None)
        self.double_ = len(codes) <= SMALL
        if maps is None:
            maps = [ColumnMap.fit(array, scaling=self.scaling) for array in views.arrays]
        rng = np.random.default_rng(self.random_state)
        units = max(min(UNITS, MOST_UNITS // len(views)), 16)
        present = views.present
        mapped = [m.transform(dense(a)) for m, a in zip(maps, views.arrays, strict=True)]
        self.lifts_ = [
            Lift.fit(columns, part[here], units, rng)
            for columns, part, here in zip(maps, mapped, present.T, strict=True)
        ]
        features = [lift(part) for lift, part in zip(self.lifts_, mapped, strict=True)]
        onehot = np.eye(int(codes.max()) + 1)[codes]
        scores = np.zeros((len(views), *onehot.shape))
        self.members_ = []
        for score, part, here in zip(scores, features, present.T, strict=True):
            own = presence_weights(codes, here, weights)
            member, score[here] = _fit_member(part[here], onehot[here], own)
            self.members_.append(member)
        joint = scores[0]
        if len(views) > 1:
            member, joint = _fit_member(np.concatenate(features, axis=1), onehot, weights)
            self.members_.append(member)
        else:
            self.members_.append(self.members_[0])
        self.train_logits_ = expert_logits(self.members_, list(scores), joint, present)
        return self

    def logits(self, views: MultiView) -> ExpertLogits:
        """Compute the logits of new rows."""
        own, joint = scored(self._scorer.plan, views.arrays, self._scorer.score)
        return expert_logits(self.members_, own, joint, views.present)

    def scorer(self, plan: ReadingPlan) -> RidgeScorer:
        """Make the members ready to score rows that a plan reads."""
        return RidgeScorer(self.lifts_, self.members_, plan)

    @property
    def members(self) -> Sequence[Member]:
        """Members of the views, the joint one last."""
        return self.members_

    @property
    def dtype(self) -> torch.dtype:
        """Type in which rows are scored: float64 where that costs nothing."""
        return torch.float64 if self.double_ else torch.float32

    @cached_property
    def _scorer(self) -> RidgeScorer:
        return self.scorer(ReadingPlan(len(self.lifts_), self.dtype))

    def __getstate__(self) -> dict[str, Any]:
        # made again when it is needed
        return {name: value for name, value in vars(self).items() if name != "_scorer"}


def _fit_member(
    features: Array, onehot: Array, weights: NDArray[np.float64] | None
) -> tuple[RidgeMember, Array]:
    """Fit a ridge on features (n, m); the member, and leave-one-out scores (n, K) of its rows."""
    codes = onehot.argmax(axis=1)
    rows, width = features.shape
    if rows > SMALL:
        features, onehot = features.astype(np.float32), onehot.astype(np.float32)
    rotated = RotatedFeatures(features) if width > rows else None
    phi: RowFeatures = _Stacked(features) if rotated is None else rotated
    ridge = fit_ridge(phi, onehot, PENALTIES, weights)
    coefficients = ridge.coefficients if rotated is None else rotated.back(ridge.coefficients)
    scores = ridge.loo_scores
    bound = float(np.quantile(scores[np.arange(rows), codes], CAP))
    member = RidgeMember(
        weights=coefficients,
        intercept=ridge.intercept,
        penalty=ridge.penalty,
        bound_=bound,
        temperature_=fit_temperature(np.minimum(scores, bound), codes, weights),
        raw_temperature_=fit_temperature(scores, codes, weights),
    )
    return member, scores
