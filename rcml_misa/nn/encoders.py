"""From views to vectors of one width: encoders by kind of view, projection.

Tables pass, sequences and texts become one vector per sample. Inside the networks views come
first, (N, B, H), so that one batched product serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rcml_misa.opinions.slopes import Slopes, with_slopes

__all__ = [
    "BatchNorm",
    "DeepEncoders",
    "EncodedProjection",
    "Padded",
    "RecurrentEncoder",
    "SequenceEncoderKind",
    "StackedLinear",
    "TableEncoder",
    "ViewEncoder",
    "ViewInput",
    "ViewProjection",
    "WordEncoder",
    "masked_mean",
    "sequence_encoder",
]

SequenceEncoderKind = Literal["lstm", "gru", "transformer", "mean", "max", "attention"]


class Padded(NamedTuple):
    """A batch of padded sequences: values (B, T, d), or token numbers (B, T), and lengths (B,)."""

    values: Tensor
    lengths: Tensor

    @property
    def mask(self) -> Tensor:
        """True at the (B, T) steps that count."""
        steps = torch.arange(self.values.shape[1], device=self.values.device)
        return steps < self.lengths.to(self.values.device).unsqueeze(1)

    def to(self, device: torch.device) -> Padded:
        """Move values and lengths to a device."""
        return Padded(self.values.to(device), self.lengths.to(device))


ViewInput = Tensor | Padded


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average the steps that count: (B, T, d) and (B, T) to (B, d).

    Examples
    --------
    >>> masked_mean(torch.tensor([[[1.0], [9.0]]]), torch.tensor([[True, False]]))
    tensor([[1.]])
    """
    weight = mask.unsqueeze(-1).to(values.dtype)
    return (values * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)


class ViewEncoder(nn.Module):
    """Base of the encoders of a view; `outputs` is the width of their vectors."""

    outputs: int


class TableEncoder(ViewEncoder):
    """A table's row of `width` columns as it is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.outputs = width

    def forward(self, view: Tensor) -> Tensor:
        """Return (B, d) unchanged."""
        return view


class RecurrentEncoder(ViewEncoder):
    """MISA's utterance vector: two bidirectional layers, LayerNorm between, packed by length.

    The last hidden states of both layers and directions side by side, 4 x hidden. Source: Hazarika,
    Zimmermann and Poria, ACM MM 2020, section 3.2, and the published code.

    Examples
    --------
    >>> encoder = RecurrentEncoder(3, hidden=4)
    >>> encoder(Padded(torch.zeros(2, 5, 3), torch.tensor([5, 2]))).shape
    torch.Size([2, 16])
    """

    def __init__(self, width: int, *, hidden: int, kind: Literal["lstm", "gru"] = "lstm") -> None:
        super().__init__()
        layer = nn.LSTM if kind == "lstm" else nn.GRU
        self.first = layer(width, hidden, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(2 * hidden)
        self.second = layer(2 * hidden, hidden, bidirectional=True, batch_first=True)
        self.outputs = 4 * hidden

    def forward(self, view: Padded) -> Tensor:
        """Encode (B, T, d) into (B, 4 h)."""
        lengths = view.lengths.cpu()
        states = []
        values = view.values
        for layer in (self.first, self.second):
            packed = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
            output, last = layer(packed)
            states.append(last[0] if isinstance(last, tuple) else last)
            if layer is self.first:
                values = self.norm(pad_packed_sequence(output, batch_first=True)[0])
        return torch.cat(states).transpose(0, 1).flatten(start_dim=1)


class _StepTransformer(ViewEncoder):
    """One pre-norm Transformer layer of two heads over a sequence's steps, then their mean."""

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, hidden)
        self.layer = nn.TransformerEncoderLayer(
            hidden, 2, 2 * hidden, dropout=0.1, batch_first=True, norm_first=True
        )
        rate = torch.exp(torch.arange(0, hidden, 2) * (-9.2 / hidden))
        angle = torch.arange(1024).unsqueeze(1) * rate
        places = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :hidden]
        self.places: Tensor
        self.register_buffer("places", places, persistent=False)
        self.outputs = hidden

    def forward(self, view: Padded) -> Tensor:
        """Encode (B, T, d) into (B, H); steps beyond the first 1024 share the last place."""
        steps = torch.arange(view.values.shape[1]).clamp_max(len(self.places) - 1)
        tokens = self.project(view.values) + self.places[steps]
        mask = view.mask
        return masked_mean(self.layer(tokens, src_key_padding_mask=~mask), mask)


class _StepPooling(ViewEncoder):
    """Mean, largest value or attention-weighted mean of a sequence's steps."""

    def __init__(
        self, width: int, *, hidden: int, kind: Literal["mean", "max", "attention"]
    ) -> None:
        super().__init__()
        self.kind = kind
        self.score = None
        if kind == "attention":
            self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.outputs = width

    def forward(self, view: Padded) -> Tensor:
        """Pool (B, T, d) to (B, d)."""
        mask = view.mask
        if self.score is not None:
            scores = self.score(view.values).squeeze(-1).masked_fill(~mask, -torch.inf)
            weights: Tensor = scores.softmax(dim=1)
            return (weights.unsqueeze(-1) * view.values).sum(dim=1)
        if self.kind == "max":
            return view.values.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
        return masked_mean(view.values, mask)


def sequence_encoder(kind: SequenceEncoderKind, width: int, *, hidden: int) -> ViewEncoder:
    """Make the encoder of a sequence view by name.

    Examples
    --------
    >>> sequence_encoder("gru", 3, hidden=4).outputs, sequence_encoder("max", 3, hidden=4).outputs
    (16, 3)
    """
    if kind == "transformer":
        return _StepTransformer(width, hidden=hidden)
    if kind in ("lstm", "gru"):
        return RecurrentEncoder(width, hidden=hidden, kind=kind)
    return _StepPooling(width, hidden=hidden, kind=kind)  # type: ignore[arg-type]


class WordEncoder(ViewEncoder):
    """A trained embedding of `width` per word, dropped by chance 0.2, then a sequence encoder.

    `words` is the size of the vocabulary, whose number 0 is padding.
    """

    def __init__(self, words: int, *, width: int, hidden: int, kind: SequenceEncoderKind) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width, padding_idx=0)
        self.encode = sequence_encoder(kind, width, hidden=hidden)
        self.outputs = self.encode.outputs

    def forward(self, view: Padded) -> Tensor:
        """Encode token numbers (B, T) into (B, outputs)."""
        embedded = F.dropout(self.embed(view.values), 0.2, training=self.training)
        encoded: Tensor = self.encode(Padded(embedded, view.lengths))
        return encoded


class ViewProjection(nn.Module):
    """Linear, ReLU, LayerNorm per view, from its own width to one width H."""

    def __init__(self, widths: Sequence[int], *, hidden: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList([nn.Linear(width, hidden) for width in widths])
        self.gain = nn.Parameter(torch.ones(len(widths), 1, hidden))
        self.shift = nn.Parameter(torch.zeros(len(widths), 1, hidden))

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Map N tensors (B, d_v) to (N, B, H)."""
        linear = [layer(view) for layer, view in zip(self.linears, views, strict=True)]
        stacked = torch.stack(linear).relu()
        return F.layer_norm(stacked, stacked.shape[-1:]) * self.gain + self.shift


class EncodedProjection(nn.Module):
    """An encoder per view, then `ViewProjection` of their vectors to one width H."""

    def __init__(self, encoders: Sequence[ViewEncoder], *, hidden: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.project = ViewProjection([encoder.outputs for encoder in encoders], hidden=hidden)

    def forward(self, views: Sequence[ViewInput]) -> Tensor:
        """Encode N views and project them to (N, B, H)."""
        vectors = [encode(view) for encode, view in zip(self.encoders, views, strict=True)]
        projected: Tensor = self.project(vectors)
        return projected


class StackedLinear(nn.Module):
    """N linear maps of one shape, applied side by side as one batched product.

    With `zero` they start at zero, so that terms added to the output decide at first.

    Examples
    --------
    >>> StackedLinear(count=3, width=4, outputs=2)(torch.zeros(3, 5, 4)).shape
    torch.Size([3, 5, 2])
    """

    def __init__(self, *, count: int, width: int, outputs: int, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else width**-0.5
        self.weight = nn.Parameter(torch.empty(count, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound))

    def forward(self, values: Tensor) -> Tensor:
        """Map (N, B, width) to (N, B, outputs)."""
        return torch.baddbmm(self.bias, values, self.weight)


class BatchNorm(nn.Module):
    """Batch normalisation of (B, width), by the running statistics where a batch has one row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, values: Tensor) -> Tensor:
        """Normalise the columns; in training by the batch, whose statistics are remembered."""
        mean, variance = self.running_mean, self.running_var
        batched = self.training and len(values) > 1
        return F.batch_norm(values, mean, variance, self.weight, self.bias, training=batched)


def _cut_and_drop(values: Tensor, *, stays: Tensor, chance: float) -> tuple[Tensor, Slopes]:
    """Compute the ReLU after a dropout whose draws are given, and its slope."""
    slope = (stays & (values > 0)) / (1 - chance)
    return values * slope, (slope,)


class DeepEncoders(nn.Module):
    """An encoder per view: that of its kind, then layers of Linear, BatchNorm, ReLU and dropout.

    The layers of all views are computed side by side. BatchNorm: Ioffe and Szegedy, ICML 2015.

    Parameters
    ----------
    encoders : sequence of ViewEncoder
        Encoders by kind of view; see `TableEncoder` and `sequence_encoder`.
    width, depth : int
        Width W of the layers, and their number.
    dropout : float
        Chance of dropping an entry of a layer's output.

    Examples
    --------
    >>> encode = DeepEncoders([TableEncoder(3), TableEncoder(5)], width=4, depth=2, dropout=0.2)
    >>> encode([torch.zeros(7, 3), torch.zeros(7, 5)]).shape
    torch.Size([2, 7, 4])
    """

    def __init__(
        self, encoders: Sequence[ViewEncoder], *, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.encoders = nn.ModuleList(encoders)
        self.first = nn.ModuleList(
            nn.Linear(encoder.outputs, width, bias=False) for encoder in encoders
        )
        views = len(encoders)
        self.deeper = nn.ModuleList(
            StackedLinear(count=views, width=width, outputs=width) for _ in range(depth - 1)
        )
        self.norms = nn.ModuleList(BatchNorm(views * width) for _ in range(depth))

    def forward(self, views: Sequence[ViewInput]) -> Tensor:
        """Encode N views into (N, B, W)."""
        triples = zip(self.first, self.encoders, views, strict=True)
        wide = torch.cat([linear(encode(view)) for linear, encode, view in triples], dim=1)
        stacked = self._finish(wide, self.norms[0])
        for linear, norm in zip(self.deeper, list(self.norms)[1:], strict=True):
            stacked = self._finish(linear(stacked).transpose(0, 1).flatten(start_dim=1), norm)
        return stacked

    def _finish(self, wide: Tensor, norm: nn.Module) -> Tensor:
        """Normalise (B, N W), cut below zero and drop; to (N, B, W)."""
        values: Tensor = norm(wide)
        if self.training and self.dropout:
            # uniform draws take a third of the time of `F.dropout`'s on a CPU
            stays = torch.rand_like(wide) >= self.dropout
            values = with_slopes(partial(_cut_and_drop, stays=stays, chance=self.dropout), [values])
        else:
            values = values.relu()
        views = len(self.encoders)
        # as symbolic sizes, which an exported graph keeps
        return values.view(wide.shape[0], views, wide.shape[1] // views).transpose(0, 1)
