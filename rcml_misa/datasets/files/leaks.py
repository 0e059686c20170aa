"""Columns of a data set that were made from its labels, or that number rows in label order."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.correspondence import NEARLY, Classes, Relation, relate_scores
from rcml_misa.exceptions import LONGEST, DataError, shortened
from rcml_misa.views import RawTable, Sequences, Texts, present_rows
from rcml_misa.views.column_kinds import read_dates

__all__ = ["Leak", "find_leaks", "refuse_leaks"]

Array = NDArray[np.float64]

CHANCE = 1e-6  # probability, over all columns, below which chance does not explain a relation
PAIRS = 512  # pairs of rows of the same class, and of two classes, that columns are compared on
STEPS = 96  # evenly spread rows on which the order of columns is compared first
RANKED = 128  # rows on which ranks of columns are compared with those of scores first
BLOCK = 4_000_000  # values that are held at once
SAMPLE = 20_000  # rows that correlations, and views as a whole, are computed on


@dataclass(frozen=True)
class Leak:
    """A column, or several, whose relation to the labels looks like a copy of them.

    Attributes
    ----------
    view : str
    subject, relation : str
        Both halves of a sentence, such as ``"column 'y2'"`` and ``"tells the label ..."``.
    leave_out : tuple of str
        Names that ``--leave-out`` takes.
    sure : bool
        Whether the relation is exact, so that training stops; else it is only told.
    """

    view: str
    subject: str
    relation: str
    leave_out: tuple[str, ...]
    sure: bool


class _Table(NamedTuple):
    """Columns of one view as numbers, NaN at gaps; what is not `ordered` are codes of values."""

    view: str
    values: Array | csr_array[np.float64]
    present: NDArray[np.bool_]
    subjects: Sequence[str] | None
    leave_out: Sequence[str] | None
    ordered: NDArray[np.bool_]

    @property
    def width(self) -> int:
        return int(self.values.shape[1])

    def block(self, rows: NDArray[np.int64], part: slice) -> Array:
        """Take some rows of some columns, dense."""
        if isinstance(self.values, np.ndarray):
            return self.values[:, part][rows]
        return np.asarray(self.values[rows][:, part].toarray())

    def column(self, place: int) -> Array:
        """Take one column, (n,), NaN at gaps."""
        if isinstance(self.values, np.ndarray):
            return self.values[:, place]
        column = np.asarray(self.values[:, [place]].toarray()).ravel()
        column[~self.present] = np.nan
        return column

    def leak(self, place: int, relation: Relation) -> Leak:
        """Name a column and its relation."""
        subject = f"column {place} of view {self.view!r}"
        if self.subjects is not None:
            subject = self.subjects[place]
        names = (self.view,) if self.leave_out is None else (self.leave_out[place],)
        return Leak(self.view, subject, relation.text, names, relation.sure)


def find_leaks(own: OwnFile) -> tuple[Leak, ...]:
    """Look for columns that are copies of the labels, or give them away by their order.

    Looked for are columns of any type whose values correspond to the classes one to one, or tell
    the class of every row (nearly so in 99 %); columns that together mark every class; views that
    are one-hot of the label; columns that rise or fall with the row number where the labels of the
    file come in long runs; whole numbers that count the rows and bring the labels into runs; for
    scores, columns of a correlation, of values or of ranks, above 0.9999 (nearly so from 0.99). A
    relation that a random order of the labels would show with a probability of 1e-6 or more, over
    all columns, is none. Sequences are not looked into.

    Examples
    --------
    >>> from rcml_misa.datasets.files.layout import FileLayout
    >>> from rcml_misa.views import MultiView
    >>> labels = np.arange(60) % 3
    >>> views = MultiView({"a": np.c_[np.sin(np.arange(60.0)), 7 - 2 * labels]})
    >>> (leak,) = find_leaks(OwnFile(views, labels, FileLayout({"a": ("a0", "copy")})))
    >>> leak.subject, leak.relation
    ("column 'copy'", 'is in one-to-one correspondence with the label')
    """
    tables = [table for name, view in own.views.items() for table in _tables(own, name, view)]
    log_limit = math.log(CHANCE) - math.log(max(sum(table.width for table in tables), 1))
    if own.task == "regression":
        scores = own.labels.astype(np.float64)
        return tuple(leak for table in tables for leak in _score_leaks(table, scores, log_limit))
    codes = np.unique(own.labels, return_inverse=True)[1].astype(np.int64)
    classes = Classes(codes, log_limit)
    leaks: list[Leak] = []
    marks: list[tuple[Leak, tuple[int, ...]]] = []
    for table in tables:
        if (relation := _one_hot(table, classes)) is not None:
            leaks.append(
                Leak(
                    table.view, f"view {table.view!r}", relation.text, (table.view,), relation.sure
                )
            )
            continue
        for place in _suspects(table, classes):
            column = table.column(place)
            rows = ~np.isnan(column)
            part = classes if rows.all() else classes.take(rows)
            ordered = bool(table.ordered[place])
            relation = part.relate(column[rows], ordered=ordered, rows=len(codes))
            if relation is None:
                continue
            leak = table.leak(place, relation)
            if len(relation.marks) == len(classes.counts):
                marks.append((leak, relation.marks))
            else:
                leaks.append(leak)
    return (*leaks, *_marks(marks, len(classes.counts)))


def _marks(marks: Sequence[tuple[Leak, tuple[int, ...]]], classes: int) -> Iterator[Leak]:
    """Ask whether columns of one value per class tell all classes apart together."""
    together = len({*zip(*(mark for _, mark in marks), strict=True)}) == classes
    for leak, _ in marks:
        relation = "marks classes, all of them together with others" if together else leak.relation
        yield replace(leak, relation=relation, sure=together)


def _tables(own: OwnFile, name: str, view: Any) -> Iterator[_Table]:
    """Turn a view into numbers; a sequence gives nothing."""
    if isinstance(view, Sequences):
        return
    if isinstance(view, Texts):
        codes = np.unique(np.array(view.values, dtype=object), return_inverse=True)[1]
        present = np.ones(len(codes), dtype=bool)
        values = codes[:, None].astype(np.float64)
        yield _Table(name, values, present, [f"view {name!r}"], [name], np.zeros(1, dtype=bool))
        return
    if isinstance(view, RawTable):
        yield _raw_table(name, view, own.layout.views.get(name, ()))
        return
    names = own.layout.views.get(name, ())
    subjects: Sequence[str] | None = None
    leave_out: Sequence[str] | None = None
    if len(names) == view.shape[1]:
        subjects = [f"column {shortened(column, 40)!r}" for column in names]
        leave_out = names
        if names == (name,):
            subjects = [f"view {name!r}"]
    yield _Table(name, view, present_rows(view), subjects, leave_out, np.ones(view.shape[1], bool))


def _raw_table(name: str, view: RawTable, stored: Sequence[str]) -> _Table:
    """Turn columns of any type into numbers: values, days, or codes; and gaps into 0 and 1.

    The columns that are `stored` by their names can be left out, else the view only.
    """
    import pandas as pd

    names = [str(column) for column in view.frame.columns]
    columns: list[Array] = []
    ordered = np.zeros(len(names), dtype=bool)
    numbers = set(view.kinds.numbers)
    # a column at a time, since their types differ
    for place, (_, column) in enumerate(view.frame.items()):
        kind = getattr(column.dtype, "kind", "O")
        ordered[place] = kind in "iufbmM"
        if kind in "iufb":
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            values = np.where(np.isinf(values), np.nan, values)
        elif kind in "mM":
            values = column.astype("int64").to_numpy(dtype=np.float64)
            values = np.where(column.isna(), np.nan, values)
        elif names[place] in view.kinds.dates:
            dates = read_dates(column, view.kinds.formats.get(names[place]))
            seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
            values, ordered[place] = np.asarray(seconds, dtype=np.float64), True
        elif names[place] in numbers:
            values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
            values, ordered[place] = np.where(np.isinf(values), np.nan, values), True
        else:
            codes = pd.factorize(column.astype(str), sort=False)[0].astype(np.float64)
            values = np.where(column.isna(), np.nan, codes)
        columns.append(values)
    values = np.column_stack(columns)
    present = view.present
    gaps = np.isnan(values)
    partial = np.flatnonzero(gaps.any(axis=0) & ~gaps[present].all(axis=0))
    filled = np.where(present[:, None], gaps[:, partial], np.nan).astype(np.float64)
    single = set(names) <= set(stored)
    subjects = [f"column {shortened(column, 40)!r}" for column in names]
    if not single:
        subjects = [f"column {column} of view {name!r}" for column in names]
        subjects = subjects if len(names) > 1 else [f"view {name!r}"]
    subjects += [f"whether {subjects[place]} is empty" for place in partial]
    return _Table(
        name,
        np.concatenate([values, filled], axis=1) if len(partial) else values,
        present,
        subjects,
        [*names, *(names[place] for place in partial)] if single else None,
        np.concatenate([ordered, np.zeros(len(partial), dtype=bool)]),
    )


def _one_hot(table: _Table, classes: Classes) -> Relation | None:
    """Ask whether nearly every row has one large value, whose column goes with the label."""
    if not 1 < table.width <= max(1000, 4 * len(classes.counts)):
        return None
    rows = np.flatnonzero(table.present)
    rows = rows[_spread(len(rows), SAMPLE)]
    values = np.nan_to_num(table.block(rows, slice(None)))
    if not len(values):
        return None
    peak = values.argmax(axis=1)
    largest = np.abs(values.max(axis=1))
    others = np.abs(values).sum(axis=1) - largest
    if np.mean(others <= 0.1 * largest) <= 0.9:
        return None
    mask = np.zeros(len(classes.codes), dtype=bool)
    mask[rows] = True
    relation = classes.take(mask).relate(peak.astype(np.float64), ordered=False, rows=len(rows))
    if relation is None or relation.marks:
        return None
    return Relation(f"is {'' if relation.sure else 'nearly '}one-hot of the label", relation.sure)


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Choose at most so many of `count` rows in order, at random lest a period be met."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _pairs(codes: NDArray[np.int64], present: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Draw pairs of present rows, (2, pairs): of one class each, and of two classes."""
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(present)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    counts = np.bincount(codes[rows])
    begins = np.cumsum(counts) - counts
    filled, several = np.flatnonzero(counts), np.flatnonzero(counts > 1)
    if len(filled) < 2 or not len(several):
        return np.empty((2, 0), dtype=np.int64), np.empty((2, 0), dtype=np.int64)

    def draw(some: NDArray[np.int64]) -> NDArray[np.int64]:
        return rng.integers(counts[some])

    same = rng.choice(several, PAIRS)
    first = draw(same)
    second = (first + 1 + rng.integers(counts[same] - 1)) % counts[same]
    left = rng.integers(len(filled), size=PAIRS)
    right = (left + 1 + rng.integers(len(filled) - 1, size=PAIRS)) % len(filled)
    left, right = filled[left], filled[right]
    within = np.stack([rows[begins[same] + first], rows[begins[same] + second]])
    between = np.stack([rows[begins[left] + draw(left)], rows[begins[right] + draw(right)]])
    return within, between


def _suspects(table: _Table, classes: Classes) -> Iterator[int]:
    """Sift out the columns that may tell the label, on pairs of rows and a few rows in order."""
    within, between = _pairs(classes.codes, table.present)
    rows = np.flatnonzero(table.present)
    ladder = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), STEPS)).astype(int))]
    if not within.size or len(ladder) < 2:
        return
    chosen = np.concatenate([*within, *between, ladder])
    size = max(BLOCK // len(chosen), 1)
    count = len(classes.counts)
    span = 2 * len(classes.codes)
    for start in range(0, table.width, size):
        part = slice(start, start + size)
        values = table.block(chosen, part)
        parts = np.split(values, np.arange(1, 5) * PAIRS)
        same, mixed = _agreement(parts[0], parts[1]), _agreement(parts[2], parts[3])
        # values of a class agree, those of two classes do not
        flags = (same >= 0.3) & (mixed <= 0.25) | (same == 1) & (mixed <= 1 - 1 / count)
        flags &= classes.tellable
        order = parts[4]
        steps = np.diff(order, axis=0)
        rising = ~(steps < 0).any(axis=0) | ~(steps > 0).any(axis=0)
        some = classes.in_runs & rising & (steps != 0).any(axis=0)
        whole = ((order == np.round(order)) | np.isnan(order)).all(axis=0)
        near = np.fmax.reduce(order, axis=0) - np.fmin.reduce(order, axis=0) <= span
        distinct = (np.diff(np.sort(order, axis=0), axis=0) != 0).all(axis=0)
        flags |= (some | whole & near & distinct) & table.ordered[part]
        yield from (start + np.flatnonzero(flags)).tolist()


def _agreement(left: Array, right: Array) -> Array:
    """Compute the share of rows without gaps in which columns have the same value, (d,)."""
    counts = (~np.isnan(left) & ~np.isnan(right)).sum(axis=0)
    return np.asarray((left == right).sum(axis=0) / np.maximum(counts, 1))


def _score_leaks(table: _Table, scores: Array, log_limit: float) -> Iterator[Leak]:
    """Look for columns of scores."""
    rows = np.flatnonzero(table.present)
    rows = rows[_spread(len(rows), SAMPLE)]
    if len(rows) < 3:
        return
    few = rows[_spread(len(rows), RANKED)]
    in_order = bool((np.diff(scores) >= 0).all() or (np.diff(scores) <= 0).all())
    size = max(BLOCK // len(rows), 1)
    for start in range(0, table.width, size):
        part = slice(start, start + size)
        plain = _correlations(table.block(rows, part), scores[rows])
        ranks = _correlations(_ranks(table.block(few, part)), _ranks(scores[few, None])[:, 0])
        flags = (np.abs(plain) >= NEARLY) | (np.abs(ranks) >= (0.7 if in_order else 0.95))
        for place in (start + np.flatnonzero(flags & table.ordered[part])).tolist():
            column = table.column(place)
            filled = ~np.isnan(column)
            relation = relate_scores(column[filled], scores[filled], log_limit)
            if relation is not None:
                yield table.leak(place, relation)


def _ranks(values: Array) -> Array:
    """Rank each column, NaN last but NaN again."""
    ranks = values.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").astype(np.float64)
    return np.where(np.isnan(values), np.nan, ranks)


def _correlations(values: Array, scores: Array) -> Array:
    """Correlate columns, (n, d), with scores over the rows without gaps, (d,)."""
    filled = ~np.isnan(values)
    counts = np.maximum(filled.sum(axis=0), 1)
    values = np.where(filled, values, 0.0)
    values = np.where(filled, values - values.sum(axis=0) / counts, 0.0)
    target = np.where(filled, scores[:, None], 0.0)
    target = np.where(filled, target - target.sum(axis=0) / counts, 0.0)
    sizes = np.linalg.norm(values, axis=0) * np.linalg.norm(target, axis=0)
    return np.asarray((values * target).sum(axis=0) / np.maximum(sizes, 1e-300))


def refuse_leaks(own: OwnFile, *, name: str, accept: bool = False) -> OwnFile:
    """Refuse a file with columns that look like copies of its labels; a DataError names them.

    With `accept` it passes, with a note.
    """
    leaks = [leak for leak in find_leaks(own) if leak.sure]
    if not leaks:
        return own
    more = len(leaks) - 1
    what = f"{leaks[0].subject} {leaks[0].relation}"
    if more:
        what += f", and {more} {'other does' if more == 1 else 'others do'} the like"
    if accept:
        note = f"{shortened(what, 200)}; read all the same (--accept-leak)"
        return replace(own, notes=(*own.notes, note))
    names = list(dict.fromkeys(name for leak in leaks for name in leak.leave_out))
    head = f"{shortened(name, 60)}: {shortened(what, 120)}; leave it out with --leave-out "
    tail = ", or read it all the same with --accept-leak."
    room = LONGEST - len(head) - len(tail)
    listed = shlex.quote(",".join(names))
    if len(listed) > room:
        end = f",... ({len(names)} names, see `datasets check`)"
        listed = listed[: max(room - len(end), 0)].rpartition(",")[0] + end
    raise DataError(f"{head}{listed}{tail}")
