"""MISA's subspaces: private and shared codes of views, and what the losses see of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rcml_misa.nn.encoders import StackedLinear

__all__ = ["SubspaceCodes", "Subspaces"]


class SubspaceCodes(NamedTuple):
    """Private codes, shared codes and their reconstruction of the views, each (N, B, H)."""

    private: Tensor
    shared: Tensor
    reconstructed: Tensor


class Subspaces(nn.Module):
    """MISA's two subspaces: a private encoder per view, one shared encoder for all.

    h_v^p = sigmoid(Linear_v(u_v)), h_v^c = sigmoid(Linear(u_v)), and the reconstruction
    Linear_v(h_v^p + h_v^c). Source: Hazarika, Zimmermann and Poria, MISA, ACM MM 2020, equations 2
    and 11.
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

    def twice(self, projected: Tensor) -> tuple[Tensor, SubspaceCodes]:
        """Encode (N, B, H) for tokens, (2N, B, H), and for losses that train the subspaces alone.

        The codes are the same; what is computed of the latter has no gradient by `projected`.
        """
        layers = (*self.private.parameters(), *self.shared.parameters())
        both, again = _Codes.apply(projected, *layers)  # type: ignore[no-untyped-call]
        private, shared = again.chunk(2)
        return both, SubspaceCodes(private, shared, self.decoder(private + shared))


class _Codes(torch.autograd.Function):
    """Private and shared codes (2N, B, H), and the same without a gradient by the input."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, own: Tensor, offset: Tensor, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        private = torch.baddbmm(offset, projected, own)
        shared = torch.nn.functional.linear(projected, weight, bias)
        codes = torch.cat([private, shared]).sigmoid_()
        ctx.save_for_backward(projected, own, weight, codes)
        return codes, codes.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        projected, own, weight, codes = ctx.saved_tensors
        slope = codes * (1 - codes)
        by_tokens = gradients[0] * slope
        private, shared = (by_tokens + gradients[1] * slope).chunk(2)
        through, across = by_tokens.chunk(2)
        return (
            torch.bmm(through, own.transpose(1, 2)) + across @ weight,
            torch.bmm(projected.transpose(1, 2), private),
            private.sum(dim=1, keepdim=True),
            shared.flatten(0, 1).T @ projected.flatten(0, 1),
            shared.sum(dim=(0, 1)),
        )
