"""CCML's network: evidence that all views share, and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rcml_misa.nn.collectors import EvidenceCollector
from rcml_misa.opinions import Opinion

__all__ = ["CCMLNet", "DecoupledOpinions", "decouple_evidence"]

TINY = 1e-30


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
        Which views there are, one at least; the others take no part, and N is a row's own number.

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
    there = None if present is None else present.unsqueeze(-1)
    if there is not None:
        count = there.sum(dim=-2).clamp_min(1).to(evidence.dtype)
    least = (evidence if there is None else evidence.masked_fill(~there, torch.inf)).amin(dim=-2)
    beyond = evidence - least.unsqueeze(-2)
    if there is not None:
        beyond = beyond * there
    complementary = beyond.sum(dim=-2) / count
    opinion = Opinion(least)
    belief = opinion.belief
    sharp = belief**sharpness
    scale = belief.sum(dim=-1, keepdim=True) / sharp.sum(dim=-1, keepdim=True).clamp_min(TINY)
    consistent = count * opinion.strength.unsqueeze(-1) * sharp * scale
    return consistent, complementary


@dataclass(frozen=True)
class DecoupledOpinions:
    """Evidence: the views' (B, N, K), consistent, complementary and fused, each (B, K).

    `present` (B, N) tells which views there are, the others having no evidence; None: all.
    """

    private: Tensor
    consistent: Tensor
    complementary: Tensor
    present: Tensor | None = None

    @property
    def fused(self) -> Tensor:
        """Consistent plus complementary evidence, (B, K)."""
        return self.consistent + self.complementary

    @property
    def shared(self) -> Tensor:
        """No opinions of shared tokens: (B, 0, K)."""
        return self.private[:, :0]


class CCMLNet(nn.Module):
    """One linear evidence collector per view, and the decoupling of their evidence.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    sharpness : float
        See `decouple_evidence`.
    """

    def __init__(self, widths: Sequence[int], *, classes: int, sharpness: float = 1.25) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.collectors = nn.ModuleList(
            EvidenceCollector([width], classes=classes) for width in widths
        )

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> DecoupledOpinions:
        """Run N views of shape (B, d_v), of which `present` (B, N) tells those that are there."""
        collected = [collect(view) for collect, view in zip(self.collectors, views, strict=True)]
        private = torch.stack(collected, dim=1)
        if present is not None:
            private = private * present.unsqueeze(-1)
        parts = decouple_evidence(private, sharpness=self.sharpness, present=present)
        return DecoupledOpinions(private, *parts, present)
