"""Oddities of a data set, and what will be done about each; nothing is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics.cluster import contingency_matrix

from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.roles import describe_roles
from rcml_misa.views import RawTable, Sequences, Texts, ViewArray, dense, judge_presence

__all__ = ["Finding", "check_file"]

LEVELS = ("fact", "note", "warning")
BLOCK = 8192  # rows joined at once
SAMPLE = 20_000  # rows that columns are compared on
NEARLY = 0.99  # share of rows whose label a column tells, or correlation, to be a suspect
FEW = 10  # rows of a class below which it is called small
CHANCE, LARGE = 1e-4, 0.3  # p-value and size of a correlation of presence that is told
UNEVEN = 5  # times as many rows in the largest class as in the smallest


@dataclass(frozen=True)
class Finding:
    """An observation about a data set, and its treatment or advice, which facts have none of."""

    level: Literal["fact", "note", "warning"]
    what: str
    consequence: str = ""


def check_file(own: OwnFile) -> list[Finding]:
    """Look a data set over: views, ranges, columns, rows, target, and leaks of the target.

    Sequences and texts are not looked into, but for rows that repeat. Facts come first, then notes
    and warnings.

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
            findings += _leaks(name, array, own.labels, scores)
    findings += [*_presence(own), *_rows(own)]
    if scores:
        findings += _scored_presence(own)
    else:
        classes, codes = np.unique(own.labels, return_inverse=True)
        for verdict in judge_presence(own.views, codes):
            findings.append(_warning(verdict.describe(classes), verdict.consequence))
        findings += _classes(own.labels)
    findings += [_note(note, "Kept so.") for note in own.notes]
    if own.views.n_views == 1:
        findings += [_note("there is one view only", "No conflict can be seen; cut with --views.")]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


_note = partial(Finding, "note")
_warning = partial(Finding, "warning")


def _facts(own: OwnFile, scores: bool) -> Iterator[Finding]:
    target = "scores" if scores else f"{len(set(own.labels.tolist()))} classes"
    yield Finding("fact", f"{own.views.n_samples} rows, {target}, {own.views.n_views} views")
    yield from (Finding("fact", line) for line in describe_roles(own))
    for (name, array), kind in zip(own.views.items(), own.views.kinds, strict=True):
        if isinstance(array, Sequences | Texts | RawTable):
            yield Finding("fact", f"view {name}: {kind}, not looked into")
            continue
        least, most = (
            (np.nanmin(array), np.nanmax(array))
            if isinstance(array, np.ndarray)
            else (array.nanmin(), array.nanmax())
        )
        span = f"from {least:.6g} to {most:.6g}" if least or most else "all 0"
        yield Finding("fact", f"view {name}: {array.shape[1]} columns, {kind}, {span}")
    if scores:
        least, mean, most = own.labels.min(), own.labels.mean(), own.labels.max()
        yield Finding("fact", f"scores from {least:.6g} to {most:.6g}, mean {mean:.3g}")


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


def _leaks(name: str, array: ViewArray, labels: NDArray[Any], scores: bool) -> Iterator[Finding]:
    """Look for signs that a view was made from the target, or from other rows."""
    rows, width = array.shape
    values = dense(array) if rows * width <= 5e7 else _some(array)
    square = width == rows and len(values) == rows
    if square and np.isfinite(values).all() and np.allclose(values, values.T, atol=1e-8):
        yield _warning(
            f"view {name} is a symmetric square matrix, as many columns as rows",
            "It looks like similarities between rows, which new rows do not have; give features.",
        )
        return
    present = ~np.isnan(values[:, 0])
    if len(values) != rows or not present.any():
        return
    values, labels = values[present], labels[present]
    leave_out = "leave it out with --views unless new rows have it too."
    if scores:
        centred, target = values - values.mean(axis=0), labels - labels.mean()
        sizes = np.linalg.norm(centred, axis=0) * np.linalg.norm(target)
        telling = np.flatnonzero(np.abs(target @ centred) >= NEARLY * np.maximum(sizes, 1e-300))
        relation = f"has a correlation of {NEARLY} or more with the scores"
    else:
        codes = np.unique(labels, return_inverse=True)[1]
        if _one_hot(values, codes):
            hint = f"It gives the answer away; {leave_out}"
            yield _warning(f"view {name} is nearly one-hot of the label", hint)
            return
        telling = np.array([n for n in range(width) if _tells(values[:, n], codes)])
        relation = f"tells the label in {100 * NEARLY:.0f} % of the rows or more"
    if len(telling):
        others = f", and so do others ({len(telling) - 1})" if len(telling) > 1 else ""
        yield _warning(
            f"view {name}: column {telling[0]} {relation}{others}",
            f"It may be the label itself; {leave_out}",
        )


def _one_hot(values: NDArray[np.float64], codes: NDArray[np.int64]) -> bool:
    """Ask whether nearly every row has one large value, whose column goes with the label."""
    peak = values.argmax(axis=1)
    largest = np.abs(values.max(axis=1))
    others = np.abs(values).sum(axis=1) - largest
    one_hot = values.shape[1] > 1 and bool(np.mean(others <= 0.1 * largest) > 0.9)
    return one_hot and len(np.unique(peak)) > 1 and _purity(peak, codes) >= NEARLY


def _tells(column: NDArray[np.float64], codes: NDArray[np.int64]) -> bool:
    """Ask whether a column has about as many values as there are classes, each meaning one."""
    classes, distinct = codes.max() + 1, len(np.unique(column))
    return bool(classes <= distinct <= 2 * classes) and _purity(column, codes) >= NEARLY


def _purity(values: NDArray[Any], codes: NDArray[np.int64]) -> float:
    """Compute the share of rows whose class is the most frequent one of their value."""
    return float(contingency_matrix(values, codes).max(axis=1).sum() / len(codes))


def _presence(own: OwnFile) -> Iterator[Finding]:
    present = own.views.present
    for name, column in zip(own.views.names, present.T, strict=True):
        if gaps := int((~column).sum()):
            yield _note(
                f"view {name} is missing in {gaps} of {len(column)} rows",
                "Such a row has no opinion from it, and what rests on all views is discounted.",
            )
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
