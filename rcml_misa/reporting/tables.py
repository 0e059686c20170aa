"""Tables of results: accuracies in percent for people, fractions for machines."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rcml_misa.reporting.blocks import grid
from rcml_misa.results import LEAKS, PairedComparison, SummaryRow, holm

__all__ = [
    "LEAK_NOTE",
    "as_csv",
    "as_json",
    "as_markdown",
    "as_text",
    "comparison_lines",
    "label_of",
    "name_of_set",
    "number",
    "p_value",
    "percent",
    "uncertainty_lines",
]

WIDTH = 88
LEAK_NOTE = f"{LEAKS} test rows shaped the scaling or chose the epoch: no estimate for new rows"
NAMES = {"clean": "clean", "conflict": "conflictive"}


def percent(value: float, digits: int = 2) -> str:
    """A fraction in percent; ``-`` for NaN."""
    return "-" if math.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: float, digits: int = 3) -> str:
    """A number; ``-`` for NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def p_value(value: float) -> str:
    """A p value; ``-`` for NaN."""
    return "-" if math.isnan(value) else ("<0.001" if value < 0.001 else f"{value:.3f}")


def name_of_set(name: str) -> str:
    """A test set's name in tables."""
    return NAMES.get(name, name)


def label_of(row: SummaryRow) -> str:
    """Label of a variant, with a star if it is the recommended one."""
    return f"{row.label} *" if row.default and row.variant != "-" else row.label


def as_text(rows: Sequence[SummaryRow], comparisons: Sequence[PairedComparison]) -> str:
    """The terminal's table: every run's accuracy, then the moments, then paired differences.

    Parameters
    ----------
    rows : sequence of SummaryRow
    comparisons : sequence of PairedComparison

    Returns
    -------
    str
    """
    lines: list[str] = ["Accuracy of each run, %"]
    for row in rows:
        runs = " ".join(percent(value) for value in row.accuracy)
        head = f"  {label_of(row)}, {name_of_set(row.test_set)}: "
        lines += textwrap.wrap(head + runs, WIDTH, subsequent_indent="    ")
    body = [
        [
            label_of(row),
            name_of_set(row.test_set),
            percent(row.mean),
            f"{row.var:.6f}",
            percent(row.std),
            f"{row.seconds_per_run:.1f}",
        ]
        for row in rows
    ]
    lines += ["", *grid(["method", "test rows", "mean %", "var", "std %", "s/run"], body)]
    lines += _footnotes(rows)
    if comparisons:
        lines += ["", *comparison_lines(comparisons)]
    return "\n".join(lines)


def _footnotes(rows: Sequence[SummaryRow]) -> list[str]:
    notes = ["var and std of the runs (population); var is of the fraction, std in points"]
    if any(label_of(row).endswith(" *") for row in rows):
        notes.insert(0, "* the recommended configuration of its method")
    if any(row.leaky for row in rows):
        notes.append(LEAK_NOTE)
    return notes


def comparison_lines(
    comparisons: Sequence[PairedComparison], *, corrected: bool = False
) -> list[str]:
    """Lines of paired differences, first minus second, in points.

    Parameters
    ----------
    comparisons : sequence of PairedComparison
    corrected : bool
        Whether Wilcoxon's p is corrected by Holm over these comparisons.
    """
    ranked = [one.p_wilcoxon for one in comparisons]
    ranked = holm(ranked) if corrected else ranked
    body = [
        [
            f"{one.first} - {one.second}",
            name_of_set(one.test_set),
            f"{100 * one.difference:+z.2f}",
            "-" if math.isnan(one.low) else f"[{100 * one.low:+z.2f}, {100 * one.high:+z.2f}]",
            p_value(one.p),
            p_value(p),
            f"{one.wins}/{one.losses}",
        ]
        for one, p in zip(comparisons, ranked, strict=True)
    ]
    wilcoxon = "Wilcoxon p (Holm)" if corrected else "Wilcoxon p"
    header = ["paired difference", "test rows", "points", "95 % interval", "t p", wilcoxon, "+/-"]
    return [
        *grid(header, body),
        "interval and t p: Nadeau-Bengio, corrected for overlapping splits; +/-: runs won and lost",
    ]


def uncertainty_lines(rows: Sequence[SummaryRow]) -> list[str]:
    """Lines on calibration, selection and detection, means over runs.

    ECE is of `predict_proba` over the clean rows of all runs together.
    """
    by_name: dict[str, dict[str, SummaryRow]] = {}
    for row in rows:
        by_name.setdefault(label_of(row), {})[row.test_set] = row
    body = []
    for name, both in by_name.items():
        clean = both["clean"].measures
        conflict = both["conflict"].measures if "conflict" in both else {}
        body.append(
            [
                name,
                percent(clean.get("pooled_ece", math.nan), 1),
                percent(clean.get("aurc", math.nan)),
                number(clean.get("auroc_errors", math.nan)),
                number(conflict.get("conflict_auroc", math.nan)),
                number(conflict.get("conflict_fpr95", math.nan)),
                number(conflict.get("conflict_auroc_degree", math.nan)),
                percent(clean.get("noise_flagged", math.nan), 0),
            ]
        )
    header = [
        "method",
        "ECE %",
        "AURC %",
        "AUROC err",
        "AUROC conf",
        "FPR95 conf",
        "by degree",
        "noise %",
    ]
    return [
        *grid(header, body),
        "AUROC err: errors on clean rows by uncertainty; conf: rows with a replaced view against",
        "their clean selves, by uncertainty and by degree of conflict; noise: share of pure-noise",
        "rows more uncertain than 95 % of clean rows",
    ]


def as_markdown(rows: Sequence[SummaryRow], comparisons: Sequence[PairedComparison]) -> str:
    """A Markdown table of the moments in percent, and the paired differences."""
    lines = [
        "| data set | method | test rows | mean % | var | std % | s/run |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.dataset} | {label_of(row).replace('*', chr(92) + '*')} "
        f"| {name_of_set(row.test_set)} | {percent(row.mean)} | {row.var:.6f} | {percent(row.std)} "
        f"| {row.seconds_per_run:.1f} |"
        for row in rows
    ]
    lines += ["", *[note.replace("*", "\\*") for note in _footnotes(rows)]]
    if comparisons:
        lines += ["", "```", *comparison_lines(comparisons), "```"]
    return "\n".join(lines) + "\n"


def as_csv(rows: Sequence[SummaryRow]) -> str:
    """A row per variant and test set; accuracy as a fraction, and every measure."""
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    fixed = ["dataset", "method", "variant", "test_set", "default", "leaky", "runs", "mean", "var"]
    writer.writerow([*fixed, "std", "seconds_per_run", *names])
    for row in rows:
        values = [row.measures.get(name, math.nan) for name in names]
        writer.writerow(
            [row.dataset, row.method, row.variant, row.test_set, row.default, row.leaky]
            + [len(row.accuracy), row.mean, row.var, row.std, row.seconds_per_run]
            + ["" if math.isnan(value) else value for value in values]
        )
    return file.getvalue()


def as_json(
    rows: Sequence[SummaryRow], comparisons: Sequence[PairedComparison], **rest: Any
) -> dict[str, Any]:
    """The object of ``--json``: ``results`` with a row per variant and test set, and the rest."""
    results = []
    for row in rows:
        fields = row.as_dict()
        fields["accuracy"] = list(row.accuracy)
        fields["measures"] = _without_nan(row.measures)
        results.append(fields)
    pairs = [_without_nan(one.as_dict()) for one in comparisons]
    return {**rest, "results": results, "comparisons": pairs}


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }
