"""Test sets by name, all made from one run's test rows, conflictive copies among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
from rcml_misa.protocols.corruptions import (
    MinMaxSpace,
    drop_views,
    noisy_views,
    only_tables,
    shuffled_rows,
    take_each,
)
from rcml_misa.protocols.splits import Partition, RunSeeds
from rcml_misa.views import MultiView

__all__ = ["EvaluationSet", "conflict_views", "make_test_set"]

Rows = NDArray[np.int64]
Donors = Literal["train", "test", "any"]

# kind -> name of its number and its largest value; noise is in units of a column's range
_NUMBERS = {
    "conflict": ("SHARE", 1.0),
    "noise": ("SIGMA", 1e6),
    "missing": ("RATE", 1.0),
    "shuffle": ("RATE", 1.0),
}
_FORMS = (
    "clean",
    "conflict",
    "conflict:SHARE",
    "conflict:SHARE:DONORS",
    "noise:SIGMA",
    "missing:RATE",
    "shuffle:RATE",
)


@dataclass(frozen=True)
class ConflictCopy:
    """The conflictive copy of the test rows, in raw units."""

    views: MultiView
    noisy: NDArray[np.bool_]  # rows with noise in at least one view
    replaced_view: Rows  # number of each row's replaced view, -1 for none
    donor: Rows  # row of the whole set that it was copied from, -1 for none

    @property
    def replaced(self) -> NDArray[np.bool_]:
        """Rows with a replaced view."""
        return np.asarray(self.replaced_view >= 0)

    def copied_from(self, rows: Rows) -> NDArray[np.bool_]:
        """Flag the rows whose replaced view is an exact copy of that of one of `rows`."""
        return np.isin(self.donor, rows)


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
    views, target : MultiView and array of int, shape (n,)
        All rows of the set, not changed, and their class numbers 0..K-1.
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
    chosen = replaced[:, None] == np.arange(views.n_views)
    return take_each(views, np.where(chosen, donor[:, None], test[:, None]))


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

    `share` of the test rows is rounded; `donors` is the part that donors come from. A method may
    have memorised a train row and be less uncertain of its copy than of any new row; ``"test"``
    asks about conflict alone. It takes two classes among the donors. The rest is as in
    `conflict_views`.
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


@dataclass(frozen=True)
class NamedSet:
    """Kind and numbers that a test set's name stands for."""

    kind: str  # "clean", or one of `_NUMBERS`
    amount: float | None = None  # share, sigma or rate; None for clean rows, the published copy
    donors: Donors = "test"  # part that the donors of conflicts come from

    @property
    def name(self) -> str:
        """The one way to write it."""
        if self.amount is None:
            return self.kind
        end = f":{self.donors}" if self.kind == "conflict" and self.donors != "test" else ""
        return f"{self.kind}:{self.amount:g}{end}"


def parse_test_set(text: str) -> NamedSet:
    """Read a test set's name; one that does not exist or is out of range is an `OptionError`."""
    shown = repr(shortened(text, 60))
    kind, *rest = text.split(":")
    if kind in ("clean", "conflict") and not rest:
        return NamedSet(kind)
    if kind not in _NUMBERS or not rest or len(rest) > (2 if kind == "conflict" else 1):
        raise OptionError(f"there is no test set {shown}; {nearest(text, _FORMS)}")
    word, high = _NUMBERS[kind]
    try:
        amount = float(rest[0])
    except ValueError:
        raise OptionError(f"the test set {shown} has no number; write {kind}:{word}.") from None
    if not 0 <= amount <= high or (kind == "missing" and amount == 1):
        shares = "in [0, 1)" if kind == "missing" else "in [0, 1]"
        limit = shares if high == 1 else f"0 or more and up to {high:g}"
        raise OptionError(f"the test set {shown} has a {word} that is not {limit}.")
    if len(rest) == 1:
        return NamedSet(kind, amount)
    for donors in get_args(Donors):
        if rest[1] == donors:
            return NamedSet(kind, amount, donors)
    raise OptionError(f"the test set {shown}: {nearest(rest[1], get_args(Donors))}")


@dataclass(frozen=True)
class EvaluationSet:
    """Rows to score.

    Attributes
    ----------
    name : str
    views : MultiView
        In raw units; the clean test rows in their order, altered or not.
    altered : ndarray of bool or None
        Rows that say what they should not: with a replaced view, noise or a missing view;
        of shuffled rows those with a view that really came from another row.
    copied : ndarray of bool or None
        Rows whose replaced view is an exact copy of a train row's.
    """

    name: str
    views: MultiView
    altered: NDArray[np.bool_] | None = None
    copied: NDArray[np.bool_] | None = None


def make_test_set(
    name: str, views: MultiView, target: NDArray[np.int64], *, part: Partition, seeds: RunSeeds
) -> EvaluationSet:
    """Make one test set from a run's test rows; the same one whichever others are made.

    `name` is one of `Protocol.test_sets`; `views` and `target` are all rows of the data set.

    Raises
    ------
    DataError
        If the rows can't be made, such as those with noise where a view is no table.
    """
    named, train, test = parse_test_set(name), part.train, part.test
    if named.kind == "clean":
        return EvaluationSet(name, views.take(test))
    if named.kind == "noise":
        if not only_tables(views):
            raise DataError(f"the test set {name!r} needs tables; a view is a sequence or a text.")
        sigma = float(named.amount or 0)
        noisy = noisy_views(views, train=train, test=test, rng=seeds.test_set(name), sigma=sigma)
        return EvaluationSet(name, noisy, np.full(len(test), sigma > 0))
    if named.kind == "missing":
        rate = float(named.amount or 0)
        some, missing = drop_views(views, test=test, rng=seeds.test_set(name), rate=rate)
        return EvaluationSet(name, some, np.asarray(missing.any(axis=1)))
    if named.kind == "shuffle":
        rows, rate = views.take(test), float(named.amount or 0)
        sources = shuffled_rows(rows.present, rate=rate, rng=seeds.test_set(name))
        moved = (sources != np.arange(len(test))[:, None]).any(axis=1)
        return EvaluationSet(name, take_each(rows, sources), np.asarray(moved))
    if named.amount is None:
        published = np.random.default_rng(seeds.corruption)
        copy = conflict_views(views, target, train=train, test=test, rng=published)
    else:
        rng, share, donors = seeds.test_set(name), named.amount, named.donors
        copy = conflict_rows(
            views, target, train=train, test=test, rng=rng, share=share, donors=donors
        )
    return EvaluationSet(name, copy.views, copy.replaced, copy.copied_from(train))
