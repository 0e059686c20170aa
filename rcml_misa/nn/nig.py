"""RCML-MISA's network for a score: normal-inverse-gamma evidence from each token, fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.attention import AttentionMask, TokenFusion
from rcml_misa.nn.collectors import Sharing
from rcml_misa.nn.encoders import StackedLinear, Subspaces
from rcml_misa.nn.view_encoders import EncodedProjection, ViewEncoder, ViewInput
from rcml_misa.opinions.nig import NIG, fuse_nig

__all__ = ["NIGCollectors", "RegressionNet", "ScoreOpinions"]

LEAST = 1e-4  # of nu, alpha - 1 and beta


@dataclass(frozen=True)
class ScoreOpinions:
    """Everything one forward pass of the regression gives to losses, opinions and figures.

    Attributes
    ----------
    fused : NIG of shape (B,)
    private : NIG of shape (B, N)
        Opinions of the private tokens, in the order of the views.
    shared : NIG of shape (B, M)
        Opinions of the shared tokens; M depends on the collectors.
    projected, private_codes, shared_codes, reconstructed : Tensor of shape (B, N, H)
    tokens : Tensor of shape (B, 2N, H)
        The fused tokens, private ones first.
    attention : Tensor of shape (B, L, heads, 2N, 2N), optional
        How each token divides its attention, where it was asked for.
    """

    fused: NIG
    private: NIG
    shared: NIG
    projected: Tensor
    private_codes: Tensor
    shared_codes: Tensor
    reconstructed: Tensor
    tokens: Tensor
    attention: Tensor | None = None


class NIGCollectors(nn.Module):
    """Collectors of the 2N fused tokens: gamma, nu, alpha and beta of each opinion.

    Parameters
    ----------
    views, hidden : int
        N, H.
    sharing : {"separate", "tied", "tied-mean", "private"}
        The shared tokens' collectors: one per view, one for all (N opinions), one on the mean of
        the shared tokens (one opinion), or none.
    skip : bool
        Whether a linear read-out of the projected views is added to each prediction, of its own
        view to a private one, of all views to a shared one; the tokens' part then starts at zero,
        so that training starts at the views themselves.
    """

    def __init__(self, *, views: int, hidden: int, sharing: Sharing, skip: bool) -> None:
        super().__init__()
        self.views = views
        self.sharing = sharing
        self.shared_opinions = {"separate": views, "tied": views, "tied-mean": 1, "private": 0}[
            sharing
        ]
        self.private = StackedLinear(count=views, width=hidden, outputs=4)
        count = views if sharing == "separate" else 1
        self.shared = (
            StackedLinear(count=count, width=hidden, outputs=4) if self.shared_opinions else None
        )
        self.own = StackedLinear(count=views, width=hidden, outputs=1) if skip else None
        self.all = nn.Linear(views * hidden, 1) if skip and self.shared is not None else None
        if skip:
            for layer in (self.private, self.shared):
                if layer is not None:
                    nn.init.zeros_(layer.weight[..., 0])
                    nn.init.zeros_(layer.bias[..., 0])

    def forward(self, tokens: Tensor, projected: Tensor) -> NIG:
        """Opinions (B, N + M): N private ones, then M shared ones.

        Parameters
        ----------
        tokens : Tensor of shape (2N, B, H)
        projected : Tensor of shape (N, B, H)
        """
        raw = self.private(tokens[: self.views])
        direct = self.own(projected).squeeze(-1) if self.own is not None else None
        if self.shared is not None:
            shared = tokens[self.views :]
            if self.sharing == "tied-mean":
                shared = shared.mean(dim=0, keepdim=True)
            collected = (
                self.shared(shared)
                if self.sharing != "tied"
                else shared @ self.shared.weight[0] + self.shared.bias[0]
            )
            raw = torch.cat([raw, collected])
            if direct is not None and self.all is not None:
                joint = self.all(projected.transpose(0, 1).flatten(start_dim=1)).squeeze(-1)
                joint = joint.expand(self.shared_opinions, -1)
                direct = torch.cat([direct, joint])
        gamma, nu, alpha, beta = raw.transpose(0, 1).unbind(dim=-1)
        if direct is not None:
            gamma = gamma + direct.transpose(0, 1)
        return NIG(
            gamma, F.softplus(nu) + LEAST, F.softplus(alpha) + 1 + LEAST, F.softplus(beta) + LEAST
        )


class RegressionNet(nn.Module):
    """N views to 2N tokens to opinions about a score.

    Encoders by kind of view, projection, private and shared encoders, Transformer fusion,
    normal-inverse-gamma collectors on the fused tokens, and the order-free fusion of their
    opinions.

    Parameters
    ----------
    encoders : sequence of ViewEncoder
        One per view.
    hidden, heads, feedforward, layers : int
    dropout : float
        Chance of dropping an entry of the projected views, and inside the Transformer.
    mask : {"private", "none"}
        See `TokenFusion`.
    sharing, skip
        See `NIGCollectors`.
    """

    def __init__(
        self,
        encoders: Sequence[ViewEncoder],
        *,
        hidden: int = 128,
        heads: int = 2,
        feedforward: int = 256,
        layers: int = 1,
        dropout: float = 0.2,
        mask: AttentionMask = "private",
        sharing: Sharing = "tied-mean",
        skip: bool = True,
    ) -> None:
        super().__init__()
        views = len(encoders)
        self.dropout = dropout
        self.project = EncodedProjection(encoders, hidden=hidden)
        self.subspaces = Subspaces(views=views, hidden=hidden)
        self.fuse_tokens = TokenFusion(
            views=views,
            hidden=hidden,
            heads=heads,
            feedforward=feedforward,
            layers=layers,
            dropout=dropout,
            mask=mask,
        )
        self.collect = NIGCollectors(views=views, hidden=hidden, sharing=sharing, skip=skip)

    def forward(self, views: Sequence[ViewInput], *, attention: bool = False) -> ScoreOpinions:
        """Run N views: tables (B, d_v) and `Padded` sequences or tokens."""
        projected = self.project(views)
        seen = F.dropout(projected, self.dropout, training=self.training)
        codes = self.subspaces(seen)
        both = torch.cat([codes.private, codes.shared])
        tokens = self.fuse_tokens(both)
        opinions = self.collect(tokens, seen)
        count = len(views)
        return ScoreOpinions(
            fused=fuse_nig(opinions),
            private=NIG(*(part[:, :count] for part in opinions)),
            shared=NIG(*(part[:, count:] for part in opinions)),
            projected=projected.transpose(0, 1),
            private_codes=codes.private.transpose(0, 1),
            shared_codes=codes.shared.transpose(0, 1),
            reconstructed=codes.reconstructed.transpose(0, 1),
            tokens=tokens.transpose(0, 1),
            attention=self.fuse_tokens.maps(both) if attention else None,
        )
