"""Conflictive copies of the test rows, of any kind of view: the published one, or at any rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.protocols.corruptions import MinMaxSpace, only_tables
from rcml_misa.views import MultiView

__all__ = ["ConflictCopy", "Donors", "conflict_rows", "conflict_views"]

Rows = NDArray[np.int64]
Donors = Literal["train", "test", "any"]


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
        Number of the replaced view, -1 for none.
    donor : ndarray of int, shape (n_test,), or None
        Number, in the whole set, of the row that the replaced view was copied from, -1 for none.
    """

    views: MultiView
    noisy: NDArray[np.bool_]
    replaced_view: Rows
    donor: Rows | None = None

    @property
    def replaced(self) -> NDArray[np.bool_]:
        """Rows with a replaced view."""
        return np.asarray(self.replaced_view >= 0)

    def copied_from(self, rows: Rows) -> NDArray[np.bool_]:
        """Rows whose replaced view is an exact copy of that of one of `rows`: of train rows."""
        donor = np.full(len(self.noisy), -1) if self.donor is None else self.donor
        return np.isin(donor, rows)


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
    That donor is mostly a train row; one that lacks the view is passed over. Where some view is a
    sequence or a text, noise is left out for every view: it means nothing to a text.

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
    tables = only_tables(views)
    noisy = np.zeros(rows, dtype=bool)
    if tables:
        space = MinMaxSpace.fit(views.take(train))
        arrays = space.enter(views.take(test))
        for row in rng.choice(rows, size=int(noise_share * rows), replace=False):
            for view in rng.choice(count, size=rng.integers(count), replace=False):
                arrays[view][row] += rng.normal(0.0, noise_sigma, arrays[view].shape[1])
                noisy[row] = True
    donors = _first_rows(views, codes)
    replaced, donor = (np.full(rows, -1, dtype=np.int64) for _ in range(2))
    for row in rng.choice(rows, size=int(conflict_share * rows), replace=False):
        view = int(rng.integers(count))
        other = (int(codes[test[row]]) + 1) % classes
        while other not in donors[view]:
            other = (other + 1) % classes
        replaced[row], donor[row] = view, donors[view][other]
        if tables:
            arrays[view][row] = space.enter(views.take([donor[row]]))[view][0]
    copy = space.leave(arrays, views) if tables else _swapped(views, test, replaced, donor)
    return ConflictCopy(copy, noisy, replaced, donor)


def _swapped(views: MultiView, test: Rows, replaced: Rows, donor: Rows) -> MultiView:
    """Take the test rows, each replaced view from its donor."""
    sources = {
        name: np.where(replaced == place, donor, test) for place, name in enumerate(views.names)
    }
    return MultiView({name: view[sources[name]] for name, view in views.items()})


def _first_rows(views: MultiView, codes: NDArray[np.int64]) -> list[dict[int, int]]:
    """Map each class to its first row that has the view, view by view."""
    donors = []
    for present in views.present.T:
        rows = np.flatnonzero(present)
        classes, first = np.unique(codes[rows], return_index=True)
        donors.append(dict(zip(classes.tolist(), rows[first].tolist(), strict=True)))
    return donors


def conflict_rows(
    views: MultiView,
    target: ArrayLike,
    *,
    train: Rows,
    test: Rows,
    rng: np.random.Generator,
    share: float,
    donors: Donors = "test",
) -> ConflictCopy:
    """Replace one random view of a share of the test rows by that of a random row of another class.

    Parameters
    ----------
    views : MultiView
        All rows of the set; not changed.
    target : array of int, shape (n,)
        Class numbers 0..K-1.
    train, test : ndarray of int
        Row numbers.
    rng : Generator
    share : float
        Share of the test rows, rounded; in [0, 1].
    donors : {"train", "test", "any"}
        Part that donors come from. A method may have memorised a train row and be less uncertain
        of its copy than of any new row; ``"test"`` asks about conflict alone.

    Raises
    ------
    OptionError
        If `donors` is not one of those.
    DataError
        If the donors are all of one class, which is that of a row to replace.

    Examples
    --------
    >>> views = MultiView([np.arange(10.0)[:, None], np.arange(10.0)[:, None]])
    >>> copy = conflict_rows(views, [0, 1] * 5, train=np.arange(5), test=np.arange(5, 10),
    ...                      rng=np.random.default_rng(0), share=1.0, donors="train")
    >>> bool(copy.replaced.all()), bool(copy.copied_from(np.arange(5)).all())
    (True, True)
    """
    if donors not in get_args(Donors):
        raise OptionError(f"donors={donors!r} does not exist; {nearest(donors, get_args(Donors))}")
    codes = np.asarray(target)
    pool = {"train": train, "test": test, "any": np.concatenate([train, test])}[donors]
    present = views.present
    replaced, donor = (np.full(len(test), -1, dtype=np.int64) for _ in range(2))
    for row in rng.choice(len(test), size=round(share * len(test)), replace=False):
        view = int(rng.integers(views.n_views))
        others = pool[(codes[pool] != codes[test[row]]) & present[pool, view]]
        if not len(others):
            raise DataError(
                f"no {donors} row with view {views.names[view]!r} is of another class than test "
                f"row {test[row]}; a conflict needs two classes among its donors."
            )
        replaced[row], donor[row] = view, int(rng.choice(others))
    copy = _swapped(views, test, replaced, donor)
    return ConflictCopy(copy, np.zeros(len(test), dtype=bool), replaced, donor)
