"""MISA's network for any number of views, with its ablations and its adversarial branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.encoders import (
    EncodedProjection,
    StackedLinear,
    ViewEncoder,
    ViewInput,
)
from rcml_misa.nn.subspaces import Subspaces
from rcml_misa.nn.tokens import TokenStates

__all__ = ["MISANet", "MISAOutput", "MISAVariant", "reverse_gradient"]

MISAVariant = Literal["full", "base", "inv", "sFusion", "iFusion"]


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def reverse_gradient(values: Tensor, weight: float = 1.0) -> Tensor:
    """Pass values on, and their gradient back with the sign turned, times `weight`.

    Source: Ganin and Lempitsky, Unsupervised domain adaptation by backpropagation, ICML 2015.

    Examples
    --------
    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward()
    >>> x.grad
    tensor([-0.5000, -0.5000])
    """
    reversed_: Tensor = _Reverse.apply(values, weight)  # type: ignore[no-untyped-call]
    return reversed_


@dataclass(frozen=True, kw_only=True)
class MISAOutput(TokenStates):
    """Predictions, codes and tokens of one forward pass; see `TokenStates`.

    Codes that the variant does without are zeros.

    Attributes
    ----------
    prediction : Tensor of shape (B, outputs)
        Scores of a regression, or logits of classes.
    own : Tensor of shape (B, N, outputs), optional
        The same by each view alone.
    view_logits : Tensor of shape (B, N, N), optional
        First discriminator's logits of the view that each shared code came from.
    kind_logits : Tensor of shape (B, 2N, N + 1), optional
        Second discriminator's logits of private, then shared codes: view v's private code is
        class v, a shared code class N.
    """

    prediction: Tensor
    own: Tensor | None
    view_logits: Tensor | None
    kind_logits: Tensor | None


class MISANet(nn.Module):
    """Views to private and shared codes, Transformer fusion of 2N tokens, one head.

    Parameters
    ----------
    encoders : sequence of ViewEncoder
        One per view.
    outputs, hidden, heads, feedforward : int
        Width of the prediction, 1 or K; H; and the Transformer's sizes.
    dropout : float
        Chance of dropping, in the Transformer, the head and the discriminators.
    variant, view_dropout
        See `rcml_misa.estimators.MISAClassifier`.
    adversarial, shared_private : bool
        Whether the two discriminators exist.
    reversal_weight : float
        Weight of the reversed gradient that the first one sends back.
    own : bool
        Whether each view has a linear read-out of its u_v.
    skip : bool
        Add to the head's output a linear read-out of every view's u_v; the head's last layer
        then starts at zero, so that training starts at the views themselves.

    References
    ----------
    Hazarika, Zimmermann and Poria, MISA, ACM MM 2020, section 3; the discriminators stand in
    the published code.
    """

    def __init__(
        self,
        encoders: Sequence[ViewEncoder],
        *,
        outputs: int,
        hidden: int = 128,
        heads: int = 2,
        feedforward: int = 2048,
        dropout: float = 0.2,
        variant: MISAVariant = "full",
        adversarial: bool = False,
        shared_private: bool = False,
        reversal_weight: float = 0.8,
        view_dropout: float = 0.0,
        own: bool = False,
        skip: bool = False,
    ) -> None:
        super().__init__()
        views = len(encoders)
        self.variant: MISAVariant = variant
        self.reversal_weight = reversal_weight
        self.dropout = dropout
        self.view_dropout = view_dropout
        self.project = EncodedProjection(encoders, hidden=hidden)
        self.subspaces = None if variant == "base" else Subspaces(views=views, hidden=hidden)
        tokens = 2 * views if variant == "full" else views
        self.fuse = nn.TransformerEncoderLayer(hidden, heads, feedforward, dropout)
        self.head = nn.Sequential(
            nn.Linear(tokens * hidden, tokens * hidden // 2 or 1),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(tokens * hidden // 2 or 1, outputs),
        )
        self.discriminate = None
        if adversarial and self.subspaces is not None:
            self.discriminate = nn.Sequential(
                *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)),
                nn.Linear(hidden, views),
            )
        both = shared_private and variant not in ("base", "inv")
        self.discriminate_kind = nn.Linear(hidden, views + 1) if both else None
        self.own = StackedLinear(count=views, width=hidden, outputs=outputs) if own else None
        self.skip = nn.Linear(views * hidden, outputs) if skip else None
        if skip:
            nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]

    def forward(self, views: Sequence[ViewInput], *, attention: bool = False) -> MISAOutput:
        """Run N views: tables (B, d_v) and `Padded` sequences or tokens.

        Attention maps are part of the output only where `attention` asks for them.
        """
        projected = self.project(views)
        if self.training and self.view_dropout and len(projected) > 1:
            draws = torch.rand(projected.shape[:2], device=projected.device)
            stays = (draws >= self.view_dropout) | (draws == draws.amax(dim=0))  # at least one view
            projected = projected * stays.unsqueeze(-1).to(projected.dtype)
        private = shared = rebuilt = torch.zeros_like(projected)
        if self.subspaces is not None:
            private, shared, rebuilt = self.subspaces(projected)
        tokens = {
            "base": projected,
            "inv": shared,
            "sFusion": private,
            "iFusion": shared,
            "full": torch.cat([private, shared]),
        }[self.variant]
        maps = None
        if attention:
            _, maps = self.fuse.self_attn(tokens, tokens, tokens, average_attn_weights=False)
        tokens = self.fuse(tokens)
        prediction = self.head(_side_by_side(tokens))
        if self.skip is not None:
            direct = F.dropout(_side_by_side(projected), self.dropout, training=self.training)
            prediction = prediction + self.skip(direct)
        dropped = F.dropout(projected, self.dropout, training=self.training)
        reversed_ = reverse_gradient(shared, self.reversal_weight)

        def rows(values: Tensor, layer: nn.Module | None) -> Tensor | None:
            return None if layer is None else layer(values).transpose(0, 1)

        both = torch.cat([private, shared])  # apart from the tokens: gradients add up in this order
        return MISAOutput(
            prediction=prediction,
            own=rows(dropped, self.own),
            projected=projected.transpose(0, 1),
            private_codes=private.transpose(0, 1),
            shared_codes=shared.transpose(0, 1),
            reconstructed=rebuilt.transpose(0, 1),
            tokens=tokens.transpose(0, 1),
            view_logits=rows(reversed_, self.discriminate),
            kind_logits=rows(both, self.discriminate_kind),
            attention=None if maps is None else maps.unsqueeze(1),
        )


def _side_by_side(vectors: Tensor) -> Tensor:
    """Vectors (M, B, H) as rows (B, M H)."""
    return vectors.transpose(0, 1).flatten(start_dim=1)
