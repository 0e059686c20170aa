"""Noise, missing and shuffled views, label noise, imbalance, min-max spaces; all give new data.

`views` and `target` are all rows of a set and are not changed, `train` and `test` row numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rcml_misa.views import MultiView, Sequences, Texts, TokenTexts, ViewArray, dense

__all__ = ["noise_views", "only_tables", "scale_leaky", "shuffled_rows"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


def only_tables(views: MultiView) -> bool:
    """Check that no view is a sequence or a text, so that noise and scaling mean something."""
    return not {"sequence", "text"} & set(views.kinds)


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
        span = [np.fmax.reduce(x, axis=0) - least for x, least in zip(arrays, low, strict=True)]
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
    `ranges_of` is the whole set, whose columns' ranges become [0, 1].

    Examples
    --------
    >>> everything = MultiView([np.array([[2.0], [4.0], [6.0]])])
    >>> scale_leaky(everything.take([1]), ranges_of=everything).arrays[0].tolist()
    [[0.5]]
    """
    space = MinMaxSpace.fit(ranges_of)
    return MultiView(dict(zip(views.names, space.enter(views), strict=True)))


def noise_views(views: MultiView, *, train: Rows, rows: int, rng: np.random.Generator) -> MultiView:
    """Draw rows of pure noise in every view: uniform over the train rows' range of each column.

    Examples
    --------
    >>> views = MultiView([np.arange(4.0)[:, None]])
    >>> noise_views(views, train=np.arange(4), rows=2, rng=np.random.default_rng(0)).n_samples
    2
    """
    space = MinMaxSpace.fit(views.take(train))
    return space.leave([rng.random((rows, width)) for width in views.widths], views)


def far_views(views: MultiView, *, train: Rows, rows: Rows, deviations: float = 10.0) -> MultiView:
    """Shift every column of some rows by so many standard deviations of the train rows.

    Constant columns stay, missing views stay missing; it takes tables, see `only_tables`.

    Examples
    --------
    >>> views = MultiView([np.array([[0.0], [2.0], [5.0]])])
    >>> far_views(views, train=np.array([0, 1]), rows=np.array([2])).arrays[0].tolist()
    [[15.0]]
    """
    shifted = {}
    for name, array in views.items():
        values = dense(array)
        with np.errstate(invalid="ignore"):
            # a column without any value has no deviation
            deviation = np.nan_to_num(np.asarray(np.ma.masked_invalid(values[train]).std(axis=0)))
        shifted[name] = values[rows] + deviations * deviation
    return MultiView(shifted)


def noisy_views(
    views: MultiView, *, train: Rows, test: Rows, rng: np.random.Generator, sigma: float
) -> MultiView:
    """Add Gaussian noise to half of the views of each test row, rounded up, drawn anew per row.

    `sigma` is the standard deviation in the min-max space of the train rows, 0 or more.

    After Han et al., TMC, ICLR 2021, section 4: noise of several deviations in half of the views.
    """
    space = MinMaxSpace.fit(views.take(train))
    arrays = space.enter(views.take(test))
    half = -(-views.n_views // 2)
    for row in range(len(test)):
        for view in rng.choice(views.n_views, size=half, replace=False):
            arrays[view][row] += rng.normal(0.0, sigma, arrays[view].shape[1])
    return space.leave(arrays, views)


def drop_views(
    views: MultiView, *, test: Rows, rng: np.random.Generator, rate: float
) -> tuple[MultiView, NDArray[np.bool_]]:
    """Take views away from test rows: each is missing with chance `rate` in [0, 1), one stays.

    A missing table's row is NaN throughout, a missing sequence one step of zeros, a missing text
    empty: its first and last token alone where it has tokens. Returns the test rows in their order
    and a mask of what was taken, (n_test, N).
    """
    rows = views.take(test)
    present = rows.present
    missing = present & (rng.random(present.shape) < rate)
    for row in np.flatnonzero((present & ~missing).sum(axis=1) == 0):
        missing[row, rng.choice(np.flatnonzero(present[row]))] = False
    flags = dict(zip(views.names, missing.T, strict=True))
    return rows.map(lambda name, array: _without(array, flags[name])), missing


def shuffled_rows(present: NDArray[np.bool_], *, rate: float, rng: np.random.Generator) -> Rows:
    """Draw views that rows exchange among themselves; see `take_each` for what is done with them.

    On a share `rate` of the rows, rounded down, ceil(N/2) views drawn for each row stay; then, view
    by view, the rows in which it does not stay exchange it by a random permutation. A row may get
    its own view back, or one of its own class. A view that a row lacks stays missing there.

    Parameters
    ----------
    present : ndarray of bool, shape (n, N)
        Views that each row has.
    rate : float
        In [0, 1].
    rng : Generator

    Returns
    -------
    ndarray of int, shape (n, N)
        Row that each row's view is to be taken from.

    References
    ----------
    Bootstrapping Multi-view Learning for Test-time Noisy Correspondence, CVPR 2026, its published
    code.

    Examples
    --------
    >>> sources = shuffled_rows(np.ones((4, 2), dtype=bool), rate=1, rng=np.random.default_rng(0))
    >>> sorted(sources[:, 0].tolist()), sorted(sources[:, 1].tolist())
    ([0, 1, 2, 3], [0, 1, 2, 3])
    """
    count, views = present.shape
    share = rng.choice(count, size=int(rate * count), replace=False)
    places = rng.permuted(np.tile(np.arange(views), (len(share), 1)), axis=1)
    leaves = (places >= -(-views // 2)) & present[share]
    sources = np.tile(np.arange(count)[:, None], (1, views))
    for view in range(views):
        rows = share[leaves[:, view]]
        sources[rows, view] = rng.permutation(rows)
    return sources


def take_each(views: MultiView, sources: Rows) -> MultiView:
    """Take rows of every kind of view, from a row of its own for each view: `sources`, (n, N)."""
    pairs = zip(views.items(), sources.T, strict=True)
    return MultiView({name: array[rows] for (name, array), rows in pairs})


def _without(array: ViewArray, missing: NDArray[np.bool_]) -> ViewArray:
    """Copy a view with nothing to read in some of its rows."""
    if isinstance(array, Sequences):
        values = np.where(missing[:, None, None], 0.0, array.values)
        return Sequences(values, np.where(missing, 1, array.lengths))
    if isinstance(array, Texts):
        texts = ["" if gone else text for text, gone in zip(array, missing, strict=True)]
        if not isinstance(array, TokenTexts):
            return Texts(texts)
        pairs = zip(array.tokens, missing, strict=True)
        return TokenTexts(texts, [ids[[0, -1]] if gone else ids for ids, gone in pairs])
    table = dense(array, np.arange(len(missing)))
    table[missing] = np.nan
    return table


def noisy_labels(
    codes: NDArray[np.int64], *, share: float, classes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Turn a share in [0, 1) of the labels, rounded, into others of the `classes`, each alike."""
    noisy = codes.copy()
    for row in rng.choice(len(codes), size=round(share * len(codes)), replace=False):
        noisy[row] = rng.choice(classes[classes != codes[row]])
    return noisy


def imbalanced_rows(
    train: Rows, target: NDArray[np.int64], *, ratio: float, rng: np.random.Generator
) -> Rows:
    """Thin train rows to long-tailed classes: sizes fall exponentially from 1 to `ratio`.

    Class c of K, in random order, keeps n_max ratio^(c / (K - 1)) rows, rounded, one at least, and
    no more than it has; `ratio` is in (0, 1].
    After Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019, section
    5.1.
    """
    codes = target[train]
    present = rng.permutation(np.unique(codes))
    most = int(np.bincount(codes).max())
    chosen = np.zeros(len(train), dtype=bool)
    for place, code in enumerate(present):
        rows = np.flatnonzero(codes == code)
        size = round(most * ratio ** (place / max(len(present) - 1, 1)))
        chosen[rng.choice(rows, size=min(max(size, 1), len(rows)), replace=False)] = True
    return train[chosen]
