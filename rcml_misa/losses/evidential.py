"""Evidential losses: EDL, its KL term, conflict and credibility.

Targets are one-hot or soft, (..., K), and broadcast against evidence (..., K): with evidence
(B, M, K) of M opinions about B rows, give targets (B, 1, K). Means run over all opinions. Evidence
is added to `prior`, alpha = e + prior: 1 in EDL, lambda in R-EDL.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.losses.special import digamma_trigamma
from rcml_misa.opinions import mean_conflict, total_conflict
from rcml_misa.opinions.slopes import Slopes, with_slopes

__all__ = [
    "EDLForm",
    "conflict_loss",
    "credibility_loss",
    "dirichlet_kl",
    "edl_loss",
    "weighted_mean",
]

EDLForm = Literal["digamma", "log", "mse", "projected"]
_Reduction = Literal["mean", "none"]


def _reduced(values: Tensor, reduction: _Reduction) -> Tensor:
    return values.mean() if reduction == "mean" else values


def weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """Average values by weights of the same shape; 0 if all weights are.

    Examples
    --------
    >>> weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 0.0]))
    tensor(1.)
    """
    if weights is None:
        return values.mean()
    return (weights * values).sum() / weights.sum().clamp_min(1e-12)


def edl_loss(
    evidence: Tensor,
    target: Tensor,
    *,
    kl_weight: float = 0.0,
    form: EDLForm = "digamma",
    prior: float = 1.0,
    reduction: _Reduction = "mean",
) -> Tensor:
    """Compute the EDL loss of the given form plus `kl_weight` times `dirichlet_kl`.

    Parameters
    ----------
    evidence : Tensor of shape (..., K)
    target : Tensor that broadcasts to (..., K)
    kl_weight : float
    form : {"digamma", "log", "mse", "projected"}
        Expected cross-entropy under the Dirichlet, sum_k y_k [psi(S) - psi(alpha_k)]; type II
        maximum likelihood, sum_k y_k [log S - log alpha_k]; expected square error,
        sum_k (y_k - p_k)^2 + p_k (1 - p_k) / (S + 1); its first term, the square error of the
        projected probability.
    prior : float
    reduction : {"mean", "none"}

    Raises
    ------
    OptionError
        If the form is not one of those.

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equations 4, 3 and 5; Chen, Gao and Xu, R-EDL, ICLR
    2024 (projected); the same, Re-EDL, TPAMI 2025, whose whole loss the last form is.

    Examples
    --------
    >>> round(float(edl_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), kl_weight=1.0)), 4)
    1.0
    >>> vacuous, target = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    >>> [round(float(edl_loss(vacuous, target, form=form)), 4) for form in get_args(EDLForm)]
    [1.0, 0.6931, 0.6667, 0.5]
    """
    if form not in get_args(EDLForm):
        raise OptionError(f"form={form!r} is no EDL loss; {nearest(form, get_args(EDLForm))}")
    if form == "digamma":
        return _dirichlet_terms(evidence, target, prior, reduction, kl_weight=kl_weight, fit=True)
    alpha = evidence + prior
    strength = alpha.sum(dim=-1, keepdim=True)
    if form == "log":
        terms = target * (strength.log() - alpha.log())
    else:
        p = alpha / strength
        terms = (target - p) ** 2
        if form == "mse":
            terms = terms + p * (1 - p) / (strength + 1)
    loss = _reduced(terms.sum(dim=-1), reduction)
    if not kl_weight:
        return loss
    return loss + kl_weight * dirichlet_kl(evidence, target, prior=prior, reduction=reduction)


def dirichlet_kl(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: _Reduction = "mean"
) -> Tensor:
    """Compute KL[Dir(alpha~) || Dir(1)] of evidence for wrong classes, alpha~ = y + (1 - y) alpha.

    With another prior, KL[Dir(alpha~) || Dir(prior)] and alpha~ = prior + (1 - y) e. Parameters
    as in `edl_loss`.

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, section 3.

    Examples
    --------
    >>> float(dirichlet_kl(torch.tensor([[7.0, 0.0]]), torch.tensor([[1.0, 0.0]])))
    0.0
    """
    return _dirichlet_terms(evidence, target, prior, reduction, kl_weight=1.0, fit=False)


def _dirichlet_terms(
    evidence: Tensor,
    target: Tensor,
    prior: float,
    reduction: _Reduction,
    *,
    kl_weight: float,
    fit: bool,
) -> Tensor:
    """Sum the expected cross-entropy (`fit`) and `kl_weight` times the KL term."""
    hard = not bool(((target > 0) & (target < 1)).any())
    compute = partial(_dirichlet_slopes, prior=prior, kl_weight=kl_weight, fit=fit, hard=hard)
    values = with_slopes(partial(compute, target=target.detach()), [evidence])
    return _reduced(values, reduction)


def _dirichlet_slopes(
    evidence: Tensor, *, target: Tensor, prior: float, kl_weight: float, fit: bool, hard: bool
) -> tuple[Tensor, Slopes]:
    """Compute the values (...) of `_dirichlet_terms` and their slopes by evidence (..., K).

    By alpha, the slope of the cross-entropy is psi'(S) sum y - y psi'(alpha), and that of the KL
    term (alpha - prior) psi'(alpha) - psi'(S) sum (alpha - prior), where digammas cancel.
    """
    alpha, classes = evidence + prior, evidence.shape[-1]
    wrong = evidence - target * evidence
    labels, total = fit * target.sum(dim=-1), kl_weight * wrong.sum(dim=-1)
    strengths = torch.stack([alpha.sum(dim=-1), wrong.sum(dim=-1) + classes * prior])
    (digamma, other_digamma), (trigamma, other_trigamma) = digamma_trigamma(strengths)
    values = labels * digamma - total * other_digamma
    lost = (total * other_trigamma).unsqueeze(-1)
    slope = torch.addcmul((labels * trigamma).unsqueeze(-1) - lost, target, lost)
    if kl_weight:
        # log ratio of the two normalising constants
        flat = torch.lgamma(alpha.new_tensor([classes * prior, prior]))
        norm = torch.lgamma(strengths[1]) - torch.lgamma(wrong + prior).sum(dim=-1)
        values = values + kl_weight * (norm - (flat[0] - classes * flat[1]))
    # points at which a term has digammas, their factors, and the slope of a point by the evidence
    points: list[tuple[Tensor, Tensor, Tensor | None]]
    if hard:  # a class counts by its alpha in one of the terms, by 0 in the other
        points = [(alpha, torch.sub(kl_weight * wrong, target, alpha=int(fit)), None)]
    else:
        points = [(alpha, -target, None)] if fit else []
        points += [(wrong + prior, kl_weight * wrong, 1 - target)] if kl_weight else []
    for point, factor, by_evidence in points:
        digamma, trigamma = digamma_trigamma(point)
        values = values + (factor * digamma).sum(dim=-1)
        inner = factor if by_evidence is None else by_evidence * factor
        slope = torch.addcmul(slope, inner, trigamma)
    return values, (slope,)


def conflict_loss(
    evidence: Tensor, *, present: Tensor | None = None, reduction: _Reduction = "mean"
) -> Tensor:
    """Compute RCML's conflict term: the sum over ordered pairs of their conflict, over M - 1.

    Parameters
    ----------
    evidence : Tensor of shape (B, M, K)
        Evidence of M opinions; the term is 0 for a single one.
    present : Tensor of bool of shape (B, M), optional
        Opinions that exist: the others are in no pair, and M is a row's own number.

    References
    ----------
    Xu et al., AAAI 2024, equation 11.

    Examples
    --------
    >>> float(conflict_loss(torch.ones(4, 1, 3)))
    0.0
    """
    if present is not None:
        return _reduced(mean_conflict(evidence, present) * present.sum(dim=-1), reduction)
    pairs = 2 * total_conflict(evidence) / max(evidence.shape[-2] - 1, 1)
    return _reduced(pairs, reduction)


def credibility_loss(
    credibility: Tensor, target: Tensor, *, reduction: _Reduction = "mean"
) -> Tensor:
    """Compute FUML's credibility loss, sum_k -y_k log r_k - (1 - y_k) log(1 - r_k).

    Parameters
    ----------
    credibility : Tensor of shape (..., K)
        Label-guided, in [0, 1]; see `rcml_misa.nn.peers.guided_credibility`.
    target : Tensor that broadcasts to (..., K)

    References
    ----------
    Duan et al., FUML, ICML 2025, equation 4.

    Examples
    --------
    >>> round(float(credibility_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))), 4)
    1.3863
    """
    true, false = (part.clamp_min(1e-7).log() for part in (credibility, 1 - credibility))
    return _reduced(-(target * true + (1 - target) * false).sum(dim=-1), reduction)
