"""Relation of one column to the labels, beyond what chance explains.

A relation counts where a random order of the labels would show it with a probability below a
limit, of which bounds are computed from numbers of arrangements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcml_misa.views.column_kinds import SPAN

__all__ = ["Classes", "Relation", "relate_scores", "rises_or_falls"]

NEARLY = 0.99  # share of rows whose label a column tells, or correlation, to be a suspect
SURE = 0.9999  # correlation with scores from which a column is taken for a copy
RUNS = 0.25  # runs of equal labels over those expected in a random order, at most

Array = NDArray[np.float64]


class Relation(NamedTuple):
    """Relation of a column to the labels, as the end of a sentence, and whether it is exact.

    `marks` has the number of each class's value where a class has only one, but several share it.
    """

    text: str
    sure: bool
    marks: tuple[int, ...] = ()


def log_arrangements(counts: NDArray[np.int64]) -> float:
    """Compute the logarithm of the number of orders of labels with these counts of each.

    Examples
    --------
    >>> round(math.exp(log_arrangements(np.array([2, 2]))))
    6
    """
    from scipy.special import gammaln

    return float(gammaln(counts.sum() + 1) - gammaln(counts + 1).sum())


def rises_or_falls(values: Array) -> bool:
    """Ask whether values (n,) never fall, or never rise, and are not all the same."""
    steps = np.diff(values)
    return bool(((steps >= 0).all() or (steps <= 0).all()) and steps.any())


@dataclass(frozen=True, eq=False)
class Classes:
    """Labels of n rows in the order of the file, as codes 0 .. K-1 that all occur.

    Parameters
    ----------
    codes : ndarray of int64 of shape (n,)
    log_limit : float
        Logarithm of the probability below which chance does not explain a relation.

    Examples
    --------
    >>> classes = Classes(np.arange(60) % 3, math.log(1e-6))
    >>> classes.relate(np.array([5.0, 1.0, 3.0])[classes.codes], ordered=True, rows=60).text
    'is in one-to-one correspondence with the label'
    """

    codes: NDArray[np.int64]
    log_limit: float

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each class, (K,)."""
        return np.bincount(self.codes).astype(np.int64)

    @cached_property
    def log_orders(self) -> float:
        """Logarithm of the number of orders of the labels."""
        return log_arrangements(self.counts)

    @cached_property
    def tellable(self) -> bool:
        """Whether a column that tells every label could be no chance."""
        return self._log_ways(len(self.counts)) - self.log_orders < self.log_limit

    @cached_property
    def in_runs(self) -> bool:
        """Whether the labels come in long runs in the order of the file."""
        return self._runs(self.codes)

    def _log_ways(self, values: int) -> float:
        """Bound the ways to deal out so many values to the classes, each of which gets one."""
        count = len(self.counts)
        return math.lgamma(count + 1) if values == count else values * math.log(count)

    def _runs(self, codes: NDArray[np.int64]) -> bool:
        """Ask whether labels in some order come in far fewer runs than chance would have them."""
        rows, count = len(codes), len(self.counts)
        runs = 1 + int(np.count_nonzero(np.diff(codes)))
        expected = rows - float((self.counts**2).sum()) / rows  # after the first
        if count < 2 or runs - 1 > RUNS * expected:
            return False
        # orders of at most so many runs: where they begin, and the class of each
        begins = math.lgamma(rows) - math.lgamma(runs) - math.lgamma(rows - runs + 1)
        ways = math.log(runs) + begins + math.log(count) + (runs - 1) * math.log(max(count - 1, 1))
        return ways - self.log_orders < self.log_limit

    def take(self, rows: NDArray[np.bool_]) -> Classes:
        """Restrict to some rows, given by a mask."""
        codes = np.unique(self.codes[rows], return_inverse=True)[1]
        return Classes(codes.astype(np.int64), self.log_limit)

    def relate(self, values: Array, *, ordered: bool, rows: int) -> Relation | None:
        """Compare a column without gaps, (n,), with the labels.

        `ordered` says that its values have an order, and `rows` counts those of the whole file.
        """
        if not len(values):
            return None
        different, places = np.unique(values, return_inverse=True)
        relation = self._tells(places, len(different))
        if relation is not None or not ordered or len(different) <= len(self.counts):
            return relation
        if self.in_runs and rises_or_falls(values):
            # orders of the column itself that rise or fall, of all its orders
            ties = math.log(2) - log_arrangements(np.bincount(places))
            if ties < self.log_limit:
                return Relation("rises or falls with the row number of a file in label order", True)
        counter = len(different) == len(values) and np.ptp(values) <= SPAN * rows
        if (
            counter
            and (values == np.round(values)).all()
            and self._runs(self.codes[np.argsort(places)])
        ):
            return Relation("numbers the rows, and in its order the labels come in runs", True)
        return None

    def _tells(self, places: NDArray[np.int64], count: int) -> Relation | None:
        """Compare the numbers of a column's values, of which there are `count`, with the labels."""
        classes, rows = len(self.counts), len(places)
        if count < 2 or count > 2 * classes:
            return None
        table = np.bincount(places * classes + self.codes, minlength=count * classes)
        table = table.reshape(count, classes)
        if count < classes:
            if (np.count_nonzero(table, axis=0) > 1).any():
                return None
            ways = classes * math.log(count) - log_arrangements(table.sum(axis=1))
            text = "has one value per class"
            marks = tuple(table.argmax(axis=0).tolist())
            return Relation(text, False, marks) if ways < self.log_limit else None
        errors = rows - int(table.max(axis=1).sum())
        allowed = min((1 - NEARLY) * rows, 0.1 * (rows - int(self.counts.max())))
        slips = math.lgamma(rows + 1) - math.lgamma(errors + 1) - math.lgamma(rows - errors + 1)
        ways = self._log_ways(count) + slips + errors * math.log(classes)
        if errors > allowed or ways - self.log_orders >= self.log_limit:
            return None
        if errors:
            return Relation(f"tells the label in {100 * NEARLY:.0f} % of the rows or more", False)
        if count == classes:
            return Relation("is in one-to-one correspondence with the label", True)
        return Relation("tells the label of every row", True)


def relate_scores(values: Array, scores: Array, log_limit: float) -> Relation | None:
    """Compare a column without gaps, (n,), with scores in the order of the file."""
    from scipy.stats import rankdata

    if len(values) < 3 or not np.ptp(values) or not np.ptp(scores):
        return None
    # one order of the rows and its reverse, of all orders
    if math.log(2) - log_arrangements(np.unique(scores, return_counts=True)[1]) >= log_limit:
        return None
    if rises_or_falls(scores) and rises_or_falls(values):
        ties = math.log(2) - log_arrangements(np.unique(values, return_counts=True)[1])
        if ties < log_limit:
            return Relation("rises or falls with the row number of a file in score order", True)
    plain = abs(np.corrcoef(values, scores)[0, 1])
    size = max(plain, abs(np.corrcoef(rankdata(values), rankdata(scores))[0, 1]))
    if size > SURE:
        return Relation(f"has a correlation above {SURE} with the scores", True)
    if size >= NEARLY:
        return Relation(f"has a correlation of {NEARLY} or more with the scores", False)
    return None
