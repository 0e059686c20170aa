"""FUML's network and its fuzzy-set measures: credibility, uncertainty, conflict, fusion.

A membership m in [0, 1] of each class is the possibility that a row belongs to it; 1 minus the
largest membership of the other classes is the necessity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.collectors import EvidenceCollector

__all__ = [
    "FuzzyNet",
    "FuzzyOutput",
    "MembershipCollector",
    "credibility",
    "fuse_memberships",
    "fuzzy_uncertainty",
    "guided_credibility",
    "membership_conflict",
]

TINY = 1e-11  # keeps logarithms of 0 finite


def credibility(membership: Tensor) -> Tensor:
    """Average possibility and necessity: c_k = (m_k + 1 - max_{l != k} m_l) / 2.

    Parameters
    ----------
    membership : Tensor of shape (..., K)
        In [0, 1].

    Returns
    -------
    Tensor of shape (..., K)
        In [0, 1].

    References
    ----------
    Duan et al., FUML, ICML 2025, equations 1 and 2.

    Examples
    --------
    >>> credibility(torch.tensor([1.0, 0.0, 0.5]))
    tensor([0.7500, 0.0000, 0.2500])
    """
    best = membership.topk(2, dim=-1).values
    first, second = best[..., :1], best[..., 1:]
    others = torch.where(membership == first, second, first)
    return (membership + 1 - others) / 2


def guided_credibility(membership: Tensor, target: Tensor) -> Tensor:
    """Compute the credibility for training, whose wrong classes see the true class alone.

    r_k = (m_k + 1 - max_{l != k} m_l) / 2 for the true class, (m_k + 1 - m_y) / 2 for the others:
    pushing a wrong class down must not push another wrong class up.

    Parameters
    ----------
    membership : Tensor of shape (..., K)
    target : Tensor that broadcasts to (..., K)
        One-hot.

    References
    ----------
    Duan et al., FUML, ICML 2025, equation 5.

    Examples
    --------
    >>> guided_credibility(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.0, 1.0, 0.0]))
    tensor([1.0000, 0.0000, 0.7500])
    """
    rival = (membership * (1 - target)).amax(dim=-1, keepdim=True)
    true = (membership * target).amax(dim=-1, keepdim=True)
    return (membership + 1 - torch.where(target > 0, rival, true)) / 2


def fuzzy_uncertainty(credible: Tensor) -> Tensor:
    """Compute the mean binary entropy of the credibilities in bits, (..., K) to (...), in [0, 1].

    References
    ----------
    Duan et al., FUML, ICML 2025, equation 6.

    Examples
    --------
    >>> round(float(fuzzy_uncertainty(torch.tensor([0.5, 0.5]))), 4)
    1.0
    """
    true = credible.clamp(0.0, 1.0)  # a norm rounds memberships to a little above 1
    false = 1 - true
    bits = true * (true + TINY).log() + false * (false + TINY).log()
    return (-bits.mean(dim=-1) / math.log(2)).clamp(0.0, 1.0)


def membership_conflict(membership: Tensor, present: Tensor | None = None) -> Tensor:
    """Compute the mean cosine distance of each view's memberships to the other views'.

    Parameters
    ----------
    membership : Tensor of shape (..., N, K)
    present : Tensor of bool of shape (..., N), optional
        Views that each row has; the others are in no pair.

    Returns
    -------
    Tensor of shape (..., N)
        In [0, 1]; 0 without any other view.

    References
    ----------
    Duan et al., FUML, ICML 2025, equation 7.

    Examples
    --------
    >>> membership_conflict(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor([1., 1.])
    """
    views = membership.shape[-2]
    if views < 2:
        return membership.new_zeros(membership.shape[:-1])
    first, second = membership.unsqueeze(-2), membership.unsqueeze(-3)
    distance = 1 - F.cosine_similarity(first, second, dim=-1)
    pairs = 1 - torch.eye(views, dtype=membership.dtype, device=membership.device)
    if present is None:
        return (distance * pairs).sum(dim=-1) / (views - 1)
    pairs = pairs * (present.unsqueeze(-1) & present.unsqueeze(-2))
    return (distance * pairs).sum(dim=-1) / pairs.sum(dim=-1).clamp_min(1)


def fuse_memberships(membership: Tensor, credible: Tensor, present: Tensor | None = None) -> Tensor:
    """Weigh views by a softmax over (1 - uncertainty) (1 - conflict); independent of their order.

    Parameters
    ----------
    membership : Tensor of shape (..., N, K)
    credible : Tensor of shape (..., N, K)
        Credibilities that say how uncertain a view is; the label-guided ones in training.
    present : Tensor of bool of shape (..., N), optional
        Views that each row has, at least one; the others have no weight.

    Returns
    -------
    Tensor of shape (..., K)

    References
    ----------
    Duan et al., FUML, ICML 2025, equation 8.

    Examples
    --------
    >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> fuse_memberships(same, credibility(same))
    tensor([1., 0.])
    """
    trust = (1 - fuzzy_uncertainty(credible)) * (1 - membership_conflict(membership, present))
    if present is not None:
        trust = trust.masked_fill(~present, -torch.inf)
    return (trust.softmax(dim=-1).unsqueeze(-1) * membership).sum(dim=-2)


class MembershipCollector(EvidenceCollector):
    """[Linear, ReLU, Dropout]* then Linear, division by the p-norm, and ReLU.

    Parameters
    ----------
    widths, classes, dropout
        See `EvidenceCollector`.
    order : float
        p.

    References
    ----------
    Duan et al., FUML, ICML 2025, equation 3.

    Examples
    --------
    >>> collect = MembershipCollector([4], classes=3, dropout=0.1, order=3.0)
    >>> bool(collect(torch.ones(2, 4)).amax() <= 1)
    True
    """

    def __init__(
        self, widths: Sequence[int], *, classes: int, dropout: float, order: float
    ) -> None:
        super().__init__(widths, classes=classes, dropout=dropout)
        self.order = order

    def forward(self, values: Tensor) -> Tensor:
        """Compute memberships (B, K) of rows (B, d)."""
        return F.normalize(self.layers(values), p=self.order, dim=1).relu()


@dataclass(frozen=True)
class FuzzyOutput:
    """The views' memberships (B, N, K) and the fused ones (B, K).

    `present` (B, N) marks the views that each row has; None: all.
    """

    private: Tensor
    fused: Tensor
    present: Tensor | None = None


class FuzzyNet(nn.Module):
    """One membership collector per view, and their fusion.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    layers : int
        Linear layers of each collector; the hidden ones are as wide as the view.
    dropout : float
        Chance of dropping a hidden unit.
    order : float
        p of the norm that logits are divided by.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        classes: int,
        layers: int = 3,
        dropout: float = 0.1,
        order: float = 3.0,
    ) -> None:
        super().__init__()
        self.collectors = nn.ModuleList(
            MembershipCollector([width] * layers, classes=classes, dropout=dropout, order=order)
            for width in widths
        )

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> FuzzyOutput:
        """Run N views of shape (B, d_v), `present` (B, N) of them; fused as without labels."""
        collected = [collect(view) for collect, view in zip(self.collectors, views, strict=True)]
        private = torch.stack(collected, dim=1)
        fused = fuse_memberships(private, credibility(private), present)
        return FuzzyOutput(private, fused, present)
