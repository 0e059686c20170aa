"""What is odd about a data set, and what will be done about it; nothing is changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from rcml_misa.datasets.files.reading import OwnFile
from rcml_misa.views import ViewArray, dense

__all__ = ["Finding", "Level", "check_file"]

Level = Literal["fact", "note", "warning"]
BLOCK = 8192  # rows joined at once
SAMPLE = 20_000  # rows that columns are compared on
NEARLY = 0.99  # share of rows whose label a column tells, to be a suspect
FEW = 10  # rows of a class below which it is called small
UNEVEN = 5  # times as many rows in the largest class as in the smallest


@dataclass(frozen=True)
class Finding:
    """One thing seen.

    Attributes
    ----------
    level : {"fact", "note", "warning"}
    what : str
        What was seen.
    consequence : str
        What will be done about it, or what to do; empty for facts.
    """

    level: Level
    what: str
    consequence: str = ""


def check_file(found: OwnFile) -> list[Finding]:
    """Look a data set over: views, ranges, columns, rows, classes, and leaks of the label.

    Parameters
    ----------
    found : OwnFile

    Returns
    -------
    list of Finding
        Facts first, then notes and warnings.

    Examples
    --------
    >>> from rcml_misa.datasets.files.layout import FileLayout
    >>> from rcml_misa.views import MultiView
    >>> views = MultiView({"a": [[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [4.0, 5.0]]})
    >>> own = OwnFile(views, np.array(["x", "x", "y", "y"]), FileLayout({"a": ("0", "1")}))
    >>> [one.what for one in check_file(own) if "constant" in one.what]
    ['view a: 1 of 2 columns is constant']
    """
    findings = [*_facts(found)]
    for name, array in found.views.items():
        findings += _columns(name, array)
        findings += _leaks(name, array, found.labels)
    findings += [*_presence(found), *_rows(found), *_classes(found.labels)]
    findings += [Finding("note", note, "Kept so.") for note in found.notes]
    if found.views.n_views == 1:
        findings.append(
            Finding("note", "there is one view only", "No conflict can be seen; cut with --views.")
        )
    order = {"fact": 0, "note": 1, "warning": 2}
    return sorted(findings, key=lambda one: order[one.level])


def _facts(found: OwnFile) -> Iterator[Finding]:
    classes = len(set(found.labels.tolist()))
    yield Finding(
        "fact", f"{found.views.n_samples} rows, {classes} classes, {found.views.n_views} views"
    )
    for name, array, kind in zip(
        found.views.names, found.views.arrays, found.views.kinds, strict=True
    ):
        values = array.data if issparse(array) else array
        if not values.size:
            yield Finding("fact", f"view {name}: {array.shape[1]} columns, {kind}, all 0")
            continue
        least, most = float(np.nanmin(values)), float(np.nanmax(values))
        if issparse(array):
            least, most = min(least, 0.0), max(most, 0.0)
        yield Finding(
            "fact",
            f"view {name}: {array.shape[1]} columns, {kind}, from {least:.6g} to {most:.6g}",
        )


def _some(array: ViewArray) -> NDArray[np.float64]:
    """Evenly spread rows that have the view, dense."""
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
        yield Finding(
            "note",
            f"view {name}: {count} of {width} columns {_are(count)} constant",
            "Kept; scaled to 0 they tell nothing.",
        )
    varying = values[:, ~constant].T
    copies = len(varying) - len({column.tobytes() for column in varying})
    if copies:
        yield Finding(
            "note",
            f"view {name}: {copies} of {width} columns {'repeats' if copies == 1 else 'repeat'} "
            "another one",
            "Kept; they weigh twice within their view, not against other views.",
        )
    spread = np.abs(values).max(axis=0)
    if spread.max() > 1e6 * max(float(np.median(spread)), 1e-300):
        yield Finding(
            "note",
            f"view {name}: columns differ in range by more than a million times",
            "Each is scaled to [0, 1] by train rows.",
        )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _leaks(name: str, array: ViewArray, labels: NDArray[Any]) -> Iterator[Finding]:
    """Signs that a view was made from the labels, or from other rows."""
    rows, width = array.shape
    values = dense(array) if rows * width <= 5e7 else _some(array)
    square = width == rows and len(values) == rows
    if square and np.isfinite(values).all() and np.allclose(values, values.T, atol=1e-8):
        yield Finding(
            "warning",
            f"view {name} is a symmetric square matrix, as many columns as rows",
            "It looks like similarities between rows, which new rows do not have; give features.",
        )
        return
    if len(values) != rows:
        return
    here = ~np.isnan(values[:, 0])
    values, codes = values[here], np.unique(labels, return_inverse=True)[1][here]
    if not len(values):
        return
    told = [
        number
        for number in range(width)
        if len(uniques := np.unique(values[:, number])) <= 2 * (codes.max() + 1)
        and len(uniques) > codes.max()
        and _purity(values[:, number], codes) >= NEARLY
    ]
    peak = values.argmax(axis=1)
    others = np.abs(values).sum(axis=1) - np.abs(values.max(axis=1))
    one_hot = width > 1 and bool(np.mean(others <= 0.1 * np.abs(values.max(axis=1))) > 0.9)
    if one_hot and len(np.unique(peak)) > 1 and _purity(peak, codes) >= NEARLY:
        yield Finding(
            "warning",
            f"view {name} is nearly one-hot of the label",
            "It gives the answer away; leave it out with --views unless new rows have it too.",
        )
    elif told:
        yield Finding(
            "warning",
            f"view {name}: column {told[0]} tells the label in {100 * NEARLY:.0f} % of the rows or "
            "more" + (f", and so do others ({len(told) - 1})" if len(told) > 1 else ""),
            "It may be the label itself; leave it out with --views unless new rows have it too.",
        )


def _purity(values: NDArray[Any], codes: NDArray[np.int64]) -> float:
    """Share of rows whose class is the most frequent one of their value."""
    groups = np.unique(values, return_inverse=True)[1]
    counts = np.zeros((groups.max() + 1, codes.max() + 1), dtype=np.int64)
    np.add.at(counts, (groups, codes), 1)
    return float(counts.max(axis=1).sum() / len(codes))


def _presence(found: OwnFile) -> Iterator[Finding]:
    present = found.views.present
    for name, here in zip(found.views.names, present.T, strict=True):
        if gaps := int((~here).sum()):
            yield Finding(
                "note",
                f"view {name} is missing in {gaps} of {len(here)} rows",
                "Such a row has no opinion from it, and what rests on all views is discounted.",
            )
    if empty := int((~present.any(axis=1)).sum()):
        yield Finding(
            "warning",
            f"{empty} {'row has' if empty == 1 else 'rows have'} no view at all",
            "They can't be trained on; drop them.",
        )


def _rows(found: OwnFile) -> Iterator[Finding]:
    """Rows that are the same in every view, and whether their labels agree."""
    firsts: dict[bytes, int] = {}
    copies = clashes = 0
    labels = found.labels.tolist()
    example = (0, 0)
    for row, key in enumerate(_row_digests(found)):
        first = firsts.setdefault(key, row)
        if first != row:
            copies += 1
            if labels[first] != labels[row]:
                clashes += 1
                example = (first, row)
    if copies:
        yield Finding(
            "note",
            f"{_rows_text(copies)} an earlier one in every view",
            "Kept; a copy in the test rows flatters a comparison.",
        )
    if clashes:
        yield Finding(
            "warning",
            f"{clashes} of these {'has' if clashes == 1 else 'have'} another label than the first "
            f"(such as rows {example[0]} and {example[1]})",
            "Kept as they are; one of the labels is likely wrong.",
        )


def _rows_text(count: int) -> str:
    return "1 row repeats" if count == 1 else f"{count} rows repeat"


def _row_digests(found: OwnFile) -> Iterator[bytes]:
    for start in range(0, found.views.n_samples, BLOCK):
        block = slice(start, start + BLOCK)
        joined = np.hstack([dense(array, block) for array in found.views.arrays])
        for row in joined:
            yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _classes(labels: NDArray[Any]) -> Iterator[Finding]:
    classes, counts = np.unique(labels, return_counts=True)
    rarest, largest = int(counts.argmin()), int(counts.argmax())
    if len(classes) < 2:
        yield Finding("warning", "there is one class only", "Nothing can be learnt; add others.")
    elif counts[rarest] < 2:
        yield Finding(
            "warning",
            f"class {classes[rarest]} has 1 row",
            "`run` refuses it: one to train and one to test are needed; merge it or drop it.",
        )
    elif counts[rarest] < FEW or counts[largest] > UNEVEN * counts[rarest]:
        yield Finding(
            "note",
            f"classes have {counts[rarest]} ({classes[rarest]}) to {counts[largest]} "
            f"({classes[largest]}) rows",
            "Each row counts alike; `--set class_weight=balanced` lets each class count alike.",
        )
    else:
        yield Finding("fact", f"classes have {counts[rarest]} to {counts[largest]} rows each")
    if len(classes) > max(20, len(labels) / 3):
        yield Finding(
            "warning",
            f"{len(classes)} different labels in {len(labels)} rows",
            "Check that the target is a class and not a measurement or a name.",
        )
