"""Dirichlet opinions: belief, uncertainty, conflict, and stacks in which some are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.opinions.slopes import Slopes, with_slopes

__all__ = [
    "Opinion",
    "contradiction",
    "degree_of_conflict",
    "dissonance",
    "entropy",
    "keep_present",
    "mean_conflict",
    "mutual_information",
    "opinions_present",
    "pairwise_conflict",
    "present_share",
    "total_conflict",
]

TINY = 1e-12
Values = TypeVar("Values", Tensor, NDArray[np.float64])


@dataclass(frozen=True)
class Opinion(Generic[Values]):
    """An opinion over K classes, or many of them, in tensors or NumPy arrays.

    Parameters
    ----------
    evidence : Tensor or ndarray of shape (..., K)
        Evidence for each class, at least 0; an opinion of zeros is vacuous.

    References
    ----------
    Jøsang, Subjective Logic, 2016, section 3.5; prior weight W = K.

    Examples
    --------
    >>> opinion = Opinion(torch.tensor([8.0, 0.0]))
    >>> opinion.belief, opinion.uncertainty
    (tensor([0.8000, 0.0000]), tensor(0.2000))
    """

    evidence: Values

    @property
    def alpha(self) -> Values:
        """Dirichlet parameters e + 1, (..., K)."""
        return self.evidence + 1

    @property
    def strength(self) -> Values:
        """Dirichlet strength S = sum e + K, (..., 1)."""
        total: Values = self.evidence.sum(-1) + self.evidence.shape[-1]
        return total[..., None]

    @property
    def belief(self) -> Values:
        """E / S, (..., K)."""
        return self.evidence / self.strength

    @property
    def uncertainty(self) -> Values:
        """Vacuity K / S, (...), in (0, 1]."""
        vacuous: Values = self.evidence.shape[-1] / self.strength[..., 0]
        return vacuous

    @property
    def projected_probability(self) -> Values:
        """(e + 1) / S, (..., K); raw, not calibrated."""
        return self.alpha / self.strength


def entropy(evidence: Tensor) -> Tensor:
    """Return the entropy of the projected probability in nats, in [0, log K].

    Examples
    --------
    >>> round(float(entropy(torch.zeros(2))), 4)
    0.6931
    """
    p = Opinion(evidence).projected_probability
    return -(p * p.log()).sum(dim=-1)


def mutual_information(evidence: Tensor) -> Tensor:
    """Return the mean's entropy minus the mean entropy of the Dirichlet's categoricals, in nats.

    Source: Malinin and Gales, Prior networks, NeurIPS 2018, equation 17.

    Examples
    --------
    >>> bool(mutual_information(torch.zeros(3)) > mutual_information(torch.full((3,), 90.0)))
    True
    """
    opinion = Opinion(evidence)
    inside = torch.digamma(opinion.alpha + 1) - torch.digamma(opinion.strength + 1)
    return entropy(evidence) + (opinion.projected_probability * inside).sum(dim=-1)


def dissonance(evidence: Tensor) -> Tensor:
    """Measure the contradiction between beliefs of one opinion, in [0, 1].

    sum_k b_k [sum_{j != k} b_j Bal(b_j, b_k)] / sum_{j != k} b_j with
    Bal(x, y) = 1 - |x - y| / (x + y), 0 where both are 0. Source: Jøsang, Cho and Chen,
    Uncertainty characteristics of subjective opinions, FUSION 2018.

    Examples
    --------
    >>> dissonance(torch.tensor([8.0, 0.0])), dissonance(torch.tensor([4.0, 4.0]))
    (tensor(0.), tensor(0.8000))
    """
    belief, parts = Opinion(evidence).belief, []
    for number in range(belief.shape[-1]):  # class by class: no array holds all pairs
        own, others = belief[..., number : number + 1], belief.clone()
        others[..., number] = 0
        both = own + others
        balance = torch.where(both > 0, 1 - (own - others).abs() / both.clamp_min(TINY), 0.0)
        weighed = (others * balance).sum(dim=-1)
        parts.append(own[..., 0] * weighed / others.sum(dim=-1).clamp_min(TINY))
    return torch.stack(parts, dim=-1).sum(dim=-1)


def contradiction(p: Values, q: Values, p_weight: Values, q_weight: Values) -> Values:
    """Return the total variation distance of p and q, (..., K), times both weights, (...).

    Examples
    --------
    >>> half = torch.tensor(0.5)
    >>> contradiction(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), half, half)
    tensor(0.2500)
    """
    distance: Values = abs(p - q).sum(-1) / 2
    return distance * p_weight * q_weight


def degree_of_conflict(first: Tensor, second: Tensor) -> Tensor:
    """Return C = [sum_k |p_k - q_k| / 2] (1 - u)(1 - v) of evidence (..., K), in [0, 1].

    Source: Xu et al., AAAI 2024, Definition 2.

    Examples
    --------
    >>> degree_of_conflict(torch.tensor([8.0, 0.0]), torch.tensor([8.0, 0.0]))
    tensor(0.)
    """
    a, b = Opinion(first), Opinion(second)
    return contradiction(
        a.projected_probability, b.projected_probability, 1 - a.uncertainty, 1 - b.uncertainty
    )


def pairwise_conflict(evidence: Tensor) -> Tensor:
    """Return the degree of conflict of every pair: (..., M, K) to (..., M, M), diagonal 0.

    Examples
    --------
    >>> pairwise_conflict(torch.tensor([[8.0, 0.0], [0.0, 8.0]]))
    tensor([[0.0000, 0.5120],
            [0.5120, 0.0000]])
    """
    rows = [degree_of_conflict(own.unsqueeze(-2), evidence) for own in evidence.unbind(dim=-2)]
    return torch.stack(rows, dim=-2)


def mean_conflict(evidence: Tensor, present: Tensor | None = None) -> Tensor:
    """Return the mean degree of conflict over pairs of M opinions; 0 for a single one.

    Maps (..., M, K) to (...); opinions that are not `present`, (..., M), are in no pair.

    Examples
    --------
    >>> mean_conflict(torch.tensor([[8.0, 0.0], [0.0, 8.0]]))
    tensor(0.5120)
    """
    # without evidence an opinion is vacuous, and its conflict with any other one is 0
    total, count = total_conflict(keep_present(evidence, present)), evidence.shape[-2]
    if present is None:
        return total / max(count * (count - 1) / 2, 1)
    counts = present.sum(dim=-1)
    return total / (counts * (counts - 1) / 2).clamp_min(1)


def total_conflict(evidence: Tensor) -> Tensor:
    """Return the sum of the degrees of conflict over all pairs of M opinions: (..., M, K) to (...).

    Memory, that of the gradient included, grows with M, not with the number of pairs.

    Examples
    --------
    >>> total_conflict(torch.tensor([[8.0, 0.0], [0.0, 8.0], [0.0, 8.0]]))
    tensor(1.0240)
    """
    return with_slopes(_conflict_slopes, [evidence])


def _conflict_slopes(evidence: Tensor) -> tuple[Tensor, Slopes]:
    """Compute `total_conflict` and its slope by the evidence."""
    opinion, count, classes = Opinion(evidence), *evidence.shape[-2:]
    p, certainty = opinion.projected_probability, 1 - opinion.uncertainty
    total = torch.zeros_like(certainty[..., 0])
    by_p, by_certainty = torch.zeros_like(p), torch.zeros_like(certainty)
    for step in range(1, count // 2 + 1):
        # opinion m and m - step, around: every pair of this distance once, but half of them twice
        once = 0.5 if 2 * step == count else 1.0
        difference = p - p.roll(step, dims=-2)
        other = certainty.roll(step, dims=-1)
        distance = difference.abs().sum(dim=-1) * (once / 2)
        total += (distance * certainty * other).sum(dim=-1)
        by_certainty += distance * other + (distance * certainty).roll(-step, dims=-1)
        pull = difference.sign_() * (certainty * other * (once / 2)).unsqueeze(-1)
        by_p += pull - pull.roll(-step, dims=-2)
    # p = (e + 1) / S and certainty = 1 - K / S
    by_strength = classes * by_certainty.unsqueeze(-1) / opinion.strength
    slope = (by_p - (by_p * p).sum(dim=-1, keepdim=True) + by_strength) / opinion.strength
    return total, (slope,)


def present_share(present: Tensor) -> Tensor:
    """Return a row's share of present views, (..., N) to (..., 1, 1), to scale what rests on all.

    Examples
    --------
    >>> float(present_share(torch.tensor([True, False])))
    0.5
    """
    return present.double().mean(dim=-1).to(torch.get_default_dtype())[..., None, None]


def opinions_present(present: Tensor, shared: int) -> Tensor:
    """Tell which of N private and M shared opinions exist: (..., N) to (..., N + M).

    A shared opinion per view goes with its view; a single one needs any view.

    Examples
    --------
    >>> opinions_present(torch.tensor([True, False]), 1).tolist()
    [True, False, True]
    """
    count = present.shape[-1]
    own = present[..., :shared] if shared in (0, count) else present.any(dim=-1, keepdim=True)
    return torch.cat([present, own], dim=-1)


def keep_present(values: Tensor, present: Tensor | None) -> Tensor:
    """Zero the entries (..., M, K) of missing opinions; `present` is (..., M).

    Examples
    --------
    >>> keep_present(torch.ones(2, 1), torch.tensor([True, False])).tolist()
    [[1.0], [0.0]]
    """
    return values if present is None else values * present.unsqueeze(-1)


def mean_present(values: Tensor, present: Tensor | None) -> Tensor:
    """Return the mean over M of (..., M, K), over present opinions; 0 without any."""
    if present is None:
        return values.mean(dim=-2)
    counts = present.sum(dim=-1, keepdim=True).clamp_min(1)
    return keep_present(values, present).sum(dim=-2) / counts
