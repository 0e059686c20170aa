"""A plain softmax network on all views' columns, whose dropout can be drawn from outside."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from rcml_misa.nn.encoders import BatchNorm

__all__ = ["SoftmaxNet"]


class SoftmaxNet(nn.Module):
    """Layers of Linear, BatchNorm, ReLU and dropout, then a linear layer to the classes' logits.

    Parameters
    ----------
    width : int
        Columns of all views together.
    classes : int
        K.
    hidden : sequence of int
        Widths of the hidden layers.
    dropout : float
        Chance of dropping a hidden unit.

    Examples
    --------
    >>> net = SoftmaxNet(4, classes=3, hidden=(8, 8), dropout=0.5).eval()
    >>> kept = torch.ones(16, dtype=torch.bool)
    >>> net(torch.zeros(2, 4)).shape, net(torch.zeros(2, 4), kept).shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, width: int, *, classes: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.hidden = tuple(hidden)
        widths = (width, *hidden)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after, bias=False), BatchNorm(after), nn.ReLU())
            for before, after in pairwise(widths)
        )
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def features(self, columns: Tensor, kept: Tensor | None = None) -> Tensor:
        """Compute the inputs of the last layer, (B, width) to (B, D).

        `kept` (sum of hidden widths) marks the hidden units that stay, the same for all rows;
        without it dropout is drawn in training alone, for each row.
        """
        masks: Sequence[Tensor | None] = [None] * len(self.hidden)
        if kept is not None:
            masks = torch.split(kept, list(self.hidden))
        values = columns
        for layer, mask in zip(self.layers, masks, strict=True):
            values = layer(values)
            values = self.drop(values) if mask is None else values * mask / (1 - self.drop.p)
        return values

    def forward(self, columns: Tensor, kept: Tensor | None = None) -> Tensor:
        """Compute logits (B, K); see `features`."""
        logits: Tensor = self.head(self.features(columns, kept))
        return logits
