"""Networks of the published methods: RCML, ETMC, CCML, and the notes that came before.

All but the notes' have one evidence collector per view, and differ in how evidence is fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rcml_misa.nn.collectors import EvidenceCollector
from rcml_misa.nn.networks import TokenOpinions
from rcml_misa.opinions import FusionOperator, Opinion, fuse, keep_present

__all__ = [
    "CCMLNet",
    "DecoupledOpinions",
    "NotesNet",
    "PseudoViewNet",
    "RCMLNet",
    "ViewOpinions",
    "decouple_evidence",
]

TINY = 1e-30


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

    Parameters
    ----------
    widths, classes, hidden, dropout
        See `RCMLNet`.

    References
    ----------
    Han et al., Trusted multi-view classification with dynamic evidential fusion, TPAMI 2022.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        classes: int,
        hidden: Sequence[int] = (),
        dropout: float = 0.1,
    ) -> None:
        tables = [*widths, sum(widths)]
        super().__init__(tables, classes=classes, hidden=hidden, dropout=dropout, fusion="dempster")

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

    Parameters
    ----------
    evidence : Tensor of shape (..., N, K)
    sharpness : float
        beta; 1 keeps the beliefs.
    present : Tensor of bool of shape (..., N), optional
        Views that each row has, one at least; the others take no part, and N is a row's own
        number.

    Returns
    -------
    consistent, complementary : Tensor of shape (..., K)
        Their sum is the fused evidence; at sharpness 1 it is that of N times the least evidence
        and the mean of the rest.

    References
    ----------
    Liu et al., CCML, ACM MM 2024, dynamic evidence decoupling, and the published code.

    Examples
    --------
    >>> both = decouple_evidence(torch.tensor([[3.0, 0.0], [1.0, 2.0]]), sharpness=1.0)
    >>> both[0].tolist(), both[1].tolist()
    ([2.0, 0.0], [1.0, 1.0])
    """
    count: Tensor | float = float(evidence.shape[-2])
    mask = None if present is None else present.unsqueeze(-1)
    if mask is not None:
        count = mask.sum(dim=-2).clamp_min(1).to(evidence.dtype)
    least = (evidence if mask is None else evidence.masked_fill(~mask, torch.inf)).amin(dim=-2)
    beyond = evidence - least.unsqueeze(-2)
    if mask is not None:
        beyond = beyond * mask
    complementary = beyond.sum(dim=-2) / count
    opinion = Opinion(least)
    belief = opinion.belief
    sharp = belief**sharpness
    scale = belief.sum(dim=-1, keepdim=True) / sharp.sum(dim=-1, keepdim=True).clamp_min(TINY)
    consistent = count * opinion.strength * sharp * scale
    return consistent, complementary


@dataclass(frozen=True, kw_only=True)
class DecoupledOpinions(ViewOpinions):
    """Evidence, with the consistent and complementary parts (B, K) of the fused one."""

    consistent: Tensor
    complementary: Tensor


class CCMLNet(RCMLNet):
    """One linear evidence collector per view, and the decoupling of their evidence.

    Parameters
    ----------
    widths, classes
        See `RCMLNet`.
    sharpness : float
        See `decouple_evidence`.
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


def _collector(hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, classes), nn.BatchNorm1d(classes), nn.Softplus())


class NotesNet(nn.Module):
    """Projection, subspaces, post-norm Transformer with feed-forward 2048, BatchNorm collectors.

    Kept as it was written so that its figures can be reproduced; never a default. The shared
    evidence does not reach the fused opinion nor any loss, so that ``tied`` and ``separate``
    compute the same function, and the first view's evidence holds the sum over views.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    tied : bool
        One collector for all shared tokens.
    hidden : int
        H.
    """

    def __init__(
        self, widths: Sequence[int], *, classes: int, tied: bool, hidden: int = 128
    ) -> None:
        super().__init__()
        views = len(widths)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.LayerNorm(hidden))
            for width in widths
        )
        self.encode_shared = nn.Sequential(nn.Linear(hidden, hidden), nn.Sigmoid())
        self.encode_private = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden), nn.Sigmoid()) for _ in widths
        )
        self.decode = nn.ModuleList(nn.Linear(hidden, hidden) for _ in widths)
        self.transformer = nn.TransformerEncoderLayer(hidden, nhead=2)
        self.collect_private = nn.ModuleList(_collector(hidden, classes) for _ in widths)
        self.collect_shared = nn.ModuleList(
            _collector(hidden, classes) for _ in range(1 if tied else views)
        )

    def forward(self, views: Sequence[Tensor]) -> TokenOpinions:
        """Run N views of shape (B, d_v)."""
        projected = [layer(view) for layer, view in zip(self.project, views, strict=True)]
        private = [layer(u) for layer, u in zip(self.encode_private, projected, strict=True)]
        shared = [self.encode_shared(u) for u in projected]
        decoded = [layer(p + c) for layer, p, c in zip(self.decode, private, shared, strict=True)]
        tokens = self.transformer(torch.stack([*private, *shared]))
        count = len(views)
        evidence = [layer(tokens[v]) for v, layer in enumerate(self.collect_private)]
        unread = [  # by the fused opinion and by any loss
            self.collect_shared[v % len(self.collect_shared)](tokens[count + v])
            for v in range(count)
        ]
        total = torch.stack(evidence).sum(dim=0)
        evidence[0] = total  # fault 2: the sum was accumulated into the first view's evidence
        return TokenOpinions(
            fused=(total / count + total / count) / 2,  # fault 1: private evidence twice
            private=torch.stack(evidence, dim=1),  # as the loss sees it
            shared=torch.stack(unread, dim=1),
            projected=torch.stack(projected, dim=1),
            private_codes=torch.stack(private, dim=1),
            shared_codes=torch.stack(shared, dim=1),
            reconstructed=torch.stack(decoded, dim=1),
            tokens=tokens.transpose(0, 1),
        )
