"""Given splits, chosen views, and the conflictive copy of rows that are no tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.protocols import ConflictCopy, split_rows
from rcml_misa.views import MultiView

__all__ = ["Split", "keep_views", "split_of", "swap_views"]

VALID_SHARE = 1 / 3  # of the test groups, where validation must come from them
TRAIN_SHARE = 0.15  # of the train groups, where it may come from those

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of a run's parts; `valid` is empty where the data set has no given split."""

    train: Rows
    valid: Rows
    test: Rows


def split_of(dataset: Dataset, *, rng: np.random.Generator) -> Split:
    """A run's split: the data set's own where it has one, random 80/20 otherwise.

    A given split without validation rows gets some as whole groups, a third of those of the test
    rows or 15 % of those of the train rows, as `Dataset.valid_from` says, drawn anew in each run.

    Parameters
    ----------
    dataset : Dataset
    rng : Generator

    Examples
    --------
    >>> from rcml_misa.datasets import load_dataset
    >>> split = split_of(load_dataset("digits"), rng=np.random.default_rng(0))
    >>> len(split.train), len(split.valid), len(split.test)
    (1437, 0, 360)
    """
    if dataset.folds is None:
        train, test = split_rows(dataset.views.n_samples, rng=rng)
        return Split(train, np.empty(0, dtype=np.int64), test)
    train, test = dataset.folds["train"], dataset.folds["test"]
    if "valid" in dataset.folds:
        return Split(train, dataset.folds["valid"], test)
    from_test = dataset.valid_from == "test"
    pool = test if from_test else train
    owners = pool if dataset.groups is None else dataset.groups[pool]
    groups = np.unique(owners)
    count = max(1, round((VALID_SHARE if from_test else TRAIN_SHARE) * len(groups)))
    chosen = np.isin(owners, rng.permutation(groups)[:count])
    valid, rest = pool[chosen], pool[~chosen]
    return Split(train, valid, rest) if from_test else Split(rest, valid, test)


def keep_views(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The data set with some of its views only; all of them for no names.

    Raises
    ------
    OptionError
        If there is no such view.
    """
    if not names:
        return dataset
    for name in names:
        if name not in dataset.views:
            known = nearest(name, dataset.views.names)
            raise OptionError(f"{dataset.name} has no view {name!r}; {known}")
    kept = {name: dataset.views[name] for name in dataset.views.names if name in names}
    return replace(dataset, views=MultiView(kept))


def swap_views(
    views: MultiView,
    target: ArrayLike,
    *,
    test: Rows,
    rng: np.random.Generator,
    share: float = 0.4,
) -> ConflictCopy:
    """The conflictive copy where a view is a sequence or a text: swapped views, no noise.

    On `share` of the test rows one random view is replaced by that view of the first row, of the
    whole set, of the next class, as in `rcml_misa.protocols.conflict_views`; noise means nothing
    to a text and is left out for every view.

    Examples
    --------
    >>> views = MultiView({"a": ["x", "y", "z", "w"], "b": np.ones((4, 2, 1))})
    >>> copy = swap_views(views, [0, 1, 0, 1], test=np.array([2, 3]),
    ...                   rng=np.random.default_rng(0), share=1.0)
    >>> copy.replaced.tolist(), copy.views.kinds
    ([True, True], ('text', 'sequence'))
    """
    codes = np.asarray(target)
    classes = int(codes.max()) + 1
    first = {int(code): int(np.flatnonzero(codes == code)[0]) for code in np.unique(codes)}
    rows = np.tile(test, (views.n_views, 1))
    replaced = np.full(len(test), -1, dtype=np.int64)
    for row in rng.choice(len(test), size=int(share * len(test)), replace=False):
        other = (int(codes[test[row]]) + 1) % classes
        while other not in first:
            other = (other + 1) % classes
        replaced[row] = rng.integers(views.n_views)
        rows[replaced[row], row] = first[other]
    swapped = {name: view[rows[place]] for place, (name, view) in enumerate(views.items())}
    return ConflictCopy(MultiView(swapped), np.zeros(len(test), dtype=bool), replaced)
