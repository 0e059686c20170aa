"""Ridge experts of a set of views: closed-form members that store no train row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.experts.expert import fit_temperature
from rcml_misa.experts.logits import ExpertLogits, Member, RowWeights, expert_logits
from rcml_misa.experts.ridge import BLOCK, RotatedFeatures, fit_ridge
from rcml_misa.experts.ridge_scoring import RidgeScorer
from rcml_misa.experts.scoring import scored
from rcml_misa.experts.sums import (
    SMALL,
    Ridge,
    Sample,
    fit_ridges,
    looked_rows,
    referred,
    tensor,
)
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import Scaling, evenly
from rcml_misa.reading.plan import ReadingPlan
from rcml_misa.views import MultiView, ViewArray, dense

__all__ = ["Lift", "RidgeExperts", "RidgeMember"]

Array = NDArray[Any]
UNITS = 512  # random ReLU units of a view
MOST_UNITS = 1536  # of all views together
GAIN = 0.7  # standard deviation of the units' random weights
PENALTIES = tuple(float(10**power) for power in np.arange(-3.0, 4.25, 0.5))
CPU = torch.device("cpu")
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

    @property
    def width(self) -> int:
        """Number of features."""
        return sum(self.weights.shape)

    @classmethod
    def fit(cls, columns: ColumnMap, values: Array, units: int, rng: np.random.Generator) -> Self:
        """Measure the scale on mapped rows that have the view, (n, d), and draw the units."""
        variance = float(values.var(axis=0).sum())
        scale = float(np.sqrt(2 / variance)) if variance > 1e-18 else 1.0
        weights = GAIN * rng.normal(size=(values.shape[1], units))
        return cls(columns, scale, weights, GAIN / 2 * rng.normal(size=units))

    def __call__(self, mapped: Array, out: Array | None = None) -> Array:
        """Compute features (n, d + units) of mapped columns (n, d), in their type or into `out`."""
        out = np.empty((len(mapped), self.width), mapped.dtype) if out is None else out
        width, dtype = mapped.shape[1], out.dtype
        scaled, lifted = out[:, :width], out[:, width:]
        np.multiply(mapped, self.scale, out=scaled)
        np.matmul(scaled, self.weights.astype(dtype, copy=False), out=lifted)
        lifted += self.offset.astype(dtype, copy=False)
        np.maximum(lifted, 0, out=lifted)
        lifted *= 2 / math.sqrt(len(self.offset))
        return out


@dataclass(frozen=True)
class RidgeMember:
    """A fitted ridge on lifted columns: weights (m, K), intercept, and how its scores are read."""

    weights: Array
    intercept: Array
    penalty: float
    bound_: float
    temperature_: float
    raw_temperature_: float


class _LiftedRows:
    """Lifted rows of a table for its members; see `RowSource`.

    The last member's features are those of all views side by side, zeros of mapped columns standing
    for a view that a row lacks; the others' are those of a view. Features are kept where all rows
    are `mapped` already.
    """

    def __init__(
        self,
        arrays: Sequence[ViewArray],
        lifts: Sequence[Lift],
        codes: NDArray[np.int64],
        weights: Sequence[RowWeights],
        mapped: Sequence[Array] | None,
        device: torch.device,
    ) -> None:
        self.arrays, self.lifts = referred(arrays), lifts
        self.codes, self.weights = codes, weights
        self.device = device
        self.rows, self.classes = len(codes), int(codes.max()) + 1
        ends = np.cumsum([lift.width for lift in lifts]).tolist()
        self.columns = [slice(*pair) for pair in zip([0, *ends[:-1]], ends, strict=True)]
        if len(lifts) > 1:
            self.columns.append(slice(0, ends[-1]))
        self.members = list(range(len(self.columns)))
        self._kept = None if mapped is None else self._lifted(mapped)

    def only(self, members: Sequence[int]) -> _LiftedRows:
        """Select some of the members, by number."""
        rows = copy(self)
        rows.members = list(members)
        return rows

    @property
    def nested(self) -> list[slice | None]:
        """Columns of the joint member's features that are those of a member without gaps."""
        last = len(self.columns) - 1
        joint = last in self.members
        return [
            self.columns[member] if joint and member < last and not self.gaps(member) else None
            for member in self.members
        ]

    @property
    def roots(self) -> list[None]:
        """None: features are as they are."""
        return [None] * len(self.members)

    def gaps(self, member: int) -> bool:
        """Whether some rows lack the view of a member."""
        return self.weights[member].here is not None

    def having(self, member: int) -> NDArray[np.int64]:
        """Number the rows that a member learns from."""
        here = self.weights[member].here
        return np.arange(self.rows) if here is None else np.flatnonzero(here)

    def wide(self, member: int) -> bool:
        """Whether a member has more features than rows."""
        columns, here = self.columns[member], self.weights[member].here
        rows = self.rows if here is None else int(here.sum())
        return int(columns.stop - columns.start) > rows

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """Type of the features."""
        return np.float64 if self.rows <= SMALL else np.float32

    def _lifted(self, mapped: Sequence[Array]) -> torch.Tensor:
        features = np.empty((len(mapped[0]), self.columns[-1].stop), self.dtype)
        for lift, part, columns in zip(self.lifts, mapped, self.columns, strict=False):
            lift(part, out=features[:, columns])
        return torch.from_numpy(features).to(self.device)

    def __call__(self, rows: slice | NDArray[np.int64]) -> list[Sample]:
        """Lift some rows."""
        if self._kept is None:
            pairs = zip(self.lifts, self.arrays, strict=True)
            mapped = [lift.columns.transform(dense(a, rows), self.dtype) for lift, a in pairs]
            lifted = self._lifted(mapped)
        else:
            lifted = self._kept[rows]
        codes, samples = self.codes[rows], []
        for member in self.members:
            weights = self.weights[member]
            features, own, weighed = lifted[:, self.columns[member]], codes, weights(rows, codes)
            if weights.here is not None:
                here = weights.here[rows]
                features, own = features[tensor(here, self.device)], codes[here]
            given = tensor(own, self.device), tensor(weighed, self.device)
            samples.append(Sample(features, *given))
        return samples

    def fit(self, looked: NDArray[np.int64]) -> list[Ridge]:
        """Fit the ridge of every member; see `fit_ridges`."""
        wide = [member for member in self.members if self.wide(member)]
        others = [member for member in self.members if member not in wide]
        ridges: dict[int, Ridge] = {}
        if others:
            fitted = fit_ridges(self.only(others), looked, PENALTIES)
            ridges = dict(zip(others, fitted, strict=True))
        for member in wide:
            rows = self.having(member)
            (sample,) = self.only([member])(rows)
            ridges[member] = _fit_rotated(sample, self.classes, np.isin(rows, looked))
        return [ridges[member] for member in self.members]


def _fit_rotated(sample: Sample, classes: int, looked: NDArray[np.bool_]) -> Ridge:
    """Fit a ridge on fewer rows than columns; scores of the `looked` ones, (n,)."""
    rotated = RotatedFeatures(sample.features)
    turned = sample._replace(features=rotated.features)
    ridge = fit_ridge(turned, classes, PENALTIES)
    return replace(
        ridge,
        coefficients=rotated.back(ridge.coefficients),
        loo_scores=ridge.loo_scores[looked],
    )


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
    looked_ : ndarray of shape (m,)
        Numbers of the train rows that have leave-one-out logits; see `looked_rows`.
    double_ : bool
        Whether new rows are scored in float64, as train rows were that are few.
    train_logits_ : ExpertLogits
        Leave-one-out logits of these rows.
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
        device: torch.device = CPU,
    ) -> Self:
        """Fit every ridge on the rows of `views`, class numbers `codes` and weights (n,).

        `maps` may hold the fitted columns of the views; sums are solved on `device`. A view's
        ridge learns from the rows that have the view, the joint one from all, with the columns'
        means in place of missing views.
        """
        vars(self).pop("_scorer", None)
        self.double_ = len(codes) <= SMALL
        if maps is None:
            maps = [ColumnMap.fit(array, scaling=self.scaling) for array in views.arrays]
        rng = np.random.default_rng(self.random_state)
        units = max(min(UNITS, MOST_UNITS // len(views)), 16)
        present = views.present
        few = len(codes) <= BLOCK
        mapped = []
        self.lifts_ = []
        for columns, array, here in zip(maps, views.arrays, present.T, strict=True):
            numbers = np.flatnonzero(here)
            some = slice(None) if few else numbers[evenly(len(numbers), min(len(numbers), BLOCK))]
            mapped.append(columns.transform(dense(array, some)))
            known = mapped[-1][here] if few else mapped[-1]
            self.lifts_.append(Lift.fit(columns, known, units, rng))
        several = len(views) > 1
        having = list(present.T) + [np.ones(len(codes), dtype=bool)] * several
        owned = [RowWeights.of(codes, here, weights) for here in having]
        rows = _LiftedRows(views.arrays, self.lifts_, codes, owned, mapped if few else None, device)
        self.looked_ = looked = looked_rows(present, rows.classes)
        scores = np.zeros((len(having), len(looked), rows.classes))
        self.members_ = []
        for score, ridge, here, own in zip(scores, rows.fit(looked), having, owned, strict=True):
            seen = here[looked]
            score[seen] = ridge.loo_scores
            member = _read_member(ridge, codes[looked[seen]], own(looked, codes[looked]))
            self.members_.append(member)
        if not several:
            self.members_.append(self.members_[0])
        joint = scores[-1]
        self.train_logits_ = expert_logits(
            self.members_, list(scores[: len(views)]), joint, present[looked]
        )
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


def _read_member(
    ridge: Ridge, codes: NDArray[np.int64], weights: NDArray[np.float64] | None
) -> RidgeMember:
    """Bound and temper a ridge by its leave-one-out scores of rows with these class numbers."""
    scores = ridge.loo_scores
    bound = float(np.quantile(scores[np.arange(len(codes)), codes], CAP))
    return RidgeMember(
        weights=ridge.coefficients,
        intercept=ridge.intercept,
        penalty=ridge.penalty,
        bound_=bound,
        temperature_=fit_temperature(np.minimum(scores, bound), codes, weights),
        raw_temperature_=fit_temperature(scores, codes, weights),
    )
