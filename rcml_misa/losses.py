"""Loss terms of evidential and shared-private learning, as pure functions.

Targets are one-hot or soft, (..., K), and broadcast against evidence (..., K): with evidence
(B, M, K) of M opinions about B rows, give targets (B, 1, K). Means run over all opinions.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions import pairwise_conflict

__all__ = [
    "EDLForm",
    "Reduction",
    "cmd",
    "conflict_loss",
    "difference_loss",
    "dirichlet_kl",
    "edl_digamma",
    "edl_log",
    "edl_loss",
    "edl_mse",
    "orthogonality",
    "reconstruction_loss",
    "shared_private_loss",
    "similarity_loss",
    "view_confusion_loss",
]

Reduction = Literal["mean", "none"]
EDLForm = Literal["digamma", "log", "mse"]
Scale = Literal["mean", "batch"]


def _reduce(values: Tensor, reduction: Reduction) -> Tensor:
    return values.mean() if reduction == "mean" else values


def edl_digamma(evidence: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Expected cross-entropy under the Dirichlet: sum_k y_k [psi(S) - psi(alpha_k)].

    Parameters
    ----------
    evidence : Tensor of shape (..., K)
    target : Tensor that broadcasts to (..., K)
    reduction : {"mean", "none"}

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 4.

    Examples
    --------
    >>> round(float(edl_digamma(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    1.0
    """
    alpha = evidence + 1
    gap = torch.digamma(alpha.sum(dim=-1, keepdim=True)) - torch.digamma(alpha)
    return _reduce((target * gap).sum(dim=-1), reduction)


def edl_log(evidence: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Type II maximum likelihood: sum_k y_k [log S - log alpha_k].

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 3.

    Examples
    --------
    >>> round(float(edl_log(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6931
    """
    alpha = evidence + 1
    gap = alpha.sum(dim=-1, keepdim=True).log() - alpha.log()
    return _reduce((target * gap).sum(dim=-1), reduction)


def edl_mse(evidence: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Expected square error: sum_k (y_k - p_k)^2 + p_k (1 - p_k) / (S + 1).

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, equation 5.

    Examples
    --------
    >>> round(float(edl_mse(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))), 4)
    0.6667
    """
    alpha = evidence + 1
    strength = alpha.sum(dim=-1, keepdim=True)
    p = alpha / strength
    return _reduce(((target - p) ** 2 + p * (1 - p) / (strength + 1)).sum(dim=-1), reduction)


def dirichlet_kl(evidence: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """KL[Dir(alpha~) || Dir(1)] with alpha~ = y + (1 - y) alpha: evidence for wrong classes.

    References
    ----------
    Sensoy, Kaplan and Kandemir, NeurIPS 2018, section 3.

    Examples
    --------
    >>> float(dirichlet_kl(torch.tensor([[7.0, 0.0]]), torch.tensor([[1.0, 0.0]])))
    0.0
    """
    alpha = target + (1 - target) * (evidence + 1)
    strength = alpha.sum(dim=-1, keepdim=True)
    classes = alpha.new_tensor(float(alpha.shape[-1]))
    norm = torch.lgamma(strength).squeeze(-1) - torch.lgamma(alpha).sum(dim=-1)
    gap = torch.digamma(alpha) - torch.digamma(strength)
    values = norm - torch.lgamma(classes) + ((alpha - 1) * gap).sum(dim=-1)
    return _reduce(values, reduction)


def edl_loss(
    evidence: Tensor,
    target: Tensor,
    *,
    kl_weight: float,
    form: EDLForm = "digamma",
    reduction: Reduction = "mean",
) -> Tensor:
    """An EDL loss of the given form plus `kl_weight` times `dirichlet_kl`.

    Raises
    ------
    OptionError
        If the form is not one of digamma, log, mse.

    Examples
    --------
    >>> round(float(edl_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), kl_weight=1.0)), 4)
    1.0
    """
    forms = {"digamma": edl_digamma, "log": edl_log, "mse": edl_mse}
    if form not in forms:
        raise OptionError(f"form={form!r} is no EDL loss; {nearest(form, get_args(EDLForm))}")
    loss = forms[form](evidence, target, reduction=reduction)
    if not kl_weight:
        return loss
    return loss + kl_weight * dirichlet_kl(evidence, target, reduction=reduction)


def conflict_loss(evidence: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """RCML's conflict term: sum over ordered pairs of the degree of conflict, over M - 1.

    Parameters
    ----------
    evidence : Tensor of shape (B, M, K)
        Evidence of M opinions; the term is 0 for a single one.

    References
    ----------
    Xu et al., AAAI 2024, equation 11.

    Examples
    --------
    >>> float(conflict_loss(torch.ones(4, 1, 3)))
    0.0
    """
    pairs = pairwise_conflict(evidence).sum(dim=(-2, -1)) / max(evidence.shape[-2] - 1, 1)
    return _reduce(pairs, reduction)


def _norm(values: Tensor) -> Tensor:
    """Euclidean norm over the last axis whose gradient at 0 is 0, not NaN."""
    square = values.square().sum(dim=-1)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def _moments(codes: Tensor, moments: int) -> Tensor:
    """Mean and central moments 2..K over rows: (B, ..., H) to (K, ..., H)."""
    mean = codes.mean(dim=0)
    centred = codes - mean
    power, found = centred, [mean]
    for _ in range(moments - 1):
        power = power * centred
        found.append(power.mean(dim=0))
    return torch.stack(found)


def cmd(x: Tensor, y: Tensor, *, moments: int = 5, span: float = 1.0) -> Tensor:
    """Central moment discrepancy between two batches of codes.

    |E x - E y|_2 / span + sum_{k=2..K} |C_k(x) - C_k(y)|_2 / span^k, C_k the k-th central moment
    of each coordinate.

    Parameters
    ----------
    x, y : Tensor of shape (B, H)
    moments : int
        K.
    span : float
        Width b - a of the codes' range; 1 for a sigmoid.

    References
    ----------
    Zellinger et al., ICLR 2017, definition 2.

    Examples
    --------
    >>> float(cmd(torch.zeros(3, 2), torch.zeros(3, 2)))
    0.0
    """
    return similarity_loss(torch.stack([x, y], dim=1), moments=moments, span=span)


def similarity_loss(shared: Tensor, *, moments: int = 5, span: float = 1.0) -> Tensor:
    """MISA's similarity term: mean CMD over the unordered pairs of views; 0 for one view.

    Parameters
    ----------
    shared : Tensor of shape (B, N, H)
        Shared codes.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equation 8.

    Examples
    --------
    >>> float(similarity_loss(torch.rand(4, 1, 3)))
    0.0
    """
    views = shared.shape[1]
    if views < 2:
        return shared.new_zeros(())
    first, second = torch.triu_indices(views, views, offset=1, device=shared.device)
    found = _moments(shared, moments)
    gaps = _norm(found[:, first] - found[:, second])  # (K, pairs)
    scale = [span**-order for order in range(1, moments + 1)]
    return (gaps.new_tensor(scale).unsqueeze(1) * gaps).sum(dim=0).mean()


def _unit_rows(codes: Tensor) -> Tensor:
    """(N, B, H) centred over the batch, rows scaled to unit norm, the norm held constant."""
    centred = codes - codes.mean(dim=-2, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).detach()
    unit: Tensor = centred / (length + 1e-6)
    return unit


def _overlap(x: Tensor, y: Tensor, scale: Scale) -> Tensor:
    """Squared Frobenius norms of x'y for stacks of (P, B, H), scaled and summed over P."""
    square = (x.transpose(-2, -1) @ y).square()
    if scale == "mean":
        return square.mean(dim=(-2, -1)).sum()
    return square.sum() / x.shape[-2] ** 2


def orthogonality(x: Tensor, y: Tensor, *, scale: Scale = "mean") -> Tensor:
    """How far two batches of codes overlap: |X'Y|_F^2 of centred rows of unit norm, scaled.

    Parameters
    ----------
    x, y : Tensor of shape (B, H)
    scale : {"mean", "batch"}
        ``"mean"`` divides by H^2, as the published code, for the published weights; ``"batch"``
        divides by B^2, which depends neither on H nor on B.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equation 9.

    Examples
    --------
    >>> float(orthogonality(torch.zeros(4, 3), torch.rand(4, 3)))
    0.0
    """
    return _overlap(_unit_rows(x.unsqueeze(0)), _unit_rows(y.unsqueeze(0)), scale)


def difference_loss(private: Tensor, shared: Tensor, *, scale: Scale = "mean") -> Tensor:
    """MISA's difference term: private against shared in each view, private against private.

    Parameters
    ----------
    private, shared : Tensor of shape (B, N, H)
    scale : {"mean", "batch"}
        See `orthogonality`.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equation 10.

    Examples
    --------
    >>> difference_loss(torch.rand(4, 2, 3), torch.rand(4, 2, 3)).shape
    torch.Size([])
    """
    own, common = _unit_rows(private.transpose(0, 1)), _unit_rows(shared.transpose(0, 1))
    loss = _overlap(own, common, scale)
    views = own.shape[0]
    if views < 2:
        return loss
    first, second = torch.triu_indices(views, views, offset=1, device=own.device)
    return loss + _overlap(own[first], own[second], scale)


def reconstruction_loss(reconstructed: Tensor, original: Tensor) -> Tensor:
    """MISA's reconstruction term: mean square error over views, rows and coordinates.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equation 11.

    Examples
    --------
    >>> float(reconstruction_loss(torch.zeros(2, 1, 3), torch.ones(2, 1, 3)))
    1.0
    """
    return (reconstructed - original).square().mean()


def view_confusion_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of telling which view a shared code came from; through a reversed gradient.

    Parameters
    ----------
    logits : Tensor of shape (B, N, N)
        Of the shared code of view v, (B, v), over the N views.

    References
    ----------
    The published code of MISA (`use_cmd_sim = False`); Ganin and Lempitsky, ICML 2015.

    Examples
    --------
    >>> round(float(view_confusion_loss(torch.zeros(4, 2, 2))), 4)
    0.6931
    """
    views = logits.shape[1]
    target = torch.arange(views, device=logits.device).expand(logits.shape[0], views)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def shared_private_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of telling shared codes from each view's private ones.

    The N shared codes of a row together weigh as much as one private code, so that the N + 1
    classes are balanced.

    Parameters
    ----------
    logits : Tensor of shape (B, 2N, N + 1)
        Private codes first; view v's private code is class v, a shared code class N.

    Examples
    --------
    >>> round(float(shared_private_loss(torch.zeros(4, 4, 3))), 4)
    1.0986
    """
    classes = logits.shape[2]
    views = classes - 1
    target = torch.arange(2 * views, device=logits.device).clamp_max(views)
    weight = logits.new_ones(classes)
    weight[views] = 1 / max(views, 1)
    rows = target.expand(logits.shape[0], 2 * views).flatten()
    return F.cross_entropy(logits.flatten(0, 1), rows, weight=weight)
