"""Layers for tensors (N, B, H), views first, and for several networks at once, (G, N, B, H).

Networks of one form are computed side by side where their parameters are stacked, with a leading
axis G (`torch.func.functional_call`): every layer takes parameters of its own shape, or these.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

__all__ = ["BatchNorm", "LayerNorm", "Linear", "StackedLinear"]

EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalisation


class Linear(nn.Linear):
    """A linear map of the last axis.

    Examples
    --------
    >>> Linear(4, 2)(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., width) to (..., outputs)."""
        if self.weight.dim() == 2:
            return F.linear(values, self.weight, self.bias)
        rows, turned = values.flatten(1, -2), self.weight.transpose(1, 2)
        if self.bias is None:
            mapped = torch.bmm(rows, turned)
        else:
            mapped = torch.baddbmm(self.bias.unsqueeze(1), rows, turned)
        return mapped.view(*values.shape[:-1], mapped.shape[-1])


class StackedLinear(nn.Module):
    """N linear maps of one shape, applied side by side as one batched product.

    With `zero` they start at zero, so that terms added to the output decide at first.

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
        """Map (..., N, B, width) to (..., N, B, outputs)."""
        if self.weight.dim() == 3:
            return torch.baddbmm(self.bias, values, self.weight)
        parts = (part.flatten(0, 1) for part in (self.bias, values, self.weight))
        return torch.baddbmm(*parts).view(*values.shape[:-1], self.weight.shape[-1])


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of the last axis."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (..., width)."""
        if self.weight.dim() == 1:
            return F.layer_norm(values, self.normalized_shape, self.weight, self.bias, self.eps)
        width = values.shape[-1]
        shape = (-1, *[1] * (values.dim() - 2), width)
        normed = F.layer_norm(values, (width,), eps=self.eps)
        return torch.addcmul(self.bias.view(shape), normed, self.weight.view(shape))


class BatchNorm(nn.Module):
    """Batch normalisation of N views' columns, cut below zero; then entries are dropped by chance.

    Where a batch has one row, the running statistics are used. Source: Ioffe and Szegedy, ICML
    2015.

    Examples
    --------
    >>> BatchNorm(2 * 3)(torch.ones(2, 5, 3)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, values: Tensor, chance: float = 0.0) -> Tensor:
        """Normalise (..., N, B, W); in training by the batch, whose statistics are remembered."""
        rows = values.shape[-2]
        shape = (*values.shape[:-2], 1, values.shape[-1])
        weight, bias, mean, variance = (
            part.view(shape)
            for part in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        if not self.training or rows == 1:
            scale = weight * (variance + EPSILON).rsqrt()
            normed = torch.addcmul(bias - mean * scale, values, scale).relu()
            return F.dropout(normed, chance, training=self.training)
        stays = None
        if chance:
            drawn = torch.rand_like(values.transpose(-3, -2), memory_format=torch.contiguous_format)
            stays = (drawn >= chance).transpose(-3, -2).contiguous()
        cut, centre, spread = _NormCutDrop.apply(  # type: ignore[no-untyped-call]
            values, weight, bias, stays, chance
        )
        with torch.no_grad():
            mean.lerp_(centre, MOMENTUM)
            variance.lerp_(spread * (rows / (rows - 1)), MOMENTUM)
        result: Tensor = cut
        return result


class _NormCutDrop(torch.autograd.Function):
    """Batch normalisation over the last axis but one, a ReLU and a dropout in one pass each way.

    The result, and the mean and variance of the batch.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, stays: Tensor | None, chance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean = values.mean(dim=-2, keepdim=True)
        normed = values - mean
        variance = normed.square().mean(dim=-2, keepdim=True)
        root = (variance + EPSILON).rsqrt()
        normed *= root
        result = torch.addcmul(bias, normed, weight)
        positive = result > 0
        slope = (positive if stays is None else positive & stays) / (1 - chance)
        ctx.save_for_backward(normed, root * weight, slope)
        ctx.mark_non_differentiable(mean, variance)
        return result.mul_(slope), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        normed, scale, slope = ctx.saved_tensors
        by_result = gradient * slope
        rows = normed.shape[-2]
        by_bias = by_result.sum(dim=-2, keepdim=True)
        by_weight = (by_result * normed).sum(dim=-2, keepdim=True)
        by_values = by_result.sub_(by_bias / rows).addcmul_(normed, by_weight, value=-1 / rows)
        return by_values.mul_(scale), by_weight, by_bias, None, None
