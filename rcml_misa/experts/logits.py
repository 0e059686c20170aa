"""Logits of closed-form members: bounds, temperatures, stacking, pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from rcml_misa.opinions import SHARED_WEIGHT, log_shares
from rcml_misa.reading.features import evenly

__all__ = ["ExpertLogits", "Experts", "Member", "RowWeights", "expert_logits", "stack_weights"]

Array = NDArray[np.float64]
ENOUGH = 20_000  # rows that suffice for a handful of weights
STIFFNESS = 10.0  # pull of the stack towards the plain ratio, in nats per squared weight


@dataclass(frozen=True)
class RowWeights:
    """Weights of the rows that a member learns from, of mean 1.

    Attributes
    ----------
    here : ndarray of bool of shape (n,) or None
        Rows that the member has; None for all.
    every : ndarray of shape (n,) or None
        Weights of all rows; None where they are 1.
    factors : ndarray of shape (K,)
        Factors of the classes' rows.
    """

    here: NDArray[np.bool_] | None
    every: Array | None
    factors: Array

    @classmethod
    def of(cls, codes: NDArray[np.int64], here: NDArray[np.bool_], weights: Array | None) -> Self:
        """Weigh the rows that have a view so that their classes have the shares of all rows.

        Else the member of a view that one class has more often would take presence for the class.
        Rows have class numbers `codes` (n,) and `weights`, those `here`, (n,), have the view.
        """
        classes = int(codes.max()) + 1
        if here.all():
            mean = 1.0 if weights is None else float(weights.mean())
            return cls(None, weights, np.full(classes, 1 / mean))
        shares, own = (
            np.bincount(codes[rows], None if weights is None else weights[rows], minlength=classes)
            for rows in (slice(None), here)
        )
        ratios = shares / np.maximum(own, 1e-12)
        return cls(here, weights, ratios * here.sum() / (ratios @ own))

    def __call__(self, rows: slice | NDArray[np.int64], codes: NDArray[np.int64]) -> Array | None:
        """Compute the weights of those of some rows that the member has, by their class numbers."""
        if self.here is None and self.every is None:
            return None
        weights = self.factors[codes]
        if self.every is not None:
            weights *= self.every[rows]
        return weights if self.here is None else weights[self.here[rows]]


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
    """Logits of the experts for n rows.

    Attributes
    ----------
    views, joint : ndarray of shape (n, N, K) and (n, K)
        Bounded, tempered scores of the views' experts and of the joint one.
    witness : ndarray of shape (n, N, K)
        Class shares of the views by their experts' unbounded scores, uniform for a missing view.
    present : ndarray of bool of shape (n, N), optional
        Which views each row has, where some are missing; the others' logits are 0.
    """

    views: Array
    joint: Array
    witness: Array
    present: NDArray[np.bool_] | None = None

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

    def pooled(self, views: Array, joint: Array | None, share: float) -> ExpertLogits:
        """Pool with another model's log-probabilities, which get a share of every opinion.

        Every opinion becomes softmax(share log q + (1 - share) log p) of the other model's q and
        the member's p: `views` (n, N, K) and `joint` (n, K) hold log q. Without `joint` the joint
        member's opinion stays. Source: logarithmic pooling, Genest and Zidek, Statistical Science
        1, 1986.
        """
        own = share * views + (1 - share) * log_softmax(self.views, axis=-1)
        both = self.joint
        if joint is not None:
            both = share * joint + (1 - share) * log_softmax(self.joint, axis=-1)
        return replace(self, views=own, joint=both)

    def take(self, rows: slice | NDArray[np.int64]) -> ExpertLogits:
        """Select some of the rows."""
        return ExpertLogits(
            self.views[rows],
            self.joint[rows],
            self.witness[rows],
            None if self.present is None else self.present[rows],
        )


class Member(Protocol):
    """A fitted closed-form member: bound and temperatures of its scores."""

    @property
    def bound_(self) -> float:
        """Upper bound of the scores."""

    @property
    def temperature_(self) -> float:
        """Temperature of the bounded scores."""

    @property
    def raw_temperature_(self) -> float:
        """Temperature of the unbounded scores."""


class Experts(Protocol):
    """Fitted closed-form members of a set of views."""

    train_logits_: ExpertLogits
    looked_: NDArray[np.int64]

    def logits(self, views: Any) -> ExpertLogits:
        """Compute the logits of new rows."""


def expert_logits(
    members: Sequence[Member],
    scores: Sequence[Array] | Array,
    joint: Array,
    present: NDArray[np.bool_] | None,
) -> ExpertLogits:
    """Bound and temper the scores (n, K) of each view's member and of the last, joint one.

    `present` (n, N) is None where every row has every view. The type is that of the scores.
    """
    *own, last = members
    # views first, as they are held
    every = np.asarray(scores)
    bounds, temperatures, raw_temperatures = (
        np.array([getattr(member, name) for member in own], every.dtype)[:, None, None]
        for name in ("bound_", "temperature_", "raw_temperature_")
    )
    views, raw = temperatures * np.minimum(every, bounds), raw_temperatures * every
    if present is not None and not present.all():
        views[~present.T], raw[~present.T] = 0, 0
    else:
        present = None
    witness = raw - raw.max(axis=-1, keepdims=True)
    np.exp(witness, out=witness)
    witness /= witness.sum(axis=-1, keepdims=True)
    return ExpertLogits(
        views=views.swapaxes(0, 1),
        joint=last.temperature_ * np.minimum(joint, last.bound_),
        witness=witness.swapaxes(0, 1),
        present=present,
    )
