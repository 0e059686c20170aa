"""Values whose gradient is computed along with them, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Slopes", "with_slopes"]

Slopes = tuple[Tensor, ...]  # of values by each input, of the inputs' shapes


class _WithSlopes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Callable[..., tuple[Tensor, Slopes]], *inputs: Tensor) -> Tensor:
        values, slopes = compute(*inputs)
        ctx.save_for_backward(*slopes)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), slopes = gradients, ctx.saved_tensors
        axes = [(...,) + (None,) * (slope.dim() - gradient.dim()) for slope in slopes]
        needed = ctx.needs_input_grad[1:]
        return None, *(
            gradient[axis] * slope if need else None
            for axis, slope, need in zip(axes, slopes, needed, strict=True)
        )


def with_slopes(compute: Callable[..., tuple[Tensor, Slopes]], inputs: Sequence[Tensor]) -> Tensor:
    """Compute values (...) of inputs (..., any further axes) by a function that knows their slopes.

    `compute` maps the inputs to the values and to the derivative of each value by each input, of
    the inputs' shapes: an input's entry moves the value of its own leading axes alone. One tensor
    per input is held until the backward pass, whatever the function holds in between.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> with_slopes(lambda x: (x.square().sum(), (2 * x,)), [x]).backward()
    >>> x.grad
    tensor([2., 4.])
    """
    if not (torch.is_grad_enabled() and any(each.requires_grad for each in inputs)):
        return compute(*inputs)[0]
    values: Tensor = _WithSlopes.apply(compute, *inputs)  # type: ignore[no-untyped-call]
    return values
