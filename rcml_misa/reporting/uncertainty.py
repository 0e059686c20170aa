"""Tables on test sets beyond two, on uncertainty scores and on what was mended after training."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rcml_misa.reporting.blocks import Block
from rcml_misa.reporting.comparison import by_variant, rows_by_label
from rcml_misa.reporting.tables import name_of_set, number, percent
from rcml_misa.results import RunRecord, SummaryRow, mean_scores

__all__ = [
    "copies_block",
    "measures_block",
    "posthoc_block",
    "robustness_blocks",
    "score_block",
    "sets_block",
    "uncertainty_blocks",
]

TASKS = {
    "errors": "errors among {} rows",
    "altered": "{} rows against their clean selves",
    "held_out": "rows of classes never seen against {} rows",
}


def _value(row: SummaryRow | None, name: str) -> float:
    return math.nan if row is None else row.measures.get(name, math.nan)


def sets_block(dataset: str, records: Sequence[RunRecord]) -> Block | None:
    """Accuracy on every test set; None where there are only the clean and the published one."""
    planned: list[str] = list(records[0].protocol.get("test_sets", ()))
    names = planned or list(dict.fromkeys(name for one in records for name in one.metrics))
    if set(names) <= {"clean", "conflict"}:
        return None
    rows = rows_by_label(records)
    refused = {
        (record.label, name): sentence
        for record in records
        for name, sentence in record.failures.items()
    }
    body = [
        [
            label,
            *(
                percent(found[name].mean)
                if name in found
                else ("refused" if (label, name) in refused else "-")
                for name in names
            ),
        ]
        for label, found in rows.items()
    ]
    notes = [
        "conflict:s, a share s of rows with a view of another test row (train: of a train row); "
        "noise:s, deviation s in half of the views; missing:r, each view missing with chance r",
    ]
    notes += [f"refused: {text}" for text in dict.fromkeys(refused.values())]
    return Block(
        f"{dataset}: accuracy on each test set, %",
        ["method", *map(name_of_set, names)],
        body,
        notes,
    )


def copies_block(dataset: str, records: Sequence[RunRecord]) -> Block | None:
    """How much of the published conflict is made of copies of train rows, and what that does."""
    body = []
    for label, found in rows_by_label(records).items():
        row = found.get("conflict")
        values = [_value(row, f"accuracy_{word}") for word in ("copied", "not_copied")]
        share = _value(row, "copied_share")
        if not math.isnan(share):
            body.append([label, percent(share, 1), *(percent(value) for value in values)])
    if not body:
        return None
    return Block(
        f"{dataset}: the donors of the published conflictive rows",
        ["method", "copies of train rows %", "accuracy on those %", "on the others %"],
        body,
        ["a method may know a train row by heart and be surer of its copy than of any new row"],
    )


def score_block(
    dataset: str, records: Sequence[RunRecord], *, test_set: str, task: str
) -> Block | None:
    """Every uncertainty score of every method, as AUROC / AUPR / FPR95."""
    found = {
        label: mean_scores(some, test_set=test_set, task=task)
        for label, some in by_variant(records).items()
    }
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    if not names:
        return None
    body = [
        [
            label,
            *(
                " / ".join(number(one[name][m], 2) for m in ("auroc", "aupr", "fpr95"))
                if name in one
                else "-"
                for name in names
            ),
        ]
        for label, one in found.items()
        if one
    ]
    what = TASKS[task].format(name_of_set(test_set))
    return Block(
        f"{dataset}: {what}, by uncertainty score",
        ["AUROC / AUPR / FPR95", *names],
        body,
    )


def measures_block(dataset: str, records: Sequence[RunRecord]) -> Block:
    """Balance, calibration and selection on clean rows."""
    header = [
        "method",
        "macro-F1 %",
        "balanced %",
        "NLL",
        "Brier",
        "adaptive ECE %",
        "AURC %",
        "AUGRC %",
        "at 80 % cover",
        "at 90 %",
    ]
    names = ("macro_f1", "balanced_accuracy", "nll", "brier", "adaptive_ece", "aurc", "augrc")
    body = []
    for label, found in rows_by_label(records).items():
        values = [_value(found.get("clean"), name) for name in names]
        chosen = [_value(found.get("clean"), f"accuracy_at_{share}") for share in (80, 90)]
        shown = [
            number(value) if name in ("nll", "brier") else percent(value)
            for name, value in zip(names, values, strict=True)
        ]
        body.append([label, *shown, *(percent(value) for value in chosen)])
    return Block(f"{dataset}: further measures on clean rows", header, body)


def posthoc_block(dataset: str, records: Sequence[RunRecord]) -> Block | None:
    """Temperature and conformal sets fitted on rows held back; None without such rows."""
    body = []
    for label, found in rows_by_label(records).items():
        for test_set, row in found.items():
            if test_set not in ("clean", "conflict") or math.isnan(
                _value(row, "conformal_coverage")
            ):
                continue
            body.append(
                [
                    f"{label}, {name_of_set(test_set)}",
                    number(_value(row, "nll")),
                    number(_value(row, "temperature_nll")),
                    percent(_value(row, "ece"), 1),
                    percent(_value(row, "temperature_ece"), 1),
                    percent(_value(row, "conformal_coverage"), 1),
                    number(_value(row, "conformal_size"), 2),
                ]
            )
    if not body:
        return None
    header = ["method", "NLL", "heated", "ECE %", "heated", "in 90 % set %", "set size"]
    notes = [
        "heated: after a temperature fitted on rows held back; 90 % set: split-conformal, whose "
        "coverage holds for rows like those held back, not for altered ones",
    ]
    return Block(f"{dataset}: mended on rows held back", header, body, notes)


def robustness_blocks(dataset: str, records: Sequence[RunRecord]) -> list[Block]:
    """Further test sets, and what was mended on rows held back, where there are some."""
    found = [sets_block(dataset, records), posthoc_block(dataset, records)]
    return [block for block in found if block is not None]


def uncertainty_blocks(dataset: str, records: Sequence[RunRecord]) -> list[Block]:
    """Measures and uncertainty scores of one data set's methods."""
    found: list[Block | None] = [measures_block(dataset, records), copies_block(dataset, records)]
    found += [
        score_block(dataset, records, test_set=test_set, task=task)
        for test_set, task in (("clean", "errors"), ("conflict", "altered"), ("clean", "held_out"))
    ]
    return [block for block in found if block is not None]
