"""Losses of evidence, of fuzzy memberships and of MISA's subspaces, as pure functions.

Targets are one-hot or soft, (..., K), and broadcast against evidence (..., K): with evidence
(B, M, K) of M opinions about B rows, give targets (B, 1, K). Means run over all opinions. Evidence
is added to `prior`, alpha = e + prior: 1 in EDL, lambda in R-EDL.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions import mean_conflict, pairwise_conflict

__all__ = [
    "EDLForm",
    "conflict_loss",
    "credibility_loss",
    "difference_loss",
    "dirichlet_kl",
    "edl_loss",
    "reconstruction_loss",
    "shared_private_loss",
    "similarity_loss",
    "view_confusion_loss",
    "weighted_mean",
]

EDLForm = Literal["digamma", "log", "mse", "projected"]
_Reduction = Literal["mean", "none"]
_Scale = Literal["mean", "batch"]


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
    alpha = evidence + prior
    strength = alpha.sum(dim=-1, keepdim=True)
    if form == "digamma":
        terms = target * (torch.digamma(strength) - torch.digamma(alpha))
    elif form == "log":
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
    pairs = pairwise_conflict(evidence).sum(dim=(-2, -1)) / max(evidence.shape[-2] - 1, 1)
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


def _norm(values: Tensor) -> Tensor:
    """Euclidean norm over the last axis whose gradient at 0 is 0, not NaN."""
    square = values.square().sum(dim=-1)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def _row_mean(codes: Tensor, weights: Tensor | None, axis: int) -> Tensor:
    """Mean of codes (..., H) over the rows on an axis, which stays; weights lack the H only."""
    if weights is None:
        return codes.mean(dim=axis, keepdim=True)
    share = weights / weights.sum(dim=axis, keepdim=True).clamp_min(1e-12)
    return (share.unsqueeze(-1) * codes).sum(dim=axis, keepdim=True)


def _moments(codes: Tensor, moments: int, weights: Tensor | None) -> Tensor:
    """Mean and central moments 2..K over rows: (B, N, H) to (K, N, H)."""
    central = [_row_mean(codes, weights, 0)]
    power = centred = codes - central[0]
    for _ in range(moments - 1):
        power = power * centred
        central.append(_row_mean(power, weights, 0))
    return torch.cat(central)


def similarity_loss(
    shared: Tensor, *, moments: int = 5, span: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Compute MISA's similarity term: mean CMD over unordered pairs of views; 0 for one view.

    The central moment discrepancy of two batches of codes is |E x - E y|_2 / span
    + sum_{k=2..K} |C_k(x) - C_k(y)|_2 / span^k, C_k the k-th central moment of each coordinate.

    Parameters
    ----------
    shared : Tensor of shape (B, N, H)
        Shared codes.
    moments : int
        K.
    span : float
        Width b - a of the codes' range; 1 for a sigmoid.
    weights : Tensor of shape (B, N), optional
        Weights of the rows in each view, 0 where it is missing; a view without any row is in no
        pair.

    References
    ----------
    Zellinger et al., ICLR 2017, definition 2; Hazarika, Zimmermann and Poria, ACM MM 2020,
    equation 8.

    Examples
    --------
    >>> float(similarity_loss(torch.rand(4, 1, 3)))
    0.0
    """
    views = shared.shape[1]
    if views < 2:
        return shared.new_zeros(())
    first, second = torch.triu_indices(views, views, offset=1, device=shared.device)
    central = _moments(shared, moments, weights)
    gaps = _norm(central[:, first] - central[:, second])  # (K, pairs)
    scale = [span**-order for order in range(1, moments + 1)]
    pairs = (gaps.new_tensor(scale).unsqueeze(1) * gaps).sum(dim=0)
    if weights is None:
        return pairs.mean()
    seen = (weights > 0).any(dim=0)
    return weighted_mean(pairs, (seen[first] & seen[second]).to(pairs.dtype))


def _unit_rows(codes: Tensor, weights: Tensor | None) -> Tensor:
    """(N, B, H) centred over the batch, rows scaled to unit norm, the norm held constant.

    With weights (N, B), rows are multiplied by their roots, so that products weigh them.
    """
    centred = codes - _row_mean(codes, weights, 1)
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).detach()
    unit: Tensor = centred / (length + 1e-6)
    return unit if weights is None else unit * weights.sqrt().unsqueeze(-1)


def _overlap(x: Tensor, y: Tensor, scale: _Scale) -> Tensor:
    """Squared Frobenius norms of x'y for stacks of (P, B, H), scaled and summed over P."""
    square = (x.transpose(-2, -1) @ y).square()
    if scale == "mean":
        return square.mean(dim=(-2, -1)).sum()
    return square.sum() / x.shape[-2] ** 2


def difference_loss(
    private: Tensor, shared: Tensor, *, scale: _Scale = "mean", weights: Tensor | None = None
) -> Tensor:
    """Compute MISA's difference term: private against shared codes, private against private.

    The overlap of two batches of codes, |X'Y|_F^2 of centred rows of unit norm, is summed over
    views and unordered pairs of views.

    Parameters
    ----------
    private, shared : Tensor of shape (B, N, H)
    scale : {"mean", "batch"}
        ``"mean"`` divides by H^2, as the published code, for the published weights; ``"batch"``
        divides by B^2, which depends neither on H nor on B.
    weights : Tensor of shape (B, N), optional
        Weights of the rows in each view, 0 where it is missing.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equations 9 and 10.

    Examples
    --------
    >>> difference_loss(torch.rand(4, 2, 3), torch.rand(4, 2, 3)).shape
    torch.Size([])
    """
    turned = None if weights is None else weights.transpose(0, 1)
    own = _unit_rows(private.transpose(0, 1), turned)
    common = _unit_rows(shared.transpose(0, 1), turned)
    loss = _overlap(own, common, scale)
    views = own.shape[0]
    if views < 2:
        return loss
    first, second = torch.triu_indices(views, views, offset=1, device=own.device)
    return loss + _overlap(own[first], own[second], scale)


def reconstruction_loss(
    reconstructed: Tensor, original: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """Compute MISA's reconstruction term: the mean square error over views, rows and coordinates.

    Parameters
    ----------
    reconstructed, original : Tensor of shape (B, N, H)
    weights : Tensor of shape (B, N), optional
        Weights of the rows in each view, 0 where it is missing.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equation 11.

    Examples
    --------
    >>> float(reconstruction_loss(torch.zeros(2, 1, 3), torch.ones(2, 1, 3)))
    1.0
    """
    square = (reconstructed - original).square()
    return square.mean() if weights is None else weighted_mean(square.mean(dim=-1), weights)


def view_confusion_loss(logits: Tensor) -> Tensor:
    """Compute the cross-entropy of naming the view that each shared code came from.

    Parameters
    ----------
    logits : Tensor of shape (B, N, N)
        Logits over the N views of the shared code of view v, (B, v).

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
    """Compute the cross-entropy of distinguishing shared codes from each view's private ones.

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
