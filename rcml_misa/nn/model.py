"""RCML-MISA's network for any number of views, assembled from the room's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.attention import AttentionMask, TokenFusion
from rcml_misa.nn.collectors import CollectorKind, Collectors, Sharing
from rcml_misa.nn.encoders import Subspaces, ViewProjection
from rcml_misa.nn.view_encoders import EncodedProjection, ViewEncoder, ViewInput
from rcml_misa.opinions import (
    fuse,
    fuse_mixture,
    keep_present,
    opinions_present,
    present_share,
    share_conflict,
)

__all__ = ["RCMLMISANet", "TokenFusionOperator", "TokenOpinions"]

TokenFusionOperator = Literal["mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"]


@dataclass(frozen=True)
class TokenOpinions:
    """Everything one forward pass of RCML-MISA gives to losses, opinions and figures.

    Attributes
    ----------
    fused : Tensor of shape (B, K)
        Fused evidence.
    private : Tensor of shape (B, N, K)
        Evidence of the private tokens, in the order of the views.
    shared : Tensor of shape (B, M, K)
        Evidence of the shared tokens; M depends on the collectors.
    projected, private_codes, shared_codes, reconstructed : Tensor of shape (B, N, H)
        u_v, h_v^p, h_v^c and the reconstruction of u_v.
    tokens : Tensor of shape (B, 2N, H)
        The fused tokens, private ones first.
    present : Tensor of bool of shape (B, N + M), optional
        Which private and shared opinions there are; the others have no evidence. None: all.
    attention : Tensor of shape (B, L, heads, 2N, 2N), optional
        How each token divides its attention, where it was asked for.
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    projected: Tensor
    private_codes: Tensor
    shared_codes: Tensor
    reconstructed: Tensor
    tokens: Tensor
    present: Tensor | None = None
    attention: Tensor | None = None


class RCMLMISANet(nn.Module):
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
    fusion : {"geometric", "mean", "pairwise", "cumulative", "dempster"}
        How the opinions' evidence is fused.
    discount : bool
        Weigh the shared opinions by one minus the private ones' largest conflict, divided by
        their number: a joint view of contradicting views is no witness.
    experts : bool
        Whether `forward` is given experts' logits.
    weights : ndarray of shape (N + 1,), optional
        Of the opinions in the mixture; see `fuse_mixture`.
    encoders : sequence of ViewEncoder, optional
        What becomes of each view before it is projected, for sets with sequences or texts.
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
        super().__init__()
        views = len(widths)
        self.dropout = dropout
        self.fusion: TokenFusionOperator = fusion
        self.discount = discount
        found = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.weights: Tensor | None
        self.register_buffer("weights", found)
        self.project = (
            ViewProjection(widths, hidden=hidden)
            if encoders is None
            else EncodedProjection(encoders, hidden=hidden)
        )
        self.subspaces = Subspaces(views=views, hidden=hidden)
        self.fuse_tokens = TokenFusion(
            views=views,
            hidden=hidden,
            heads=heads,
            feedforward=feedforward,
            layers=layers,
            dropout=attention_dropout,
            mask=mask,
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
        """Run N views (B, d_v), with experts' logits (B, N, K) and (B, K) where there are any.

        With `present` of shape (B, N), views that a row lacks are seen by no token, have no
        evidence and no part in the fusion, and the shared opinions' evidence falls by their share.
        Attention maps are part of the output only where `attention` asks for them.
        """
        projected = self.project(views)
        codes = self.subspaces(F.dropout(projected, self.dropout, training=self.training))
        codes_of_all = torch.cat([codes.private, codes.shared])
        tokens = self.fuse_tokens(codes_of_all, present)
        stacked = None if view_logits is None else view_logits.transpose(0, 1)
        evidence = self.collect(tokens, stacked, joint_logits, present).transpose(0, 1)
        there = None
        if present is not None:
            there = opinions_present(present, evidence.shape[1] - len(views))
            evidence = keep_present(evidence, there)
        private, shared = evidence[:, : len(views)], evidence[:, len(views) :]
        if present is not None:
            shared = shared * present_share(present)
        return TokenOpinions(
            fused=self._fuse(private, shared, view_logits, present),
            private=private,
            shared=shared,
            projected=projected.transpose(0, 1),
            private_codes=codes.private.transpose(0, 1),
            shared_codes=codes.shared.transpose(0, 1),
            reconstructed=codes.reconstructed.transpose(0, 1),
            tokens=tokens.transpose(0, 1),
            present=there,
            attention=self.fuse_tokens.maps(codes_of_all, present) if attention else None,
        )

    def _fuse(
        self,
        private: Tensor,
        shared: Tensor,
        view_logits: Tensor | None,
        present: Tensor | None,
    ) -> Tensor:
        if self.fusion == "mixture":
            witness = None if view_logits is None else view_logits.softmax(dim=-1)
            return fuse_mixture(private, shared, witness, weights=self.weights, present=present)
        weights = None
        if self.discount and shared.shape[1]:
            trust = (1 - share_conflict(private)).unsqueeze(-1) / shared.shape[1]
            weights = torch.cat(
                [torch.ones_like(private[..., 0]), trust.expand(shared.shape[:2])], dim=1
            )
        if present is not None:
            there = opinions_present(present, shared.shape[1])
            weights = there.to(private.dtype) if weights is None else weights * there
        return fuse(torch.cat([private, shared], dim=1), operator=self.fusion, weights=weights)
