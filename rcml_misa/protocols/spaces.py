"""The min-max space in which test copies are made, and the leaky one of published runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rcml_misa.views import MultiView, dense

__all__ = ["MinMaxSpace", "scale_leaky"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MinMaxSpace:
    """The space in which each column of the train rows spans [0, 1]; build it with `fit`.

    Attributes
    ----------
    low, span : tuple of ndarray
        Per view, each column's least value and width (1 where a column is constant).
    """

    low: tuple[Array, ...]
    span: tuple[Array, ...]

    @classmethod
    def fit(cls, train: MultiView) -> Self:
        """Measure the columns of the train rows; rows that lack a view do not count there."""
        arrays = [dense(array) for array in train.arrays]
        # fmin and fmax leave out the NaN of missing views
        low = tuple(np.fmin.reduce(array, axis=0) for array in arrays)
        span = [np.fmax.reduce(one, axis=0) - least for one, least in zip(arrays, low, strict=True)]
        return cls(low, tuple(np.where(width > 0, width, 1.0) for width in span))

    def enter(self, views: MultiView) -> list[Array]:
        """Raw units to this space; new dense arrays."""
        return [
            (dense(array) - low) / span
            for array, low, span in zip(views.arrays, self.low, self.span, strict=True)
        ]

    def leave(self, arrays: list[Array], views: MultiView) -> MultiView:
        """This space to raw units, with the names of `views`."""
        raw = [
            array * span + low for array, low, span in zip(arrays, self.low, self.span, strict=True)
        ]
        return MultiView(dict(zip(views.names, raw, strict=True)))


def scale_leaky(views: MultiView, *, ranges_of: MultiView) -> MultiView:
    """Min-max scale with the ranges of ALL rows, test rows included, as RCML's code does.

    This leaks: test rows shape what the method trains on. It exists to reproduce published runs.

    Parameters
    ----------
    views : MultiView
        Rows to scale.
    ranges_of : MultiView
        The whole set, whose columns' ranges become [0, 1].

    Examples
    --------
    >>> everything = MultiView([np.array([[2.0], [4.0], [6.0]])])
    >>> scale_leaky(everything.take([1]), ranges_of=everything).arrays[0].tolist()
    [[0.5]]
    """
    space = MinMaxSpace.fit(ranges_of)
    return MultiView(dict(zip(views.names, space.enter(views), strict=True)))
