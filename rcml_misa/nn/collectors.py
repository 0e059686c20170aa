"""Evidence collectors: tokens, and experts' logits if any, to evidence about classes or scores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.encoders import StackedLinear
from rcml_misa.opinions.nig import NIG

__all__ = [
    "CollectorKind",
    "Collectors",
    "EvidenceCollector",
    "NIGCollectors",
    "Sharing",
    "shares_to_evidence",
]

CollectorKind = Literal["shares", "softplus"]
Sharing = Literal["separate", "tied", "tied-mean", "private"]
MASS = 2.0  # scale of the evidence per class
LEAST = 1e-4  # lower bound of nu, alpha - 1 and beta
ONSET = 0.02  # confidence at which the mass reaches half of what it would be otherwise


class EvidenceCollector(nn.Module):
    """RCML's collector: [Linear, ReLU, Dropout]* then Linear and Softplus.

    Parameters
    ----------
    widths : sequence of int
        Width of the input and of each hidden layer.
    classes : int
        K.
    dropout : float
        Chance of dropping a hidden unit.

    References
    ----------
    Xu et al., Reliable conflictive multi-view learning, AAAI 2024, section 3.2.

    Examples
    --------
    >>> bool((EvidenceCollector([4], classes=3)(torch.zeros(2, 4)) >= 0).all())
    True
    """

    def __init__(self, widths: Sequence[int], *, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], classes))

    def forward(self, values: Tensor) -> Tensor:
        """Compute evidence (B, K) of rows (B, d)."""
        return F.softplus(self.layers(values))


def shares_to_evidence(logits: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """Compute evidence M pi of shares pi = softmax(logits) and a mass M that grows with max pi.

    With c = (K max pi - 1) / (K - 1), the share's confidence above chance in [0, 1],
    M = 2 K [c / (c + 0.02)] softplus(slope c + offset): zero at uniform shares whatever is
    learned, and in proportion to the number of classes, so that vacuity means the same at any K.
    No class can outgrow its share, which keeps an overconfident view from outvoting the others.

    Parameters
    ----------
    logits : Tensor of shape (..., K)
    slope, offset : Tensor that broadcasts against (...)

    Returns
    -------
    Tensor of shape (..., K)

    Examples
    --------
    >>> shares_to_evidence(torch.zeros(3), torch.tensor(5.0), torch.tensor(0.0))
    tensor([0., 0., 0.])
    """
    classes = logits.shape[-1]
    shares = logits.softmax(dim=-1)
    confidence = (classes * shares.amax(dim=-1) - 1).clamp_min(0) / max(classes - 1, 1)
    onset = confidence / (confidence + ONSET)
    mass = MASS * classes * onset * F.softplus(slope * confidence + offset)
    return mass.unsqueeze(-1) * shares


class _TokenCollectors(nn.Module):
    """Linear read-outs of the 2N fused tokens: N private ones and those of the shared tokens."""

    def __init__(
        self, *, views: int, hidden: int, outputs: int, sharing: Sharing, zero: bool = False
    ) -> None:
        super().__init__()
        self.views = views
        self.sharing = sharing
        counts = {"separate": views, "tied": views, "tied-mean": 1, "private": 0}
        self.shared_opinions = counts[sharing]
        self.private = StackedLinear(count=views, width=hidden, outputs=outputs, zero=zero)
        count = views if sharing == "separate" else 1
        self.shared = (
            StackedLinear(count=count, width=hidden, outputs=outputs, zero=zero)
            if self.shared_opinions
            else None
        )

    def _read(self, tokens: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Read-outs (N, B, outputs) of private tokens and, if any, (M, B, outputs) of shared."""
        parts = [self.private(tokens[: self.views])]
        if self.shared is not None:
            shared = tokens[self.views :]
            if self.sharing == "tied-mean":
                shared = _mean_token(shared, present)
            parts.append(
                self.shared(shared)
                if self.sharing != "tied"
                else shared @ self.shared.weight[0] + self.shared.bias[0]
            )
        return parts


class Collectors(_TokenCollectors):
    """Evidence collectors of the 2N fused tokens: N private ones and those of the shared tokens.

    Parameters
    ----------
    views, hidden, classes : int
        N, H, K.
    sharing : {"separate", "tied", "tied-mean", "private"}
        The shared tokens' collectors: one per view, one for all (N opinions), one on the mean of
        the shared tokens (one opinion), or none.
    kind : {"shares", "softplus"}
        Evidence as a mass divided into shares, or one softplus per class.
    experts : bool
        Whether experts' logits are added to the tokens' logits; the tokens' part then starts at
        zero, so that training starts at the experts.
    """

    def __init__(
        self,
        *,
        views: int,
        hidden: int,
        classes: int,
        sharing: Sharing = "separate",
        kind: CollectorKind = "shares",
        experts: bool = True,
    ) -> None:
        super().__init__(views=views, hidden=hidden, outputs=classes, sharing=sharing, zero=experts)
        self.kind = kind
        opinions = views + self.shared_opinions
        self.slope = nn.Parameter(torch.full((opinions, 1), 5.0))
        self.offset = nn.Parameter(torch.zeros(opinions, 1))

    def forward(
        self,
        tokens: Tensor,
        view_logits: Tensor | None,
        joint: Tensor | None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Compute evidence (N + M, B, K): N private opinions, then M shared ones.

        Parameters
        ----------
        tokens : Tensor of shape (2N, B, H)
        view_logits : Tensor of shape (N, B, K), optional
            Logits of the views' experts.
        joint : Tensor of shape (B, K), optional
            Logits of the joint expert.
        present : Tensor of bool of shape (B, N), optional
            Views that each row has: the mean of shared tokens is over these.
        """
        parts = [
            logits if expert is None else logits + expert
            for logits, expert in zip(
                self._read(tokens, present), (view_logits, joint), strict=False
            )
        ]
        logits = torch.cat(parts)
        if self.kind == "softplus":
            return F.softplus(logits)
        return shares_to_evidence(logits, self.slope, self.offset)


class NIGCollectors(_TokenCollectors):
    """Collectors of the 2N fused tokens: gamma, nu, alpha and beta of each opinion.

    Parameters
    ----------
    views, hidden : int
        N, H.
    sharing : {"separate", "tied", "tied-mean", "private"}
        See `Collectors`.
    skip : bool
        Whether a linear read-out of the projected views is added to each prediction, of its own
        view to a private one, of all views to a shared one; the tokens' part then starts at zero,
        so that training starts at the views themselves.
    """

    def __init__(self, *, views: int, hidden: int, sharing: Sharing, skip: bool) -> None:
        super().__init__(views=views, hidden=hidden, outputs=4, sharing=sharing)
        self.own = StackedLinear(count=views, width=hidden, outputs=1) if skip else None
        self.all = nn.Linear(views * hidden, 1) if skip and self.shared is not None else None
        for layer in (self.private, self.shared) if skip else ():
            if layer is not None:
                nn.init.zeros_(layer.weight[..., 0])
                nn.init.zeros_(layer.bias[..., 0])

    def forward(self, tokens: Tensor, projected: Tensor) -> NIG:
        """Compute opinions (B, N + M): N private ones, then M shared ones.

        Parameters
        ----------
        tokens : Tensor of shape (2N, B, H)
        projected : Tensor of shape (N, B, H)
        """
        raw = torch.cat(self._read(tokens))
        gamma, nu, alpha, beta = raw.transpose(0, 1).unbind(dim=-1)
        if self.own is not None:
            direct = self.own(projected).squeeze(-1)
            if self.all is not None:
                joint = self.all(projected.transpose(0, 1).flatten(start_dim=1)).squeeze(-1)
                direct = torch.cat([direct, joint.expand(self.shared_opinions, -1)])
            gamma = gamma + direct.transpose(0, 1)
        return NIG(
            gamma, F.softplus(nu) + LEAST, F.softplus(alpha) + 1 + LEAST, F.softplus(beta) + LEAST
        )


def _mean_token(tokens: Tensor, present: Tensor | None) -> Tensor:
    """Mean (1, B, H) of the tokens (N, B, H) of present views."""
    if present is None:
        return tokens.mean(dim=0, keepdim=True)
    shares = present / present.sum(dim=1, keepdim=True).clamp_min(1)
    return (shares.transpose(0, 1).unsqueeze(-1) * tokens).sum(dim=0, keepdim=True)
