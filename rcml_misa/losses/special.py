"""Digamma and trigamma functions of positive numbers, both at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["digamma_trigamma"]

# B_2k / 2k and B_2k of the Bernoulli numbers, k = 1, 2, ...
DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760)
TRIGAMMA = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730)
SINGLE = (1, 3)  # recurrences over four numbers, and terms of the series, in float32
DOUBLE = (3, 6)


def digamma_trigamma(x: Tensor) -> tuple[Tensor, Tensor]:
    """Compute psi(x) and psi'(x) of numbers above 0.

    Both come from their asymptotic series at z = x + n, n = 4 in float32, else 12, and from the
    recurrences psi(x) = psi(z) - sum_{i<n} 1 / (x + i) and psi'(x) = psi'(z) + sum_{i<n}
    1 / (x + i)^2, within 1e-6 of max(1, |psi|) and of psi' in float32 and 1e-12 in float64, where
    torch's trigamma has nine digits. On a CPU, torch works these functions out number by number.
    Source: Abramowitz and Stegun, Handbook of mathematical functions, 6.3.5, 6.3.18, 6.4.6, 6.4.12.

    Examples
    --------
    >>> [round(float(value), 4) for value in digamma_trigamma(torch.tensor(1.0))]
    [-0.5772, 1.6449]
    """
    recurrences, terms = SINGLE if x.dtype == torch.float32 else DOUBLE
    shifted = x + 4 * recurrences
    inverse = shifted.reciprocal()
    square = inverse.square()
    digamma = shifted.log_().sub_(_series(square, DIGAMMA[:terms])).sub_(inverse, alpha=0.5)
    trigamma = _series(square, TRIGAMMA[:terms]).mul_(inverse)
    trigamma.add_(square, alpha=0.5).add_(inverse)
    for number in range(recurrences):
        start = x + 4 * number if number else x
        # the four terms are two pairs, over t = s (s + 3) and over t + 2, s the first of them
        outer = (start + 3).mul_(start)
        inner = (outer + 2).reciprocal_()
        outer.reciprocal_()
        digamma.addcmul_(outer + inner, start + 1.5, value=-2)
        trigamma.addcmul_(outer.mul(9).add_(2), outer).addcmul_(inner + 2, inner)
    return digamma, trigamma


def _series(square: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Sum c_k y^k, k = 1, 2, ..., for y = `square` by Horner's rule."""
    *others, last = coefficients
    total = square * last
    for coefficient in reversed(others):
        total.add_(coefficient).mul_(square)
    return total
