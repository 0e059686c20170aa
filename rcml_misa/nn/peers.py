"""Networks of the published methods: RCML, ETMC, CCML and FUML, with FUML's fuzzy-set measures.

All have one collector per view, of evidence or of memberships, and differ in how these are fused.
A membership m in [0, 1] of a class is the possibility that a row belongs to it; 1 minus the
largest membership of the other classes is the necessity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.tokens import EvidenceCollector
from rcml_misa.opinions import FusionOperator, Opinion, fuse, keep_present

__all__ = [
    "CCMLNet",
    "DecoupledOpinions",
    "FuzzyNet",
    "FuzzyOutput",
    "MembershipCollector",
    "PseudoViewNet",
    "RCMLNet",
    "ViewOpinions",
    "credibility",
    "decouple_evidence",
    "fuse_memberships",
    "fuzzy_uncertainty",
    "guided_credibility",
    "membership_conflict",
]

LEAST_SUM = 1e-30  # of beliefs
TINY = 1e-11  # keeps logarithms of 0 finite


@dataclass(frozen=True, kw_only=True)
class ViewOpinions:
    """Evidence: fused (B, K), private of each view (B, N, K), shared by all views (B, M, K).

    `present` (B, N) marks the views that each row has; the others have no evidence. None: all.
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    present: Tensor | None = None


class RCMLNet(nn.Module):
    """One evidence collector per view, and the fusion of their evidence.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    hidden : sequence of int
        Widths of each collector's hidden layers; the published code has none.
    dropout : float
        Chance of dropping a hidden unit.
    fusion : FusionOperator
        ``"mean"`` is the paper's Definition 1, ``"pairwise"`` its code.

    References
    ----------
    Xu et al., Reliable conflictive multi-view learning, AAAI 2024.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        classes: int,
        hidden: Sequence[int] = (),
        dropout: float = 0.1,
        fusion: FusionOperator = "mean",
    ) -> None:
        super().__init__()
        self.fusion: FusionOperator = fusion
        self.collectors = nn.ModuleList(
            EvidenceCollector([width, *hidden], classes=classes, dropout=dropout)
            for width in widths
        )

    def _collect(self, tables: Sequence[Tensor], present: Tensor | None) -> Tensor:
        """Evidence (B, M, K) of M tables (B, d_m), 0 where `present` (B, M) is not."""
        collected = [collect(table) for collect, table in zip(self.collectors, tables, strict=True)]
        return keep_present(torch.stack(collected, dim=1), present)

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> ViewOpinions:
        """Run N views of shape (B, d_v), of which each row has `present` (B, N)."""
        private = self._collect(views, present)
        weights = None if present is None else present.to(private.dtype)
        fused = fuse(private, operator=self.fusion, weights=weights)
        return ViewOpinions(fused=fused, private=private, shared=private[:, :0], present=present)


class PseudoViewNet(RCMLNet):
    """Evidence of each view and of all columns side by side, combined by Dempster's reduced rule.

    Parameters are those of `RCMLNet` but its fusion. Source: Han et al., Trusted multi-view
    classification with dynamic evidential fusion, TPAMI 2022.
    """

    def __init__(self, widths: Sequence[int], **parameters: Any) -> None:
        super().__init__([*widths, sum(widths)], fusion="dempster", **parameters)

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> ViewOpinions:
        """Run N views of shape (B, d_v), of which each row has `present` (B, N)."""
        existing = None
        if present is not None:
            # a vacuous opinion changes nothing in Dempster's rule
            existing = torch.cat([present, torch.ones_like(present[:, :1])], dim=1)
        evidence = self._collect([*views, torch.cat(list(views), dim=1)], existing)
        return ViewOpinions(
            fused=fuse(evidence, operator=self.fusion),
            private=evidence[:, :-1],
            shared=evidence[:, -1:],
            present=present,
        )


def decouple_evidence(
    evidence: Tensor, *, sharpness: float, present: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cut the views' evidence into a consistent and a complementary part.

    The consistent part is the least evidence over the views, the complementary one the mean over
    the views of what they have beyond it. The beliefs of the consistent part are raised to the
    power `sharpness`, their sum kept, and count once for each view:
    e_con = N S b^beta (sum b) / (sum b^beta) with b = min_v e_v / S, S = sum_k min_v e_vk + K.

    Evidence (..., N, K) gives two parts (..., K), whose sum is the fused evidence; at sharpness 1
    it is that of N times the least evidence and the mean of the rest. Of the views each row has
    `present`, (..., N), one at least; the others take no part, nor count in N. Source: Liu et al.,
    CCML, ACM MM 2024, dynamic evidence decoupling, and the published code.

    Examples
    --------
    >>> both = decouple_evidence(torch.tensor([[3.0, 0.0], [1.0, 2.0]]), sharpness=1.0)
    >>> both[0].tolist(), both[1].tolist()
    ([2.0, 0.0], [1.0, 1.0])
    """
    count: Tensor | float = float(evidence.shape[-2])
    candidates = evidence
    if present is not None:
        count = present.sum(dim=-1, keepdim=True).clamp_min(1).to(evidence.dtype)
        candidates = evidence.masked_fill(~present.unsqueeze(-1), torch.inf)
    least = candidates.amin(dim=-2)
    beyond = keep_present(evidence - least.unsqueeze(-2), present)
    complementary = beyond.sum(dim=-2) / count
    opinion = Opinion(least)
    belief = opinion.belief
    sharp = belief**sharpness
    scale = belief.sum(dim=-1, keepdim=True) / sharp.sum(dim=-1, keepdim=True).clamp_min(LEAST_SUM)
    consistent = count * opinion.strength * sharp * scale
    return consistent, complementary


@dataclass(frozen=True, kw_only=True)
class DecoupledOpinions(ViewOpinions):
    """Evidence, with the consistent and complementary parts (B, K) of the fused one."""

    consistent: Tensor
    complementary: Tensor


class CCMLNet(RCMLNet):
    """One linear evidence collector per view, and the decoupling of their evidence.

    Parameters are those of `RCMLNet` and `decouple_evidence`.
    """

    def __init__(self, widths: Sequence[int], *, classes: int, sharpness: float = 1.25) -> None:
        super().__init__(widths, classes=classes)
        self.sharpness = sharpness

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> DecoupledOpinions:
        """Run N views of shape (B, d_v), of which each row has `present` (B, N)."""
        private = self._collect(views, present)
        consistent, complementary = decouple_evidence(
            private, sharpness=self.sharpness, present=present
        )
        return DecoupledOpinions(
            fused=consistent + complementary,
            private=private,
            shared=private[:, :0],
            present=present,
            consistent=consistent,
            complementary=complementary,
        )


def credibility(membership: Tensor) -> Tensor:
    """Average possibility and necessity: c_k = (m_k + 1 - max_{l != k} m_l) / 2, (..., K).

    Source: Duan et al., FUML, ICML 2025, equations 1 and 2.

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
    pushing a wrong class down must not push another wrong class up. Memberships are (..., K), the
    one-hot target broadcasts to them. Source: Duan et al., FUML, ICML 2025, equation 5.

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

    Source: Duan et al., FUML, ICML 2025, equation 6.

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

    Maps (..., N, K) to (..., N), in [0, 1]; 0 without any other view. Views that are not `present`,
    (..., N), are in no pair. Source: Duan et al., FUML, ICML 2025, equation 7.

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

    Memberships (..., N, K) are fused to (..., K). Credibilities `credible` of the same shape say
    how uncertain a view is, the label-guided ones in training. Of the views each row has `present`,
    (..., N), at least one; the others have no weight. Source: Duan et al., FUML, ICML 2025,
    equation 8.

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
    """[Linear, ReLU, Dropout]* then Linear, division by the norm of an order p, and ReLU.

    Source: Duan et al., FUML, ICML 2025, equation 3.

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
    widths, classes, dropout
        See `RCMLNet`.
    layers : int
        Linear layers of each collector; the hidden ones are as wide as the view.
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
