"""The protocol of an experiment, and the rows that it gives a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.protocols.corruptions import imbalanced_rows, noisy_labels
from rcml_misa.protocols.evaluation_sets import parse_test_set
from rcml_misa.protocols.seeds import spawn_seeds
from rcml_misa.protocols.splits import SplitKind, fold_rows, hold_back, split_rows

__all__ = ["BEST_TEST", "Partition", "Protocol", "Selection", "partition_rows"]

Rows = NDArray[np.int64]
Selection = Literal["last", "best-valid", "best-test-epoch"]
BEST_TEST: Selection = "best-test-epoch"  # reads the test rows' classes; to reproduce papers only
NO_ROWS: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How data are split, what is done to train rows, which epoch counts, what is scored.

    Parameters
    ----------
    split : {"random", "stratified", "grouped", "given"}
        ``"grouped"`` keeps the rows of a group together, ``"given"`` takes the data set's own
        folds.
    folds : int
        0 draws a new split for each run; k of 2 or more makes run r fold r mod k of a partition
        that is drawn anew every k runs.
    test_share : float
        Share of test rows of a split that is not in folds.
    valid_share : float
        Share of train rows held back for selection, temperature and conformal sets; 0 for none.
        A given split has its own.
    selection : {"last", "best-valid", "best-test-epoch"}
        Which epoch counts. ``"best-test-epoch"`` looks at the test rows' classes, as some
        published code does: its figures are no estimate of accuracy on new rows.
    test_sets : tuple of str
        ``clean``; ``conflict``, the published conflictive copy; ``conflict:SHARE[:DONORS]``;
        ``noise:SIGMA``; ``missing:RATE``. All are scored on one trained model.
    label_noise : float
        Share of train labels that are wrong.
    imbalance : float
        Size of the rarest class of the train rows over the most frequent one's; 1 for none.
    held_out : int
        Classes, drawn anew for each run, that are not trained on; their test rows are scored apart.
    checkpoints : tuple of int
        Epochs after which the clean and the conflictive rows are scored too; nothing is chosen by
        that.

    Raises
    ------
    OptionError
        If a value does not exist or is out of range.

    Examples
    --------
    >>> Protocol(folds=5, split="stratified").folds
    5
    """

    split: SplitKind = "random"
    folds: int = 0
    test_share: float = 0.2
    valid_share: float = 0.0
    selection: Selection = "last"
    test_sets: tuple[str, ...] = ("clean", "conflict")
    label_noise: float = 0.0
    imbalance: float = 1.0
    held_out: int = 0
    checkpoints: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, kinds in (("split", SplitKind), ("selection", Selection)):
            value = getattr(self, name)
            if value not in get_args(kinds):
                known = nearest(str(value), get_args(kinds))
                raise OptionError(f"{name}={value!r} does not exist; {known}")
        limits = (
            ("test_share", 0 < self.test_share < 1, "between 0 and 1; 0.2 is usual"),
            ("valid_share", 0 <= self.valid_share < 1, "0 or more and below 1"),
            ("label_noise", 0 <= self.label_noise < 1, "0 or more and below 1"),
            ("imbalance", 0 < self.imbalance <= 1, "above 0 and 1 at most"),
            ("folds", self.folds == 0 or self.folds >= 2, "0 or a number of folds from 2 on"),
            ("held_out", self.held_out >= 0, "0 or a number of classes"),
            ("checkpoints", all(epoch >= 1 for epoch in self.checkpoints), "epochs from 1 on"),
        )
        for name, fits, words in limits:
            if not fits:
                raise OptionError(f"{name}={getattr(self, name)} is not {words}.")
        if self.split == "given" and self.folds:
            raise OptionError("split='given' has its own folds; leave folds=0.")
        if self.selection == "best-valid" and not self.valid_share and self.split != "given":
            raise OptionError(
                "selection='best-valid' needs validation rows; hold some back with a valid_share "
                "such as 0.1."
            )
        names = tuple(parse_test_set(text).name for text in self.test_sets)
        if "clean" not in names:
            names = ("clean", *names)
        object.__setattr__(self, "test_sets", tuple(dict.fromkeys(names)))

    @property
    def leaky(self) -> bool:
        """Whether test rows decide anything."""
        return self.selection == BEST_TEST

    def describe(self) -> str:
        """Say in words what is done.

        Examples
        --------
        >>> Protocol(folds=5, split="stratified", label_noise=0.2).describe()
        'stratified 5-fold partitions, last epoch, 20 % of the train labels wrong'
        """
        if self.split == "given":
            words = ["the data set's own split"]
        elif self.folds:
            words = [f"{self.split} {self.folds}-fold partitions"]
        else:
            share = round(100 * self.test_share)
            words = [f"{self.split} {100 - share}/{share} splits"]
        words.append(
            {
                "last": "last epoch",
                "best-valid": "best epoch on rows held back",
                BEST_TEST: "best epoch on the test rows, which is no estimate for new rows",
            }[self.selection]
        )
        if self.valid_share:
            words.append(f"{100 * self.valid_share:g} % of the train rows held back")
        if self.label_noise:
            words.append(f"{100 * self.label_noise:g} % of the train labels wrong")
        if self.imbalance < 1:
            words.append(f"train classes imbalanced down to {self.imbalance:g}")
        if self.held_out:
            words.append(f"{self.held_out} classes not trained on")
        return ", ".join(words)


@dataclass(frozen=True)
class Partition:
    """Row numbers of one run's parts.

    Attributes
    ----------
    train : ndarray of int
    codes : ndarray of int
        Class numbers to train on, one per train row; wrong ones among them if asked for.
    valid, test : ndarray of int
    held_out : ndarray of int
        Test rows of the classes that are not trained on.
    """

    train: Rows
    codes: NDArray[np.int64]
    valid: Rows
    test: Rows
    held_out: Rows


def partition_rows(
    target: NDArray[np.int64],
    *,
    protocol: Protocol,
    seed: int,
    run: int = 0,
    groups: NDArray[Any] | None = None,
    folds: Mapping[str, NDArray[np.int64]] | None = None,
) -> Partition:
    """Cut one run's parts.

    Parameters
    ----------
    target : ndarray of int, shape (n,)
        Class numbers 0..K-1.
    protocol : Protocol
    seed : int
        The run's; runs of one series have consecutive ones.
    run : int
        Number in the series, from 0.
    groups : ndarray of shape (n,), optional
        What ``split="grouped"`` keeps together.
    folds : mapping of str to ndarray of int, optional
        Rows named ``"train"``, ``"test"`` and perhaps ``"valid"``, for ``split="given"``.

    Raises
    ------
    DataError
        If the data set has no groups or folds that are asked for, or a part would be empty.

    Examples
    --------
    >>> target = np.arange(100) % 4
    >>> part = partition_rows(target, protocol=Protocol(valid_share=0.25), seed=0)
    >>> len(part.train), len(part.valid), len(part.test)
    (60, 20, 20)
    """
    seeds = spawn_seeds(seed)
    train, valid, test = _split(target, protocol, seed, run, groups, folds)
    rng = np.random.default_rng(seeds.training)
    held = NO_ROWS
    if protocol.held_out:
        present = np.unique(target)
        if len(present) - protocol.held_out < 2:
            raise DataError(
                f"held_out={protocol.held_out} of {len(present)} classes leaves fewer than two to "
                "train on; hold out fewer."
            )
        unknown = rng.choice(present, size=protocol.held_out, replace=False)
        held = test[np.isin(target[test], unknown)]
        train, valid, test = (
            rows[~np.isin(target[rows], unknown)] for rows in (train, valid, test)
        )
    if protocol.valid_share and protocol.split != "given":
        train, valid = hold_back(
            train,
            target,
            share=protocol.valid_share,
            rng=np.random.default_rng(seeds.validation),
        )
    if protocol.imbalance < 1:
        train = imbalanced_rows(train, target, ratio=protocol.imbalance, rng=rng)
    codes = target[train]
    if protocol.label_noise:
        known = np.unique(codes)
        codes = noisy_labels(codes, share=protocol.label_noise, classes=known, rng=rng)
    return Partition(train, codes, valid, test, held)


def _split(
    target: NDArray[np.int64],
    protocol: Protocol,
    seed: int,
    run: int,
    groups: NDArray[Any] | None,
    folds: Mapping[str, NDArray[np.int64]] | None,
) -> tuple[Rows, Rows, Rows]:
    """Train, validation and test rows before anything is done to them."""
    if protocol.split == "given":
        if folds is None or not {"train", "test"} <= set(folds):
            raise DataError("this data set has no folds of its own; ask for another split.")
        train, valid, test = (
            np.asarray(folds.get(name, NO_ROWS), dtype=np.int64)
            for name in ("train", "valid", "test")
        )
        if protocol.selection == "best-valid" and not len(valid):
            raise DataError("this data set's folds have no validation rows to select on.")
        every = np.concatenate([train, valid, test])
        if not len(train) or not len(test) or len(np.unique(every)) < len(every):
            raise DataError("this data set's folds are empty or share rows; mend them.")
        return train, valid, test
    if protocol.split == "grouped" and groups is None:
        raise DataError("this data set has no groups; ask for a random or stratified split.")
    how: dict[str, Any] = {
        "target": target if protocol.split == "stratified" else None,
        "groups": groups if protocol.split == "grouped" else None,
    }
    if not protocol.folds:
        rng = np.random.default_rng(spawn_seeds(seed).split)
        train, test = split_rows(len(target), rng=rng, test_share=protocol.test_share, **how)
        return train, NO_ROWS, test
    # the runs of one partition share the seed of its first run in the series
    first = seed - run + run // protocol.folds
    rng = np.random.default_rng(spawn_seeds(first).split)
    fold = run % protocol.folds
    train, test = fold_rows(len(target), folds=protocol.folds, fold=fold, rng=rng, **how)
    return train, NO_ROWS, test
