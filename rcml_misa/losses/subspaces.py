"""Losses of MISA's subspaces: similarity, difference, reconstruction, and the adversarial ones."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.losses.evidential import weighted_mean

__all__ = [
    "cmd",
    "difference_loss",
    "orthogonality",
    "reconstruction_loss",
    "shared_private_loss",
    "similarity_loss",
    "view_confusion_loss",
]

Scale = Literal["mean", "batch"]


def _norm(values: Tensor) -> Tensor:
    """Euclidean norm over the last axis whose gradient at 0 is 0, not NaN."""
    square = values.square().sum(dim=-1)
    apart = square > 0
    return torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)


def _moments(codes: Tensor, moments: int, weights: Tensor | None = None) -> Tensor:
    """Mean and central moments 2..K over rows: (B, ..., H) to (K, ..., H)."""

    def mean(values: Tensor) -> Tensor:
        if weights is None:
            return values.mean(dim=0)
        share = weights / weights.sum(dim=0).clamp_min(1e-12)
        return (share.unsqueeze(-1) * values).sum(dim=0)

    centre = mean(codes)
    centred = codes - centre
    power, central = centred, [centre]
    for _ in range(moments - 1):
        power = power * centred
        central.append(mean(power))
    return torch.stack(central)


def cmd(x: Tensor, y: Tensor, *, moments: int = 5, span: float = 1.0) -> Tensor:
    """Compute the central moment discrepancy between two batches of codes.

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


def similarity_loss(
    shared: Tensor, *, moments: int = 5, span: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Compute MISA's similarity term: mean CMD over unordered pairs of views; 0 for one view.

    Parameters
    ----------
    shared : Tensor of shape (B, N, H)
        Shared codes.
    weights : Tensor of shape (B, N), optional
        Weights of the rows in each view, 0 where it is missing; a view without any row is in no
        pair.

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
    central = _moments(shared, moments, weights)
    gaps = _norm(central[:, first] - central[:, second])  # (K, pairs)
    scale = [span**-order for order in range(1, moments + 1)]
    pairs = (gaps.new_tensor(scale).unsqueeze(1) * gaps).sum(dim=0)
    if weights is None:
        return pairs.mean()
    seen = (weights > 0).any(dim=0)
    return weighted_mean(pairs, (seen[first] & seen[second]).to(pairs.dtype))


def _unit_rows(codes: Tensor, weights: Tensor | None = None) -> Tensor:
    """(N, B, H) centred over the batch, rows scaled to unit norm, the norm held constant.

    With weights (N, B), rows are multiplied by their roots, so that products weigh them.
    """
    if weights is None:
        centre = codes.mean(dim=-2, keepdim=True)
    else:
        share = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-12)
        centre = (share.unsqueeze(-1) * codes).sum(dim=-2, keepdim=True)
    centred = codes - centre
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).detach()
    unit: Tensor = centred / (length + 1e-6)
    return unit if weights is None else unit * weights.sqrt().unsqueeze(-1)


def _overlap(x: Tensor, y: Tensor, scale: Scale) -> Tensor:
    """Squared Frobenius norms of x'y for stacks of (P, B, H), scaled and summed over P."""
    square = (x.transpose(-2, -1) @ y).square()
    if scale == "mean":
        return square.mean(dim=(-2, -1)).sum()
    return square.sum() / x.shape[-2] ** 2


def orthogonality(x: Tensor, y: Tensor, *, scale: Scale = "mean") -> Tensor:
    """Compute the overlap |X'Y|_F^2 of two batches of codes, centred rows of unit norm, scaled.

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


def difference_loss(
    private: Tensor, shared: Tensor, *, scale: Scale = "mean", weights: Tensor | None = None
) -> Tensor:
    """Compute MISA's difference term: private against shared codes, private against private.

    Parameters
    ----------
    private, shared : Tensor of shape (B, N, H)
    scale : {"mean", "batch"}
        See `orthogonality`.
    weights : Tensor of shape (B, N), optional
        Weights of the rows in each view, 0 where it is missing.

    References
    ----------
    Hazarika, Zimmermann and Poria, ACM MM 2020, equation 10.

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
