"""Widths of opinions about scores and reach of intervals, from rows that were not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize
from torch import Tensor

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.opinions.nig import NIG

__all__ = ["ScaleCalibrator", "conformal_factor", "conformal_rank"]

Array = NDArray[np.float64]
RIDGE = 5.0  # a prior of deviation 0.3 on each feature's weight
LIMIT = 3.0  # standard deviations beyond which a feature's value counts no more


def conformal_rank(rows: int, coverage: float) -> int:
    """Compute the rank of split conformal's finite-sample quantile: ceil((n + 1) coverage).

    Examples
    --------
    >>> conformal_rank(19, 0.9)
    18
    """
    return math.ceil((rows + 1) * coverage - 1e-9)  # less than rounding makes of a whole number


def conformal_factor(error: ArrayLike, scale: ArrayLike, *, coverage: float = 0.9) -> float:
    """Compute how many times its scale a conformal interval reaches to each side.

    The ceil((n + 1) coverage)-th least of |error| / scale over n held-out rows. An interval
    prediction +- factor scale then holds the target of a new row with at least that probability,
    if the row comes from where the held-out rows come from, whatever the model.

    Parameters
    ----------
    error, scale : array of shape (n,)
        Errors of held-out rows, and the model's scale for each; 1 for intervals of equal width.
    coverage : float
        Target coverage, in (0, 1).

    Returns
    -------
    float

    Raises
    ------
    OptionError
        If the coverage is out of range.
    DataError
        If there are too few rows: fewer than coverage / (1 - coverage).

    References
    ----------
    Lei et al., Distribution-free predictive inference for regression, JASA 113, 2018, section
    5.2 (locally weighted split conformal).

    Examples
    --------
    >>> conformal_factor(np.arange(1.0, 20.0), np.ones(19), coverage=0.9)
    18.0
    """
    if not 0 < coverage < 1:
        raise OptionError(f"coverage={coverage} is not between 0 and 1; 0.9 is usual.")
    ratios = np.sort(np.abs(np.asarray(error, dtype=np.float64)) / np.asarray(scale))
    rank = conformal_rank(len(ratios), coverage)
    if rank > len(ratios):
        least = math.ceil(coverage / (1 - coverage) - 1e-9)
        raise DataError(
            f"{len(ratios)} validation rows are too few for intervals of coverage {coverage:g}; "
            f"give {least} or more."
        )
    return float(ratios[rank - 1])


@dataclass(frozen=True)
class ScaleCalibrator:
    """Correction of an opinion's scale by a factor that depends on the opinion.

    A network's errors on its train rows are small, and so is the scale that it states. The
    logarithm of the scale is corrected by a constant and by three standardised features: the
    stated scale itself, the distance of the prediction from the mean target, and the spread of
    the views' predictions. Their weights have the greatest likelihood on held-out rows, under a
    ridge.

    Build it with `ScaleCalibrator.fit`.

    Attributes
    ----------
    centre, spread, weights : ndarray of shape (3,)
        Means, deviations and weights of the features.
    offset : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> ones = torch.ones(200, dtype=torch.float64)
    >>> opinion = NIG(0 * ones, ones, 20 * ones, ones)
    >>> error = torch.from_numpy(rng.normal(0, 2, 200))
    >>> fixed = ScaleCalibrator.fit(opinion, opinion, error)(opinion, opinion)
    >>> bool((fixed.scale > 4 * opinion.scale).all())
    True
    """

    centre: Array
    spread: Array
    weights: Array
    offset: float

    @classmethod
    def fit(cls, fused: NIG, views: NIG, target: Tensor) -> Self:
        """Fit to opinions about held-out rows, (n,) and (n, N), and their targets (n,).

        All in units of the train rows' standard deviation around their mean.
        """
        raw = _features(fused, views)
        centre, spread = raw.mean(axis=0), raw.std(axis=0)
        spread = np.where(spread > 1e-9, spread, 1.0)
        features = np.clip((raw - centre) / spread, -LIMIT, LIMIT)
        error = (target - fused.gamma).double().numpy()
        scale, degrees = fused.scale.double().numpy(), fused.degrees.double().numpy()

        def loss(values: Array) -> float:
            widened = scale * np.exp(values[0] + features @ values[1:])
            likelihood = np.asarray(stats.t.logpdf(error, degrees, scale=widened)).sum()
            return float(RIDGE * (values[1:] ** 2).sum() - likelihood)

        start = np.zeros(1 + features.shape[1])
        offset, *slopes = minimize(loss, start, method="BFGS").x
        return cls(centre, spread, np.array(slopes), float(offset))

    def __call__(self, fused: NIG, views: NIG) -> NIG:
        """Correct the scale of fused opinions."""
        features = (_features(fused, views) - self.centre) / self.spread
        clipped = np.clip(features, -LIMIT, LIMIT)
        factor = torch.from_numpy(np.exp(self.offset + clipped @ self.weights)).to(fused.beta)
        return fused._replace(beta=fused.beta * factor.square())


def _features(fused: NIG, views: NIG) -> Array:
    """Compute log scale, distance from the mean, and the views' spread around the prediction."""
    apart = (views.nu * (views.gamma - fused.gamma.unsqueeze(-1)).square()).sum(dim=-1)
    columns = [fused.scale.log(), fused.gamma.abs(), (apart / views.nu.sum(dim=-1)).sqrt()]
    return torch.stack([column.double().cpu() for column in columns], dim=1).numpy()
