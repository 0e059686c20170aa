"""The width of an opinion about a score, calibrated on rows that the network was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import minimize
from torch import Tensor

from rcml_misa.opinions.nig import NIG

__all__ = ["ScaleCalibrator"]

Array = NDArray[np.float64]
RIDGE = 5.0  # a prior of deviation 0.3 on each feature's weight
LIMIT = 3.0  # standard deviations beyond which a feature's value counts no more


@dataclass(frozen=True)
class ScaleCalibrator:
    """Multiplies an opinion's scale by a factor that depends on what the opinion looks like.

    On rows that a network has memorised the errors are small, and so is the scale that it
    states. Its logarithm is corrected by a constant and by three standardised features: the
    stated scale itself, how far the prediction lies from the mean target, and how far the views
    differ. Their weights are those of greatest likelihood on held-out rows, under a ridge.

    Build it with `ScaleCalibrator.fit`.

    Attributes
    ----------
    centre, spread, weights : ndarray of shape (3,)
        Moments and weights of the features.
    offset : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> one = torch.ones(200, dtype=torch.float64)
    >>> opinion = NIG(0 * one, one, 20 * one, one)
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
        fitted = minimize(loss, start, method="BFGS").x
        return cls(centre, spread, np.asarray(fitted[1:]), float(fitted[0]))

    def __call__(self, fused: NIG, views: NIG) -> NIG:
        """The fused opinion with its scale corrected."""
        features = (_features(fused, views) - self.centre) / self.spread
        clipped = np.clip(features, -LIMIT, LIMIT)
        factor = torch.from_numpy(np.exp(self.offset + clipped @ self.weights)).to(fused.beta)
        return fused._replace(beta=fused.beta * factor.square())


def _features(fused: NIG, views: NIG) -> Array:
    """Log scale, distance from the mean, and the views' spread around the fused prediction."""
    apart = (views.nu * (views.gamma - fused.gamma.unsqueeze(-1)).square()).sum(dim=-1)
    columns = [fused.scale.log(), fused.gamma.abs(), (apart / views.nu.sum(dim=-1)).sqrt()]
    return torch.stack([column.double().cpu() for column in columns], dim=1).numpy()
