"""Suspects: the views that do not seem to belong to their rows, by the gain of doing without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["JOIN", "SuspectUse", "Suspicion", "suspect_limits"]

JOIN = "|"  # between the names of a pair of views
SuspectUse = Literal["report", "exclude"]
# shares of whole rows, new to the model, of which a view is suspected, and clearly suspected
ACCUSED, CLEARLY_ACCUSED = 0.05, 0.01
USUAL_LIMITS = (0.1, 0.2)  # of gains where no rows were set apart to set limits on
NEARLY = 0.8  # of the largest gain, from which another view can't be told from the suspect


@dataclass(frozen=True)
class Suspicion:
    """Suspect view of each of n rows, named by the gains of doing without each of N views.

    Parameters
    ----------
    names : tuple of str
        The views in their order.
    gains : ndarray of shape (n, N)
        Fall of the uncertainty, or of the logarithm of a score's scale, without what a view says;
        NaN where a row lacks it.
    limits : tuple of float
        Gains beyond which a view is suspected, and so clearly that it may be left out.
    learnt : bool
        Whether the gains rest on what was learnt from self-made mismatches; else, of two views,
        the liar can't be told from the honest one.

    Examples
    --------
    >>> gains = np.array([[0.0, 0.5, 0.1], [0.4, 0.38, 0.0], [0.1, 0.0, 0.0]])
    >>> suspicion = Suspicion(("a", "b", "c"), gains, limits=(0.2, 0.45))
    >>> suspicion.suspect.tolist(), suspicion.clear.tolist()
    (['b', 'a|b', ''], [True, False, False])
    """

    names: tuple[str, ...]
    gains: NDArray[np.float64]
    limits: tuple[float, float] = (np.inf, np.inf)
    learnt: bool = False

    @classmethod
    def of(cls, opinion: Any, *, rows: int) -> Self:
        """Take the views, gains, limits and what is learnt from an opinion; NaN without gains."""
        names, gains = tuple(opinion.views), opinion.view_gains
        if gains is None:
            gains = np.full((rows, len(names)), np.nan)
        return cls(names, gains, opinion.limits, opinion.learnt)

    @property
    def gain(self) -> NDArray[np.float64]:
        """Largest gain of each row, (n,); 0 where it has fewer than two views."""
        several = self._several(1)
        return np.where(several, np.nan_to_num(self.gains, nan=-np.inf).max(axis=1), 0.0)

    @property
    def view(self) -> NDArray[np.int64]:
        """Number of the view of largest gain of each row, (n,)."""
        return self._ranked[:, -1]

    @property
    def suspect(self) -> NDArray[np.str_]:
        """Name of the suspect, (n,): the view of largest gain, where that is above the first limit.

        It is ``""`` for none. Where the liar can't be told from an honest view, because another
        one's gain is nearly as large, or of two views without anything learnt, it is both names,
        such as ``face|voice``: one of the two.
        """
        if len(self.names) < 2:
            return np.full(len(self.gains), "")
        names = np.array(self.names)
        pairs = np.array([[first + JOIN + second for second in names] for first in names])
        low, high = np.sort(self._ranked[:, -2:], axis=1).T
        named = np.where(self._told_apart, names[self.view], pairs[low, high])
        return np.where(self.gain > self.limits[0], named, "")

    @property
    def clear(self) -> NDArray[np.bool_]:
        """Rows (n,) with one suspect whose gain is above the second of `limits`."""
        return np.asarray((self.gain > self.limits[1]) & self._told_apart)

    @property
    def _ranked(self) -> NDArray[np.int64]:
        """Numbers of the views (n, N) in the order of their gains, the largest last."""
        return np.argsort(np.nan_to_num(self.gains, nan=-np.inf), axis=1, kind="stable")

    @property
    def _told_apart(self) -> NDArray[np.bool_]:
        """Rows (n,) whose largest gain is clearly above the others."""
        if len(self.names) < 2:
            return np.zeros(len(self.gains), dtype=bool)
        second, first = np.sort(np.nan_to_num(self.gains, nan=-np.inf), axis=1)[:, -2:].T
        lead = second <= np.maximum(NEARLY * first, 0)
        return np.asarray(lead & self._several(1 if self.learnt else 2))

    def _several(self, least: int) -> NDArray[np.bool_]:
        """Rows (n,) that have more than so many views."""
        return np.asarray((~np.isnan(self.gains)).sum(axis=1) > least)


def suspect_limits(gains: NDArray[np.float64]) -> tuple[float, float]:
    """Set the gains beyond which a view is suspected, and clearly so, by those of new rows (n, N).

    Of rows with several views, 5 % and 1 % have a larger one; see `MultiViewOpinion.suspect`.

    Examples
    --------
    >>> [round(limit, 3) for limit in suspect_limits(np.array([[0.1, 0.2], [0.3, 0.1]]))]
    [0.295, 0.299]
    """
    several = (~np.isnan(gains)).sum(axis=1) > 1
    if not several.any():
        return USUAL_LIMITS
    largest = np.nanmax(gains[several], axis=1)
    named, clear = np.quantile(largest, [1 - ACCUSED, 1 - CLEARLY_ACCUSED])
    return float(max(named, 0.0)), float(max(clear, 0.0))
