"""Oddities of a data set, and what will be done about each; nothing is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.files.array_tables import listed
from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.guesses import is_guess
from rcml_misa.datasets.files.leaks import Leak, find_leaks
from rcml_misa.datasets.files.raw_findings import Finding, raw_findings
from rcml_misa.datasets.files.roles import describe_roles
from rcml_misa.exceptions import shortened
from rcml_misa.views import (
    MultiView,
    RawTable,
    Sequences,
    Texts,
    ViewArray,
    dense,
    judge_presence,
)

__all__ = ["Finding", "check_file", "describe_similarities"]

LEVELS = ("fact", "note", "warning")
BLOCK = 8192  # rows joined at once
SAMPLE = 20_000  # rows that columns are compared on
SEEN = 8  # rows and columns that tell most tables from similarities
MATRIX = 5e7  # values of a view that may be similarities
FEW = 10  # rows of a class below which it is called small
CHANCE, LARGE = 1e-4, 0.3  # p-value and size of a correlation of presence that is told
UNEVEN = 5  # times as many rows in the largest class as in the smallest

_note = partial(Finding, "note")
_warning = partial(Finding, "warning")


def check_file(own: OwnFile) -> list[Finding]:
    """Look a data set over: views, ranges, columns, rows, target, and leaks of the target.

    Every finding is told, whatever else is odd. Sequences and texts are not looked into, but for
    rows that repeat. Facts come first, then notes and warnings; what was guessed in reading is not
    among them.

    Examples
    --------
    >>> from rcml_misa.datasets.files.layout import FileLayout
    >>> from rcml_misa.views import MultiView
    >>> views = MultiView({"a": [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]]})
    >>> own = OwnFile(views, np.array(["x", "x", "y", "y"]), FileLayout({"a": ("0", "1")}))
    >>> [finding.what for finding in check_file(own) if "constant" in finding.what]
    ['view a: 1 of 2 columns is constant']
    """
    scores = own.task == "regression"
    findings = [*_facts(own, scores)]
    for name, array in own.views.items():
        if not isinstance(array, Sequences | Texts | RawTable):
            findings += _columns(name, array)
        elif isinstance(array, RawTable):
            findings += raw_findings(name, array)
    likeness = describe_similarities(own.views)
    findings += [_warning(what, advice) for what, advice in likeness]
    findings += [*_leaks(own), *_presence(own), *_rows(own)]
    if scores:
        findings += _scored_presence(own)
    else:
        classes, codes = np.unique(own.labels, return_inverse=True)
        for verdict in judge_presence(own.views, codes):
            findings.append(_warning(verdict.describe(classes), verdict.consequence))
        findings += _classes(own.labels)
    told = {f"{what}. {advice}" for what, advice in likeness}
    notes = (note for note in own.notes if not is_guess(note) and note not in told)
    findings += [_note(note.removesuffix(".")) for note in notes]
    if own.views.n_views == 1:
        findings += [_note("there is one view only", "No conflict can be seen; cut with --views.")]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _facts(own: OwnFile, scores: bool) -> Iterator[Finding]:
    target = "scores"
    if not scores:
        classes = len(set(own.labels.tolist()))
        target = "1 class" if classes == 1 else f"{classes} classes"
    rows, views = (_counted(own.views.n_samples, "row"), _counted(own.views.n_views, "view"))
    yield Finding("fact", f"{rows}, {target}, {views}")
    yield from (Finding("fact", line) for line in describe_roles(own))
    for (name, array), kind in zip(own.views.items(), own.views.kinds, strict=True):
        if isinstance(array, RawTable):
            continue  # whose columns are told by kind
        if not own.views.present[:, own.views.names.index(name)].any():
            continue  # which is told where views are missing
        if isinstance(array, Sequences | Texts):
            yield Finding("fact", f"view {name}: {kind}, not looked into")
            continue
        least, most = (
            (np.nanmin(array), np.nanmax(array))
            if isinstance(array, np.ndarray)
            else (array.nanmin(), array.nanmax())
        )
        span = f"from {least:.6g} to {most:.6g}" if least or most else "all 0"
        yield Finding("fact", f"view {name}: {_counted(array.shape[1], 'column')}, {kind}, {span}")
    if scores:
        least, mean, most = own.labels.min(), own.labels.mean(), own.labels.max()
        yield Finding("fact", f"scores from {least:.6g} to {most:.6g}, mean {mean:.3g}")


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def _some(array: ViewArray) -> NDArray[np.float64]:
    """Take evenly spread rows that have the view, dense."""
    rows = np.linspace(0, array.shape[0] - 1, min(array.shape[0], SAMPLE)).round().astype(int)
    values = dense(array, rows)
    return values[~np.isnan(values[:, 0])]


def _columns(name: str, array: ViewArray) -> Iterator[Finding]:
    values = _some(array)
    if not len(values):
        return
    width = values.shape[1]
    constant = (values == values[:1]).all(axis=0)
    if count := int(constant.sum()):
        columns = f"{count} of {width} columns {'is' if count == 1 else 'are'} constant"
        yield _note(f"view {name}: {columns}", "Kept; scaled to 0 they tell nothing.")
    varying = values[:, ~constant].T
    copies = len(varying) - len({column.tobytes() for column in varying})
    if copies:
        columns = f"{copies} of {width} columns {'repeats' if copies == 1 else 'repeat'}"
        yield _note(
            f"view {name}: {columns} another one",
            "Kept; they weigh twice within their view, not against other views.",
        )
    spread = np.abs(values).max(axis=0)
    if spread.max() > 1e6 * max(float(np.median(spread)), 1e-300):
        what = f"view {name}: columns differ in range by more than a million times"
        yield _note(what, "Each is scaled to [0, 1] by train rows.")


def describe_similarities(views: MultiView) -> tuple[tuple[str, str], ...]:
    """Tell the views that hold similarities between rows in place of features, and advice.

    Examples
    --------
    >>> values = np.arange(12.0).reshape(4, 3)
    >>> describe_similarities(MultiView({"a": values, "s": values @ values.T}))[0][0]
    'view s is a symmetric square matrix, as many columns as rows'
    """
    names = [name for name, array in views.items() if _is_likeness(array)]
    if not names:
        return ()
    alone = len(names) == 1
    what = (
        f"view {names[0]} is a symmetric square matrix, as many columns as rows"
        if alone
        else f"views {listed(names)} are symmetric square matrices, as many columns as rows"
    )
    looks, them = ("It looks", "it") if alone else ("They look", "them")
    advice = (
        f"{looks} like similarities between rows, which new rows do not have; give features, or "
        f"leave {them} out with --leave-out {shortened(','.join(names), 90)}."
    )
    return ((what, advice),)


def _is_likeness(array: Any) -> bool:
    if isinstance(array, Sequences | Texts | RawTable):
        return False
    rows, width = array.shape
    if width != rows or rows < 2 or rows * width > MATRIX:
        return False
    few = np.unique(np.linspace(0, rows - 1, SEEN).astype(int))
    some, columns = dense(array, few), dense(array[:, few])
    if not np.allclose(some, columns.T, atol=1e-8):  # most tables, in few reads
        return False
    values = dense(array)
    return bool(np.isfinite(values).all() and np.allclose(values, values.T, atol=1e-8))


def _leaks(own: OwnFile) -> Iterator[Finding]:
    """Tell columns that look like copies of the labels, together where they look alike."""
    alike: dict[tuple[str, str, bool], list[Leak]] = {}
    for leak in find_leaks(own):
        alike.setdefault((leak.view, leak.relation, leak.sure), []).append(leak)
    for (view, relation, sure), leaks in alike.items():
        others = f", and so do others ({len(leaks) - 1})" if len(leaks) > 1 else ""
        subject = f"view {view}"
        if leaks[0].subject != f"view {view!r}":
            subject += f": {leaks[0].subject.removesuffix(f' of view {view!r}')}"
        names = ",".join(dict.fromkeys(name for leak in leaks[:5] for name in leak.leave_out))
        more = " and so on" if len(leaks) > 5 else ""
        way_out = f"leave it out with --leave-out {shortened(names, 120)}{more}"
        stop = "Training stops at it: " if sure else "It may be made from the label: "
        hint = " or accept it with --accept-leak." if sure else " unless new rows have it too."
        yield _warning(f"{subject} {relation}{others}", f"{stop}{way_out}{hint}")


def _presence(own: OwnFile) -> Iterator[Finding]:
    present = own.views.present
    for name, column in zip(own.views.names, present.T, strict=True):
        if gaps := int((~column).sum()):
            what = f"view {name} is missing in {gaps} of {_counted(len(column), 'row')}"
            told = "Such a row has no opinion from it, and what rests on all views is discounted."
            yield _note(what, "" if gaps == len(column) else told)
    if empty := int((~present.any(axis=1)).sum()):
        rows = "1 row has" if empty == 1 else f"{empty} rows have"
        yield _warning(f"{rows} no view at all", "They can't be trained on; drop them.")


def _scored_presence(own: OwnFile) -> Iterator[Finding]:
    """Look for views whose presence goes with the scores."""
    from scipy.stats import pointbiserialr  # slow to import

    for name, column in zip(own.views.names, own.views.present.T, strict=True):
        if not column.any() or column.all() or not np.ptp(own.labels):
            continue
        correlation, p = pointbiserialr(column, own.labels)
        if p * own.views.n_views <= CHANCE and abs(correlation) >= LARGE:
            yield _warning(
                f"view {name}: its presence has a correlation of {correlation:.2f} with the scores",
                "Used as it is; give rows of low and of high scores with it, and without.",
            )


def _rows(own: OwnFile) -> Iterator[Finding]:
    """Look for rows that are the same in every view, and whether their labels agree."""
    digests = np.array(list(_row_digests(own)))
    _, index, inverse = np.unique(digests, return_index=True, return_inverse=True)
    first = index[inverse]
    copies = np.flatnonzero(first != np.arange(len(first)))
    clashes = copies[own.labels[first[copies]] != own.labels[copies]]
    if len(copies):
        rows = "1 row repeats" if len(copies) == 1 else f"{len(copies)} rows repeat"
        hint = "Kept; a copy in the test rows flatters a comparison."
        yield _note(f"{rows} an earlier one in every view", hint)
    if len(clashes):
        count = f"{len(clashes)} of these {'has' if len(clashes) == 1 else 'have'}"
        example = f"(such as rows {first[clashes[-1]]} and {clashes[-1]})"
        yield _warning(
            f"{count} another label than the first {example}",
            "Kept as they are; one of the labels is likely wrong.",
        )


def _row_digests(own: OwnFile) -> Iterator[bytes]:
    for start in range(0, own.views.n_samples, BLOCK):
        block = slice(start, start + BLOCK)
        for parts in zip(*(_row_bytes(array, block) for array in own.views.arrays), strict=True):
            yield hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _row_bytes(array: ViewArray | Sequences | Texts, block: slice) -> list[bytes]:
    if isinstance(array, Texts):
        return [text.encode() for text in array.values[block]]
    if isinstance(array, RawTable):
        return [value.tobytes() for value in array[block].digests()]
    values = array.values[block] if isinstance(array, Sequences) else dense(array, block)
    return [row.tobytes() for row in values]


def _classes(labels: NDArray[Any]) -> Iterator[Finding]:
    classes, counts = np.unique(labels, return_counts=True)
    rarest, largest = int(counts.argmin()), int(counts.argmax())
    if len(classes) < 2:
        yield _warning("there is one class only", "Nothing can be learnt; add others.")
    elif counts[rarest] < 2:
        yield _warning(
            f"class {classes[rarest]} has 1 row",
            "`run` refuses it: one to train and one to test are needed; merge it or drop it.",
        )
    elif counts[rarest] < FEW or counts[largest] > UNEVEN * counts[rarest]:
        yield _note(
            f"classes have {counts[rarest]} ({classes[rarest]}) to {counts[largest]} "
            f"({classes[largest]}) rows",
            "Each row counts alike; `--set class_weight=balanced` lets each class count alike.",
        )
    else:
        yield Finding("fact", f"classes have {counts[rarest]} to {counts[largest]} rows each")
    if len(classes) > max(20, len(labels) / 3):
        yield _warning(
            f"{len(classes)} different labels in {len(labels)} rows",
            "Check that the target is a class and not a measurement or a name.",
        )
