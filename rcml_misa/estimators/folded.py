"""Networks of tables made ready to answer: their linear maps folded, all of them in one pass.

Tensors hold features before rows, (..., H, n), so that sums over features, softmaxes over classes
and the attention's small products run along rows, and every layer of all networks and views is one
batched product.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.nn.encoders import DeepEncoders
from rcml_misa.nn.networks import RCMLMISANet
from rcml_misa.nn.tokens import MASS, ONSET, Collectors
from rcml_misa.opinions import opinions_present, present_share
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.plan import ColumnPlan, Reading, ReadingPlan

__all__ = ["FoldedNetworks"]

EPSILON = 1e-5  # of layer and batch normalisation
ROWS = 256  # whose states are held at once
FEW = 16  # rows that go through all networks at once
Maps = tuple[Tensor, Tensor]  # weights (G, outputs, inputs) and biases (G, outputs, 1)


def _maps(pairs: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> Maps:
    """Stack weights (outputs, inputs) and biases (outputs,)."""
    weights, biases = zip(*pairs, strict=True)
    return (
        torch.stack(weights).to(dtype).contiguous(),
        torch.stack(biases).to(dtype).unsqueeze(-1).contiguous(),
    )


def _scaled(weight: Tensor, bias: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Fold a gain and a shift of the inputs into a linear map."""
    return weight * gain, bias + weight @ shift


def _normed(values: Tensor, dim: int, out: Tensor | None = None) -> Tensor:
    """Layer normalisation over the features in `dim`, without gain and shift."""
    centred = values - values.mean(dim=dim, keepdim=True)
    deviation = centred.square().mean(dim=dim, keepdim=True).add_(EPSILON).rsqrt_()
    return torch.mul(centred, deviation, out=centred if out is None else out)


def _norm_of(encode: DeepEncoders, layer: int) -> tuple[Tensor, Tensor]:
    """Gains and shifts (N, W) that batch normalisation comes to."""
    norm: Any = encode.norms[layer]
    views = len(encode.encoders)
    gain = norm.weight * (norm.running_var + EPSILON).rsqrt()
    shift = norm.bias - norm.running_mean * gain
    return gain.view(views, -1), shift.view(views, -1)


class _Layer:
    """One Transformer layer of M networks, on tokens (M, H, T, n)."""

    def __init__(
        self,
        layers: Sequence[Any],
        views: int,
        dtype: torch.dtype,
        *,
        masked: bool,
        first: bool,
    ) -> None:
        self.views, self.masked, self.first = views, masked, first
        self.heads = layers[0].heads
        self.width = width = layers[0].attended.weight.shape[0]
        scale = (width // self.heads) ** -0.5
        parts, widened = [], []
        for layer in layers:
            norm, linear = layer.before_attention, layer.queries_keys_values
            weight, bias = _scaled(linear.weight, linear.bias, norm.weight, norm.bias)
            factor = torch.ones_like(bias)
            factor[:width] = scale
            parts.append((weight * factor[:, None], bias * factor))
            norm, linear = layer.before_feedforward, layer.widen
            widened.append(_scaled(linear.weight, linear.bias, norm.weight, norm.bias))
        self.parts, self.widen = _maps(parts, dtype), _maps(widened, dtype)
        self.attended, self.narrow = (
            _maps([(linear.weight, linear.bias) for linear in linears], dtype)
            for linears in zip(*((layer.attended, layer.narrow) for layer in layers), strict=True)
        )

    def only(self, number: int) -> _Layer:
        """The layer of one of the networks."""
        only = copy(self)
        for name in ("parts", "widen", "attended", "narrow"):
            weight, bias = getattr(self, name)
            setattr(only, name, (weight[number : number + 1], bias[number : number + 1]))
        return only

    def __call__(self, tokens: Tensor, missing: Tensor | None) -> Tensor:
        """Update tokens; `missing` (2N, n) flags those of views that a row lacks."""
        flat = (len(tokens), self.width, -1)
        parts = _apply(self.parts, _normed(tokens, 1).reshape(flat))
        mixed = self._attend(parts.view(len(tokens), 3, *tokens.shape[1:]), missing)
        tokens = tokens + _apply(self.attended, mixed.reshape(flat)).view(tokens.shape)
        wide = _apply(self.widen, _normed(tokens, 1).reshape(flat)).relu_()
        return tokens.add_(_apply(self.narrow, wide).view(tokens.shape))

    def _attend(self, parts: Tensor, missing: Tensor | None) -> Tensor:
        """Mix values by attention: queries, keys and values (M, 3, H, T, n) to (M, H, T, n)."""
        networks, _, width, tokens, rows = parts.shape
        shape = (networks, self.heads, width // self.heads, tokens, rows)
        queries, keys, values = (part.view(shape) for part in parts.unbind(dim=1))
        mixed = torch.empty(shape, dtype=parts.dtype, device=parts.device)
        start = 0
        if self.masked:
            start = self.views
            if self.first:  # a private token sees the two of its view
                pairs = (*shape[:3], 2, self.views, rows)
                closed = None if missing is None else missing.view(2, self.views, rows).clone()
                if closed is not None:
                    closed[0] = False  # and itself in any case
                mixed[..., :start, :] = _mix(
                    queries[..., None, :start, :], keys.view(pairs), values.view(pairs), closed
                )
            else:
                mixed[..., :start, :] = values[..., :start, :]
        for token in range(start, tokens):
            closed = None if missing is None else missing.clone()
            if closed is not None:
                closed[token] = False
            query = queries[..., token : token + 1, :]
            mixed[..., token, :] = _mix(query, keys, values, closed)
        return mixed


def _mix(queries: Tensor, keys: Tensor, values: Tensor, closed: Tensor | None) -> Tensor:
    """Weigh values (M, heads, d, S, ...) of S keys by the softmax of their products with queries.

    Keys that are `closed`, (S, ...), do not count. Results are of shape (M, heads, d, ...).
    """
    scores = (queries * keys).sum(dim=2, keepdim=True)
    if closed is not None:
        scores = scores.masked_fill(closed, -torch.inf)
    weights = scores.sub_(scores.amax(dim=3, keepdim=True)).exp_()
    mixed = (weights * values).sum(dim=3)
    return mixed.div_(weights.sum(dim=3))


def _apply(maps: Maps, values: Tensor) -> Tensor:
    return torch.baddbmm(maps[1], maps[0], values)


class FoldedNetworks:
    """Networks of tables made ready to answer: the mean evidence of their single opinions.

    Norms' gains and shifts, the running statistics of batch normalisation, factors of columns and
    the scale of attention are parts of the weights; what only losses read is left out, and so are
    tokens where no collector reads them. Few rows go through all networks at once, many through
    one after the other, so that what they make of them stays in the caches.

    Parameters
    ----------
    networks : sequence of RCMLMISANet
        M networks of one form, in evaluation.
    columns : sequence of ColumnMap
        Columns that they read of each view.
    plan : ReadingPlan
        Plan that reads the columns.
    """

    @torch.no_grad()
    def __init__(
        self, networks: Sequence[RCMLMISANet], columns: Sequence[ColumnMap], plan: ReadingPlan
    ) -> None:
        first = networks[0]
        self.views, self.count, self.dtype = len(columns), len(networks), plan.dtype
        self.width: int = first.encode.first[0].weight.shape[0]  # type: ignore[index,assignment]
        self.collect: Collectors = first.collect
        self.tokens = self.collect.readout != "encoders"
        self.direct = self.collect.readout != "tokens"
        norms = [_norm_of(network.encode, 0) for network in networks]
        self.first = []
        for view, mapping in enumerate(columns):
            weights = [
                network.encode.first[view].weight * gain[view, :, None]  # type: ignore[operator]
                for network, (gain, _) in zip(networks, norms, strict=True)
            ]
            constant = torch.cat([shift[view] for _, shift in norms])
            linear = ColumnPlan(mapping, view, plan).linear
            self.first.append(linear(_array(torch.cat(weights)), _array(constant)))
        self.deeper = [self._deeper(networks, layer) for layer in range(len(first.encode.deeper))]
        if self.tokens:
            self.project = self._pairs(networks, _projection)
            self.codes = self._pairs(networks, _codes)
            self.hidden = self.project[0].shape[1]
            fusion = first.fuse_tokens
            self.layers = [
                _Layer(
                    [network.fuse_tokens.layers[number] for network in networks],
                    self.views,
                    self.dtype,
                    masked=fusion.masked,
                    first=not number,
                )
                for number in range(len(fusion.layers))
            ]
            self.private = self._pairs(networks, _private)
            self.shared = self._shared(networks)
        if self.direct:
            self.own = self._pairs(networks, _direct)
            self.bias = torch.zeros(1)
            if self.collect.all is not None:
                biases = [network.collect.all.bias for network in networks]  # type: ignore[union-attr]
                self.bias = torch.stack(biases).unsqueeze(-1).to(self.dtype)  # (M, K, 1)
        self.slope, self.offset = (
            torch.stack([getattr(network.collect, name) for network in networks], dim=1).to(
                self.dtype
            )
            for name in ("slope", "offset")
        )
        self.each = [self] if self.count == 1 else [self._only(m) for m in range(self.count)]

    def _pairs(self, networks: Sequence[RCMLMISANet], fold: Any) -> Maps:
        """Maps of all views of all networks, view by view."""
        pairs = [fold(network, view) for view in range(self.views) for network in networks]
        return _maps(pairs, self.dtype)

    def _deeper(self, networks: Sequence[RCMLMISANet], layer: int) -> Maps:
        def fold(network: RCMLMISANet, view: int) -> tuple[Tensor, Tensor]:
            gain, shift = _norm_of(network.encode, layer + 1)
            linear: Any = network.encode.deeper[layer]
            weight, bias = linear.weight[view].T, linear.bias[view, 0]
            return weight * gain[view, :, None], bias * gain[view] + shift[view]

        return self._pairs(networks, fold)

    def _shared(self, networks: Sequence[RCMLMISANet]) -> Maps | None:
        if self.collect.shared is None:
            return None
        tied = self.collect.sharing != "separate"
        views = 1 if self.collect.sharing == "tied-mean" else self.views
        pairs = [
            _token_readout(network, network.collect.shared, 0 if tied else view)
            for view in range(views)
            for network in networks
        ]
        return _maps(pairs, self.dtype)

    def _only(self, number: int) -> FoldedNetworks:
        """One of the networks, whose weights are views of all of theirs."""

        def some(maps: Maps) -> Maps:
            return maps[0][number :: self.count], maps[1][number :: self.count]

        only = copy(self)
        only.count = 1
        rows = slice(number * self.width, (number + 1) * self.width)
        only.first = [linear.rows(rows) for linear in self.first]
        only.deeper = [some(maps) for maps in self.deeper]
        only.slope, only.offset = (
            part[:, number : number + 1] for part in (self.slope, self.offset)
        )
        if self.tokens:
            only.project, only.codes, only.private = map(
                some, (self.project, self.codes, self.private)
            )
            only.shared = None if self.shared is None else some(self.shared)
            only.layers = [layer.only(number) for layer in self.layers]
        if self.direct:
            only.own = some(self.own)
            only.bias = self.bias[number : number + 1] if self.bias.ndim > 1 else self.bias
        return only

    @torch.inference_mode()
    def __call__(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Compute private (n, N, K) and shared (n, S, K) evidence of rows read."""
        for linear in self.first:
            if linear.second is not None:
                linear.prepare(reading)
        parts = []
        for _, tile in reading.tiles(ROWS):
            stacks = [self] if tile.rows <= FEW else self.each
            every = [stack._tile(tile) for stack in stacks]
            logs = torch.log1p(every[0] if len(every) == 1 else torch.cat(every, dim=1))
            parts.append(every[0][:, 0] if self.count == 1 else torch.expm1(logs.mean(dim=1)))
        evidence = torch.cat(parts, dim=-1).permute(2, 0, 1)
        return evidence[:, : self.views], evidence[:, self.views :]

    def _tile(self, reading: Reading) -> Tensor:
        """Evidence (N + S, M, K, n) of a few rows."""
        rows, pairs = reading.rows, self.views * self.count
        encoded = torch.empty((self.views, self.count * self.width, rows), dtype=self.dtype)
        for linear, out in zip(self.first, encoded, strict=True):
            linear(reading, out)
        encoded = encoded.view(pairs, self.width, rows).relu_()
        for maps in self.deeper:
            encoded = _apply(maps, encoded).relu_()
        here = None if reading.present is None else torch.from_numpy(reading.present)
        readouts = [self._direct] if self.direct else []
        readouts += [self._read] if self.tokens else []
        logits, *others = (readout(encoded, here) for readout in readouts)
        for other in others:
            logits = logits + other
        evidence = self._evidence(logits)
        if here is not None:
            shared = self.collect.shared_opinions
            existing = opinions_present(here, shared).T[:, None, None]
            evidence = evidence * existing
            evidence[self.views :] *= present_share(here)[:, 0, 0].to(self.dtype)
        return evidence

    def _direct(self, encoded: Tensor, here: Tensor | None) -> Tensor:
        """Logits (N + S, M, K, n) that collectors read of the encoders' output."""
        read = _apply(self.own, encoded)
        classes = self.collect.own.weight.shape[-1]  # type: ignore[union-attr]
        read = read.view(self.views, self.count, -1, read.shape[-1])
        own = read[:, :, :classes]
        if self.collect.all is None:
            return own
        every = read[:, :, classes:]
        if here is not None:
            every = every * here.T[:, None, None]
        joint = every.sum(dim=0).add_(self.bias)
        return torch.cat([own, joint.expand(self.collect.shared_opinions, -1, -1, -1)])

    def _read(self, encoded: Tensor, here: Tensor | None) -> Tensor:
        """Logits (N + S, M, K, n) that collectors read of the tokens."""
        rows, views, count, hidden = encoded.shape[-1], self.views, self.count, self.hidden
        projected = _normed(_apply(self.project, encoded).relu_(), 1)
        codes = _apply(self.codes, projected).sigmoid_()
        tokens = codes.view(views, count, 2, hidden, rows).permute(1, 3, 2, 0, 4)
        tokens = tokens.reshape(count, hidden, 2 * views, rows)
        missing = None if here is None else ~torch.cat([here, here], dim=1).T
        for layer in self.layers:
            tokens = layer(tokens, missing)
        normed = torch.empty((2 * views, count, hidden, rows), dtype=self.dtype)
        _normed(tokens, 1, out=normed.permute(1, 2, 0, 3))
        private, shared = normed[:views], normed[views:]
        read = _apply(self.private, private.view(-1, hidden, rows)).view(views, count, -1, rows)
        if self.shared is None:
            return read
        if self.collect.sharing == "tied-mean":
            if here is None:
                shared = shared.mean(dim=0)
            else:
                shares = here / here.sum(dim=1, keepdim=True).clamp_min(1)
                shared = (shares.T[:, None, None].to(self.dtype) * shared).sum(dim=0)
        other = _apply(self.shared, shared.reshape(-1, hidden, rows))
        return torch.cat([read, other.view(-1, *read.shape[1:])])

    def _evidence(self, logits: Tensor) -> Tensor:
        """Evidence of logits (N + S, M, K, n); see `rcml_misa.nn.tokens.shares_to_evidence`."""
        if self.collect.kind == "softplus":
            return F.softplus(logits)
        classes = logits.shape[2]
        values = (logits - logits.amax(dim=2, keepdim=True)).exp_()
        total = values.sum(dim=2)  # the largest share is 1 over it
        confidence = (classes / total - 1).clamp_min_(0) / max(classes - 1, 1)
        onset = confidence / (confidence + ONSET)
        mass = MASS * classes * onset * F.softplus(self.slope * confidence + self.offset)
        return values.mul_((mass / total).unsqueeze(2))


def _array(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return tensor.detach().double().cpu().numpy()


def _projection(network: RCMLMISANet, view: int) -> tuple[Tensor, Tensor]:
    linear: Any = network.project.linears[view]
    return linear.weight, linear.bias


def _codes(network: RCMLMISANet, view: int) -> tuple[Tensor, Tensor]:
    """Private, then shared code of a projected view."""
    project, subspaces = network.project, network.subspaces
    weight = torch.cat([subspaces.private.weight[view].T, subspaces.shared.weight])
    bias = torch.cat([subspaces.private.bias[view, 0], subspaces.shared.bias])
    return _scaled(weight, bias, project.gain[view, 0], project.shift[view, 0])


def _token_readout(network: RCMLMISANet, readout: Any, place: int) -> tuple[Tensor, Tensor]:
    norm = network.fuse_tokens.norm
    weight, bias = readout.weight[place].T, readout.bias[place, 0]
    return _scaled(weight, bias, norm.weight, norm.bias)


def _private(network: RCMLMISANet, view: int) -> tuple[Tensor, Tensor]:
    return _token_readout(network, network.collect.private, view)


def _direct(network: RCMLMISANet, view: int) -> tuple[Tensor, Tensor]:
    """Own logits of a view, then its part of those of all views."""
    own: Any = network.collect.own
    weight, bias = own.weight[view].T, own.bias[view, 0]
    if network.collect.all is None:
        return weight, bias
    every = network.collect.all.weight
    width = weight.shape[1]
    part = every[:, view * width : (view + 1) * width]
    return torch.cat([weight, part]), torch.cat([bias, torch.zeros_like(every[:, 0])])
