"""Standing of views in torch: odds that one does not belong to its row, and familiarity.

`ViewGaussians` groups rows by the views that they have. A graph has no such groups: rows that have
every view take one path, the others are compared given every set of views that has the view in
question, and each row picks its own set. The sets double with each view.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.experts.gaussians import RowGaussians, ViewGaussians
from rcml_misa.experts.membership import DECAY, FAR, Membership
from rcml_misa.export.readings import WhiteReading, tensor
from rcml_misa.opinions import agreement

__all__ = ["MOST_VIEWS", "MembershipStanding", "RowRatios"]

Array = NDArray[np.float64]
MOST_VIEWS = 6  # of models that answer rows that lack views


def _log_sum(logs: Tensor) -> Tensor:
    """Compute log sum exp of the last dimension, of no rows as well."""
    largest = logs.amax(dim=-1, keepdim=True)
    return (logs - largest).exp().sum(dim=-1).log() + largest.squeeze(-1)


class _Given(nn.Module):
    """Squared distances to the classes' means of views, each given one of L sets of views.

    A set's matrix turns the row's deviation from a mean into that of the view from what the other
    views of the set make of it, in units of its spread; columns that the set lacks have no weight.
    """

    matrix: Tensor
    centres: Tensor
    squares: Tensor
    scales: Tensor

    def __init__(
        self, gaussians: ViewGaussians, pairs: Sequence[tuple[int, Sequence[bool]]]
    ) -> None:
        super().__init__()
        parts = [_given(gaussians, view, some) for view, some in pairs]
        matrices, centres, scales = (np.stack(part) for part in zip(*parts, strict=True))
        self.count = len(pairs)
        self.register_buffer("matrix", tensor(np.concatenate(list(matrices), axis=1)))
        self.register_buffer("centres", tensor(centres.swapaxes(1, 2)))  # (L, w, K)
        self.register_buffer("squares", tensor((centres**2).sum(axis=2)))
        self.register_buffer("scales", tensor(scales))

    def forward(self, values: Tensor) -> Tensor:
        """Compute squared distances (n, L, K) of components (n, m)."""
        turned = values @ self.matrix
        turned = turned.view(values.shape[0], self.count, -1)
        inner = (turned.transpose(0, 1) @ self.centres).transpose(0, 1)
        squares = turned.square().sum(dim=-1, keepdim=True) - 2 * inner + self.squares
        return squares.clamp_min(0)


def _given(gaussians: ViewGaussians, view: int, some: Sequence[bool]) -> tuple[Array, Array, float]:
    """Matrix (m, w), the classes' means in it (K, w) and half a log determinant of one set."""
    owners = np.repeat(np.arange(len(gaussians.widths)), gaussians.widths)
    every = np.flatnonzero(np.asarray(some)[owners])
    precision = np.linalg.inv(gaussians.covariance[np.ix_(every, every)])
    own = owners[every] == view
    root = np.linalg.cholesky(np.linalg.inv(precision[np.ix_(own, own)]))
    matrix = np.zeros((len(owners), max(gaussians.widths)))  # columns of zeros count for nothing
    matrix[every, : own.sum()] = precision[:, own] @ root
    return matrix, gaussians.means @ matrix, -float(np.log(np.diag(root)).sum())


class RowRatios(nn.Module):
    """Ratios and squared distances of rows, as `ViewGaussians` computes them.

    With more than `MOST_VIEWS` views, rows that lack one have ratios of NaN.
    """

    prior: Tensor
    powers: Tensor
    places: Tensor

    def __init__(self, gaussians: ViewGaussians) -> None:
        super().__init__()
        self.views = views = len(gaussians.widths)
        alone = np.eye(views, dtype=bool).tolist()
        # each view by itself, then given all others
        self.given_all = _Given(
            gaussians, [*enumerate(alone), *((v, [True] * views) for v in range(views))]
        )
        self.given_some = None
        places = np.zeros((1, views), dtype=np.int64)
        if 1 < views <= MOST_VIEWS:
            sets = list(product([False, True], repeat=views))
            pairs = [(view, some) for some in sets for view in range(views) if some[view]]
            self.given_some = _Given(gaussians, pairs)
            # a row's set, as a binary number, tells the places of its pairs
            places = (np.cumsum(np.array(sets)).reshape(-1, views) - 1).clip(0)
        self.register_buffer("prior", tensor(np.log(np.maximum(gaussians.prior, 1e-12))))
        self.register_buffer("places", torch.from_numpy(places))
        self.register_buffer("powers", 2 ** torch.arange(views).flip(0))

    def forward(self, values: Tensor, others: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Compare components (n, m) of all views with the log shares `others` (n, N, K)."""
        squares, scales = self.given_all(values), self.given_all.scales
        alone, given = squares[:, : self.views], squares[:, self.views :]
        likely = _log_sum(self.prior - alone / 2) + scales[: self.views]
        expected = _log_sum(others - given / 2) + scales[self.views :]
        if self.views > 1:
            expected = self._without(expected, values, others, present)
        return (
            torch.where(present, likely - expected, 0.0),
            torch.where(present, alone.amin(dim=-1), 0.0),
        )

    def _without(self, expected: Tensor, values: Tensor, others: Tensor, present: Tensor) -> Tensor:
        """Put what is expected of the views of rows that lack some in its place."""
        whole = present.all(dim=1)
        if self.given_some is None:
            return torch.where(whole.unsqueeze(1), expected, torch.nan)
        rows = torch.nonzero(~whole).squeeze(1)
        places = self.places[(present[rows] * self.powers).sum(dim=1)]
        picked = places.unsqueeze(-1).expand(-1, -1, others.shape[-1])
        squares = self.given_some(values[rows]).gather(1, picked)
        own = _log_sum(others[rows] - squares / 2) + self.given_some.scales[places]
        return expected.index_put((rows,), own)


class MembershipStanding(nn.Module):
    """Posterior (n, N + 1) and familiarity (n, N) of the views of rows; see `Membership`."""

    median: Tensor
    upper: Tensor
    coefficients: Tensor

    def __init__(self, membership: Membership) -> None:
        super().__init__()
        gaussians: RowGaussians = membership.gaussians_
        self.columns = nn.ModuleList(WhiteReading(reading) for reading in gaussians.columns)
        self.ratios = nn.ModuleList(RowRatios(reading) for reading in gaussians.gaussians)
        self.register_buffer("median", tensor(membership.distances_.median))
        self.register_buffer("upper", tensor(membership.distances_.upper))
        self.register_buffer("coefficients", tensor(membership.coefficients_))

    def forward(self, values: Tensor, present: Tensor, witness: Tensor) -> tuple[Tensor, Tensor]:
        """Judge the views of raw rows, side by side, with class shares `witness` (n, N, K)."""
        agreed, others = agreement(witness, present)
        others = others.log()
        ratios, distances = [], []
        for columns, compare in zip(self.columns, self.ratios, strict=True):
            parts, left = columns(values, ~present)
            ratio, squares = compare(parts, others, present)
            ratios.append(ratio)
            distances += [squares.sqrt(), left]
        low, high = self.median.unsqueeze(1), self.upper.unsqueeze(1)
        distance = ((torch.stack(distances) - low) / (high - low)).amax(dim=0)
        first, doubt, *weights, far, slope = self.coefficients
        swapped = first - doubt * agreed.log()
        for weight, ratio in zip(weights, ratios, strict=True):
            swapped = swapped + weight * ratio
        noise = far + slope * distance
        odds = swapped + F.softplus(noise - swapped)
        able = present & (present.sum(dim=1, keepdim=True) > 1)
        logits = torch.cat([torch.zeros_like(odds[:, :1]), odds.where(able, -torch.inf)], dim=1)
        familiar = (-DECAY * (distance - FAR).clamp_min(0)).exp()
        return logits.softmax(dim=1), familiar.where(present, 0.0)
