"""The network of the notes that this project began with, faults included: a reproduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["NotesNet", "NotesOutput"]


@dataclass(frozen=True)
class NotesOutput:
    """What the notes' forward pass returns.

    Attributes
    ----------
    fused : Tensor of shape (B, K)
        The sum of the private evidence divided by N; no shared evidence (fault 1).
    private : Tensor of shape (B, N, K)
        Evidence as the loss sees it: row 0 holds the sum over views (fault 2).
    shared : Tensor of shape (B, N, K)
        Evidence of the shared tokens, which nothing reads.
    projected, private_codes, shared_codes, reconstructed : Tensor of shape (B, N, H)
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    projected: Tensor
    private_codes: Tensor
    shared_codes: Tensor
    reconstructed: Tensor


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
    hidden : int, default=128
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

    def forward(self, views: Sequence[Tensor]) -> NotesOutput:
        """Run N views of shape (B, d_v)."""
        projected = [layer(view) for layer, view in zip(self.project, views, strict=True)]
        private = [layer(u) for layer, u in zip(self.encode_private, projected, strict=True)]
        shared = [self.encode_shared(u) for u in projected]
        decoded = [layer(p + c) for layer, p, c in zip(self.decode, private, shared, strict=True)]
        tokens = self.transformer(torch.stack([*private, *shared]))
        count = len(views)
        evidence = [layer(tokens[v]) for v, layer in enumerate(self.collect_private)]
        unread = [
            self.collect_shared[v % len(self.collect_shared)](tokens[count + v])
            for v in range(count)
        ]
        total = torch.stack(evidence).sum(dim=0)
        evidence[0] = total  # fault 2: the sum was accumulated into the first view's evidence
        return NotesOutput(
            fused=(total / count + total / count) / 2,  # fault 1: private evidence twice
            private=torch.stack(evidence, dim=1),
            shared=torch.stack(unread, dim=1),
            projected=torch.stack(projected, dim=1),
            private_codes=torch.stack(private, dim=1),
            shared_codes=torch.stack(shared, dim=1),
            reconstructed=torch.stack(decoded, dim=1),
        )
