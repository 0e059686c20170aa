"""Tables of one data set in detail: test sets, uncertainty scores, calibration, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rcml_misa.reporting.table import Cell, Column, Number, Row, Spec, Table, joined
from rcml_misa.reporting.tables import (
    ECE,
    SCALED,
    SETS,
    Shown,
    beside_ece,
    by_label,
    by_variant,
    means_table,
    name_of_set,
    percent,
)
from rcml_misa.results import LEAKS, RunRecord, SummaryRow, mean_scores, summarise

__all__ = ["checkpoint_tables", "detection_table", "robustness_tables", "uncertainty_tables"]

LAST = "last"  # the epoch that counts
NEAREST = 12  # settings that are listed
Stated = Mapping[str, tuple[str, float | None]]  # label to setting and figure
TASKS = {
    "errors": "errors among {} rows",
    "altered": "{} rows against their clean selves",
    "held_out": "rows of classes never seen against {} rows",
}
#: Task to the test set whose rows are ranked.
RANKED = {"errors": "clean", "altered": "conflict", "held_out": "clean"}
DETECTION = (
    ECE,
    Shown("AURC %", "aurc"),
    Shown("AUROC err", "auroc_errors", digits=3, scale=1),
    Shown("AUROC conf", "conflict_auroc", "conflict", digits=3, scale=1),
    Shown("FPR95 conf", "conflict_fpr95", "conflict", digits=3, scale=1),
    Shown("by degree", "conflict_auroc_degree", "conflict", digits=3, scale=1),
    Shown("noise %", "noise_flagged", digits=0),
)
DETECTION_NOTE = (
    "ECE over the clean rows of all runs; AUROC err: errors on clean rows by uncertainty; conf: "
    "rows with a replaced view against their clean selves, by uncertainty and by degree of "
    "conflict; noise: share of pure-noise rows more uncertain than 95 % of clean rows"
)
CLEAN = (
    Shown("macro-F1 %", "macro_f1"),
    Shown("balanced %", "balanced_accuracy"),
    Shown("NLL", "nll", digits=3, scale=1),
    Shown("Brier", "brier", digits=3, scale=1),
    Shown("adaptive ECE %", "adaptive_ece"),
    Shown("AURC %", "aurc"),
    Shown("AUGRC %", "augrc"),
    Shown("at 80 % coverage", "accuracy_at_80"),
    Shown("at 90 %", "accuracy_at_90"),
)
COPIES = (
    Shown("copies of train rows %", "copied_share", "conflict", digits=1),
    Shown("accuracy on those %", "accuracy_copied", "conflict"),
    Shown("on the others %", "accuracy_not_copied", "conflict"),
)
RECALIBRATED = (
    Shown("NLL", "nll", digits=3, scale=1),
    Shown("after scaling", "temperature_nll", digits=3, scale=1),
    Shown("ECE %", "ece", digits=1),
    Shown("after scaling", "temperature_ece", digits=1),
    Shown("in 90 % set %", "conformal_coverage", digits=1),
    Shown("set size", "conformal_size", scale=1),
)
RECALIBRATED_NOTE = (
    f"{SCALED}; 90 % set: split-conformal, whose coverage holds for rows like those held back, not "
    "for altered ones"
)
COPIES_NOTE = "a method may know a train row by heart: its copy is less uncertain than any new row"


def detection_table(rows: Sequence[SummaryRow]) -> Table | None:
    """Calibration, selection and detection of conflict, means over runs."""
    sets = by_label(rows)
    columns, notes = beside_ece(DETECTION, sets.values(), DETECTION_NOTE)
    return means_table("Calibration and detection", sets, columns, *notes)


def sets_table(dataset: str, records: Sequence[RunRecord]) -> Table | None:
    """Accuracy on every test set; None where there are only the clean and the published one."""
    planned: list[str] = list(records[0].protocol.get("test_sets", ()))
    scored = dict.fromkeys(name for record in records for name in record.metrics)
    names = planned or [name for name in scored if name != "valid"]
    if set(names) <= set(SETS):
        return None
    failures = {
        (record.label, name): sentence
        for record in records
        for name, sentence in record.failures.items()
    }

    def cell(label: str, name: str) -> Cell | str:
        if name in rows[label]:
            return percent(rows[label][name].mean)
        return "refused" if (label, name) in failures else "-"

    rows = by_label(summarise(records))
    body: list[Row] = [[label, *(cell(label, name) for name in names)] for label in rows]
    notes = [
        "conflict:s, a share s of rows with a view of another test row (train: of a train row); "
        "noise:s, deviation s in half of the views; missing:r, each view missing with chance r; "
        "shuffle:r, a share r of rows exchange up to half of their views",
    ]
    notes += [f"refused: {sentence}" for sentence in dict.fromkeys(failures.values())]
    columns = ["method", *map(name_of_set, names)]
    return Table.of(f"{dataset}: accuracy on each test set, %", columns, body, notes)


def scores_table(dataset: str, records: Sequence[RunRecord], *, task: str) -> Table | None:
    """Every uncertainty score of every method, as AUROC / AUPR / FPR95, for a task of `TASKS`."""
    test_set = RANKED[task]
    scores = {
        label: mean_scores(group, test_set=test_set, task=task)
        for label, group in by_variant(records).items()
    }
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    if not names:
        return None
    parts = ("auroc", "aupr", "fpr95")

    def cell(values: Mapping[str, Mapping[str, float]], name: str) -> Cell | str:
        numbers = (Number(values[name][part]) for part in parts)
        return joined(numbers, " / ") if name in values else "-"

    body: list[Row] = [
        [label, *(cell(values, name) for name in names)]
        for label, values in scores.items()
        if values
    ]
    rows = TASKS[task].format(name_of_set(test_set))
    columns = [Column("AUROC / AUPR / FPR95", "left", name="method")]
    columns += [Column(name, parts=parts) for name in names]
    return Table.of(f"{dataset}: {rows}, by uncertainty score", columns, body)


def recalibration_table(dataset: str, records: Sequence[RunRecord]) -> Table | None:
    """Temperature and conformal sets fitted on rows held back; None without such rows."""
    rows = [
        sets[name]
        for sets in by_label(summarise(records)).values()
        for name in SETS
        if name in sets and not math.isnan(sets[name].measures.get("conformal_coverage", math.nan))
    ]
    specs: list[Spec[SummaryRow]] = [
        ("method", lambda row: f"{row.label}, {name_of_set(row.test_set)}"),
        *((column.column, column.cell) for column in RECALIBRATED),
    ]
    title = f"{dataset}: recalibrated on rows held back"
    return Table.of_items(title, specs, rows, RECALIBRATED_NOTE) if rows else None


def robustness_tables(dataset: str, records: Sequence[RunRecord]) -> list[Table]:
    """Further test sets, and recalibration, where there are some."""
    tables = [sets_table(dataset, records), recalibration_table(dataset, records)]
    return [table for table in tables if table is not None]


def uncertainty_tables(dataset: str, records: Sequence[RunRecord]) -> list[Table]:
    """Measures and uncertainty scores of one data set's methods."""
    rows = by_label(summarise(records))
    copies = f"{dataset}: the donors of the published conflictive rows"
    tables = [
        means_table(f"{dataset}: further measures on clean rows", rows, CLEAN),
        means_table(copies, rows, COPIES, COPIES_NOTE),
        *(scores_table(dataset, records, task=task) for task in RANKED),
    ]
    return [table for table in tables if table is not None]


def _checkpoint_means(records: Sequence[RunRecord]) -> dict[tuple[str, str], float]:
    """Mean accuracy over runs by epoch and test set."""
    values: dict[tuple[str, str], list[float]] = {}
    for record in records:
        last = {name: row.get("accuracy", math.nan) for name, row in record.metrics.items()}
        for epoch, accuracy in {**record.checkpoints, LAST: last}.items():
            for name, value in accuracy.items():
                values.setdefault((epoch, name), []).append(value)
    return {key: float(np.mean(row)) for key, row in values.items()}


def checkpoint_tables(dataset: str, records: Sequence[RunRecord], stated: Stated) -> list[Table]:
    """Accuracy at each checkpoint, and the settings nearest to the stated figures; empty without.

    `stated` maps a label to the values that its grid set and the accuracy to compare it with.
    """
    if not any(record.checkpoints for record in records):
        return []
    means = {
        label.removesuffix(f" {LEAKS}"): _checkpoint_means(group)
        for label, group in by_variant(records).items()
    }
    keys = list(dict.fromkeys(key for values in means.values() for key in values))
    epochs = sorted({epoch for epoch, _ in keys if epoch != LAST}, key=int)
    names = list(dict.fromkeys(name for _, name in keys))
    body: list[Row] = []
    for label, values in means.items():
        figure = stated.get(label, ("", None))[1]
        cells = [
            joined((percent(values.get((epoch, name), math.nan), 1) for name in names), " / ")
            for epoch in (*epochs, LAST)
        ]
        body.append([label, percent(math.nan if figure is None else figure), *cells])
    columns = [Column("method", "left"), Column("stated %")]
    headings = [*(f"epoch {epoch}" for epoch in epochs), LAST]
    columns += [Column(heading, parts=tuple(names)) for heading in headings]
    title = f"{dataset}: {' / '.join(map(name_of_set, names))} accuracy between epochs, %"
    return [Table.of(title, columns, body), *_nearest_tables(dataset, means, stated)]


def _nearest_tables(
    dataset: str, means: Mapping[str, Mapping[tuple[str, str], float]], stated: Stated
) -> list[Table]:
    """Settings by the mean distance of their rows to the stated figures; empty without any."""
    pairs: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for label, values in means.items():
        setting, figure = stated.get(label, ("", None))
        if figure is None or not setting:
            continue
        for (epoch, name), value in values.items():
            pairs.setdefault((setting, epoch, name), []).append((value, figure))
    if not pairs:
        return []
    distances = {
        key: float(np.mean([abs(value - figure) for value, figure in rows]))
        for key, rows in pairs.items()
    }
    figures = [figure for setting, figure in stated.values() if figure is not None and setting]
    words = " ".join(dict.fromkeys(str(percent(figure)) for figure in figures))
    specs: list[Spec[tuple[str, str, str]]] = [
        ("setting", lambda key: f"{key[0]}, epoch {key[1]}, {name_of_set(key[2])} rows"),
        ("mean distance, points", lambda key: percent(distances[key])),
        ("rows %", lambda key: joined((percent(value) for value, _ in pairs[key]), " ")),
    ]
    rows = sorted(distances, key=lambda key: distances[key])[:NEAREST]
    title = f"{dataset}: the settings nearest to the stated figures"
    return [Table.of_items(title, specs, rows, f"stated: {words} %")]
