"""ETMC's network: the views' collectors and one of a pseudo-view of all columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rcml_misa.nn.collectors import EvidenceCollector
from rcml_misa.opinions import fuse

__all__ = ["PseudoViewNet", "PseudoViewOpinions"]


@dataclass(frozen=True)
class PseudoViewOpinions:
    """Evidence: fused (B, K), the views' (B, N, K), the pseudo-view's (B, 1, K).

    `present` (B, N) tells which views there are, the others having no evidence; None: all.
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    present: Tensor | None = None


class PseudoViewNet(nn.Module):
    """Evidence of each view and of all columns side by side, combined by Dempster's reduced rule.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    hidden : sequence of int, default=()
        Widths of each collector's hidden layers.
    dropout : float, default=0.1
        Chance of dropping a hidden unit.

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
        super().__init__()
        self.collectors = nn.ModuleList(
            EvidenceCollector([width, *hidden], classes=classes, dropout=dropout)
            for width in (*widths, sum(widths))
        )

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> PseudoViewOpinions:
        """Run N views of shape (B, d_v), of which `present` (B, N) tells those that are there."""
        inputs = [*views, torch.cat(list(views), dim=1)]
        collected = [collect(one) for collect, one in zip(self.collectors, inputs, strict=True)]
        evidence = torch.stack(collected, dim=1)
        if present is not None:
            # a vacuous opinion changes nothing in Dempster's rule
            there = torch.cat([present, torch.ones_like(present[:, :1])], dim=1)
            evidence = evidence * there.unsqueeze(-1)
        fused = fuse(evidence, operator="dempster")
        return PseudoViewOpinions(fused, evidence[:, :-1], evidence[:, -1:], present)
