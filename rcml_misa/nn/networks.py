"""RCML-MISA's networks for any number of views: opinions about classes, and about a score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.encoders import (
    DeepEncoders,
    EncodedProjection,
    ViewEncoder,
    ViewInput,
    ViewProjection,
)
from rcml_misa.nn.subspaces import Subspaces
from rcml_misa.nn.tokens import (
    AttentionMask,
    CollectorKind,
    Collectors,
    NIGCollectors,
    Readout,
    Sharing,
    TokenFusion,
    TokenStates,
)
from rcml_misa.opinions import (
    ViewFusionOperator,
    fuse,
    fuse_views,
    keep_present,
    opinions_present,
    present_share,
)
from rcml_misa.opinions.nig import NIG, fuse_nig

__all__ = [
    "NetworkMean",
    "NotesNet",
    "RCMLMISANet",
    "RegressionNet",
    "ScoreOpinions",
    "SubspaceGradient",
    "TokenOpinions",
]

SubspaceGradient = Literal["codes", "encoders"]


@dataclass(frozen=True, kw_only=True)
class TokenOpinions(TokenStates):
    """Opinions about classes, codes and tokens of one forward pass; see `TokenStates`.

    Attributes
    ----------
    fused, private, shared : Tensor of shape (B, K), (B, N, K) and (B, M, K)
        Evidence: fused, of the private tokens in the order of the views, and of the shared tokens;
        M depends on the collectors.
    logits, token_logits : Tensor of shape (B, N + M, K), optional
        Logits of the private and shared opinions, and the tokens' part of them.
    present : Tensor of bool of shape (B, N + M), optional
        Private and shared opinions that exist; the others have no evidence. None: all.
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    logits: Tensor | None = None
    token_logits: Tensor | None = None
    present: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreOpinions(TokenStates):
    """Opinions about a score, codes and tokens of one forward pass; see `TokenStates`.

    Attributes
    ----------
    fused, private, shared : NIG of shape (B,), (B, N) and (B, M)
        Opinions: fused, of the private tokens in the order of the views, and of the shared tokens;
        M depends on the collectors.
    """

    fused: NIG
    private: NIG
    shared: NIG


class _TokenNet(nn.Module):
    """N projected views to 2N fused tokens: dropout, private and shared encoders, Transformer."""

    def __init__(
        self,
        *,
        views: int,
        hidden: int,
        heads: int,
        feedforward: int,
        layers: int = 1,
        dropout: float,
        attention_dropout: float,
        mask: AttentionMask,
        subspace_gradient: SubspaceGradient = "encoders",
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.subspace_gradient = subspace_gradient
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

    def _states(
        self, projected: Tensor, present: Tensor | None, *, attention: bool
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Views (N, B, H) after dropout, fused tokens (2N, B, H), fields of `TokenStates`."""
        dropped = F.dropout(projected, self.dropout, training=self.training)
        if self.training and self.subspace_gradient == "codes":
            # the terms of the codes shape the subspaces alone
            both, codes = self.subspaces.twice(dropped)
            projected = projected.detach()
        else:
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
    """N views to 2N tokens to opinions: deep encoders, collectors, order-free fusion of evidence.

    Parameters
    ----------
    encoders : sequence of ViewEncoder
        Encoders by kind of view, before the deep ones.
    classes, hidden, heads, feedforward, layers : int
        K, H and the sizes of the Transformer.
    encoder_width, encoder_depth, encoder_dropout
        See `DeepEncoders`.
    dropout, attention_dropout : float
        Chance of dropping an entry of the projected views, and inside the Transformer.
    mask, sharing, collector, readout
        See `TokenFusion` and `Collectors`.
    subspace_gradient : {"codes", "encoders"}
        What the terms of the codes train: the subspaces alone, or the encoders too, as published.
    fusion : {"mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"}
        Fusion operator of the opinions.
    discount : bool
        Weigh the shared opinions by one minus the private ones' largest conflict, divided by
        their number: a joint view of contradicting views is no witness.
    """

    def __init__(
        self,
        encoders: Sequence[ViewEncoder],
        *,
        classes: int,
        hidden: int = 64,
        encoder_width: int = 256,
        encoder_depth: int = 2,
        encoder_dropout: float = 0.2,
        heads: int = 2,
        feedforward: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        attention_dropout: float = 0.2,
        mask: AttentionMask = "private",
        sharing: Sharing = "separate",
        collector: CollectorKind = "shares",
        readout: Readout = "both",
        subspace_gradient: SubspaceGradient = "codes",
        fusion: ViewFusionOperator = "mixture",
        discount: bool = True,
    ) -> None:
        views = len(encoders)
        super().__init__(
            views=views,
            hidden=hidden,
            heads=heads,
            feedforward=feedforward,
            layers=layers,
            dropout=dropout,
            attention_dropout=attention_dropout,
            mask=mask,
            subspace_gradient=subspace_gradient,
        )
        self.fusion: ViewFusionOperator = fusion
        self.discount = discount
        self.encode = DeepEncoders(
            encoders, width=encoder_width, depth=encoder_depth, dropout=encoder_dropout
        )
        self.project = ViewProjection([encoder_width] * views, hidden=hidden)
        self.collect = Collectors(
            views=views,
            hidden=hidden,
            classes=classes,
            sharing=sharing,
            kind=collector,
            readout=readout,
            encoded=encoder_width,
        )

    def forward(
        self,
        views: Sequence[ViewInput],
        present: Tensor | None = None,
        *,
        attention: bool = False,
    ) -> TokenOpinions:
        """Run N views: tables (B, d_v) and `Padded` sequences or tokens.

        With `present` of shape (B, N), views that a row lacks are seen by no token, have no
        evidence and no part in the fusion, and the shared opinions' evidence falls by their share.
        Attention maps are part of the output only where `attention` asks for them.
        """
        encoded = self.encode(views)
        _, tokens, states = self._states(self.project(encoded), present, attention=attention)
        parts = self.collect(tokens, encoded, present)
        evidence, logits, token_logits = (part.transpose(0, 1) for part in parts)
        existing = None
        if present is not None:
            existing = opinions_present(present, evidence.shape[1] - len(views))
            evidence = keep_present(evidence, existing)
        private, shared = evidence[:, : len(views)], evidence[:, len(views) :]
        if present is not None:
            shared = shared * present_share(present)
        fused = fuse_views(
            private, shared, operator=self.fusion, discount=self.discount, present=present
        )
        return TokenOpinions(
            fused=fused,
            private=private,
            shared=shared,
            logits=logits,
            token_logits=token_logits,
            present=existing,
            **states,
        )


class NetworkMean(nn.Module):
    """Networks of one form: their mean opinions, beside the codes and tokens of the first.

    Evidence is averaged as in geometric fusion, so that its mass falls where networks differ.

    Parameters
    ----------
    networks : iterable of Module
        One `RCMLMISANet` or more.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(
        self,
        views: Sequence[ViewInput],
        present: Tensor | None = None,
        *,
        attention: bool = False,
    ) -> TokenOpinions:
        """Run N views through every network; see `RCMLMISANet.forward`."""
        first, *others = self.networks
        output: TokenOpinions = first(views, present, attention=attention)
        if not others:
            return output
        outputs = [output, *(network(views, present) for network in others)]
        means = {
            name: fuse(
                torch.stack([getattr(each, name) for each in outputs], dim=-2),
                operator="geometric",
            )
            for name in ("fused", "private", "shared")
        }
        return replace(output, **means)


class RegressionNet(_TokenNet):
    """N views to 2N tokens to opinions about a score: normal-inverse-gamma collectors and fusion.

    Parameters
    ----------
    encoders : sequence of ViewEncoder
        One per view.
    hidden, heads, feedforward : int
        H and the sizes of the Transformer.
    dropout : float
        Chance of dropping an entry of the projected views, and inside the Transformer.
    mask, sharing, skip
        See `TokenFusion` and `NIGCollectors`.
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
        project = EncodedProjection(encoders, hidden=hidden)  # drawn before the rest
        super().__init__(
            views=views,
            hidden=hidden,
            heads=heads,
            feedforward=feedforward,
            dropout=dropout,
            attention_dropout=dropout,
            mask=mask,
        )
        self.project = project
        self.collect = NIGCollectors(views=views, hidden=hidden, sharing=sharing, skip=skip)

    def forward(self, views: Sequence[ViewInput], *, attention: bool = False) -> ScoreOpinions:
        """Run N views: tables (B, d_v) and `Padded` sequences or tokens."""
        projected = self.project(views)
        dropped, tokens, states = self._states(projected, None, attention=attention)
        opinions, count = self.collect(tokens, dropped), len(views)
        return ScoreOpinions(
            fused=fuse_nig(opinions),
            private=NIG(*(part[:, :count] for part in opinions)),
            shared=NIG(*(part[:, count:] for part in opinions)),
            **states,
        )


def _collector(hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, classes), nn.BatchNorm1d(classes), nn.Softplus())


class NotesNet(nn.Module):
    """Projection, subspaces, post-norm Transformer with feed-forward 2048, BatchNorm collectors.

    Kept as it was written so that its figures can be reproduced; never a default. The shared
    evidence does not reach the fused opinion nor any loss, so that ``tied`` and ``separate``
    compute the same function, and the first view's evidence holds the sum over views.

    Parameters
    ----------
    widths, classes, hidden
        See `RCMLMISANet`.
    tied : bool
        One collector for all shared tokens.
    """

    def __init__(
        self, widths: Sequence[int], *, classes: int, tied: bool, hidden: int = 128
    ) -> None:
        super().__init__()
        views = len(widths)
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.LayerNorm(hidden))
            for width in widths
        )
        self.encode_shared = nn.Sequential(nn.Linear(hidden, hidden), nn.Sigmoid())
        self.encode_private = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden), nn.Sigmoid()) for _ in widths
        )
        self.decode = nn.ModuleList(nn.Linear(hidden, hidden) for _ in widths)
        self.transformer = nn.TransformerEncoderLayer(hidden, nhead=2)
        self.collect_private = nn.ModuleList(_collector(hidden, classes) for _ in widths)
        self.collect_shared = nn.ModuleList(
            _collector(hidden, classes) for _ in range(1 if tied else views)
        )

    def forward(self, views: Sequence[Tensor]) -> TokenOpinions:
        """Run N views of shape (B, d_v)."""
        projected = [layer(view) for layer, view in zip(self.project, views, strict=True)]
        private = [layer(u) for layer, u in zip(self.encode_private, projected, strict=True)]
        shared = [self.encode_shared(u) for u in projected]
        decoded = [layer(p + c) for layer, p, c in zip(self.decode, private, shared, strict=True)]
        tokens = self.transformer(torch.stack([*private, *shared]))
        count = len(views)
        evidence = [layer(tokens[v]) for v, layer in enumerate(self.collect_private)]
        unread = [  # by the fused opinion and by any loss
            self.collect_shared[v % len(self.collect_shared)](tokens[count + v])
            for v in range(count)
        ]
        total = torch.stack(evidence).sum(dim=0)
        evidence[0] = total  # fault 2: the sum was accumulated into the first view's evidence
        return TokenOpinions(
            fused=(total / count + total / count) / 2,  # fault 1: private evidence twice
            private=torch.stack(evidence, dim=1),  # as the loss sees it
            shared=torch.stack(unread, dim=1),
            projected=torch.stack(projected, dim=1),
            private_codes=torch.stack(private, dim=1),
            shared_codes=torch.stack(shared, dim=1),
            reconstructed=torch.stack(decoded, dim=1),
            tokens=tokens.transpose(0, 1),
        )
