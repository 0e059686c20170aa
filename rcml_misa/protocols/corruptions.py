"""Noise, missing views, label noise and imbalance; each returns new data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rcml_misa.protocols.spaces import MinMaxSpace
from rcml_misa.views import MultiView, dense

__all__ = ["drop_views", "imbalanced_rows", "noise_views", "noisy_labels", "noisy_views"]

Rows = NDArray[np.int64]


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


def noisy_views(
    views: MultiView, *, train: Rows, test: Rows, rng: np.random.Generator, sigma: float
) -> MultiView:
    """Test rows with Gaussian noise in half of their views, rounded up, drawn anew for each row.

    Parameters
    ----------
    views : MultiView
        All rows of the set; not changed.
    train, test : ndarray of int
        Row numbers.
    rng : Generator
    sigma : float
        Standard deviation in the min-max space of the train rows, 0 or more.

    References
    ----------
    Han et al., TMC, ICLR 2021, section 4: noise of several deviations in half of the views.

    Examples
    --------
    >>> views = MultiView([np.arange(10.0)[:, None], np.arange(10.0)[:, None]])
    >>> noisy = noisy_views(views, train=np.arange(8), test=np.arange(8, 10),
    ...                     rng=np.random.default_rng(0), sigma=1.0)
    >>> int(((noisy.to_array() - views.take([8, 9]).to_array()) != 0).sum())
    2
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
    """Test rows that lack views: each is missing with chance `rate`, one always stays.

    Parameters
    ----------
    views : MultiView
        All rows of the set; not changed.
    test : ndarray of int
        Row numbers.
    rng : Generator
    rate : float
        In [0, 1).

    Returns
    -------
    views : MultiView
        A missing view's row is wholly NaN.
    missing : ndarray of bool, shape (n_test, N)

    Examples
    --------
    >>> views = MultiView([np.ones((4, 1)), np.ones((4, 1))])
    >>> some, missing = drop_views(
    ...     views, test=np.arange(4), rng=np.random.default_rng(0), rate=0.5)
    >>> bool((some.present == ~missing).all()), bool(missing.all(axis=1).any())
    (True, False)
    """
    there = views.take(test).present
    missing = there & (rng.random(there.shape) < rate)
    for row in np.flatnonzero((there & ~missing).sum(axis=1) == 0):
        missing[row, rng.choice(np.flatnonzero(there[row]))] = False
    arrays = [dense(array, test) for array in views.arrays]
    for view, array in enumerate(arrays):
        array[missing[:, view]] = np.nan
    return MultiView(dict(zip(views.names, arrays, strict=True))), missing


def noisy_labels(
    codes: NDArray[np.int64], *, share: float, classes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels of which a share, rounded, became one of the other classes, each alike.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Not changed.
    share : float
        In [0, 1).
    classes : ndarray of int
        The class numbers to draw from.
    rng : Generator

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noisy_labels(np.zeros(4, int), share=0.5, classes=np.array([0, 1]), rng=rng).sum()
    np.int64(2)
    """
    noisy = codes.copy()
    for row in rng.choice(len(codes), size=round(share * len(codes)), replace=False):
        noisy[row] = rng.choice(classes[classes != codes[row]])
    return noisy


def imbalanced_rows(
    train: Rows, target: NDArray[np.int64], *, ratio: float, rng: np.random.Generator
) -> Rows:
    """Train rows with long-tailed classes: their sizes fall exponentially from 1 to `ratio`.

    Class c of K, in random order, keeps n_max ratio^(c / (K - 1)) rows, rounded, one at least, and
    no more than it has.

    Parameters
    ----------
    train : ndarray of int
        Row numbers.
    target : ndarray of int
        Class numbers of all rows.
    ratio : float
        Size of the rarest class over the most frequent one's, in (0, 1].
    rng : Generator

    References
    ----------
    Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019, section 5.1.

    Examples
    --------
    >>> target = np.repeat([0, 1, 2], 10)
    >>> kept = imbalanced_rows(np.arange(30), target, ratio=0.1, rng=np.random.default_rng(0))
    >>> sorted(int(count) for count in np.bincount(target[kept]))
    [1, 3, 10]
    """
    codes = target[train]
    present = rng.permutation(np.unique(codes))
    most = int(np.bincount(codes).max())
    kept = np.zeros(len(train), dtype=bool)
    for place, code in enumerate(present):
        rows = np.flatnonzero(codes == code)
        wanted = round(most * ratio ** (place / max(len(present) - 1, 1)))
        kept[rng.choice(rows, size=min(max(wanted, 1), len(rows)), replace=False)] = True
    return train[kept]
