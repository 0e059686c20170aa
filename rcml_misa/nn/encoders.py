"""From views to codes: projection, private and shared encoders, reconstruction.

Inside the networks views come first, (N, B, H), so that one batched product serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["StackedLinear", "SubspaceCodes", "Subspaces", "ViewProjection"]


class StackedLinear(nn.Module):
    """N linear maps of one shape, applied side by side as one batched product.

    Parameters
    ----------
    count, width, outputs : int
        N, and the widths of input and output.
    zero : bool, default=False
        Start at zero, so that whatever is added to the output decides at first.

    Examples
    --------
    >>> StackedLinear(count=3, width=4, outputs=2)(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, *, count: int, width: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else width**-0.5
        self.weight = nn.Parameter(torch.empty(count, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, B, width) to (N, B, outputs)."""
        return torch.baddbmm(self.bias, values, self.weight)


class ViewProjection(nn.Module):
    """Linear, ReLU, LayerNorm per view, to one width H.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    hidden : int
        H.
    """

    def __init__(self, widths: Sequence[int], *, hidden: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(width, hidden) for width in widths])
        self.gain = nn.Parameter(torch.ones(len(widths), 1, hidden))
        self.shift = nn.Parameter(torch.zeros(len(widths), 1, hidden))

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Map N tensors (B, d_v) to (N, B, H)."""
        linear = [layer(view) for layer, view in zip(self.linears, views, strict=True)]
        stacked = torch.stack(linear).relu()
        return F.layer_norm(stacked, stacked.shape[-1:]) * self.gain + self.shift


class SubspaceCodes(NamedTuple):
    """Private codes, shared codes and what they reconstruct, each (N, B, H)."""

    private: Tensor
    shared: Tensor
    reconstructed: Tensor


class Subspaces(nn.Module):
    """MISA's two subspaces: a private encoder per view, one shared encoder for all.

    h_v^p = sigmoid(Linear_v(u_v)), h_v^c = sigmoid(Linear(u_v)), and the reconstruction
    Linear_v(h_v^p + h_v^c).

    References
    ----------
    Hazarika, Zimmermann and Poria, MISA, ACM MM 2020, equations 2 and 11.
    """

    def __init__(self, *, views: int, hidden: int) -> None:
        super().__init__()
        self.private = StackedLinear(count=views, width=hidden, outputs=hidden)
        self.shared = nn.Linear(hidden, hidden)
        self.decoder = StackedLinear(count=views, width=hidden, outputs=hidden)

    def forward(self, projected: Tensor) -> SubspaceCodes:
        """Encode (N, B, H)."""
        private = self.private(projected).sigmoid()
        shared = self.shared(projected).sigmoid()
        return SubspaceCodes(private, shared, self.decoder(private + shared))
