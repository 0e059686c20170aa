"""Fusion of opinions of which one may not belong to its row."""

from __future__ import annotations

import torch
from torch import Tensor

from rcml_misa.opinions.presence import (
    keep_present,
    mean_present,
    opinions_present,
    present_share,
)

__all__ = ["fuse_mixture", "log_shares", "membership", "share_conflict"]

BOGUS = 0.2  # prior chance that one view is not of its row
FLOOR = 0.01  # share that is spread evenly, so that no opinion can rule a class out
SHARED_WEIGHT = 1.5  # of the shared opinions together, in views, where nothing is known


def share_conflict(evidence: Tensor) -> Tensor:
    """Largest conflict between the shares of two opinions, each weighted by its confidence.

    max over pairs of [|pi_i - pi_j|_1 / 2] max(pi_i) max(pi_j), pi = e / sum e; 0 for one opinion.

    Parameters
    ----------
    evidence : Tensor of shape (..., M, K)

    Returns
    -------
    Tensor of shape (...)
        In [0, 1].

    Examples
    --------
    >>> share_conflict(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    tensor(1.)
    """
    count = evidence.shape[-2]
    if count < 2:
        return evidence.new_zeros(evidence.shape[:-2])
    shares = evidence / evidence.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    peak = shares.amax(dim=-1)
    first, second = torch.triu_indices(count, count, offset=1)
    distance = (shares[..., first, :] - shares[..., second, :]).abs().sum(dim=-1) / 2
    return (distance * peak[..., first] * peak[..., second]).amax(dim=-1)


def log_shares(evidence: Tensor) -> Tensor:
    """Log of the shares pi = e / sum e, a hundredth of them spread evenly over the classes.

    Examples
    --------
    >>> log_shares(torch.tensor([4.0, 0.0])).exp()
    tensor([0.9950, 0.0050])
    """
    classes = evidence.shape[-1]
    lifted = evidence + 1e-6
    shares = lifted / lifted.sum(dim=-1, keepdim=True)
    return torch.log((1 - FLOOR) * shares + FLOOR / classes)


def membership(witness: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Posterior over which view, if any, does not belong to its row.

    A view that belongs agrees with the product q_v of the others; a bogus one is independent of
    it. With prior chance rho = 0.2 that one view, each alike, is bogus, "v is bogus" has a
    posterior in proportion to (rho / N) / (K sum_c p_vc q_vc), and "none is" to 1 - rho.

    Parameters
    ----------
    witness : Tensor of shape (..., N, K)
        Evidence or shares p_v of N views.
    present : Tensor of bool of shape (..., N), optional
        Which views there are: the others are in no product and can't be bogus, and N is a row's
        own number. All by default.

    Returns
    -------
    posterior : Tensor of shape (..., N + 1)
        Of "none is bogus", then of each view.
    others : Tensor of shape (..., N, K)
        The products q_v.

    Examples
    --------
    >>> views = torch.tensor([[9.0, 1.0], [9.0, 1.0], [1.0, 9.0]])
    >>> int(membership(views)[0][1:].argmax())  # the most suspect view
    2
    """
    count, classes = witness.shape[-2:]
    logs = keep_present(log_shares(witness), present)
    others = (logs.sum(dim=-2, keepdim=True) - logs).softmax(dim=-1)
    agreement = classes * (logs.exp() * others).sum(dim=-1).clamp_min(1e-6)
    bogus = BOGUS / count / agreement
    if present is not None:
        views = present.sum(dim=-1, keepdim=True)
        # the only view of a row can't be told from a bogus one
        bogus = torch.where(present & (views > 1), BOGUS / views.clamp_min(1) / agreement, 0.0)
    odds = torch.cat([torch.full_like(bogus[..., :1], 1 - BOGUS), bogus], dim=-1)
    return odds / odds.sum(dim=-1, keepdim=True), others


def fuse_mixture(
    private: Tensor,
    shared: Tensor,
    witness: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """Fuse under uncertainty about which view, if any, is not of its row.

    One hypothesis says that every view belongs to the row; its shares are the normalised product
    of all opinions' shares, each to the power of its weight. N others say that view v does not:
    the product of the other views' witness shares. Each counts by its posterior, see
    `membership`. The fused mass is that of geometric fusion, which falls where opinions differ.
    Order-free.

    Parameters
    ----------
    private : Tensor of shape (..., N, K)
        Evidence of the views' own opinions.
    shared : Tensor of shape (..., M, K)
        Evidence of opinions that rest on all views; M may be 0.
    witness : Tensor of shape (..., N, K), optional
        Shares of each view by someone who has not been trained together with the others (the
        experts); the private opinions' shares without it.
    weights : Tensor of shape (N + 1,), optional
        Of the private opinions and of the shared ones together, such as `stack_weights` finds;
        1 each and 1.5 without it.
    present : Tensor of bool of shape (..., N), optional
        Which views there are: the others count in no product and under no hypothesis, and the
        weight of the shared opinions falls by their share. All by default.

    Returns
    -------
    Tensor of shape (..., K)
        Fused evidence.

    Examples
    --------
    Two views that agree outvote a third one that is surer.

    >>> views = torch.tensor([[9.0, 1.0, 0.0], [9.0, 1.0, 0.0], [0.0, 0.0, 90.0]])
    >>> int(fuse_mixture(views, torch.empty(0, 3)).argmax())
    0
    """
    count = private.shape[-2]
    logs = keep_present(log_shares(private), present)
    if weights is None:
        weights = torch.cat([private.new_ones(count), private.new_tensor([SHARED_WEIGHT])])
    everything = (weights[:count, None] * logs).sum(dim=-2, keepdim=True)
    there = None if present is None else opinions_present(present, shared.shape[-2])
    if shared.shape[-2]:
        known = None if there is None else there[..., count:]
        weight = weights[count] if present is None else weights[count] * present_share(present)
        mean = mean_present(log_shares(shared), known).unsqueeze(-2)
        everything = everything + weight * mean
    every = torch.cat([private, shared], dim=-2)
    mass = torch.expm1(mean_present(torch.log1p(every), there)).sum(dim=-1, keepdim=True)
    if count < 2:
        return mass * everything.squeeze(-2).softmax(dim=-1)
    posterior, others = membership(private if witness is None else witness, present)
    shares = torch.cat([everything.softmax(dim=-1), others], dim=-2)
    return mass * (posterior.unsqueeze(-1) * shares).sum(dim=-2)
