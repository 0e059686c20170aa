"""Subjective logic over Dirichlet opinions: scores, conflict and fusion, as pure functions.

An opinion over K classes is given by its evidence e >= 0 of shape (..., K): alpha = e + 1,
S = sum alpha, belief b = e / S, uncertainty (vacuity) u = K / S, base rates 1 / K and projected
probability p = b + u / K = alpha / S. A stack of M opinions has the shape (..., M, K).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest

__all__ = [
    "FusionOperator",
    "Opinion",
    "degree_of_conflict",
    "dissonance",
    "entropy",
    "fuse",
    "max_probability_uncertainty",
    "mean_conflict",
    "mutual_information",
    "pairwise_conflict",
    "vacuity",
]

FusionOperator = Literal["mean", "pairwise", "geometric", "cumulative", "dempster"]
TINY = 1e-12
LEAST_DOUBT = 1e-30


@dataclass(frozen=True)
class Opinion:
    """An opinion over K classes, or many of them.

    Parameters
    ----------
    evidence : Tensor of shape (..., K)
        Not negative.

    References
    ----------
    Jøsang, Subjective Logic, 2016, section 3.5; prior weight W = K.

    Examples
    --------
    >>> opinion = Opinion(torch.tensor([8.0, 0.0]))
    >>> opinion.belief, opinion.uncertainty
    (tensor([0.8000, 0.0000]), tensor(0.2000))
    """

    evidence: Tensor

    @property
    def alpha(self) -> Tensor:
        """Dirichlet parameters e + 1, (..., K)."""
        return self.evidence + 1

    @property
    def strength(self) -> Tensor:
        """S = sum e + K, (...)."""
        return self.evidence.sum(dim=-1) + self.evidence.shape[-1]

    @property
    def belief(self) -> Tensor:
        """E / S, (..., K)."""
        return self.evidence / self.strength.unsqueeze(-1)

    @property
    def uncertainty(self) -> Tensor:
        """Vacuity K / S, (...), in (0, 1]."""
        return self.evidence.shape[-1] / self.strength

    @property
    def projected_probability(self) -> Tensor:
        """(e + 1) / S, (..., K)."""
        return self.alpha / self.strength.unsqueeze(-1)


def vacuity(evidence: Tensor) -> Tensor:
    """K / S: how little evidence there is, in (0, 1].

    Examples
    --------
    >>> vacuity(torch.zeros(4))
    tensor(1.)
    """
    return Opinion(evidence).uncertainty


def max_probability_uncertainty(evidence: Tensor) -> Tensor:
    """1 - max p, in [0, 1 - 1/K].

    Examples
    --------
    >>> max_probability_uncertainty(torch.zeros(4))
    tensor(0.7500)
    """
    return 1 - Opinion(evidence).projected_probability.amax(dim=-1)


def entropy(evidence: Tensor) -> Tensor:
    """Entropy of the projected probability in nats, in [0, log K].

    Examples
    --------
    >>> round(float(entropy(torch.zeros(2))), 4)
    0.6931
    """
    p = Opinion(evidence).projected_probability
    return -(p * p.log()).sum(dim=-1)


def mutual_information(evidence: Tensor) -> Tensor:
    """Entropy of the mean minus the mean entropy of the Dirichlet's categoricals, in nats.

    Malinin and Gales, Prior networks, NeurIPS 2018, equation 17.

    Examples
    --------
    >>> bool(mutual_information(torch.zeros(3)) > mutual_information(torch.full((3,), 90.0)))
    True
    """
    opinion = Opinion(evidence)
    inside = torch.digamma(opinion.alpha + 1) - torch.digamma(opinion.strength + 1).unsqueeze(-1)
    return entropy(evidence) + (opinion.projected_probability * inside).sum(dim=-1)


def dissonance(evidence: Tensor) -> Tensor:
    """How far the beliefs contradict each other, in [0, 1].

    sum_k b_k [sum_{j != k} b_j Bal(b_j, b_k)] / sum_{j != k} b_j with
    Bal(x, y) = 1 - |x - y| / (x + y), 0 where both are 0.

    References
    ----------
    Jøsang, Cho and Chen, Uncertainty characteristics of subjective opinions, FUSION 2018.

    Examples
    --------
    >>> dissonance(torch.tensor([8.0, 0.0])), dissonance(torch.tensor([4.0, 4.0]))
    (tensor(0.), tensor(0.8000))
    """
    belief = Opinion(evidence).belief
    first, second = belief.unsqueeze(-1), belief.unsqueeze(-2)
    total = first + second
    balance = torch.where(total > 0, 1 - (first - second).abs() / total.clamp_min(TINY), 0.0)
    apart = 1 - torch.eye(belief.shape[-1], dtype=belief.dtype, device=belief.device)
    weighed = (second * balance * apart).sum(dim=-1)
    others = (second * apart).sum(dim=-1)
    return (belief * weighed / others.clamp_min(TINY)).sum(dim=-1)


def degree_of_conflict(first: Tensor, second: Tensor) -> Tensor:
    """C = [sum_k |p_k - q_k| / 2] (1 - u)(1 - v), in [0, 1].

    Parameters
    ----------
    first, second : Tensor of shape (..., K)
        Evidence of two opinions.

    Returns
    -------
    Tensor of shape (...)

    References
    ----------
    Xu et al., AAAI 2024, Definition 2.

    Examples
    --------
    >>> degree_of_conflict(torch.tensor([8.0, 0.0]), torch.tensor([8.0, 0.0]))
    tensor(0.)
    """
    a, b = Opinion(first), Opinion(second)
    distance = (a.projected_probability - b.projected_probability).abs().sum(dim=-1) / 2
    return distance * (1 - a.uncertainty) * (1 - b.uncertainty)


def pairwise_conflict(evidence: Tensor) -> Tensor:
    """Degree of conflict of every pair: (..., M, K) to (..., M, M), symmetric, diagonal 0.

    Examples
    --------
    >>> pairwise_conflict(torch.tensor([[8.0, 0.0], [0.0, 8.0]]))
    tensor([[0.0000, 0.5120],
            [0.5120, 0.0000]])
    """
    return degree_of_conflict(evidence.unsqueeze(-2), evidence.unsqueeze(-3))


def mean_conflict(evidence: Tensor, present: Tensor | None = None) -> Tensor:
    """Mean degree of conflict over the pairs of M opinions, (...); 0 for a single one.

    Parameters
    ----------
    evidence : Tensor of shape (..., M, K)
    present : Tensor of bool of shape (..., M), optional
        Which opinions there are; the others are in no pair. All by default.

    Examples
    --------
    >>> mean_conflict(torch.tensor([[8.0, 0.0], [0.0, 8.0]]))
    tensor(0.5120)
    """
    if present is not None:
        # without evidence an opinion is vacuous, and its conflict with any other one is 0
        evidence = evidence * present.unsqueeze(-1)
    count = evidence.shape[-2]
    first, second = torch.triu_indices(count, count, offset=1, device=evidence.device)
    opinion = Opinion(evidence)
    p, sure = opinion.projected_probability, 1 - opinion.uncertainty
    distance = (p[..., first, :] - p[..., second, :]).abs().sum(dim=-1) / 2
    total = (distance * sure[..., first] * sure[..., second]).sum(dim=-1)
    if present is None:
        return total / max(count * (count - 1) / 2, 1)
    counts = present.sum(dim=-1)
    return total / (counts * (counts - 1) / 2).clamp_min(1)


def fuse(evidence: Tensor, *, operator: FusionOperator, weights: Tensor | None = None) -> Tensor:
    """Fuse a stack of opinions into one.

    All operators but ``"pairwise"`` give the same whatever the order of the opinions. An opinion
    of weight 0 is absent: it changes nothing. Without any opinion the result is vacuous.

    Parameters
    ----------
    evidence : Tensor of shape (..., M, K)
    operator : {"mean", "pairwise", "geometric", "cumulative", "dempster"}
        ``"mean"``: weighted mean of the evidence, the average belief fusion of RCML's Definition
        1 at equal base rates. ``"pairwise"``: e <- (e_v + e) / 2 in order, as RCML's code does
        (weights 1/4, 1/4, 1/2 at three opinions). ``"geometric"``: exp of the weighted mean of
        log(1 + e), minus 1. ``"cumulative"``: weighted sum of the evidence. ``"dempster"``: TMC's
        reduced combination of beliefs times weights.
    weights : Tensor of shape (..., M), optional
        Not negative; 1 each by default. For ``"pairwise"`` only whether one is 0 counts, for
        ``"dempster"`` weights discount and lie in [0, 1].

    Returns
    -------
    Tensor of shape (..., K)

    Raises
    ------
    OptionError
        If the operator is not one of those.

    References
    ----------
    Xu et al., AAAI 2024, Definition 1; Jøsang 2016, chapter 12; Han et al., ICLR 2021, equation 5.

    Examples
    --------
    >>> stack = torch.tensor([[3.0, 0.0], [1.0, 2.0]])
    >>> fuse(stack, operator="mean")
    tensor([2., 1.])
    >>> fuse(stack, operator="mean", weights=torch.tensor([1.0, 0.0]))
    tensor([3., 0.])
    """
    if operator not in get_args(FusionOperator):
        choices = get_args(FusionOperator)
        raise OptionError(f"fusion={operator!r} is not an operator; {nearest(operator, choices)}")
    if weights is None:
        weights = evidence.new_ones(evidence.shape[:-1])
    if operator == "pairwise":
        return _fuse_pairwise(evidence, weights)
    if operator == "dempster":
        return _fuse_dempster(evidence, weights)
    scale = weights.unsqueeze(-1)
    if operator == "cumulative":
        return (scale * evidence).sum(dim=-2)
    total = scale.sum(dim=-2).clamp_min(TINY)
    if operator == "mean":
        return (scale * evidence).sum(dim=-2) / total
    return torch.expm1((scale * torch.log1p(evidence)).sum(dim=-2) / total)


def _fuse_pairwise(evidence: Tensor, weights: Tensor) -> Tensor:
    fused = torch.zeros_like(evidence[..., 0, :])
    started = torch.zeros_like(weights[..., :1], dtype=torch.bool)
    for number in range(evidence.shape[-2]):
        one, present = evidence[..., number, :], weights[..., number : number + 1] > 0
        folded = torch.where(started, (one + fused) / 2, one)
        fused = torch.where(present, folded, fused)
        started = started | present
    return fused


def _fuse_dempster(evidence: Tensor, weights: Tensor) -> Tensor:
    opinion, classes = Opinion(evidence), evidence.shape[-1]
    beliefs = opinion.belief * weights.unsqueeze(-1)
    belief = torch.zeros_like(evidence[..., 0, :])
    doubt = torch.ones_like(belief[..., :1])
    for number in range(evidence.shape[-2]):
        other = beliefs[..., number, :]
        unsure = 1 - other.sum(dim=-1, keepdim=True)
        joint = belief * other + belief * unsure + other * doubt
        both = doubt * unsure
        # what the two agree on is scaled up by 1 / (1 - conflict)
        agreed = (joint.sum(dim=-1, keepdim=True) + both).clamp_min(TINY)
        belief, doubt = joint / agreed, both / agreed
    # six sure views leave a doubt below 1e-12, which still has to have a gradient
    return belief * classes / doubt.clamp_min(LEAST_DOUBT)
