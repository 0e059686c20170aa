"""RCML's network: one evidence collector per view, average belief fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rcml_misa.nn.collectors import EvidenceCollector
from rcml_misa.opinions import FusionOperator, fuse

__all__ = ["RCMLNet", "ViewOpinions"]


@dataclass(frozen=True)
class ViewOpinions:
    """Fused evidence (B, K), the views' evidence (B, N, K), and no shared one (B, 0, K).

    `present` (B, N) tells which views there are, the others having no evidence; None: all.
    """

    fused: Tensor
    private: Tensor
    present: Tensor | None = None

    @property
    def shared(self) -> Tensor:
        """No opinions of shared tokens: (B, 0, K)."""
        return self.private[:, :0]


class RCMLNet(nn.Module):
    """Evidence of each view from its own collector, fused.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    hidden : sequence of int, default=()
        Widths of each collector's hidden layers; the published code has none.
    dropout : float, default=0.1
        Chance of dropping a hidden unit.
    fusion : str, default="mean"
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

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> ViewOpinions:
        """Run N views of shape (B, d_v), of which `present` (B, N) tells those that are there."""
        collected = [collect(view) for collect, view in zip(self.collectors, views, strict=True)]
        private = torch.stack(collected, dim=1)
        weights = None
        if present is not None:
            weights = present.to(private.dtype)
            private = private * weights.unsqueeze(-1)
        fused = fuse(private, operator=self.fusion, weights=weights)
        return ViewOpinions(fused=fused, private=private, present=present)
