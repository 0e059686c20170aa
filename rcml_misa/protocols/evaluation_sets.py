"""Test sets by name, all made from one run's test rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.protocols.conflict import Donors, conflict_rows, conflict_views
from rcml_misa.protocols.corruptions import drop_views, noisy_views, only_tables
from rcml_misa.protocols.splits import Partition, RunSeeds
from rcml_misa.views import MultiView

__all__ = ["EvaluationSet", "NamedSet", "make_test_set", "parse_test_set"]

# kind -> name of its number, least value, and whether that may be above 1
_NUMBERS = {"conflict": ("SHARE", False), "noise": ("SIGMA", True), "missing": ("RATE", False)}
_FORMS = ("clean", "conflict", "conflict:SHARE", "conflict:SHARE:DONORS", "noise:SIGMA")


@dataclass(frozen=True)
class NamedSet:
    """Kind and numbers that a test set's name stands for.

    Attributes
    ----------
    kind : {"clean", "conflict", "noise", "missing"}
    amount : float or None
        Share, sigma or rate; None for the clean rows and the published conflictive copy.
    donors : {"train", "test", "any"}
        Part that the donors of conflicts come from.
    """

    kind: str
    amount: float | None = None
    donors: Donors = "test"

    @property
    def name(self) -> str:
        """The one way to write it."""
        if self.amount is None:
            return self.kind
        end = f":{self.donors}" if self.kind == "conflict" and self.donors != "test" else ""
        return f"{self.kind}:{self.amount:g}{end}"


def parse_test_set(text: str) -> NamedSet:
    """Read a test set's name.

    Raises
    ------
    OptionError
        If there is no such test set, or its number is out of range.

    Examples
    --------
    >>> parse_test_set("conflict:0.40:train").name, parse_test_set("noise:1").amount
    ('conflict:0.4:train', 1.0)
    """
    kind, *rest = text.split(":")
    if kind in ("clean", "conflict") and not rest:
        return NamedSet(kind)
    if kind not in _NUMBERS or not rest or len(rest) > (2 if kind == "conflict" else 1):
        choice = nearest(text, (*_FORMS, "missing:RATE"))
        raise OptionError(f"there is no test set {text!r}; {choice}")
    word, unbounded = _NUMBERS[kind]
    try:
        amount = float(rest[0])
    except ValueError:
        raise OptionError(f"the test set {text!r} has no number; write {kind}:{word}.") from None
    high = np.inf if unbounded else 1.0
    if not (0 <= amount <= high and amount < np.inf) or (kind == "missing" and amount == 1):
        limit = "0 or more" if unbounded else "in [0, 1)" if kind == "missing" else "in [0, 1]"
        raise OptionError(f"the test set {text!r} has a {word} that is not {limit}.")
    if len(rest) == 1:
        return NamedSet(kind, amount)
    for donors in get_args(Donors):
        if rest[1] == donors:
            return NamedSet(kind, amount, donors)
    raise OptionError(f"the test set {text!r}: {nearest(rest[1], get_args(Donors))}")


@dataclass(frozen=True)
class EvaluationSet:
    """Rows to score.

    Attributes
    ----------
    name : str
    views : MultiView
        In raw units; the clean test rows in their order, altered or not.
    altered : ndarray of bool or None
        Rows that say what they should not: with a replaced view, noise or a missing view.
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

    Parameters
    ----------
    name : str
        See `Protocol`.
    views : MultiView
        All rows of the data set.
    target : ndarray of int, shape (n,)
        Class numbers.
    part : Partition
    seeds : RunSeeds

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
    if named.amount is None:
        published = np.random.default_rng(seeds.corruption)
        copy = conflict_views(views, target, train=train, test=test, rng=published)
    else:
        copy = conflict_rows(
            views,
            target,
            train=train,
            test=test,
            rng=seeds.test_set(name),
            share=named.amount,
            donors=named.donors,
        )
    return EvaluationSet(name, copy.views, copy.replaced, copy.copied_from(train))
