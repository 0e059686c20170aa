"""RCML-MISA's networks for any number of views: opinions about classes, and about a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.attention import AttentionMask, TokenFusion, TokenStates
from rcml_misa.nn.collectors import CollectorKind, Collectors, NIGCollectors, Sharing
from rcml_misa.nn.encoders import (
    EncodedProjection,
    Subspaces,
    ViewEncoder,
    ViewInput,
    ViewProjection,
)
from rcml_misa.opinions import (
    FusionOperator,
    fuse,
    fuse_mixture,
    keep_present,
    opinions_present,
    present_share,
    share_conflict,
)
from rcml_misa.opinions.nig import NIG, fuse_nig

__all__ = [
    "RCMLMISANet",
    "RegressionNet",
    "ScoreOpinions",
    "TokenFusionOperator",
    "TokenOpinions",
]

TokenFusionOperator = Literal["mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"]


@dataclass(frozen=True, kw_only=True)
class TokenOpinions(TokenStates):
    """Opinions about classes, codes and tokens of one forward pass; see `TokenStates`.

    Attributes
    ----------
    fused : Tensor of shape (B, K)
        Fused evidence.
    private : Tensor of shape (B, N, K)
        Evidence of the private tokens, in the order of the views.
    shared : Tensor of shape (B, M, K)
        Evidence of the shared tokens; M depends on the collectors.
    present : Tensor of bool of shape (B, N + M), optional
        Private and shared opinions that exist; the others have no evidence. None: all.
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    present: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreOpinions(TokenStates):
    """Opinions about a score, codes and tokens of one forward pass; see `TokenStates`.

    Attributes
    ----------
    fused : NIG of shape (B,)
    private : NIG of shape (B, N)
        Opinions of the private tokens, in the order of the views.
    shared : NIG of shape (B, M)
        Opinions of the shared tokens; M depends on the collectors.
    """

    fused: NIG
    private: NIG
    shared: NIG


class _TokenNet(nn.Module):
    """N projected views to 2N fused tokens: dropout, private and shared encoders, Transformer."""

    def __init__(
        self,
        project: nn.Module,
        subspaces: Subspaces,
        fuse_tokens: TokenFusion,
        *,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.project = project
        self.subspaces = subspaces
        self.fuse_tokens = fuse_tokens

    def _states(
        self, views: Sequence[ViewInput], present: Tensor | None, *, attention: bool
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Views after dropout (N, B, H), fused tokens (2N, B, H), fields of `TokenStates`."""
        projected = self.project(views)
        dropped = F.dropout(projected, self.dropout, training=self.training)
        codes = self.subspaces(dropped)
        both = torch.cat([codes.private, codes.shared])
        tokens = self.fuse_tokens(both, present)
        states = {
            "projected": projected.transpose(0, 1),
            "private_codes": codes.private.transpose(0, 1),
            "shared_codes": codes.shared.transpose(0, 1),
            "reconstructed": codes.reconstructed.transpose(0, 1),
            "tokens": tokens.transpose(0, 1),
            "attention": self.fuse_tokens.maps(both, present) if attention else None,
        }
        return dropped, tokens, states


class RCMLMISANet(_TokenNet):
    """N views to 2N tokens to opinions.

    Projection, dropout, private and shared encoders, Transformer fusion, evidence collectors on
    the fused tokens, and order-free fusion of their evidence.

    Parameters
    ----------
    widths : sequence of int
        Columns of each view.
    classes : int
        K.
    hidden, heads, feedforward, layers : int
        H and the sizes of the Transformer.
    dropout : float
        Chance of dropping an entry of the projected views.
    attention_dropout : float
        Chance inside the Transformer.
    mask : {"private", "none"}
        See `TokenFusion`.
    sharing, collector
        See `Collectors`.
    fusion : {"mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"}
        Fusion operator of the opinions.
    discount : bool
        Weigh the shared opinions by one minus the private ones' largest conflict, divided by
        their number: a joint view of contradicting views is no witness.
    experts : bool
        Whether `forward` is given experts' logits.
    weights : ndarray of shape (N + 1,), optional
        Weights of the opinions in the mixture; see `fuse_mixture`.
    encoders : sequence of ViewEncoder, optional
        Encoders of the views before projection, for sets with sequences or texts.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        classes: int,
        hidden: int = 64,
        heads: int = 2,
        feedforward: int = 128,
        layers: int = 1,
        dropout: float = 0.2,
        attention_dropout: float = 0.0,
        mask: AttentionMask = "private",
        sharing: Sharing = "separate",
        collector: CollectorKind = "shares",
        fusion: TokenFusionOperator = "mixture",
        discount: bool = True,
        experts: bool = True,
        weights: NDArray[np.float64] | None = None,
        encoders: Sequence[ViewEncoder] | None = None,
    ) -> None:
        views = len(widths)
        super().__init__(
            ViewProjection(widths, hidden=hidden)
            if encoders is None
            else EncodedProjection(encoders, hidden=hidden),
            Subspaces(views=views, hidden=hidden),
            TokenFusion(
                views=views,
                hidden=hidden,
                heads=heads,
                feedforward=feedforward,
                layers=layers,
                dropout=attention_dropout,
                mask=mask,
            ),
            dropout=dropout,
        )
        self.fusion: TokenFusionOperator = fusion
        self.discount = discount
        self.weights: Tensor | None
        self.register_buffer(
            "weights", None if weights is None else torch.tensor(weights, dtype=torch.float32)
        )
        self.collect = Collectors(
            views=views,
            hidden=hidden,
            classes=classes,
            sharing=sharing,
            kind=collector,
            experts=experts,
        )

    def forward(
        self,
        views: Sequence[ViewInput],
        view_logits: Tensor | None = None,
        joint_logits: Tensor | None = None,
        present: Tensor | None = None,
        *,
        attention: bool = False,
    ) -> TokenOpinions:
        """Run N views (B, d_v), with experts' logits (B, N, K) and (B, K) if any.

        With `present` of shape (B, N), views that a row lacks are seen by no token, have no
        evidence and no part in the fusion, and the shared opinions' evidence falls by their share.
        Attention maps are part of the output only where `attention` asks for them.
        """
        _, tokens, states = self._states(views, present, attention=attention)
        stacked = None if view_logits is None else view_logits.transpose(0, 1)
        evidence = self.collect(tokens, stacked, joint_logits, present).transpose(0, 1)
        existing = None
        if present is not None:
            existing = opinions_present(present, evidence.shape[1] - len(views))
            evidence = keep_present(evidence, existing)
        private, shared = evidence[:, : len(views)], evidence[:, len(views) :]
        if present is not None:
            shared = shared * present_share(present)
        if self.fusion == "mixture":
            witness = None if view_logits is None else view_logits.softmax(dim=-1)
            fused = fuse_mixture(private, shared, witness, weights=self.weights, present=present)
        else:
            fused = self._fuse(private, shared, existing, self.fusion)
        return TokenOpinions(
            fused=fused, private=private, shared=shared, present=existing, **states
        )

    def _fuse(
        self, private: Tensor, shared: Tensor, existing: Tensor | None, operator: FusionOperator
    ) -> Tensor:
        """Fuse by an operator of `fuse`, shared opinions discounted by conflict, if asked for."""
        weights = None
        if self.discount and shared.shape[1]:
            trust = (1 - share_conflict(private)).unsqueeze(-1) / shared.shape[1]
            weights = torch.cat(
                [torch.ones_like(private[..., 0]), trust.expand(shared.shape[:2])], dim=1
            )
        if existing is not None:
            weights = existing.to(private.dtype) if weights is None else weights * existing
        return fuse(torch.cat([private, shared], dim=1), operator=operator, weights=weights)


class RegressionNet(_TokenNet):
    """N views to 2N tokens to opinions about a score.

    Encoders by kind of view, projection, private and shared encoders, Transformer fusion,
    normal-inverse-gamma collectors on the fused tokens, and the order-free fusion of their
    opinions.

    Parameters
    ----------
    encoders : sequence of ViewEncoder
        One per view.
    hidden, heads, feedforward : int
        H and the sizes of the Transformer.
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
        dropout: float = 0.2,
        mask: AttentionMask = "private",
        sharing: Sharing = "tied-mean",
        skip: bool = True,
    ) -> None:
        views = len(encoders)
        super().__init__(
            EncodedProjection(encoders, hidden=hidden),
            Subspaces(views=views, hidden=hidden),
            TokenFusion(
                views=views,
                hidden=hidden,
                heads=heads,
                feedforward=feedforward,
                dropout=dropout,
                mask=mask,
            ),
            dropout=dropout,
        )
        self.collect = NIGCollectors(views=views, hidden=hidden, sharing=sharing, skip=skip)

    def forward(self, views: Sequence[ViewInput], *, attention: bool = False) -> ScoreOpinions:
        """Run N views: tables (B, d_v) and `Padded` sequences or tokens."""
        dropped, tokens, states = self._states(views, None, attention=attention)
        opinions, count = self.collect(tokens, dropped), len(views)
        return ScoreOpinions(
            fused=fuse_nig(opinions),
            private=NIG(*(part[:, :count] for part in opinions)),
            shared=NIG(*(part[:, count:] for part in opinions)),
            **states,
        )
