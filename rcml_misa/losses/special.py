"""Digamma and trigamma functions of positive numbers, both at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["digamma_trigamma"]


def digamma_trigamma(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute psi(x) and psi'(x) of numbers above 0.

    In float32 on a CPU, where torch's functions work number by number, both come from their
    asymptotic series at x + 4 and the recurrences psi(x) = psi(x + 4) - sum_{i<4} 1 / (x + i) and
    psi'(x) = psi'(x + 4) + sum_{i<4} 1 / (x + i)^2, within 1e-6 of max(1, |psi|) and of psi'.
    Source: Abramowitz and Stegun, Handbook of mathematical functions, 6.3.5, 6.3.18, 6.4.6, 6.4.12.

    Examples
    --------
    >>> [round(float(value), 4) for value in digamma_trigamma(torch.tensor(1.0))]
    [-0.5772, 1.6449]
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return torch.digamma(x), torch.polygamma(1, x)
    shifted = x + 4
    inverse = shifted.reciprocal()
    square = inverse.square()
    # the four terms of a recurrence are two pairs, over t = x (x + 3) and over t + 2
    outer = (x + 3).mul_(x)
    inner = (outer + 2).reciprocal_()
    outer.reciprocal_()
    digamma = shifted.log_().addcmul_(outer + inner, x + 1.5, value=-2)
    series = torch.mul(square, 1 / 252).sub_(1 / 120).mul_(square).add_(1 / 12)
    digamma.addcmul_(series, square, value=-1).add_(inverse, alpha=-0.5)
    series = torch.mul(square, -1 / 42).add_(1 / 30).mul_(square).neg_().add_(1 / 6)
    trigamma = series.mul_(square).mul_(inverse).add_(square, alpha=0.5).add_(inverse)
    trigamma.addcmul_(outer.mul(9).add_(2), outer).addcmul_(inner + 2, inner)
    return digamma, trigamma
