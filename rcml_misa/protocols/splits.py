"""Rows to train on and to test, random, stratified, grouped or in folds, and a run's seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from rcml_misa.exceptions import DataError, OptionError

__all__ = ["Partition", "RunSeeds", "spawn_seeds", "split_rows"]

Rows = NDArray[np.int64]
SplitKind = Literal["auto", "random", "stratified", "grouped", "given"]


@dataclass(frozen=True)
class Partition:
    """Row numbers of one run's parts.

    `codes` are the targets to train on, one per train row: class numbers, wrong ones among them if
    asked for, or scores; `held_out` are test rows of the classes that are not trained on.
    """

    train: Rows
    codes: NDArray[Any]
    valid: Rows
    test: Rows
    held_out: Rows


@dataclass(frozen=True)
class RunSeeds:
    """One run's independent sources of chance."""

    split: np.random.SeedSequence
    corruption: np.random.SeedSequence  # for test sets
    noise: np.random.SeedSequence  # for `noise_views`
    model: int  # for an estimator's `random_state`
    validation: np.random.SeedSequence  # for the rows held back
    training: np.random.SeedSequence  # for what is done to the train rows

    def test_set(self, name: str) -> np.random.Generator:
        """Draw for the test set of that name, whichever others there are."""
        return np.random.default_rng([*self.corruption.generate_state(4), *name.encode()])


def spawn_seeds(seed: int) -> RunSeeds:
    """Spawn a run's seeds from one number.

    Examples
    --------
    >>> spawn_seeds(0).model == spawn_seeds(0).model, spawn_seeds(0).model == spawn_seeds(1).model
    (True, False)
    """
    split, corruption, noise, model, validation, training = np.random.SeedSequence(seed).spawn(6)
    state = int(model.generate_state(1)[0])
    return RunSeeds(split, corruption, noise, state, validation, training)


def split_rows(
    n_samples: int,
    *,
    rng: np.random.Generator,
    test_share: float = 0.2,
    target: NDArray[np.int64] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[Rows, Rows]:
    """Split rows at random: unstratified, as the published protocol does, or as asked for.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    rng : Generator
    test_share : float
        Share of rows (of groups, where there are some) in the test part, rounded up; in (0, 1).
    target : ndarray of int, shape (n_samples,), optional
        Class numbers to stratify by: both parts get every class in proportion.
    groups : ndarray of shape (n_samples,), optional
        Rows of one group, such as a speaker's, stay together.

    Raises
    ------
    OptionError, DataError
        If the share is out of range, or a part would be empty.

    Examples
    --------
    >>> train, test = split_rows(10, rng=np.random.default_rng(0))
    >>> len(train), len(test), len(set(train) | set(test))
    (8, 2, 10)
    """
    if not 0 < test_share < 1:
        raise OptionError(f"test_share={test_share} is not between 0 and 1; 0.2 is usual.")
    size = int((1 - test_share) * n_samples + 1e-9)
    if size < 1 or size == n_samples:
        raise DataError(f"{n_samples} rows are too few to split; give at least 5.")
    if target is None and groups is None:
        order = rng.permutation(n_samples)
        return order[:size], order[size:]
    number = int(rng.integers(2**31))
    try:
        if groups is not None:
            cut: Any = GroupShuffleSplit(1, test_size=test_share, random_state=number)
        else:
            cut = StratifiedShuffleSplit(1, test_size=n_samples - size, random_state=number)
        train, test = next(cut.split(np.empty(n_samples), target, groups))
    except ValueError as error:
        kind = "grouped" if groups is not None else "stratified"
        raise DataError(f"these rows can't be split {kind}: {error}") from error
    return train, test


def fold_rows(
    n_samples: int,
    *,
    folds: int,
    fold: int,
    rng: np.random.Generator,
    target: NDArray[np.int64] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[Rows, Rows]:
    """Cut one fold of a shuffled k-fold partition; the folds' test parts are disjoint, cover all.

    `fold` counts from 0; the folds of one partition need generators of the same state. `target`
    stratifies and `groups` stay together, as in `split_rows`.
    """
    number = int(rng.integers(2**31))
    kind: Any = KFold if groups is None else GroupKFold
    if groups is None and target is not None:
        kind = StratifiedKFold
        least = int(np.unique(target, return_counts=True)[1].min())
        if least < folds:
            raise DataError(
                f"{folds} stratified folds need {folds} rows of every class but one has {least}; "
                "ask for fewer folds or a random split."
            )
    try:
        cut = kind(folds, shuffle=True, random_state=number)
        train, test = list(cut.split(np.empty(n_samples), target, groups))[fold]
    except ValueError as error:
        raise DataError(f"these rows can't be cut into {folds} folds: {error}") from error
    return train, test


def hold_back(
    train: Rows, target: NDArray[np.int64], *, share: float, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Hold some train rows back to validate on, every class in proportion as far as that goes.

    `share` in (0, 1) is that of each class's train rows, rounded; one row of each class stays, and
    both parts are in the order of `train`.
    """
    held = np.zeros(len(train), dtype=bool)
    codes = target[train]
    for code in np.unique(codes):
        places = np.flatnonzero(codes == code)
        count = min(round(share * len(places)), len(places) - 1)
        held[rng.choice(places, size=count, replace=False)] = True
    if not held.any():
        raise DataError(
            f"no class has enough train rows to hold {share:g} of them back; give a larger "
            "valid_share."
        )
    return train[~held], train[held]


def hold_back_groups(
    rows: Rows, groups: NDArray[Any] | None, *, share: float, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Hold a share of whole groups back to validate on, one at least; of rows without groups."""
    owners = rows if groups is None else groups[rows]
    names = np.unique(owners)
    count = max(1, round(share * len(names)))
    chosen = np.isin(owners, rng.permutation(names)[:count])
    return rows[~chosen], rows[chosen]
