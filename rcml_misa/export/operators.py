"""Operators of graphs that ONNX has not, or not in double precision, made of those that it has.

The exporter writes log(1 + x) and exp(x) - 1 as they stand, which leaves nothing of a small x, and
rounds numbers to single precision; onnxruntime has no softplus of doubles. Source: Kahan's way to
compute both, in Higham, Accuracy and stability of numerical algorithms, SIAM 2002, section 1.14.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["OPSET", "translations"]

OPSET = 20


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Return the operators of torch that are written in our own way; needs the extra `onnx`."""
    import onnx_ir
    import torch
    from onnxscript import opset20

    op: Any = opset20

    def number(value: float) -> Any:
        return op.Constant(value=onnx_ir.tensor(np.float64(value)))

    def scalar_tensor(s: Any, dtype: int = 1, **_: Any) -> Any:
        return op.Cast(number(s) if isinstance(s, int | float) else s, to=dtype)

    def clamp(x: Any, min: float | None = None, max: float | None = None) -> Any:  # noqa: A002
        if min is not None:
            x = op.Max(x, op.CastLike(number(min), x))
        return x if max is None else op.Min(x, op.CastLike(number(max), x))

    def log1p(x: Any) -> Any:
        one = op.CastLike(1.0, x)
        lifted = op.Add(x, one)
        gained = op.Sub(lifted, one)
        lost = op.Equal(gained, op.CastLike(0.0, x))
        ratio = op.Div(op.Log(lifted), op.Where(lost, one, gained))
        return op.Where(lost, x, op.Mul(x, ratio))

    def expm1(x: Any) -> Any:
        one = op.CastLike(1.0, x)
        power = op.Exp(x)
        gained = op.Sub(power, one)
        lost = op.Equal(gained, op.CastLike(0.0, x))
        large = op.Greater(op.Abs(x), one)  # nothing is lost there
        log = op.Log(op.Where(op.Or(lost, large), op.Add(one, one), power))
        exact = op.Mul(gained, op.Div(x, log))
        return op.Where(lost, x, op.Where(large, gained, exact))

    def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        scaled = op.Mul(x, op.CastLike(beta, x))
        curved = op.Add(op.Relu(scaled), log1p(op.Exp(op.Neg(op.Abs(scaled)))))
        straight = op.Greater(scaled, op.CastLike(threshold, x))
        return op.Where(straight, x, op.Div(curved, op.CastLike(beta, x)))

    aten = torch.ops.aten
    return {
        aten.log1p.default: log1p,
        aten.special_log1p.default: log1p,
        aten.expm1.default: expm1,
        aten.special_expm1.default: expm1,
        aten.softplus.default: softplus,
        aten.scalar_tensor.default: scalar_tensor,
        aten.clamp.default: clamp,
    }
