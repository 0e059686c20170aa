"""Tables of an audit: a small one per question, with what a good answer looks like as its title."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rcml_misa.reporting.render import table_json
from rcml_misa.reporting.table import Cell, Column, Number, Row, Table, joined
from rcml_misa.reporting.tables import by_label, by_variant, percent
from rcml_misa.results import RunRecord, SummaryRow, plain, summarise

__all__ = ["audit_json", "audit_tables", "pooled_coverage"]

DETECTED = ("errors", "conflict", "shuffled", "far", "unseen")  # conditions of detection
#: Share of the train rows, as its condition names it -> heading.
SHARES = {"0.125": "1/8", "0.25": "1/4", "0.5": "1/2", "1": "all"}
WORST = "worst class"  # of clean rows
COVERED = ("clean", "conflict", "shuffled", "missing", WORST)  # conditions of conformal sets
#: Rows that sets are calibrated on -> name in the table.
CALIBRATED = {
    "all": "all",
    "class": "classes",
    "view": "patterns",
    "conflict": "conflicts",
}
MEASURED = {"uncertainty": "", "mutual_information": ", mutual information"}

Conditions = Mapping[str, SummaryRow]  # condition to the row of one method


def audit_tables(records: Sequence[RunRecord]) -> dict[str, Table]:
    """Make the tables of one data set's audits, by name; those of parts not asked for are absent.

    Means over the runs; covered rows are pooled over them.
    """
    methods = by_label(summarise(records))
    parts = set(records[0].config.get("parts", ())) if records else set()
    made = {
        "auroc": ("detection", _detection(methods, "auroc")),
        "fpr95": ("detection", _detection(methods, "fpr95")),
        "rows": ("rows", _rows(methods)),
        "entropy": ("entropy", _entropy(methods)),
        "sensitivity": ("sensitivity", _sensitivity(methods)),
        "selection": ("selection", _selection(methods)),
        "coverage": ("conformal", _coverage(methods)),
    }
    return {
        name: _with_failures(table, records, part)
        for name, (part, table) in made.items()
        if part in parts
    }


def audit_json(records: Sequence[RunRecord], **facts: Any) -> dict[str, Any]:
    """Put audits in one JSON object: `facts`, the tables' numbers, every measure of every run."""
    tables = {name: table_json(table) for name, table in audit_tables(records).items()}
    measures = [
        {
            "method": row.label,
            "condition": row.test_set,
            "measure": measure,
            "values": plain(values),
        }
        for row in summarise(records)
        for measure, values in row.values.items()
    ]
    failures = [
        {"method": record.label, "seed": record.seed, "condition": name, "reason": reason}
        for record in records
        for name, reason in record.failures.items()
    ]
    return {**facts, "tables": tables, "measures": measures, "failures": failures}


def _mean(conditions: Conditions, condition: str, measure: str) -> float:
    """Average a measure of a condition over the runs that have it; NaN where none has."""
    row = conditions.get(condition)
    return math.nan if row is None else row.measures.get(measure, math.nan)


def pooled_coverage(conditions: Conditions, sets: str, condition: str) -> tuple[float, float]:
    """Pool the rows of all runs: the share covered by sets of one calibration, and mean size.

    `WORST` is the class of least coverage among clean rows. NaN where no run has
    any.
    """
    if condition == WORST:
        names = [name for name in conditions if name.startswith(f"conformal:{sets}:class ")]
        return min((_pooled(conditions[name]) for name in names), default=(math.nan, math.nan))
    row = conditions.get(f"conformal:{sets}:{condition}")
    return (math.nan, math.nan) if row is None else _pooled(row)


def _pooled(row: SummaryRow) -> tuple[float, float]:
    """Share of covered rows and members per row."""
    covered, members, rows = (
        np.nansum(row.values[name]) for name in ("covered", "members", "rows")
    )
    return float(covered / rows), float(members / rows)


def _pair(first: Number, second: Number) -> Cell:
    """Put two numbers in one cell; a dash where there is neither."""
    return joined([first, second], "/")


def _detection(methods: Mapping[str, Conditions], measure: str) -> Table:
    titles = {
        "auroc": "Detection by own uncertainty / by 1 - max p, AUROC %: 50 is chance, 100 finds "
        "every such row first (↑)",
        "fpr95": "False alarms where 95 % of such rows are found, by own uncertainty / by "
        "1 - max p, %: 0 is none (↓)",
    }
    body: list[Row] = [
        [
            label,
            *(
                _pair(
                    percent(_mean(conditions, f"detection:{name}", measure), 1),
                    percent(_mean(conditions, f"detection:{name}", f"{measure}_top"), 1),
                )
                for name in DETECTED
            ),
        ]
        for label, conditions in methods.items()
    ]
    columns: list[Column | str] = [
        "method",
        *(Column(word, parts=("own", "top")) for word in DETECTED),
    ]
    notes = [
        "errors on clean rows; conflict: a replaced view, shuffled: views of other rows, far: "
        "every column shifted by 10 deviations, each against its clean self; unseen: classes left "
        "out of a second fit"
    ]
    return Table.of(titles[measure], columns, body, notes if measure == "auroc" else ())


def _rows(methods: Mapping[str, Conditions]) -> Table:
    body: list[Row] = []
    for label, conditions in methods.items():
        for measure, words in MEASURED.items():
            values = [_mean(conditions, f"rows:{share}", measure) for share in SHARES]
            if measure == "uncertainty" or not all(map(math.isnan, values)):
                body.append([f"{label}{words}", *(Number(value, 4) for value in values)])
    first = next(iter(methods.values()), {})
    counts = (Number(_mean(first, f"rows:{share}", "rows"), 0) for share in SHARES)
    title = (
        "Mean uncertainty on clean rows by share of the train rows: it should fall (↓) with rows"
    )
    notes = [f"train rows: {', '.join(map(str, counts))}"]
    columns: list[Column | str] = ["method", *SHARES.values()]
    return Table.of(title, columns, body, notes)


def _entropy(methods: Mapping[str, Conditions]) -> Table:
    title = (
        "Rank correlation of uncertainty with the entropy of the probabilities on clean rows: near "
        "1 it says nothing of its own (↓)"
    )
    body: list[Row] = [
        [label, Number(_mean(conditions, "entropy", "correlation"), 3)]
        for label, conditions in methods.items()
    ]
    return Table.of(title, ["method", "correlation"], body)


def _sensitivity(methods: Mapping[str, Conditions]) -> Table:
    title = (
        "Half and twice the weight of the KL term or the prior: uncertainty and accuracy should "
        "stay (0), ranks too (1, ↑)"
    )
    body: list[Row] = []
    for label, conditions in methods.items():
        names = [name for name in conditions if name.startswith("sensitivity:")]
        for name in names:
            _, weight, _ = name.split(":")
            changes = ("uncertainty_change", "correlation", "accuracy_change")
            change, correlation, points = (_mean(conditions, name, key) for key in changes)
            body.append(
                [
                    label,
                    weight,
                    Number(_mean(conditions, name, "value"), 3),
                    Number(change, 4, signed=True),
                    Number(correlation, 3),
                    Number(points, 2, 100, signed=True),
                ]
            )
        if not names:
            body.append([label, *["-"] * 5])
    columns = ["method", "weight", "value", "uncertainty", "rank correlation", "accuracy points"]
    return Table.of(title, columns, body, ["-: a method without such a weight"], stubs=2)


def _selection(methods: Mapping[str, Conditions]) -> Table:
    title = (
        "Accuracy % of all clean rows, and of the 90 and 80 % that are least uncertain: it should "
        "rise (↑); AURC % (↓)"
    )
    names = ("accuracy", "accuracy_at_90", "accuracy_at_80", "aurc")
    body: list[Row] = [
        [label, *(percent(_mean(conditions, "clean", name)) for name in names)]
        for label, conditions in methods.items()
    ]
    words = ("all", "at 90 %", "at 80 %", "AURC")
    columns = [Column(word, name=name) for word, name in zip(words, names, strict=True)]
    return Table.of(title, ["method", *columns], body)


def _coverage(methods: Mapping[str, Conditions]) -> Table:
    title = (
        "90 % conformal sets, covered rows % / mean size: 90 or more under each condition, and "
        "small (↓)"
    )
    body: list[Row] = []
    for label, conditions in methods.items():
        for sets, words in CALIBRATED.items():
            pairs = [pooled_coverage(conditions, sets, name) for name in COVERED]
            cells = [_pair(percent(covered, 1), Number(size, 1)) for covered, size in pairs]
            body.append([label, words, *cells])
    columns = [Column(name, parts=("covered", "size")) for name in COVERED]
    notes = [
        "on: sets calibrated on all rows that no fit saw, on each class, on each pattern (every "
        "view there or not), on a conflictive copy; coverage is promised for rows like those; the "
        "worst of many classes is below 90 % by chance alone"
    ]
    return Table.of(title, ["method", "on", *columns], body, notes, stubs=2)


def _with_failures(table: Table, records: Iterable[RunRecord], part: str) -> Table:
    """Say below a table why a method has no answer."""
    reasons = dict.fromkeys(
        f"{label}: {reason}"
        for label, group in by_variant(records).items()
        for record in group
        for name, reason in record.failures.items()
        if name.partition(":")[0] == part
    )
    return replace(table, notes=(*table.notes, *reasons))
