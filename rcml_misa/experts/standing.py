"""Signs of the views of new rows: the linear maps of a `Membership` folded, on shared readings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.opinions import agreement
from rcml_misa.reading.plan import EXTRA, Reading, ReadingPlan, Slot

if TYPE_CHECKING:
    from rcml_misa.experts.components import WhiteColumns
    from rcml_misa.experts.gaussians import Metric, ViewGaussians

__all__ = ["EDGE", "FARTHEST", "PATTERNS", "FoldedGaussians", "view_signs"]

Array = NDArray[np.float64]
EDGE, FARTHEST = 10.0, 100.0  # standard deviations at which columns, and what is off, are cut
PATTERNS = 64  # of presence whose matrices are held
LITTLE = 0.01  # share of the variance beside the components below which float64 tells how far


class _Components(NamedTuple):
    """Principal components of a view in a reading as one product with its slot.

    `matrix` (m + 1, d + 3) gives the components, then the squared distance from the centre; `gains`
    (m,) are the components' variances, `size` is the root of the total variance.
    """

    slot: Slot
    matrix: Tensor
    gains: Tensor
    size: float

    @classmethod
    def of(cls, white: WhiteColumns, view: int, plan: ReadingPlan) -> _Components:
        """Fold centre and components of white columns."""
        width, count = white.components.shape
        matrix = np.zeros((count + 1, width + EXTRA))
        matrix[:count, :width] = white.components.T
        matrix[:count, -1] = -white.centre @ white.components
        matrix[count, :width] = -2 * white.centre
        matrix[count, width] = 1.0
        matrix[count, -1] = white.centre @ white.centre
        gains = white.deviations**2
        left = 1 - gains.sum() / white.size**2
        dtype = torch.float64 if left < LITTLE else plan.dtype
        return cls(
            plan.add(view, white.map, squares=True),
            torch.from_numpy(matrix).to(dtype),
            torch.from_numpy(gains).to(dtype),
            white.size,
        )

    def __call__(self, reading: Reading, out: Tensor) -> Tensor:
        """Write components (m, n) into `out`; how far (n,) rows are from their plane."""
        part, beyond = reading.part(self.slot), None
        columns = part[:-EXTRA]
        if max(float(columns.amax()), -float(columns.amin())) > EDGE:
            mapped = columns.clamp(-FARTHEST, FARTHEST)
            cut = mapped.clamp(-EDGE, EDGE)
            beyond = (mapped - cut).square_().sum(dim=0)
            part = torch.cat([cut, cut.square().sum(dim=0, keepdim=True), part[-EXTRA + 1 :]])
        product = self.matrix @ part.to(self.matrix.dtype)
        components, squares = product[:-1], product[-1]
        out.copy_(components)
        left = (squares - self.gains @ components.square()).clamp_min_(0)
        if beyond is not None:
            left += beyond
        return left.sqrt_().div_(self.size)


class _Metrics:
    """Squared distances of M views to K means each, and their Gaussians' logarithms.

    A product with `matrix`, of (rows, columns) or one of these per view, turns columns so that the
    squares of the first w of each view's w + K results add up to a squared distance from 0; the
    other K give the rest of it, over -2. `scales` (M, 1) are half the log determinants of the
    precisions.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        columns: Sequence[tuple[Array, NDArray[np.int64]]],
        shape: tuple[int, int],
        dtype: torch.dtype,
        *,
        apart: bool,
    ) -> None:
        """Fold metrics of what a matrix (columns, m) makes of columns at some of all places.

        Of `shape` (w, places), the last place is that of a column of ones.
        """
        width, places = shape
        classes = len(metrics[0].centres)
        matrix = np.zeros((len(metrics), width + classes, places))
        for part, metric, (turn, own) in zip(matrix, metrics, columns, strict=True):
            root = turn @ metric.root
            part[: root.shape[1], own] = root.T
            part[width:, own] = metric.centres @ root.T
            part[width:, -1] = -(metric.centres**2).sum(axis=1) / 2
        self.width, self.shape = width, (len(metrics), width + classes, -1)
        self.matrix = torch.from_numpy(matrix if apart else matrix.reshape(-1, places)).to(dtype)
        scales = np.array([[metric.scale] for metric in metrics])
        self.scales = torch.from_numpy(scales).to(dtype)

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances (M, n) from 0, and minus half of what they fall by (M, K, n)."""
        result = (self.matrix @ values).view(self.shape)
        return result[:, : self.width].square().sum(dim=1), result[:, self.width :]


class _Gaussians:
    """`ViewGaussians` with folded maps, for columns first.

    The components of every view take up as many places, and one more for a column of ones.
    """

    def __init__(self, model: ViewGaussians, dtype: torch.dtype) -> None:
        self.model, self.dtype = model, dtype
        self.width = max(model.widths)
        self.prior = torch.from_numpy(np.log(np.maximum(model.prior, 1e-12))).to(dtype)
        columns = [(np.eye(width), np.arange(width)) for width in model.widths]
        shape = (self.width, self.width + 1)
        self.alone = _Metrics(model.alone, columns, shape, dtype, apart=True)
        self._patterns: dict[tuple[int, ...], _Metrics] = {}

    def _together(self, pattern: tuple[int, ...]) -> _Metrics:
        """Distances of each of some views given the others of them."""
        if pattern not in self._patterns:
            _, precision, metrics = self.model.together(np.array(pattern))
            widths = [self.model.widths[view] for view in pattern]
            turns = np.split(precision, np.cumsum(widths)[:-1], axis=1)
            places = np.arange(len(pattern) * (self.width + 1)).reshape(len(pattern), -1)
            own = [row[:width] for row, width in zip(places, widths, strict=True)]
            if len(self._patterns) >= PATTERNS:
                self._patterns.clear()
            columns = [(turn, np.concatenate(own)) for turn in turns]
            shape = (self.width, places.size)
            self._patterns[pattern] = _Metrics(metrics, columns, shape, self.dtype, apart=False)
        return self._patterns[pattern]

    def __call__(
        self, values: Tensor, others: Tensor, present: NDArray[np.bool_] | None
    ) -> tuple[Tensor, Tensor]:
        """Ratios (N, n) and least distances (N, n) of components (N, w + 1, n).

        See `ViewGaussians`; `others` (N, K, n) are the logarithms of the class shares by the other
        views.
        """
        squares, rest = self.alone(values)
        distance = (squares - 2 * rest.amax(dim=1)).clamp_min_(0).sqrt_()
        ratio = _log_sum(rest.add_(self.prior.unsqueeze(1))).sub_(squares, alpha=0.5)
        ratio += self.alone.scales
        if present is None:
            every = tuple(range(len(values)))
            return ratio.sub_(self._likely(values, others, every)), distance
        for pattern in np.unique(present, axis=0):
            some = np.flatnonzero(pattern)
            if not some.size:
                continue
            rows = torch.from_numpy(np.flatnonzero((present == pattern).all(axis=1)))
            block = (torch.from_numpy(some)[:, None], rows)
            own, logs = values[some].index_select(2, rows), others[some].index_select(2, rows)
            ratio[block] -= self._likely(own, logs, tuple(some.tolist()))
        missing = torch.from_numpy(~present.T)
        return ratio.masked_fill_(missing, 0), distance.masked_fill_(missing, 0)

    def _likely(self, values: Tensor, others: Tensor, some: tuple[int, ...]) -> Tensor:
        """Log likelihoods (M, n) of some views given the other ones of them."""
        metrics = self._together(some)
        squares, rest = metrics(values.reshape(-1, values.shape[-1]))
        return _log_sum(rest.add_(others)).sub_(squares, alpha=0.5).sub_(metrics.scales)


def _log_sum(logs: Tensor) -> Tensor:
    """Log sum exp over classes, (M, K, n) to (M, n); logs are written over."""
    largest = logs.amax(dim=1, keepdim=True)
    return logs.sub_(largest).exp_().sum(dim=1).log_().add_(largest.squeeze(1))


class FoldedGaussians:
    """`RowGaussians` made ready for new rows: one product per view and reading.

    Parameters
    ----------
    columns : tuple of tuple of WhiteColumns
        Per reading and view.
    gaussians : tuple of ViewGaussians
        Per reading.
    plan : ReadingPlan
    """

    def __init__(
        self,
        columns: tuple[tuple[WhiteColumns, ...], ...],
        gaussians: tuple[ViewGaussians, ...],
        plan: ReadingPlan,
    ) -> None:
        self.columns = [
            [_Components.of(white, view, plan) for view, white in enumerate(reading)]
            for reading in columns
        ]
        self.gaussians = [_Gaussians(model, plan.dtype) for model in gaussians]

    def __call__(self, reading: Reading, others: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ratios (R, N, n) and distances (2 R, N, n) of rows; see `RowGaussians`."""
        views, rows = len(self.columns[0]), reading.rows
        ratios = others.new_empty((len(self.gaussians), views, rows))
        distances = others.new_empty((2 * len(self.gaussians), views, rows))
        for number, (columns, model) in enumerate(zip(self.columns, self.gaussians, strict=True)):
            values = others.new_zeros((views, model.width + 1, rows))
            values[:, -1] = 1.0
            for view, components in enumerate(columns):
                place = values[view, : len(components.gains)]
                distances[2 * number + 1, view] = components(reading, place)
            ratios[number], distances[2 * number] = model(values, others, reading.present)
        return ratios, distances


def view_signs(
    folded: FoldedGaussians, reading: Reading, shares: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the signs of rows read, views first: doubt (N, n), ratios and distances.

    `shares` (n, N, K) are the class shares of the views.
    """
    present = None if reading.present is None else torch.from_numpy(reading.present)
    agreed, others = agreement(shares, present)
    ratios, distances = folded(reading, others.log().permute(1, 2, 0))
    return -agreed.log().T, ratios, distances
