"""Odds that a view does not belong to its row, learnt from self-made mismatches of train rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from rcml_misa.experts.components import READINGS, FoldParts, Part
from rcml_misa.experts.gaussians import RowGaussians
from rcml_misa.experts.ridge import blocks
from rcml_misa.experts.standing import view_signs
from rcml_misa.opinions import agreement
from rcml_misa.reading.features import evenly
from rcml_misa.reading.plan import Reading, ReadingPlan
from rcml_misa.views import MultiView, ViewArray, dense

__all__ = ["Distances", "Judge", "Membership", "Standing"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
SAMPLE = 4096  # train rows that are looked at
FOLDS = 5  # each is scored by the Gaussians of the others
NOISE = 3.0  # standard deviations of self-made noise
BOGUS = 0.2  # prior chance that one view does not belong
COPIES = 1.5  # self-made rows of each of the two kinds for each row, about
# the log odds of a view are those of two ways not to belong, another row's view and noise:
# log(exp(c0 - c1 log agreement + sum_r c_r ratio_r) + exp(d0 + d1 distance))
START = np.array([-2.8, 1.0, *[0.5 / len(READINGS)] * len(READINGS), -8.0, 3.0])
BOUNDS = [(-12.0, 4.0), (0.0, 3.0), *[(0.0, 3.0)] * len(READINGS), (-12.0, 4.0), (0.0, 6.0)]
STIFFNESS = 0.5  # pull of these coefficients towards START, in nats per squared unit
LEAST = 0.01  # spread of the train rows' distances
# familiarity is exp(-DECAY (z - FAR)) of a distance z beyond FAR; the 95 % of train rows is 1
FAR, DECAY = 3.0, 1.5


class Standing(NamedTuple):
    """Standing of the views of n rows.

    `posterior` (n, N + 1): probability that every view belongs to its row, then of each view that
    it alone does not. `familiarity` (n, N): near 0 for a view far from all train rows.
    """

    posterior: Array
    familiarity: Array

    def take(self, rows: slice | Rows) -> Standing:
        """Select some of the rows."""
        return Standing(self.posterior[rows], self.familiarity[rows])


class Signs(NamedTuple):
    """What tells that a view does not belong to its row, of n rows.

    `doubt` (n, N): minus the log agreement of its class shares with the other views';
    `ratios` (R, n, N): its log likelihood by itself over that given the other views, in each
    reading; `distances` (2 R, n, N): distance from the nearest class and from the components'
    plane, in each reading.
    """

    doubt: Array
    ratios: Array
    distances: Array


class Copy(NamedTuple):
    """Train rows as they are, or with one view replaced.

    `rows` are their numbers, `culprit` is 0 or the view's number + 1, `donors` the rows whose view,
    or `noise`, takes its place; `weight` is that of each row.
    """

    rows: Rows
    culprit: int
    donors: Rows
    noise: bool
    weight: float


@dataclass(frozen=True)
class Distances:
    """Distances (2 R, n, N) in units of the train rows' own: 0 at their median, 1 at the 95 %.

    Parameters
    ----------
    median, upper : ndarray of shape (2 R, N)
    """

    median: Array
    upper: Array

    def reaching(self, distances: Array, present: NDArray[np.bool_]) -> Self:
        """Reach to the 95 % of further rows, so that these are not far either."""
        return replace(self, upper=np.maximum(self.upper, self.fit(distances, present).upper))

    @classmethod
    def fit(cls, distances: Array, present: NDArray[np.bool_]) -> Self:
        """Measure on distances of rows that are new to the Gaussians."""
        values = np.where(present, distances, np.nan)
        values[:, :, ~present.any(axis=0)] = 0  # a view that none of the rows has
        median, upper = np.nanquantile(values, [0.5, 0.95], axis=1)
        return cls(median, np.maximum(upper, 1.05 * median + LEAST))

    def __call__(self, distances: Array) -> Array:
        """Scale distances, and take the largest of the 2 R of each view, (n, N)."""
        low, high = self.median[:, None], self.upper[:, None]
        return np.asarray(((distances - low) / (high - low)).max(axis=0))


class Membership:
    """Odds that a view does not belong to its row, and the familiarity of a row's views.

    Three signs are read of each view: how little its class shares agree with the other views',
    how much less likely its columns are given the other views and their class shares than by
    themselves (Gaussians of all views' principal components, one mean per class), and how far it
    is from the train rows. Their weights, the same for every view, are learnt from train rows in
    which one view is replaced by another row's of another class, or by noise; every row is scored
    by Gaussians of other rows and by class shares that are new to it.

    With `fit`'s prior chance of a fifth, the posterior of each view, alone, is the softmax of its
    log odds beside 0 for "every view belongs". A view that a row lacks, and the only view of a
    row, has no odds. Familiarity is exp(-1.5 max(0, z - 3)), z the distance in units in which train
    rows, as if they were new, have the median 0 and the 95 % quantile 1, or more where that of the
    Gaussians' own rows is larger.

    Sequences and texts are read by `MultiView.pooled`.

    Attributes
    ----------
    gaussians_ : RowGaussians
    distances_ : Distances
    coefficients_ : ndarray of shape (4 + R,)
        Of the signs in the log odds.
    train_standing_ : Standing
        Of the train rows, as if they were new.
    """

    def fit(
        self,
        views: MultiView,
        codes: Rows,
        witness: Array,
        *,
        ask: Callable[[MultiView], Array],
        rng: np.random.Generator,
    ) -> Self:
        """Learn from rows of `views`, class numbers (n,) and class shares (n, N, K).

        The shares must come from models that have not seen the rows; `ask` gives those of new rows.
        """
        some = evenly(len(codes), min(len(codes), SAMPLE))
        given, classes = views.take(some), witness.shape[-1]
        tables, shares, labels = given.pooled(), witness[some], codes[some]
        present, noisy = tables.present, self._noise(given, rng)
        noise, by_noise = noisy.pooled(), ask(noisy)
        vars(self).pop("_judge", None)
        folds = rng.permutation(len(some)) % min(FOLDS, len(some))
        apart_rows = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
        beside = [
            apart if np.delete(present, apart, axis=0).any(axis=0).all() else None
            for apart in apart_rows  # None where a view is in no other row
        ]
        fitted = FoldParts(tables.arrays, noise.arrays, [None, *beside])
        everything = np.arange(len(some))

        def gaussians_of(place: int, rows: Rows) -> RowGaussians:
            parts = _taken(fitted.parts[place], rows)
            return RowGaussians.of(
                fitted.columns[place], parts, labels[rows], present[rows], classes
            )

        self.gaussians_ = gaussians_of(0, everything)
        signs: list[Signs] = []
        copies: list[Copy] = []
        for place, (apart, fold) in enumerate(zip(apart_rows, beside, strict=True), start=1):
            gaussians, other = self.gaussians_, _taken(fitted.noise[0], apart)
            if fold is not None:
                gaussians = gaussians_of(place, np.delete(everything, apart))
                other = _taken(fitted.noise[place], slice(None))
            apart_parts = _taken(fitted.parts[place], apart)
            for copy in _copies(labels[apart], present[apart], rng):
                parts = _taken(apart_parts, copy.rows)
                said = shares[apart[copy.rows]]
                if copy.culprit:
                    view, donors = copy.culprit - 1, apart[copy.donors]
                    sources = other if copy.noise else apart_parts
                    for reading, source in zip(parts, sources, strict=True):
                        reading[view] = source[view].take(copy.donors)
                    said[:, view] = (by_noise if copy.noise else shares)[donors, view]
                signs.append(_signs(gaussians, parts, said, present[apart[copy.rows]]))
                copies.append(copy._replace(rows=apart[copy.rows]))
        # with more columns than rows, components are wider on their own rows than on new ones
        own = _signs(self.gaussians_, fitted.parts[0], shares, present)
        self.coefficients_ = START
        whole = Signs(*(np.concatenate(part, axis=-2) for part in zip(*signs, strict=True)))
        row = np.concatenate([copy.rows for copy in copies])
        culprit = np.concatenate([np.full(len(copy.rows), copy.culprit) for copy in copies])
        weight = np.concatenate([np.full(len(copy.rows), copy.weight) for copy in copies])
        clean = culprit == 0
        self.distances_ = Distances.fit(whole.distances[:, clean], present[row[clean]]).reaching(
            own.distances, present
        )
        if len(views) > 1 and (~clean).any():
            self._learn(whole, culprit, weight, present[row])
        looked = Signs(whole.doubt[clean], whole.ratios[:, clean], whole.distances[:, clean])
        standing = self._standing(looked, present[row[clean]])
        # rows that were not looked at are new to everything
        self.train_standing_ = self(views, witness) if len(some) < len(codes) else standing
        for every, own_rows in zip(self.train_standing_, standing, strict=True):
            every[some[row[clean]]] = own_rows.copy()
        return self

    def __call__(self, views: MultiView, witness: Array) -> Standing:
        """Compute the standing of rows with class shares (n, N, K) that are new to their models."""
        parts = []
        for block in blocks(views.n_samples):
            tables = views.take(block).pooled()
            for rows in self._judge.plan.blocks(tables.arrays):
                reading = self._judge.plan(tables.arrays, rows)
                parts.append(self._judge(reading, witness[block][rows]))
        return Standing(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def judge(self, plan: ReadingPlan) -> Judge:
        """Make ready to judge rows that a plan reads."""
        return Judge(self, plan)

    @cached_property
    def _judge(self) -> Judge:
        views = len(self.gaussians_.columns[0])
        return self.judge(ReadingPlan(views, torch.float64))

    def __getstate__(self) -> dict[str, Any]:
        # made again when it is needed
        return {name: value for name, value in vars(self).items() if name != "_judge"}

    def _noise(self, views: MultiView, rng: np.random.Generator) -> MultiView:
        """Replace every table by noise of three deviations around its columns' means."""
        kinds = dict(zip(views.names, views.kinds, strict=True))

        def noise(name: str, view: ViewArray) -> ViewArray:
            if kinds[name] not in ("dense", "sparse"):
                return view
            array = dense(view)
            centre, spread = np.nanmean(array, axis=0), np.nanstd(array, axis=0)
            return np.asarray(centre + NOISE * spread * rng.normal(size=array.shape))

        return views.map(noise)

    def _ways(self, signs: Signs, coefficients: Array) -> tuple[Array, Array]:
        """Log odds (n, N) of being another row's view, and of being noise."""
        first, doubt, *ratios, far, distance = coefficients
        swapped = first + doubt * signs.doubt + np.tensordot(ratios, signs.ratios, axes=1)
        return swapped, far + distance * self.distances_(signs.distances)

    def _learn(
        self, signs: Signs, culprit: Rows, weight: Array, present: NDArray[np.bool_]
    ) -> None:
        """Fit the coefficients to the culprits (n,) of rows, 0 for none, else view + 1."""
        rows = np.arange(len(culprit))
        guilty = culprit[:, None] == np.arange(1, present.shape[1] + 1)
        distance = self.distances_(signs.distances)
        swap_signs = np.stack([np.ones_like(distance), signs.doubt, *signs.ratios])
        noise_signs = np.stack([np.ones_like(distance), distance])

        def loss(values: Array) -> tuple[float, Array]:
            """Penalised negative log-likelihood and its gradient."""
            swapped = np.tensordot(values[:-2], swap_signs, axes=1)
            noise = np.tensordot(values[-2:], noise_signs, axes=1)
            logs = log_softmax(_logits(np.logaddexp(swapped, noise), present), axis=1)
            slopes = weight[:, None] * (np.exp(logs[:, 1:]) - guilty)
            by_swap = slopes * expit(swapped - noise)
            gradient = [
                *np.tensordot(swap_signs, by_swap, axes=2),
                *np.tensordot(noise_signs, slopes - by_swap, axes=2),
            ]
            pull = values - START
            total = STIFFNESS * (pull**2).sum() - weight @ logs[rows, culprit]
            return float(total), 2 * STIFFNESS * pull + gradient

        fitted = minimize(loss, START, jac=True, bounds=BOUNDS, method="L-BFGS-B")
        self.coefficients_ = np.asarray(fitted.x)

    def _standing(self, signs: Signs, present: NDArray[np.bool_]) -> Standing:
        odds = np.logaddexp(*self._ways(signs, self.coefficients_))
        posterior = softmax(_logits(odds, present), axis=1)
        excess = np.maximum(0, self.distances_(signs.distances) - FAR)
        return Standing(posterior, np.where(present, np.exp(-DECAY * excess), 0.0))


class Judge:
    """A fitted `Membership` made ready for new rows that a plan reads.

    Parameters
    ----------
    membership : Membership
    plan : ReadingPlan
    """

    def __init__(self, membership: Membership, plan: ReadingPlan) -> None:
        self.plan = plan
        self.gaussians = membership.gaussians_.folded(plan)
        self.coefficients = membership.coefficients_.tolist()
        distances = membership.distances_
        low, span = distances.median, distances.upper - distances.median
        self.low, self.span = (
            torch.from_numpy(part).to(plan.dtype).unsqueeze(-1) for part in (low, span)
        )

    def __call__(self, reading: Reading, witness: Array) -> Standing:
        """Compute the standing of rows read, with class shares (n, N, K), in the plan's type."""
        shares = torch.from_numpy(witness).to(self.plan.dtype)
        doubt, ratios, distances = view_signs(self.gaussians, reading, shares)
        first, agreeing, *weights, far, slope = self.coefficients
        distance = distances.sub_(self.low).div_(self.span).amax(dim=0)
        swapped = doubt.mul(agreeing).add_(first)
        for weight, ratio in zip(weights, ratios, strict=True):
            swapped.add_(ratio, alpha=weight)
        odds = torch.logaddexp(swapped, distance * slope + far)
        familiarity = (distance - FAR).clamp_min_(0).mul_(-DECAY).exp_()
        if reading.present is not None:
            present = torch.from_numpy(reading.present).T
            odds.masked_fill_(~(present & (present.sum(dim=0) > 1)), -torch.inf)
            familiarity.masked_fill_(~present, 0.0)
        elif len(odds) < 2:
            odds.fill_(-torch.inf)
        posterior = torch.cat([torch.zeros_like(odds[:1]), odds])
        posterior.sub_(posterior.amax(dim=0)).exp_().div_(posterior.sum(dim=0))
        return Standing(posterior.T.numpy(), familiarity.T.numpy())


def _taken(parts: Sequence[Sequence[Part]], rows: slice | Rows) -> list[list[Part]]:
    """Select rows of components, per reading and view."""
    return [[part.take(rows) for part in reading] for reading in parts]


def _signs(
    gaussians: RowGaussians,
    parts: Sequence[Sequence[Part]],
    shares: Array,
    present: NDArray[np.bool_],
) -> Signs:
    agreed, others = agreement(torch.from_numpy(shares), torch.tensor(present))
    ratios, distances = gaussians(parts, others.log().numpy(), present)
    return Signs(-agreed.log().numpy(), ratios, distances)


def _logits(odds: Array, present: NDArray[np.bool_]) -> Array:
    """Logits (n, N + 1) of "every view belongs" and of each view alone that does not."""
    able = present & (present.sum(axis=1, keepdims=True) > 1)
    odds = np.where(able, odds, -np.inf)
    return np.concatenate([np.zeros((len(odds), 1)), odds], axis=1)


def _copies(labels: Rows, present: NDArray[np.bool_], rng: np.random.Generator) -> Iterator[Copy]:
    """Copy rows as they are, then some with another row's view, of another class, or noise."""
    rows, views = np.arange(len(labels)), present.shape[1]
    yield Copy(rows, 0, rows, False, 1.0)
    chance = min(1.0, COPIES / views)
    for view in range(views) if views > 1 else ():
        able = np.flatnonzero(present[:, view] & (present.sum(axis=1) > 1))
        donors = rng.permutation(able)
        swapped, noisy = rng.random((2, len(able))) < chance
        swapped &= labels[donors] != labels[able]
        for noise, other, drawn in ((False, donors, swapped), (True, able, noisy)):
            if drawn.any():
                weight = BOGUS / (1 - BOGUS) / 2 * len(rows) / views / drawn.sum()
                yield Copy(able[drawn], view + 1, other[drawn], noise, float(weight))
