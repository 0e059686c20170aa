"""The protocol of an experiment, and the rows that it gives a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rcml_misa.bounds import check_least
from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
from rcml_misa.protocols.corruptions import imbalanced_rows, noisy_labels, only_tables
from rcml_misa.protocols.evaluation_sets import parse_test_set
from rcml_misa.protocols.splits import (
    Partition,
    SplitKind,
    fold_rows,
    hold_back,
    hold_back_groups,
    spawn_seeds,
    split_rows,
)

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset

__all__ = ["BEST_TEST", "Protocol", "partition_rows"]

Rows = NDArray[np.int64]
Selection = Literal["last", "best-valid", "best-test-epoch"]
BEST_TEST: Selection = "best-test-epoch"  # reads the test rows' classes; to reproduce papers only
NO_ROWS: Rows = np.empty(0, dtype=np.int64)
TEST_SHARE = 0.2  # of drawn splits, by default
MOST_ASKED = 1_000  # test sets, and checkpoints
GROUP_SHARES = {"test": 1 / 3, "train": 0.15}  # of the groups, where validation comes from there


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Rules of an experiment: the split, changes of train rows, the epoch that counts, test sets.

    Parameters
    ----------
    split : {"auto", "random", "stratified", "grouped", "given"}
        ``"grouped"`` keeps the rows of a group together, ``"given"`` takes the data set's own
        split, ``"auto"`` does so where there is one that counts by default and draws a split
        elsewhere, grouped where there are groups, else random; see `for_dataset`.
    folds : int
        0 draws a new split for each run; k of 2 or more makes run r fold r mod k of a partition
        that is drawn anew every k runs.
    test_share : float
        Share of test rows of a split that is not in folds.
    valid_share : float
        Share of train rows (of groups, where there are some) held back for selection, temperature
        and conformal sets; 0 for none. A given split may have its own.
    selection : {"last", "best-valid", "best-test-epoch"}
        Epoch that counts. ``"best-test-epoch"`` looks at the test rows' classes, as some
        published code does: its figures are no estimate of accuracy on new rows.
    test_sets : tuple of str
        ``clean``; ``conflict``, the published conflictive copy, and ``conflict:SHARE[:DONORS]``,
        of classes alone; ``noise:SIGMA``, of tables alone; ``missing:RATE``; ``shuffle:RATE``,
        views exchanged between test rows. All are scored on one trained model.
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

    split: SplitKind = "auto"
    folds: int = 0
    test_share: float = TEST_SHARE
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
                choice = nearest(str(value), get_args(kinds))
                raise OptionError(f"{name}={value!r} does not exist; {choice}")
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
                raise OptionError(f"{name}={shortened(getattr(self, name))} is not {words}.")
        check_least("", folds=(self.folds, 0), held_out=(self.held_out, 0))
        for name in ("test_sets", "checkpoints"):
            if len(getattr(self, name)) > MOST_ASKED:
                raise OptionError(
                    f"{name} has {len(getattr(self, name))} items; give {MOST_ASKED} at most."
                )
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

    def for_dataset(self, dataset: Dataset) -> Protocol:
        """Settle the split for a data set, and refuse rules that it can't follow.

        Where a given split has validation rows of its own or draws them by groups, no share of
        train rows is held back.

        Raises
        ------
        OptionError
            If the split would leak or divide groups, a share of test rows is asked of a given
            split, scores are to be treated as classes, or noise is to be added to a text.

        Examples
        --------
        >>> from rcml_misa.datasets import load_dataset
        >>> Protocol().for_dataset(load_dataset("digits")).split
        'random'
        """
        name, given, split = dataset.name, dataset.folds is not None, self.split
        if split == "auto":
            drawn: SplitKind = "random" if dataset.groups is None else "grouped"
            own = given and not self.folds and self.test_share == TEST_SHARE
            split = "given" if own else drawn
        if split == "given" and self.test_share != TEST_SHARE:
            raise OptionError(
                f"the given split of {name} has test rows of its own; leave test_share out."
            )
        if split != "given" and given and dataset.valid_from == "test":
            raise OptionError(
                f"the features of {name} were trained on the classes of its own train rows, so "
                f"that test rows of a {split} split would leak; use split 'given'."
            )
        self._check_target(dataset, split)
        choice = "'given' or 'grouped'" if given else "'grouped'"
        if split in ("random", "stratified") and dataset.groups is not None:
            raise OptionError(
                f"a {split} split would divide the groups of {name}, such as one speaker's rows, "
                f"between train and test; use split {choice}."
            )
        for test_set in self.test_sets:
            if parse_test_set(test_set).kind == "noise" and not only_tables(dataset.views):
                raise OptionError(
                    f"{test_set!r} adds noise to tables, and {name} has a view that is a sequence "
                    "or a text; choose clean, conflict, missing or shuffle."
                )
        validated = dataset.valid_from is not None or "valid" in (dataset.folds or {})
        share = 0.0 if split == "given" and validated else self.valid_share
        return replace(self, split=split, valid_share=share)

    def _check_target(self, dataset: Dataset, split: SplitKind) -> None:
        """Refuse what needs classes where scores are predicted."""
        if dataset.task == "classification":
            return
        options = {
            "split='stratified'": split == "stratified",
            f"selection={self.selection!r}": self.selection != "last",
            "label_noise": self.label_noise > 0,
            "imbalance": self.imbalance < 1,
            "held_out": self.held_out > 0,
            "checkpoints": bool(self.checkpoints),
            **{repr(name): name.startswith("conflict:") for name in self.test_sets},
        }
        for option, asked in options.items():
            if asked:
                raise OptionError(
                    f"{option} needs classes and {dataset.name} has scores to predict; leave it "
                    "out or choose a task of classes."
                )

    def describe(self) -> str:
        """Put the protocol in words.

        Examples
        --------
        >>> Protocol(folds=5, split="stratified", label_noise=0.2).describe()
        'stratified 5-fold partitions, last epoch, 20 % of the train labels wrong'
        """
        share, kind = round(100 * self.test_share), self.split.replace("auto", "random")
        split = f"{kind} {100 - share}/{share} splits"
        if self.split == "given":
            split = "the data set's own split"
        elif self.folds:
            split = f"{kind} {self.folds}-fold partitions"
        epoch = {
            "last": "last epoch",
            "best-valid": "best epoch on rows held back",
            BEST_TEST: "best epoch on the test rows, which is no estimate for new rows",
        }[self.selection]
        return ", ".join([split, epoch, *self.changes()])

    def changes(self) -> list[str]:
        """List in words what is done to the train rows."""
        changes = {
            f"{100 * self.valid_share:g} % of the train rows held back": self.valid_share > 0,
            f"{100 * self.label_noise:g} % of the train labels wrong": self.label_noise > 0,
            f"train classes imbalanced down to {self.imbalance:g}": self.imbalance < 1,
            f"{self.held_out} classes not trained on": self.held_out > 0,
        }
        return [words for words, asked in changes.items() if asked]


def partition_rows(
    target: NDArray[Any],
    *,
    protocol: Protocol,
    seed: int,
    run: int = 0,
    groups: NDArray[Any] | None = None,
    folds: Mapping[str, NDArray[np.int64]] | None = None,
    valid_from: Literal["train", "test"] | None = None,
) -> Partition:
    """Cut one run's parts.

    Parameters
    ----------
    target : ndarray of shape (n,)
        Class numbers 0..K-1, or scores.
    protocol : Protocol
        Rules; ``split="auto"`` is the given split where there are folds, else a random one.
    seed, run : int
        Seed of the run, consecutive in a series, and its number there, from 0.
    groups : ndarray of shape (n,), optional
        Group of each row, which ``split="grouped"`` keeps together.
    folds : mapping of str to ndarray of int, optional
        Rows named ``"train"``, ``"test"`` and perhaps ``"valid"``, for ``split="given"``.
    valid_from : {"train", "test"}, optional
        Part of a given split without validation rows that gives some, drawn anew in each run: a
        third of the groups of its test rows, or 15 % of those of its train rows; none by default.

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
    given = protocol.split == "given" or (protocol.split == "auto" and folds is not None)
    if given:
        chance = np.random.default_rng(seeds.split)
        train, valid, test = _given_split(folds, groups, valid_from, protocol, chance)
    else:
        (train, test), valid = _drawn_split(target, protocol, seed, run, groups), NO_ROWS
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
        train, valid, test = (x[~np.isin(target[x], unknown)] for x in (train, valid, test))
    if protocol.valid_share and not len(valid):
        chance, share = np.random.default_rng(seeds.validation), protocol.valid_share
        owners = groups if given or protocol.split == "grouped" else None
        if owners is None and np.issubdtype(target.dtype, np.integer):
            train, valid = hold_back(train, target, share=share, rng=chance)
        else:
            train, valid = hold_back_groups(train, owners, share=share, rng=chance)
    if protocol.imbalance < 1:
        train = imbalanced_rows(train, target, ratio=protocol.imbalance, rng=rng)
    codes = target[train]
    if protocol.label_noise:
        classes = np.unique(codes)
        codes = noisy_labels(codes, share=protocol.label_noise, classes=classes, rng=rng)
    return Partition(train, codes, valid, test, held)


def _given_split(
    folds: Mapping[str, NDArray[np.int64]] | None,
    groups: NDArray[Any] | None,
    valid_from: Literal["train", "test"] | None,
    protocol: Protocol,
    rng: np.random.Generator,
) -> tuple[Rows, Rows, Rows]:
    """Take train, validation and test rows of the data set's own split."""
    if folds is None or not {"train", "test"} <= set(folds):
        raise DataError("this data set has no folds of its own; ask for another split.")
    train, valid, test = (
        np.asarray(folds.get(name, NO_ROWS), dtype=np.int64) for name in ("train", "valid", "test")
    )
    if "valid" not in folds and valid_from == "test":
        test, valid = hold_back_groups(test, groups, share=GROUP_SHARES["test"], rng=rng)
    elif "valid" not in folds and valid_from == "train":
        train, valid = hold_back_groups(train, groups, share=GROUP_SHARES["train"], rng=rng)
    if protocol.selection == "best-valid" and not len(valid) and not protocol.valid_share:
        raise DataError(
            "this data set's folds have no validation rows to select on; give a valid_share or "
            "select the last epoch."
        )
    every = np.concatenate([train, valid, test])
    if not len(train) or not len(test) or len(np.unique(every)) < len(every):
        raise DataError("this data set's folds are empty or share rows; correct them.")
    return train, valid, test


def _drawn_split(
    target: NDArray[Any], protocol: Protocol, seed: int, run: int, groups: NDArray[Any] | None
) -> tuple[Rows, Rows]:
    """Draw train and test rows, before anything is done to them."""
    if protocol.split == "grouped" and groups is None:
        raise DataError("this data set has no groups; ask for a random or stratified split.")
    how: dict[str, Any] = {
        "target": target if protocol.split == "stratified" else None,
        "groups": groups if protocol.split == "grouped" else None,
    }
    if not protocol.folds:
        rng = np.random.default_rng(spawn_seeds(seed).split)
        return split_rows(len(target), rng=rng, test_share=protocol.test_share, **how)
    # the runs of one partition share the seed of its first run in the series
    first = seed - run + run // protocol.folds
    rng = np.random.default_rng(spawn_seeds(first).split)
    fold = run % protocol.folds
    return fold_rows(len(target), folds=protocol.folds, fold=fold, rng=rng, **how)
