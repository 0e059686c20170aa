"""Fusion of the 2N tokens of N views, and the collectors that read opinions from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.encoders import StackedLinear
from rcml_misa.opinions.nig import NIG

__all__ = [
    "AttentionMask",
    "CollectorKind",
    "Collectors",
    "EvidenceCollector",
    "NIGCollectors",
    "Readout",
    "Sharing",
    "TokenFusion",
    "TokenStates",
    "private_mask",
    "shares_to_evidence",
]

AttentionMask = Literal["private", "none"]
CollectorKind = Literal["shares", "softplus"]
Readout = Literal["both", "tokens", "encoders"]
Sharing = Literal["separate", "tied", "tied-mean", "private"]
MASS = 2.0  # scale of the evidence per class
LEAST = 1e-4  # lower bound of nu, alpha - 1 and beta
ONSET = 0.02  # confidence at which the mass reaches half of what it would be otherwise


@dataclass(frozen=True, kw_only=True)
class TokenStates:
    """Codes and tokens of one forward pass of N views to M tokens, for losses and figures.

    Attributes
    ----------
    projected, private_codes, shared_codes, reconstructed : Tensor of shape (B, N, H)
        u_v, h_v^p, h_v^c and the reconstruction of u_v, as the losses see them: where these are
        not to reach the encoders, u_v is detached, and the codes are those of it.
    tokens : Tensor of shape (B, M, H)
        Fused tokens, private ones first; M = 2N but in MISA's ablations.
    attention : Tensor of shape (B, L, heads, M, M), optional
        Attention weights of each token over all tokens, where asked for.
    """

    projected: Tensor
    private_codes: Tensor
    shared_codes: Tensor
    reconstructed: Tensor
    tokens: Tensor
    attention: Tensor | None = None


def private_mask(views: int) -> Tensor:
    """Return the attention mask, True at (i, j) where token i attends to token j.

    Tokens 0..N-1 are private, N..2N-1 shared. A private token sees its own view's two tokens
    only, so that its opinion stays about its own view; shared tokens see all.

    Examples
    --------
    >>> private_mask(2).int().tolist()
    [[1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    """
    own = torch.eye(views, dtype=torch.bool)
    everything = torch.ones(views, 2 * views, dtype=torch.bool)
    return torch.cat([torch.cat([own, own], dim=1), everything])


class _Layer(nn.Module):
    def __init__(self, *, hidden: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.before_attention = nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.attended = nn.Linear(hidden, hidden)
        self.before_feedforward = nn.LayerNorm(hidden)
        self.widen = nn.Linear(hidden, feedforward)
        self.narrow = nn.Linear(feedforward, hidden)

    def parts(self, tokens: Tensor) -> Tensor:
        """Queries, keys and values, (3, B, heads, T, H / heads)."""
        count, batch, hidden = tokens.shape
        parts: Tensor = self.queries_keys_values(self.before_attention(tokens))
        parts = parts.view(count, batch, 3, self.heads, hidden // self.heads)
        return parts.permute(2, 1, 3, 0, 4)

    def weights(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Attention weights of each token, (B, heads, T, T); `forward` never makes them."""
        queries, keys, _ = self.parts(tokens)
        scores: Tensor = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.softmax(dim=-1)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        count, batch, hidden = tokens.shape
        queries, keys, values = self.parts(tokens)
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        mixed = self.attended(mixed.permute(2, 0, 1, 3).reshape(count, batch, hidden))
        tokens = tokens + F.dropout(mixed, self.dropout, training=self.training)
        wide = self.widen(self.before_feedforward(tokens)).relu()
        return tokens + F.dropout(self.narrow(wide), self.dropout, training=self.training)


class TokenFusion(nn.Module):
    """Pre-norm Transformer encoder over (2N, B, H), private tokens first.

    Parameters
    ----------
    views, hidden, heads, feedforward, layers : int
        N, widths and depth; `heads` divides `hidden`.
    dropout : float
        Chance of dropping an entry of a layer's two updates.
    mask : {"private", "none"}
        ``"private"`` closes a private token to the other views, at any depth: beyond the first
        layer it no longer sees its shared token either, which has seen all views by then.
    """

    first_mask: Tensor
    deeper_mask: Tensor

    def __init__(
        self,
        *,
        views: int,
        hidden: int,
        heads: int = 2,
        feedforward: int = 128,
        layers: int = 1,
        dropout: float = 0.1,
        mask: AttentionMask = "private",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(hidden=hidden, heads=heads, feedforward=feedforward, dropout=dropout)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.masked = mask == "private"
        first = private_mask(views)
        deeper = first.clone()
        deeper[:views, views:] = False
        self.register_buffer("first_mask", first, persistent=False)
        self.register_buffer("deeper_mask", deeper, persistent=False)

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Fuse tokens of shape (2N, B, H) into tokens of the same shape.

        With `present` of shape (B, N), no token sees those of a view that a row lacks.
        """
        for layer, mask in self._masked_layers(present):
            tokens = layer(tokens, mask)
        normed: Tensor = self.norm(tokens)
        return normed

    def maps(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Compute each layer's attention weights: (2N, B, H) to (B, L, heads, 2N, 2N).

        Row i of a map sums to 1. `forward` does without them.
        """
        maps = []
        for layer, mask in self._masked_layers(present):
            maps.append(layer.weights(tokens, mask))
            tokens = layer(tokens, mask)
        return torch.stack(maps, dim=1)

    def _masked_layers(self, present: Tensor | None) -> Iterator[tuple[_Layer, Tensor | None]]:
        mask = self.first_mask
        for layer in self.layers:
            yield layer, self._open(mask, present)  # type: ignore[misc]
            mask = self.deeper_mask

    def _open(self, mask: Tensor, present: Tensor | None) -> Tensor | None:
        """Attention mask (2N, 2N), or (B, 1, 2N, 2N) where views are missing."""
        if present is None:
            return mask if self.masked else None
        keys = torch.cat([present, present], dim=1).unsqueeze(1)
        # a missing view's tokens see themselves, since a softmax over nothing is not a number
        seen = keys | torch.eye(keys.shape[-1], dtype=torch.bool, device=keys.device)
        return (mask & seen if self.masked else seen).unsqueeze(1)


class EvidenceCollector(nn.Module):
    """RCML's collector: [Linear, ReLU, Dropout]* then Linear and Softplus.

    `widths` are those of the input and of each hidden layer. Source: Xu et al., Reliable
    conflictive multi-view learning, AAAI 2024, section 3.2.

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
    Logits are of shape (..., K); slope and offset broadcast against (...).

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
        self.shared = None
        if self.shared_opinions:
            count = views if sharing == "separate" else 1
            self.shared = StackedLinear(count=count, width=hidden, outputs=outputs, zero=zero)

    def _read(self, tokens: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """Read-outs (N, B, outputs) of private tokens and, if any, (M, B, outputs) of shared."""
        private, shared = self.private(tokens[: self.views]), tokens[self.views :]
        if self.shared is None:
            return [private]
        if self.sharing == "tied":
            return [private, shared @ self.shared.weight[0] + self.shared.bias[0]]
        if self.sharing == "tied-mean" and present is None:
            shared = shared.mean(dim=0, keepdim=True)
        elif self.sharing == "tied-mean" and present is not None:  # the mean of present views
            shares = present / present.sum(dim=1, keepdim=True).clamp_min(1)
            shared = (shares.transpose(0, 1).unsqueeze(-1) * shared).sum(dim=0, keepdim=True)
        return [private, self.shared(shared)]


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
    readout : {"both", "tokens", "encoders"}
        What the collectors read: tokens and the encoders' output, of its own view for a private
        opinion and of all views for a shared one, or only one of them. With ``"both"`` the tokens'
        part starts at zero.
    encoded : int
        Width W of the encoders' output.
    """

    def __init__(
        self,
        *,
        views: int,
        hidden: int,
        classes: int,
        sharing: Sharing = "separate",
        kind: CollectorKind = "shares",
        readout: Readout = "both",
        encoded: int = 256,
    ) -> None:
        zero = readout != "tokens"
        super().__init__(views=views, hidden=hidden, outputs=classes, sharing=sharing, zero=zero)
        self.kind = kind
        self.readout = readout
        self.own = self.all = None
        if readout != "tokens":
            self.own = StackedLinear(count=views, width=encoded, outputs=classes)
            self.all = nn.Linear(views * encoded, classes) if self.shared is not None else None
        opinions = views + self.shared_opinions
        self.slope = nn.Parameter(torch.full((opinions, 1), 5.0))
        self.offset = nn.Parameter(torch.zeros(opinions, 1))

    def forward(
        self, tokens: Tensor, encoded: Tensor, present: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Collect evidence of tokens (2N, B, H) and of the encoders' output (N, B, W).

        Evidence, logits and the tokens' part of the logits, each (N + M, B, K), N private opinions
        first, then M shared ones. The mean of shared tokens is over the views that are `present`,
        (B, N), in a row; the encoders' output of a missing view is zero to the shared opinions.
        """
        read = torch.cat(self._read(tokens, present))
        if self.readout == "encoders":
            read = torch.zeros_like(read)
        logits = read if self.own is None else read + self._direct(encoded, present)
        if self.kind == "softplus":
            return F.softplus(logits), logits, read
        return shares_to_evidence(logits, self.slope, self.offset), logits, read

    def _direct(self, encoded: Tensor, present: Tensor | None) -> Tensor:
        """Read logits (N + M, B, K) of the encoders' output."""
        own: Tensor = self.own(encoded)  # type: ignore[misc]
        if self.all is None:
            return own
        if present is not None:
            encoded = encoded * present.transpose(0, 1).unsqueeze(-1)
        joint: Tensor = self.all(encoded.transpose(0, 1).flatten(start_dim=1))
        return torch.cat([own, joint.expand(self.shared_opinions, -1, -1)])


class NIGCollectors(_TokenCollectors):
    """Collectors of the 2N fused tokens: gamma, nu, alpha and beta of each opinion.

    Parameters
    ----------
    views, hidden, sharing
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
        """Read opinions (B, N + M), private ones first, of tokens and views (N, B, H)."""
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
