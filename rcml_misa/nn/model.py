"""RCML-MISA's network for any number of views, assembled from the room's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.attention import AttentionMask, TokenFusion
from rcml_misa.nn.collectors import CollectorKind, Collectors, Sharing
from rcml_misa.nn.encoders import Subspaces, ViewProjection
from rcml_misa.nn.view_encoders import EncodedProjection, ViewEncoder, ViewInput
from rcml_misa.opinions import fuse

__all__ = ["RCMLMISANet", "TokenOpinions", "share_conflict"]


TokenFusionOperator = Literal["mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"]
BOGUS = 0.2  # prior chance that one view is not of its row
FLOOR = 1e-3  # no share counts as less when shares are multiplied


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
    attention: Tensor | None = None


def share_conflict(evidence: Tensor) -> Tensor:
    """Largest conflict between the shares of two opinions, each weighted by its confidence.

    max over pairs of [|pi_i - pi_j|_1 / 2] max(pi_i) max(pi_j), pi = e / sum e; 0 for one opinion.

    Parameters
    ----------
    evidence : Tensor of shape (..., M, K)

    Returns
    -------
    Tensor of shape (...)
        In [0, 1].

    Examples
    --------
    >>> share_conflict(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    tensor(1.)
    """
    count = evidence.shape[-2]
    if count < 2:
        return evidence.new_zeros(evidence.shape[:-2])
    shares = evidence / evidence.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    peak = shares.amax(dim=-1)
    first, second = torch.triu_indices(count, count, offset=1)
    distance = (shares[..., first, :] - shares[..., second, :]).abs().sum(dim=-1) / 2
    return (distance * peak[..., first] * peak[..., second]).amax(dim=-1)


def fuse_mixture(
    private: Tensor, shared: Tensor, witness: Tensor | None = None, *, shared_weight: float = 1.5
) -> Tensor:
    """Fuse under uncertainty about which view, if any, is not of its row.

    One hypothesis says that every view belongs to the row; its shares are the normalised product
    of all opinions' shares, the shared opinions together counting `shared_weight`. N others say
    that view v does not: the product q_v of the other views' witness shares. A bogus view is
    independent of the others, so that the posterior of "v is bogus" is in proportion to
    (rho / N) / (K sum_c p_vc q_vc), p_v the witness shares, and that of "none is" to 1 - rho. The
    fused shares are the mixture of the hypotheses' shares; the fused mass is that of geometric
    fusion, which falls where opinions differ. Order-free.

    Parameters
    ----------
    private : Tensor of shape (..., N, K)
        Evidence of the views' own opinions.
    shared : Tensor of shape (..., M, K)
        Evidence of opinions that rest on all views; M may be 0.
    witness : Tensor of shape (..., N, K), optional
        Shares of each view by someone who has not been trained together with the others (the
        experts); the private opinions' shares without it.
    shared_weight : float
        Weight of the shared opinions together, in views.

    Returns
    -------
    Tensor of shape (..., K)
        Fused evidence.

    Examples
    --------
    Two views that agree outvote a third one that is surer.

    >>> views = torch.tensor([[9.0, 1.0, 0.0], [9.0, 1.0, 0.0], [0.0, 0.0, 90.0]])
    >>> int(fuse_mixture(views, torch.empty(0, 3)).argmax())
    0
    """
    count, classes = private.shape[-2:]
    logs = _log_shares(private)
    everything = logs.sum(dim=-2, keepdim=True)
    if shared.shape[-2]:
        everything = everything + shared_weight * _log_shares(shared).mean(dim=-2, keepdim=True)
    every = torch.cat([private, shared], dim=-2)
    mass = torch.expm1(torch.log1p(every).mean(dim=-2)).sum(dim=-1, keepdim=True)
    if count < 2:
        return mass * everything.squeeze(-2).softmax(dim=-1)
    if witness is not None:
        logs = _log_shares(witness)
    others = (logs.sum(dim=-2, keepdim=True) - logs).softmax(dim=-1)
    agreement = classes * (logs.exp() * others).sum(dim=-1).clamp_min(1e-6)
    weights = torch.cat([torch.full_like(mass, 1 - BOGUS), BOGUS / count / agreement], dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    shares = torch.cat([everything.softmax(dim=-1), others], dim=-2)
    return mass * (weights.unsqueeze(-1) * shares).sum(dim=-2)


def _log_shares(evidence: Tensor) -> Tensor:
    """log(pi + 0.001), pi = e / sum e, uniform where there is no evidence."""
    classes = evidence.shape[-1]
    lifted = evidence + 1e-6
    shares = lifted / lifted.sum(dim=-1, keepdim=True)
    return torch.log((shares + FLOOR) / (1 + classes * FLOOR))


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
        encoders: Sequence[ViewEncoder] | None = None,
    ) -> None:
        super().__init__()
        views = len(widths)
        self.dropout = dropout
        self.fusion: TokenFusionOperator = fusion
        self.discount = discount
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
        *,
        attention: bool = False,
    ) -> TokenOpinions:
        """Run N views (B, d_v), with experts' logits (B, N, K) and (B, K) where there are any.

        Attention maps are part of the output only where `attention` asks for them.
        """
        projected = self.project(views)
        codes = self.subspaces(F.dropout(projected, self.dropout, training=self.training))
        codes_of_all = torch.cat([codes.private, codes.shared])
        tokens = self.fuse_tokens(codes_of_all)
        stacked = None if view_logits is None else view_logits.transpose(0, 1)
        evidence = self.collect(tokens, stacked, joint_logits).transpose(0, 1)
        private, shared = evidence[:, : len(views)], evidence[:, len(views) :]
        return TokenOpinions(
            fused=self._fuse(private, shared, view_logits),
            private=private,
            shared=shared,
            projected=projected.transpose(0, 1),
            private_codes=codes.private.transpose(0, 1),
            shared_codes=codes.shared.transpose(0, 1),
            reconstructed=codes.reconstructed.transpose(0, 1),
            tokens=tokens.transpose(0, 1),
            attention=self.fuse_tokens.maps(codes_of_all) if attention else None,
        )

    def _fuse(self, private: Tensor, shared: Tensor, view_logits: Tensor | None) -> Tensor:
        if self.fusion == "mixture":
            witness = None if view_logits is None else view_logits.softmax(dim=-1)
            return fuse_mixture(private, shared, witness)
        weights = None
        if self.discount and shared.shape[1]:
            trust = (1 - share_conflict(private)).unsqueeze(-1) / shared.shape[1]
            weights = torch.cat(
                [torch.ones_like(private[..., 0]), trust.expand(shared.shape[:2])], dim=1
            )
        return fuse(torch.cat([private, shared], dim=1), operator=self.fusion, weights=weights)
