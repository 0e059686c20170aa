"""The evidential losses and FUML's; `rcml_misa.losses` is where they are to be imported from.

Targets are one-hot or soft, (..., K), and broadcast against evidence (..., K): with evidence
(B, M, K) of M opinions about B rows, give targets (B, 1, K). Means run over all opinions. `prior`
is what evidence is added to, alpha = e + prior: 1 in EDL, lambda in R-EDL.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest

__all__ = [
    "EDLForm",
    "Reduction",
    "credibility_loss",
    "dirichlet_kl",
    "edl_digamma",
    "edl_log",
    "edl_loss",
    "edl_mse",
    "edl_projected",
    "reduced",
]

Reduction = Literal["mean", "none"]
EDLForm = Literal["digamma", "log", "mse", "projected"]


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """The values' mean, or the values."""
    return values.mean() if reduction == "mean" else values


def edl_digamma(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Expected cross-entropy under the Dirichlet: sum_k y_k [psi(S) - psi(alpha_k)].

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
    alpha = evidence + prior
    gap = torch.digamma(alpha.sum(dim=-1, keepdim=True)) - torch.digamma(alpha)
    return reduced((target * gap).sum(dim=-1), reduction)


def edl_log(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Type II maximum likelihood: sum_k y_k [log S - log alpha_k].

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 3.

    Examples
    --------
    >>> round(float(edl_log(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6931
    """
    alpha = evidence + prior
    gap = alpha.sum(dim=-1, keepdim=True).log() - alpha.log()
    return reduced((target * gap).sum(dim=-1), reduction)


def edl_mse(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Expected square error: sum_k (y_k - p_k)^2 + p_k (1 - p_k) / (S + 1).

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 5.

    Examples
    --------
    >>> round(float(edl_mse(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6667
    """
    alpha = evidence + prior
    strength = alpha.sum(dim=-1, keepdim=True)
    p = alpha / strength
    return reduced(((target - p) ** 2 + p * (1 - p) / (strength + 1)).sum(dim=-1), reduction)


def edl_projected(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Square error of the projected probability: sum_k (y_k - p_k)^2, without the variance.

    References
    ----------
    Chen, Gao and Xu, R-EDL, ICLR 2024; the same, Re-EDL, TPAMI 2025, whose whole loss it is.

    Examples
    --------
    >>> round(float(edl_projected(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.5
    """
    alpha = evidence + prior
    p = alpha / alpha.sum(dim=-1, keepdim=True)
    return reduced((target - p).square().sum(dim=-1), reduction)


def dirichlet_kl(
    evidence: Tensor, target: Tensor, *, prior: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """KL[Dir(alpha~) || Dir(1)] with alpha~ = y + (1 - y) alpha: evidence for wrong classes.

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
    flat = torch.lgamma(alpha.new_tensor([classes * prior, prior]))
    norm = torch.lgamma(strength).squeeze(-1) - torch.lgamma(alpha).sum(dim=-1)
    gap = torch.digamma(alpha) - torch.digamma(strength)
    values = norm - (flat[0] - classes * flat[1]) + ((alpha - prior) * gap).sum(dim=-1)
    return reduced(values, reduction)


def edl_loss(
    evidence: Tensor,
    target: Tensor,
    *,
    kl_weight: float,
    form: EDLForm = "digamma",
    prior: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """An EDL loss of the given form plus `kl_weight` times `dirichlet_kl`.

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


def credibility_loss(
    credibility: Tensor, target: Tensor, *, reduction: Reduction = "mean"
) -> Tensor:
    """FUML's category credibility learning: sum_k -y_k log r_k - (1 - y_k) log(1 - r_k).

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
    sure, other = (part.clamp_min(1e-7).log() for part in (credibility, 1 - credibility))
    return reduced(-(target * sure + (1 - target) * other).sum(dim=-1), reduction)
