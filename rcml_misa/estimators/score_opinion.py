"""What RCML-MISA says about a score: opinions as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions.nig import NIG

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ScoreOpinion"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreOpinion:
    """Opinions about the scores of n rows; see `rcml_misa.opinions.nig.NIG`.

    Attributes
    ----------
    gamma, nu, alpha, beta : ndarray of shape (n,)
        Of the fused opinion, in the target's unit.
    views : mapping of str to ScoreOpinion
        Each view's own opinion; empty for these themselves.
    """

    gamma: Array
    nu: Array
    alpha: Array
    beta: Array
    views: Mapping[str, ScoreOpinion]

    @classmethod
    def from_nig(cls, opinion: NIG, views: Mapping[str, ScoreOpinion] | None = None) -> Self:
        """From tensors."""
        gamma, nu, alpha, beta = (part.double().cpu().numpy() for part in opinion)
        return cls(gamma, nu, alpha, beta, views or {})

    def of(self, view: str) -> ScoreOpinion:
        """One view's own opinion.

        Raises
        ------
        OptionError
            If there is no such view.
        """
        if view not in self.views:
            raise OptionError(f"there is no view {view!r}; {nearest(view, self.views)}")
        return self.views[view]

    def to_frame(self) -> pd.DataFrame:
        """A row per sample: score, scale and deviation, fused and of each view."""
        import pandas as pd

        opinions = {"": self, **{f"{name}__": one for name, one in self.views.items()}}
        return pd.DataFrame(
            {
                f"{start}{part}": getattr(one, part)
                for start, one in opinions.items()
                for part in ("score", "scale", "deviation")
            }
        )

    def _nig(self) -> NIG:
        parts = (self.gamma, self.nu, self.alpha, self.beta)
        return NIG(*(torch.from_numpy(part) for part in parts))

    @property
    def score(self) -> Array:
        """Predicted score, gamma."""
        return self.gamma

    @property
    def scale(self) -> Array:
        """Scale of the predictive Student t of 2 alpha degrees of freedom: the uncertainty."""
        return np.asarray(self._nig().scale.numpy())

    @property
    def deviation(self) -> Array:
        """Standard deviation of the predictive Student t."""
        return np.asarray(self._nig().deviation.numpy())

    @property
    def relative_epistemic(self) -> Array:
        """nu^(-1/2), which orders rows of one model and measures nothing."""
        return np.asarray(self._nig().relative_epistemic.numpy())
