"""Transformer fusion over the 2N tokens of N views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

__all__ = ["AttentionMask", "TokenFusion", "TokenStates", "private_mask"]

AttentionMask = Literal["private", "none"]


@dataclass(frozen=True, kw_only=True)
class TokenStates:
    """Codes and tokens of one forward pass of N views to M tokens, for losses and figures.

    Attributes
    ----------
    projected, private_codes, shared_codes, reconstructed : Tensor of shape (B, N, H)
        u_v, h_v^p, h_v^c and the reconstruction of u_v.
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
    views : int
        N.
    hidden, heads, feedforward, layers : int
        Widths and depth; `heads` divides `hidden`.
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
        mask = self._open(self.first_mask, present)
        for layer in self.layers:
            tokens = layer(tokens, mask)
            mask = self._open(self.deeper_mask, present)
        normed: Tensor = self.norm(tokens)
        return normed

    def maps(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """Compute each layer's attention weights: (2N, B, H) to (B, L, heads, 2N, 2N).

        Row i of a map sums to 1. `forward` does without them.
        """
        mask, maps = self._open(self.first_mask, present), []
        for layer in self.layers:
            maps.append(layer.weights(tokens, mask))  # type: ignore[operator]
            tokens = layer(tokens, mask)
            mask = self._open(self.deeper_mask, present)
        return torch.stack(maps, dim=1)

    def _open(self, mask: Tensor, present: Tensor | None) -> Tensor | None:
        """Attention mask (2N, 2N), or (B, 1, 2N, 2N) where views are missing."""
        if present is None:
            return mask if self.masked else None
        keys = torch.cat([present, present], dim=1).unsqueeze(1)
        # a missing view's tokens see themselves, since a softmax over nothing is not a number
        seen = keys | torch.eye(keys.shape[-1], dtype=torch.bool, device=keys.device)
        return (mask & seen if self.masked else seen).unsqueeze(1)
