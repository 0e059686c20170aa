"""Fusion of a stack of opinions into one."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions.scores import TINY, Opinion

__all__ = ["FusionOperator", "fuse"]

LEAST_DOUBT = 1e-30
FusionOperator = Literal["mean", "pairwise", "geometric", "cumulative", "dempster"]


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
