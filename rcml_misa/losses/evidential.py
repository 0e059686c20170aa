"""Losses of evidence and of fuzzy memberships.

Targets are one-hot or soft, (..., K), and broadcast against evidence (..., K): with evidence
(B, M, K) of M opinions about B rows, give targets (B, 1, K). Means run over all opinions. Evidence
is added to `prior`, alpha = e + prior: 1 in EDL, lambda in R-EDL.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions import mean_conflict, pairwise_conflict

__all__ = [
    "EDLForm",
    "Reduction",
    "conflict_loss",
    "credibility_loss",
    "dirichlet_kl",
    "edl_digamma",
    "edl_log",
    "edl_loss",
    "edl_mse",
    "edl_projected",
    "weighted_mean",
]

Reduction = Literal["mean", "none"]
EDLForm = Literal["digamma", "log", "mse", "projected"]


def _reduced(values: Tensor, reduction: Reduction) -> Tensor:
    return values.mean() if reduction == "mean" else values


def _dirichlet(evidence: Tensor, prior: float) -> tuple[Tensor, Tensor]:
    """Parameters alpha (..., K) and strength S (..., 1)."""
    alpha = evidence + prior
    return alpha, alpha.sum(dim=-1, keepdim=True)


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


def edl_digamma(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compute the expected cross-entropy under the Dirichlet: sum_k y_k [psi(S) - psi(alpha_k)].

    Parameters
    ----------
    evidence : Tensor of shape (..., K)
    target : Tensor that broadcasts to (..., K)
    prior : float
    reduction : {"mean", "none"}

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 4.

    Examples
    --------
    >>> round(float(edl_digamma(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    1.0
    """
    alpha, strength = _dirichlet(evidence, prior)
    gap = torch.digamma(strength) - torch.digamma(alpha)
    return _reduced((target * gap).sum(dim=-1), reduction)


def edl_log(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compute the type II maximum likelihood loss: sum_k y_k [log S - log alpha_k].

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 3.

    Examples
    --------
    >>> round(float(edl_log(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6931
    """
    alpha, strength = _dirichlet(evidence, prior)
    gap = strength.log() - alpha.log()
    return _reduced((target * gap).sum(dim=-1), reduction)


def edl_mse(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compute the expected square error: sum_k (y_k - p_k)^2 + p_k (1 - p_k) / (S + 1).

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 5.

    Examples
    --------
    >>> round(float(edl_mse(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6667
    """
    alpha, strength = _dirichlet(evidence, prior)
    p = alpha / strength
    return _reduced(((target - p) ** 2 + p * (1 - p) / (strength + 1)).sum(dim=-1), reduction)


def edl_projected(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compute the square error of the projected probability, sum_k (y_k - p_k)^2.

    References
    ----------
    Chen, Gao and Xu, R-EDL, ICLR 2024; the same, Re-EDL, TPAMI 2025, whose whole loss it is.

    Examples
    --------
    >>> round(float(edl_projected(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.5
    """
    alpha, strength = _dirichlet(evidence, prior)
    p = alpha / strength
    return _reduced((target - p).square().sum(dim=-1), reduction)


def dirichlet_kl(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compute KL[Dir(alpha~) || Dir(1)] of evidence for wrong classes, alpha~ = y + (1 - y) alpha.

    With another prior, KL[Dir(alpha~) || Dir(prior)] and alpha~ = prior + (1 - y) e.

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, section 3.

    Examples
    --------
    >>> float(dirichlet_kl(torch.tensor([[7.0, 0.0]]), torch.tensor([[1.0, 0.0]])))
    0.0
    """
    alpha = prior * target + (1 - target) * (evidence + prior)
    strength = alpha.sum(dim=-1, keepdim=True)
    classes = alpha.shape[-1]
    # log ratio of the two normalising constants
    flat = torch.lgamma(alpha.new_tensor([classes * prior, prior]))
    norm = torch.lgamma(strength).squeeze(-1) - torch.lgamma(alpha).sum(dim=-1)
    # expected log-probabilities under Dir(alpha~)
    gap = torch.digamma(alpha) - torch.digamma(strength)
    values = norm - (flat[0] - classes * flat[1]) + ((alpha - prior) * gap).sum(dim=-1)
    return _reduced(values, reduction)


def edl_loss(
    evidence: Tensor,
    target: Tensor,
    *,
    kl_weight: float,
    form: EDLForm = "digamma",
    prior: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Compute the EDL loss of the given form plus `kl_weight` times `dirichlet_kl`.

    Raises
    ------
    OptionError
        If the form is not one of digamma, log, mse, projected.

    Examples
    --------
    >>> round(float(edl_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), kl_weight=1.0)), 4)
    1.0
    """
    forms = {
        "digamma": edl_digamma,
        "log": edl_log,
        "mse": edl_mse,
        "projected": edl_projected,
    }
    if form not in forms:
        raise OptionError(f"form={form!r} is no EDL loss; {nearest(form, get_args(EDLForm))}")
    loss = forms[form](evidence, target, prior=prior, reduction=reduction)
    if not kl_weight:
        return loss
    return loss + kl_weight * dirichlet_kl(evidence, target, prior=prior, reduction=reduction)


def conflict_loss(
    evidence: Tensor, *, present: Tensor | None = None, reduction: Reduction = "mean"
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
    pairs = pairwise_conflict(evidence).sum(dim=(-2, -1)) / max(evidence.shape[-2] - 1, 1)
    return _reduced(pairs, reduction)


def credibility_loss(
    credibility: Tensor, target: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """Compute FUML's credibility loss, sum_k -y_k log r_k - (1 - y_k) log(1 - r_k).

    Parameters
    ----------
    credibility : Tensor of shape (..., K)
        Label-guided, in [0, 1]; see `rcml_misa.nn.guided_credibility`.
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
