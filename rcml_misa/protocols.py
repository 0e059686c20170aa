"""Splits, seeds and test copies: every one takes a generator and returns new data.

Noise and donors of the conflictive copy act in the min-max space fitted on train rows, whatever
scaling a method uses; what is returned is in raw units again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView, dense

__all__ = [
    "ConflictCopy",
    "MinMaxSpace",
    "RunSeeds",
    "conflict_views",
    "noise_views",
    "scale_leaky",
    "spawn_seeds",
    "split_rows",
]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class RunSeeds:
    """One run's independent sources of chance.

    Attributes
    ----------
    split, corruption, noise : numpy.random.SeedSequence
        For `split_rows`, `conflict_views` and `noise_views`.
    model : int
        For an estimator's `random_state`.
    """

    split: np.random.SeedSequence
    corruption: np.random.SeedSequence
    noise: np.random.SeedSequence
    model: int


def spawn_seeds(seed: int) -> RunSeeds:
    """Spawn a run's seeds from one number.

    Examples
    --------
    >>> spawn_seeds(0).model == spawn_seeds(0).model, spawn_seeds(0).model == spawn_seeds(1).model
    (True, False)
    """
    split, corruption, noise, model = np.random.SeedSequence(seed).spawn(4)
    return RunSeeds(split, corruption, noise, int(model.generate_state(1)[0]))


def split_rows(
    n_samples: int, *, rng: np.random.Generator, test_share: float = 0.2
) -> tuple[Rows, Rows]:
    """Split rows at random, unstratified, as the published protocol does.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    rng : Generator
    test_share : float
        Share of rows in the test part, rounded up; in (0, 1).

    Returns
    -------
    train, test : ndarray of int

    Raises
    ------
    OptionError
        If the share is out of range.
    DataError
        If a part would be empty.

    Examples
    --------
    >>> train, test = split_rows(10, rng=np.random.default_rng(0))
    >>> len(train), len(test), len(set(train) | set(test))
    (8, 2, 10)
    """
    if not 0 < test_share < 1:
        raise OptionError(f"test_share={test_share} is not between 0 and 1; 0.2 is usual.")
    kept = int((1 - test_share) * n_samples + 1e-9)
    if kept < 1 or kept == n_samples:
        raise DataError(f"{n_samples} rows are too few to split; give at least 5.")
    order = rng.permutation(n_samples)
    return order[:kept], order[kept:]


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
        """Measure the columns of the train rows."""
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


@dataclass(frozen=True)
class ConflictCopy:
    """The conflictive copy of the test rows.

    Attributes
    ----------
    views : MultiView
        In raw units.
    noisy : ndarray of bool, shape (n_test,)
        Rows with noise in at least one view.
    replaced_view : ndarray of int, shape (n_test,)
        Which view was replaced, -1 for none.
    """

    views: MultiView
    noisy: NDArray[np.bool_]
    replaced_view: Rows

    @property
    def replaced(self) -> NDArray[np.bool_]:
        """Rows with a replaced view."""
        return np.asarray(self.replaced_view >= 0)


def conflict_views(
    views: MultiView,
    target: ArrayLike,
    *,
    train: Rows,
    test: Rows,
    rng: np.random.Generator,
    noise_share: float = 0.1,
    noise_sigma: float = 0.5,
    conflict_share: float = 0.4,
) -> ConflictCopy:
    """Make RCML's conflictive copy of the test rows.

    In the min-max space of the train rows: on `noise_share` of the rows a random number in
    0..N-1 of views gets N(0, sigma^2) noise; then on `conflict_share` of the rows one random view
    is replaced by that view of the first row, of the whole set, of the next class (y + 1 mod K).
    That donor is mostly a train row; one that lacks the view is passed over.

    Parameters
    ----------
    views : MultiView
        All rows of the set; not changed.
    target : array of int, shape (n,)
        Class numbers 0..K-1.
    train, test : ndarray of int
        Row numbers.
    rng : Generator
    noise_share, noise_sigma, conflict_share : float
        Shares of the test rows, rounded down, and the noise's standard deviation.

    References
    ----------
    Xu et al., AAAI 2024, section 4.1, and the published code.

    Examples
    --------
    >>> views = MultiView([np.arange(10.0)[:, None], np.arange(10.0)[::-1, None]])
    >>> copy = conflict_views(views, [0, 1] * 5, train=np.arange(5), test=np.arange(5, 10),
    ...                       rng=np.random.default_rng(0))
    >>> int(copy.replaced.sum())
    2
    """
    codes = np.asarray(target)
    classes, count, rows = int(codes.max()) + 1, views.n_views, len(test)
    space = MinMaxSpace.fit(views.take(train))
    arrays = space.enter(views.take(test))
    noisy = np.zeros(rows, dtype=bool)
    for row in rng.choice(rows, size=int(noise_share * rows), replace=False):
        for view in rng.choice(count, size=rng.integers(count), replace=False):
            arrays[view][row] += rng.normal(0.0, noise_sigma, arrays[view].shape[1])
            noisy[row] = True
    donors = _donors(views, codes, space)
    replaced = np.full(rows, -1, dtype=np.int64)
    for row in rng.choice(rows, size=int(conflict_share * rows), replace=False):
        view = int(rng.integers(count))
        other = (int(codes[test[row]]) + 1) % classes
        while other not in donors[view]:
            other = (other + 1) % classes
        arrays[view][row] = donors[view][other]
        replaced[row] = view
    return ConflictCopy(space.leave(arrays, views), noisy, replaced)


def _donors(
    views: MultiView, codes: NDArray[np.int64], space: MinMaxSpace
) -> list[dict[int, Array]]:
    """For each view, by class, the first row of the class that has the view."""
    found = []
    for view, here in enumerate(views.present.T):
        rows = np.flatnonzero(here)
        known, first = np.unique(codes[rows], return_index=True)
        values = space.enter(views.take(rows[first]))[view]
        found.append(dict(zip(known.tolist(), values, strict=True)))
    return found


def noise_views(views: MultiView, *, train: Rows, rows: int, rng: np.random.Generator) -> MultiView:
    """Rows of pure noise in every view: uniform over the train rows' range of each column.

    Parameters
    ----------
    views : MultiView
    train : ndarray of int
        Rows that fix the ranges.
    rows : int
        How many to make.
    rng : Generator

    Examples
    --------
    >>> views = MultiView([np.arange(4.0)[:, None]])
    >>> noise_views(views, train=np.arange(4), rows=2, rng=np.random.default_rng(0)).n_samples
    2
    """
    space = MinMaxSpace.fit(views.take(train))
    return space.leave([rng.random((rows, width)) for width in views.widths], views)


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
