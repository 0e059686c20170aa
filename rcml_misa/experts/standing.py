"""Signs of the views of new rows: the linear maps of a `Membership` folded, on shared readings."""

from __future__ import annotations

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
            torch.from_numpy(gains),
            white.size,
        )

    def __call__(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Components (m, n) and how far (n,) rows are from their plane, in float64."""
        part, beyond = reading.part(self.slot).to(self.matrix.dtype), None
        columns = part[:-EXTRA]
        extremes = torch.aminmax(columns)
        if max(float(extremes.max), -float(extremes.min)) > EDGE:
            mapped = columns.clamp(-FARTHEST, FARTHEST)
            cut = mapped.clamp(-EDGE, EDGE)
            beyond = (mapped - cut).square_().sum(dim=0)
            part = torch.cat([cut, cut.square().sum(dim=0, keepdim=True), part[-EXTRA + 1 :]])
        product = (self.matrix @ part).double()
        components, squares = product[:-1], product[-1]
        left = (squares - self.gains @ components.square()).clamp_min_(0)
        if beyond is not None:
            left += beyond
        return components, left.sqrt_().div_(self.size)


class _Metric(NamedTuple):
    """Squared distances to K means, and their Gaussians' logarithms, as two products.

    `root` (m, M) turns columns (M, n) so that their squares add up to a squared distance from 0;
    `centres` (K, M) and `constant` (K, 1) give the rest of it, over -2; `scale` is half the log
    determinant of the precision.
    """

    root: Tensor
    centres: Tensor
    constant: Tensor
    scale: float

    @classmethod
    def of(cls, metric: Metric, turn: Array | None = None) -> _Metric:
        """Fold a metric of columns, or of what `turn` (M, m) makes of them."""
        root = metric.root if turn is None else turn @ metric.root
        return cls(
            torch.from_numpy(np.ascontiguousarray(root.T)),
            torch.from_numpy(np.ascontiguousarray((root @ metric.centres.T).T)),
            torch.from_numpy(-(metric.centres**2).sum(axis=1, keepdims=True) / 2),
            metric.scale,
        )

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances (n,) from 0, and minus half of what they fall by (K, n), of (M, n)."""
        squares = (self.root @ values).square_().sum(dim=0)
        return squares, torch.addmm(self.constant, self.centres, values)


class _Gaussians:
    """`ViewGaussians` with folded maps, for columns first."""

    def __init__(self, model: ViewGaussians) -> None:
        self.model = model
        self.prior = torch.from_numpy(np.log(np.maximum(model.prior, 1e-12))).unsqueeze(1)
        self.alone = [_Metric.of(metric) for metric in model.alone]
        self._patterns: dict[tuple[int, ...], list[_Metric]] = {}

    def _together(self, pattern: tuple[int, ...]) -> list[_Metric]:
        """Distances of each of some views given the others of them."""
        if pattern not in self._patterns:
            _, precision, metrics = self.model.together(np.array(pattern))
            ends = np.cumsum([self.model.widths[view] for view in pattern])
            turns = np.split(precision, ends[:-1], axis=1)
            if len(self._patterns) >= PATTERNS:
                self._patterns.clear()
            self._patterns[pattern] = [
                _Metric.of(metric, turn) for metric, turn in zip(metrics, turns, strict=True)
            ]
        return self._patterns[pattern]

    def __call__(
        self, parts: list[Tensor], others: Tensor, present: NDArray[np.bool_] | None
    ) -> tuple[Tensor, Tensor]:
        """Ratios (N, n) and least distances (N, n) of components (m_v, n); see `ViewGaussians`.

        `others` (N, K, n) are the logarithms of the class shares by the other views.
        """
        ratio = torch.empty((len(parts), parts[0].shape[1]), dtype=torch.float64)
        distance = torch.empty_like(ratio)
        for view, (part, metric) in enumerate(zip(parts, self.alone, strict=True)):
            squares, rest = metric(part)
            distance[view] = (squares - 2 * rest.amax(dim=0)).clamp_min_(0).sqrt_()
            ratio[view] = _log_sum(self.prior + rest) - squares / 2 + metric.scale
        if present is None:
            self._compare(parts, others, tuple(range(len(parts))), ratio)
            return ratio, distance
        for pattern in np.unique(present, axis=0):
            some = tuple(np.flatnonzero(pattern).tolist())
            rows = torch.from_numpy(np.flatnonzero((present == pattern).all(axis=1)))
            own = ratio[:, rows]
            if some:
                self._compare([part[:, rows] for part in parts], others[:, :, rows], some, own)
            ratio[:, rows] = own
        missing = torch.from_numpy(~present.T)
        return ratio.masked_fill_(missing, 0), distance.masked_fill_(missing, 0)

    def _compare(
        self, parts: list[Tensor], others: Tensor, some: tuple[int, ...], ratio: Tensor
    ) -> None:
        """Subtract from ratios the views' log likelihoods given the other ones of some."""
        values = torch.cat([parts[view] for view in some])
        for view, metric in zip(some, self._together(some), strict=True):
            squares, rest = metric(values)
            ratio[view] -= _log_sum(others[view] + rest) - squares / 2 - metric.scale


def _log_sum(logs: Tensor) -> Tensor:
    """Log sum exp over the first dimension."""
    largest = logs.amax(dim=0)
    return (logs - largest).exp_().sum(dim=0).log_().add_(largest)


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
        self.gaussians = [_Gaussians(model) for model in gaussians]

    def __call__(self, reading: Reading, others: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ratios (R, N, n) and distances (2 R, N, n) of rows; see `RowGaussians`."""
        ratios, distances = [], []
        for columns, model in zip(self.columns, self.gaussians, strict=True):
            parts, left = zip(*(components(reading) for components in columns), strict=True)
            ratio, distance = model(list(parts), others, reading.present)
            ratios.append(ratio)
            distances += [distance, torch.stack(left)]
        return torch.stack(ratios), torch.stack(distances)


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
