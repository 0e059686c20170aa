"""Presence of views that depends on the class: a rule by an exact test, and what follows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from scipy.special import gammaln, logsumexp

from rcml_misa.exceptions import shortened
from rcml_misa.views.arrays import ViewArray, present_rows
from rcml_misa.views.multiview import MultiView
from rcml_misa.views.sequences import Sequences, Texts, TokenTexts

__all__ = ["ClassPresence", "ViewPresence", "constant_views", "judge_presence", "presence_by_class"]

Codes = NDArray[np.int64]
Verdict = Literal["set aside", "no other view", "used"]
LEVEL = 1e-4  # chance of a verdict about any view where presence and class are independent
# a class nearly lacks a view that so many of its rows or fewer have, and such a share of them, by
# the largest share of a class; from three rows of a class on, kernel experts learn of it
FEW, NEARLY = 2, 0.02
SMALL = (
    0.1  # share of the rows whose classes lack a view, at which it is still of more use than harm
)
LARGE = 0.1  # difference of two shares that is worth a word
LEAST = 0.5  # share of a class's rows that must have something besides what is set aside


@dataclass(frozen=True)
class ClassPresence:
    """How many rows of each of K classes have a view, and what that says.

    Attributes
    ----------
    having, rows : ndarray of int64 of shape (K,)
        Rows of each class that have the view, and all of them.
    tells : bool
        Whether some classes have (nearly) no row with the view, and that is no chance.
    marked : ndarray of int64
        Numbers of those classes; else of the class whose share differs most, if presence depends
        on the class; else empty.
    log_p : float
        Logarithm of the corrected p-value that `marked` rests on; 0 where it is empty.
    """

    having: Codes
    rows: Codes
    tells: bool
    marked: Codes
    log_p: float


def presence_by_class(present: NDArray[np.bool_], codes: Codes) -> tuple[ClassPresence, ...]:
    """Test for each view whether the rows that have it depend on their class.

    Given how many rows have the view and how many each class has, the rows with the view among
    those of a set of classes are hypergeometric if presence and class are independent (Fisher's
    exact test). A class nearly lacks a view if at most two of its rows have it, and at most 2 % of
    the largest share of a class. A view tells the class if the classes that nearly lack it have so
    few rows with it that the lower tail, times the number of views, of classes and of sets of as
    many classes (Bonferroni), is 1e-4 or less. Presence
    depends on the class if that holds for a two-sided test of one class, whose share differs from
    that of the others by .1 or more.

    Parameters
    ----------
    present : ndarray of bool of shape (n, N)
        Views that each row has.
    codes : ndarray of int of shape (n,)
        Class numbers 0 .. K-1, each of at least one row.

    Returns
    -------
    tuple of ClassPresence
        One per view.

    References
    ----------
    Fisher, The logic of inductive inference, Journal of the Royal Statistical Society 98, 1935.

    Examples
    --------
    >>> codes = np.repeat([0, 1, 2], 20)
    >>> only, some = presence_by_class(np.column_stack([codes == 0, np.arange(60) % 2 > 0]), codes)
    >>> only.tells, only.marked.tolist(), only.having.tolist()
    (True, [1, 2], [20, 0, 0])
    >>> some.tells, some.marked.tolist()
    (False, [])
    """
    rows = np.bincount(codes)
    verdicts = []
    for column in present.T:
        having = np.bincount(codes[column], minlength=len(rows))
        verdicts.append(_judged(having, rows, present.shape[1]))
    return tuple(verdicts)


def _judged(having: Codes, rows: Codes, views: int) -> ClassPresence:
    from scipy.stats import hypergeom  # slow to import, and most views are in every row

    classes, n, m = len(rows), int(rows.sum()), int(having.sum())
    nothing = ClassPresence(having, rows, tells=False, marked=np.empty(0, np.int64), log_p=0.0)
    if m in (0, n):
        return nothing
    shares = having / rows
    few = np.flatnonzero((having <= FEW) & (shares <= NEARLY * shares.max()))
    if len(few):
        counts = np.arange(having[few].sum() + 1)
        tail = float(logsumexp(hypergeom.logpmf(counts, n, m, rows[few].sum())))
        log_p = tail + np.log(views * classes) + _log_choices(classes, len(few))
        if log_p <= np.log(LEVEL):
            return ClassPresence(having, rows, tells=True, marked=few, log_p=log_p)
    lower, upper = hypergeom.cdf(having, n, m, rows), hypergeom.sf(having - 1, n, m, rows)
    p = 2 * views * classes * np.minimum(lower, upper)
    others = (m - having) / np.maximum(n - rows, 1)
    differs = (p <= LEVEL) & (np.abs(shares - others) >= LARGE)
    if not differs.any():
        return nothing
    marked = int(np.argmin(np.where(differs, p, np.inf)))
    log_p = float(np.log(max(p[marked], np.finfo(float).tiny)))
    return ClassPresence(having, rows, tells=False, marked=np.array([marked]), log_p=log_p)


def _log_choices(classes: int, some: int) -> float:
    """Logarithm of the number of sets of `some` classes."""
    return float(gammaln(classes + 1) - gammaln(some + 1) - gammaln(classes - some + 1))


@dataclass(frozen=True)
class ViewPresence:
    """A view whose presence depends on the class, and what a classifier does about it.

    Attributes
    ----------
    view : str
    counts : ClassPresence
    verdict : {"set aside", "no other view", "used"}
        Whether it is set aside; stays although its presence tells the class, because too many
        rows of some class have no other view; or is used, for every class has rows with it, or
        those that nearly lack it have a tenth of the rows or less.
    lost : int
        Rows that have nothing but views that are set aside, this one among them.
    """

    view: str
    counts: ClassPresence
    verdict: Verdict
    lost: int = 0

    def describe(self, classes: Sequence[Any] | NDArray[Any]) -> str:
        """Say which rows have the view; `classes` (K,) are the labels."""
        having, rows, marked = self.counts.having, self.counts.rows, self.counts.marked
        labels = ", ".join(shortened(classes[code], 20) for code in marked[:3])
        if len(marked) > 1:
            labels = f"{len(marked)} classes ({labels}{', ...' if len(marked) > 3 else ''})"
        else:
            labels = f"class {labels}"
        here, all_here = having[marked].sum(), rows[marked].sum()
        return (
            f"view {shortened(self.view, 40)} is in {here} of {all_here} rows of {labels} but in "
            f"{having.sum() - here} of {rows.sum() - all_here} others"
        )

    @property
    def consequence(self) -> str:
        """What a classifier does about it, as a sentence."""
        if self.verdict == "used":
            return "Presence depends on the class; the view is used as it is."
        if self.verdict == "no other view":
            return "Presence tells the class, but the view stays: too many rows have no other one."
        end = f"; {self.lost} rows without any other are left out" if self.lost else ""
        return (
            "Presence tells the class: the view is set aside, read as a constant in every row"
            f"{end}. Give rows of each class with it."
        )


def judge_presence(views: MultiView, codes: Codes) -> tuple[ViewPresence, ...]:
    """Find the views whose presence depends on the class, and decide which are set aside.

    A view that tells the class (`presence_by_class`) is set aside, the surest first, unless the
    classes that nearly lack it have a tenth of the rows or less, or fewer than half the rows of
    some class would have another view. An empty text and a sequence of one step of zeros are
    missing here.

    Parameters
    ----------
    views : MultiView
        Train rows.
    codes : ndarray of int of shape (n,)
        Class numbers 0 .. K-1, each of at least one row.

    Returns
    -------
    tuple of ViewPresence
        In the order of the views; none for views whose presence says nothing about the class.

    Examples
    --------
    >>> codes = np.repeat([0, 1], 20)
    >>> scan = np.where(codes[:, None] == 0, 1.0, np.nan)
    >>> (only,) = judge_presence(MultiView({"scan": scan, "voice": np.ones((40, 2))}), codes)
    >>> only.view, only.verdict
    ('scan', 'set aside')
    >>> only.describe(["ill", "well"])
    'view scan is in 0 of 20 rows of class well but in 20 of 20 others'
    """
    tables = not any(isinstance(array, Sequences | Texts) for array in views.arrays)
    if tables and views.complete:
        return ()
    present = views.present
    if not tables:
        present = np.column_stack([_filled(array) for array in views.arrays])
        if present.all():
            return ()
    counts = presence_by_class(present, codes)
    rest, decisions = present.copy(), {}
    for number in sorted(range(len(counts)), key=lambda number: counts[number].log_p):
        each = counts[number]
        if not each.tells or each.rows[each.marked].sum() <= SMALL * len(codes):
            continue
        without = rest.copy()
        without[:, number] = False
        left = np.bincount(codes[without.any(axis=1)], minlength=len(each.rows))
        decisions[number] = bool((left >= LEAST * each.rows).all())
        rest = without if decisions[number] else rest
    lost = int((~rest.any(axis=1) & present.any(axis=1)).sum())
    verdicts = []
    for number, (name, each) in enumerate(zip(views.names, counts, strict=True)):
        if decisions.get(number):
            verdicts.append(ViewPresence(name, each, "set aside", lost))
        elif len(each.marked):
            verdict: Verdict = "no other view" if number in decisions else "used"
            verdicts.append(ViewPresence(name, each, verdict))
    return tuple(verdicts)


def _filled(array: ViewArray) -> NDArray[np.bool_]:
    """Flag the rows that have a view, other than an empty text or one step of zeros."""
    if isinstance(array, Texts):
        return np.array([bool(text.strip()) for text in array.values])
    if isinstance(array, Sequences):
        return (array.lengths > 1) | array.values[:, 0].any(axis=1)
    return present_rows(array)


def constant_views(views: MultiView, names: Sequence[str]) -> MultiView:
    """Put a constant in place of some views in every row, whether the row has them or not.

    The constant is zeros in a table, one step of zeros in a sequence, an empty text. A row that has
    none of the other views lacks these tables too, so that it is a row without any view.

    Examples
    --------
    >>> views = MultiView({"a": [[1.0], [np.nan], [3.0]], "b": [[5.0], [6.0], [np.nan]]})
    >>> constant_views(views, ["a"])["a"].ravel().tolist()
    [0.0, 0.0, nan]
    """
    if not names:
        return views
    others = np.any(views.present[:, [name not in names for name in views.names]], axis=1)
    return views.replace({name: _constant(views[name], others) for name in names})


def _constant(array: ViewArray, present: NDArray[np.bool_]) -> ViewArray:
    rows, width = array.shape
    if isinstance(array, TokenTexts):  # a text's first and last token stand around it
        return TokenTexts([""] * rows, [array.tokens[0][[0, -1]]] * rows)
    if isinstance(array, Texts):
        return Texts([""] * rows)
    if isinstance(array, Sequences):
        return Sequences(np.zeros((rows, 1, width)))
    if not issparse(array):  # a broadcast column takes no memory
        return np.broadcast_to(np.where(present, 0.0, np.nan)[:, None], (rows, width))
    ends = np.concatenate([[0], np.cumsum(np.where(present, 0, width))])
    columns = np.tile(np.arange(width), int((~present).sum()))
    return csr_array((np.full(len(columns), np.nan), columns, ends), shape=array.shape)
