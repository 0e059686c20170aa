"""Losses of MISA's subspaces: CMD, orthogonality, reconstruction, and the adversarial terms."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.losses.evidential import weighted_mean
from rcml_misa.opinions.slopes import Slopes, with_slopes

__all__ = [
    "difference_loss",
    "reconstruction_loss",
    "shared_private_loss",
    "similarity_loss",
    "view_confusion_loss",
]

_Scale = Literal["mean", "batch"]


def _row_shares(values: Tensor, weights: Tensor | None, axis: int) -> Tensor | float:
    """Shares of the rows on an axis in their weighted mean, with a last axis of 1."""
    if weights is None:
        return 1 / values.shape[axis]
    return (weights / weights.sum(dim=axis, keepdim=True).clamp_min(1e-12)).unsqueeze(-1)


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
    seen = shared.new_ones(views) if weights is None else (weights > 0).any(dim=0).to(shared.dtype)
    scale = [span**-order for order in range(1, moments + 1)]
    return with_slopes(
        partial(
            _cmd_slopes,
            share=_row_shares(shared, weights, 0),
            seen=seen,
            scale=shared.new_tensor(scale).unsqueeze(1),
        ),
        [shared],
    )


def _cmd_slopes(
    shared: Tensor, *, share: Tensor | float, seen: Tensor, scale: Tensor
) -> tuple[Tensor, Slopes]:
    """Compute the mean CMD over pairs of views that are `seen`, and its slope by the codes.

    Rows have the `share` (B, N, 1) in a view's moments, and the moments the `scale` (K, 1).
    """
    views, moments = shared.shape[1], len(scale)
    central = [(share * shared).sum(dim=0)]
    centred = shared - central[0]
    power = centred
    for _ in range(moments - 1):
        power = power * centred
        central.append((share * power).sum(dim=0))
    stacked = torch.stack(central)  # (K, N, H)
    total, slope = shared.new_zeros(()), torch.zeros_like(stacked)
    for step in range(1, views // 2 + 1):
        # view v and v - step, around: every pair of this distance once, but half of them twice
        weight = scale * (seen * seen.roll(step)) * (0.5 if 2 * step == views else 1.0)
        gap = stacked - stacked.roll(step, dims=1)
        length = torch.linalg.vector_norm(gap, dim=-1)
        total += (weight * length).sum()
        # at 0, where the norm has no gradient, it is 0
        pull = gap * torch.where(length > 0, weight / length, 0.0).unsqueeze(-1)
        slope += pull - pull.roll(-step, dims=1)
    count = seen.sum()
    pairs = (count * (count - 1) / 2).clamp_min(1)
    # d C_k / d x = k share ((x - E x)^(k-1) - C_(k-1)), C_1 = 0, by Horner's rule over k
    stacked[0] = 0
    slope = slope * torch.arange(1, moments + 1, device=slope.device).view(-1, 1, 1) / pairs
    constant = slope[0] - (slope[1:] * stacked[:-1]).sum(dim=0)
    by_code = torch.zeros_like(shared)
    for factor in slope[1:].flip(0):
        by_code = by_code.add_(factor).mul_(centred)
    return total / pairs, (by_code.add_(constant).mul_(share),)


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
    rows, _, width = private.shape
    value = with_slopes(
        partial(_overlap_slopes, weights=turned),
        [private.transpose(0, 1), shared.transpose(0, 1)],
    )
    return value / (width**2 if scale == "mean" else rows**2)


def _overlap_slopes(
    private: Tensor, shared: Tensor, *, weights: Tensor | None
) -> tuple[Tensor, Slopes]:
    """Compute the sum of the overlaps of codes (N, B, H), and its slopes by both.

    With weights (N, B), rows of unit norm are multiplied by their roots. The sum over pairs of
    views of |X_i' X_j|^2 is half of |sum_i X_i X_i'|^2 - sum_i |X_i' X_i|^2: no pair is made.
    """
    share = _row_shares(private, weights, 1)
    own, own_length = _unit_rows(private, share, weights)
    common, common_length = _unit_rows(shared, share, weights)
    across = own.transpose(1, 2) @ common
    total = across.square().sum()
    by_own, by_common = 2 * common @ across.transpose(1, 2), 2 * own @ across
    views, rows, width = own.shape
    if views > 1:
        flat = own.transpose(0, 1).reshape(rows, views * width)
        gram, within = flat @ flat.T, own.transpose(1, 2) @ own
        total += (gram.square().sum() - within.square().sum()) / 2
        joint = (gram @ flat).view(rows, views, width).transpose(0, 1)
        by_own += 2 * (joint - own @ within)
    slopes = []
    for by_unit, length in ((by_own, own_length), (by_common, common_length)):
        by_centred = by_unit / length
        slopes.append(by_centred - share * by_centred.sum(dim=1, keepdim=True))
    return total, tuple(slopes)


def _unit_rows(
    codes: Tensor, share: Tensor | float, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Centre codes (N, B, H) over the rows and scale these; the rows, and their divisors."""
    centred = codes - (share * codes).sum(dim=1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) + 1e-6
    if weights is not None:
        length = length / weights.sqrt().unsqueeze(-1)
    return centred / length, length


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
    if weights is None:
        return F.mse_loss(reconstructed, original)
    square = (reconstructed - original).square()
    return weighted_mean(square.mean(dim=-1), weights)


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
