"""BML's network: logits of each view, weighed by how reliable the view is in that row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rcml_misa.nn.encoders import DeepEncoders, StackedLinear, TableEncoder

__all__ = ["ReliabilityNet", "ReliabilityOutput", "mean_divergence", "scaled_entropy"]

FEATURES = 128  # of a view, that its logits and its reliability are computed of
JUDGE = 256  # hidden units of a view's reliability
TINY = 1e-8  # least value of a probability and of 1 minus an entropy


def scaled_entropy(logits: Tensor) -> Tensor:
    """Compute -log(1 - H(p) / log K) of p = softmax(logits), (..., K) to (...), in [0, 18.5].

    0 where one class is certain, large where all are alike; source: the published code of BML,
    CVPR 2026.

    Examples
    --------
    >>> round(float(scaled_entropy(torch.tensor([0.0, 0.0, -50.0]))), 4)
    0.9968
    """
    log = logits.log_softmax(dim=-1)
    entropy = -(log.exp() * log).sum(dim=-1)
    return -(1 - entropy / math.log(logits.shape[-1])).clamp_min(TINY).log()


def mean_divergence(logits: Tensor, present: Tensor | None = None) -> Tensor:
    """Average KL(p_v || p_w) + KL(p_w || p_v) over the other views w, (..., N, K) to (..., N).

    p = softmax(logits); 0 without any other view. Views that are not `present`, (..., N), are in no
    pair. Source: the published code of BML, CVPR 2026.

    Examples
    --------
    >>> mean_divergence(torch.zeros(3, 4))
    tensor([0., 0., 0.])
    """
    views = logits.shape[-2]
    p = logits.softmax(dim=-1).clamp_min(TINY)
    log = p.log()
    gaps = [part.unsqueeze(-2) - part.unsqueeze(-3) for part in (p, log)]
    divergence = (gaps[0] * gaps[1]).sum(dim=-1)  # 0 between a view and itself
    if present is None:
        return divergence.sum(dim=-1) / max(views - 1, 1)
    pairs = (present.unsqueeze(-1) & present.unsqueeze(-2)).to(divergence.dtype)
    others = (pairs.sum(dim=-1) - 1).clamp_min(1)
    return (divergence * pairs).sum(dim=-1) / others


@dataclass(frozen=True)
class ReliabilityOutput:
    """Logits of the views (B, N, K), their reliabilities (B, N) in [0, 1], fused logits (B, K).

    `present` (B, N) marks the views that each row has, of which alone a reliability is not 0;
    None: all.
    """

    logits: Tensor
    reliability: Tensor
    fused: Tensor
    present: Tensor | None = None


class ReliabilityNet(nn.Module):
    """An encoder, a linear classifier and a judge of its reliability per view.

    Encoders are `depth` layers of Linear, BatchNorm, ReLU and dropout and a Linear to 128 features.
    The judge of a view, Linear, ReLU, Linear and sigmoid, sees its features, its `scaled_entropy`
    and its `mean_divergence`. Fused logits are the sum over views of reliability times logits.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    width, depth, dropout
        See `DeepEncoders`.

    References
    ----------
    Bootstrapping Multi-view Learning for Test-time Noisy Correspondence, CVPR 2026, its published
    code.

    Examples
    --------
    >>> network = ReliabilityNet([3, 5], classes=4, width=8, depth=2, dropout=0.5)
    >>> network([torch.zeros(7, 3), torch.zeros(7, 5)]).reliability.shape
    torch.Size([7, 2])
    """

    def __init__(
        self, widths: Sequence[int], *, classes: int, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        views, encoders = len(widths), [TableEncoder(columns) for columns in widths]
        self.encode = DeepEncoders(encoders, width=width, depth=depth, dropout=dropout)
        self.features = StackedLinear(count=views, width=width, outputs=FEATURES)
        self.classify = StackedLinear(count=views, width=FEATURES, outputs=classes)
        self.judge = nn.Sequential(
            StackedLinear(count=views, width=FEATURES + 2, outputs=JUDGE),
            nn.ReLU(),
            StackedLinear(count=views, width=JUDGE, outputs=1),
            nn.Sigmoid(),
        )

    def forward(self, views: Sequence[Tensor], present: Tensor | None = None) -> ReliabilityOutput:
        """Run N views of shape (B, d_v), of which each row has `present` (B, N)."""
        features = self.features(self.encode(views))
        logits = self.classify(features).transpose(0, 1)
        signs = torch.stack([scaled_entropy(logits), mean_divergence(logits, present)], dim=-1)
        judged = torch.cat([features, signs.transpose(0, 1)], dim=-1)
        reliability = self.judge(judged).squeeze(-1).T
        if present is not None:
            reliability = reliability * present
        fused = (reliability.unsqueeze(-1) * logits).sum(dim=1)
        return ReliabilityOutput(logits, reliability, fused, present)
