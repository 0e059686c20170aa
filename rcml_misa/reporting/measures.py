"""Tables of measures over runs, such as those of sentiment, and of their paired differences."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from rcml_misa.reporting.blocks import grid
from rcml_misa.results import PairedComparison, RunRecord, SummaryRow, compare, summarise

__all__ = [
    "PAIRED",
    "clean_rows",
    "measures_csv",
    "measures_json",
    "measures_markdown",
    "measures_page",
    "measures_text",
    "paired_lines",
]

#: Measures whose paired differences are shown.
PAIRED = ("mae", "corr", "acc7", "acc3", "acc2", "acc2_has0", "acc2_non0")

#: Measure -> heading, in the order of the columns; the rest is in CSV and JSON.
HEADINGS = {
    "mae": "MAE",
    "corr": "Corr",
    "acc7": "Acc-7",
    "acc5": "Acc-5",
    "acc3": "Acc-3",
    "f1_3": "F1-3",
    "acc2": "Acc-2",
    "f1": "F1",
    "acc2_has0": "Acc-2 Has0",
    "acc2_non0": "Acc-2 Non0",
    "f1_has0": "F1 Has0",
    "f1_non0": "F1 Non0",
    "coverage": "Inside",
    "width": "Width",
    "ause": "AUSE",
    "doubt_corr": "Doubt",
}
PLAIN = ("mae", "corr", "width", "ause", "doubt_corr")  # as they are; the others in percent
NOTE = "MAE and Corr as they are, the rest in percent; var and std over the runs (population)."
NOTES = {
    "acc2_has0": "Has0: negative or not; Non0: negative or positive, true zeros left out; "
    "F1 weighted",
    "coverage": "Inside and Width: share of rows inside their interval, and its mean width; Doubt: "
    "Spearman's\ncorrelation of width and error; AUSE: 0 if widths order the errors; both as "
    "they are",
}


def clean_rows(records: Sequence[RunRecord]) -> list[SummaryRow]:
    """Summarise what each variant scored on the clean test rows."""
    return [row for row in summarise(records) if row.test_set == "clean"]


def _shown(rows: Sequence[SummaryRow]) -> list[str]:
    return [name for name in HEADINGS if any(name in row.values for row in rows)]


def _cell(name: str, value: float, *, variance: bool = False) -> str:
    if math.isnan(value):
        return "-"
    if variance:
        return f"{value:.6f}"
    return f"{value:.4f}" if name in PLAIN else f"{100 * value:.2f}"


def _body(rows: Sequence[SummaryRow], names: Sequence[str]) -> list[list[str]]:
    body = []
    for row in rows:
        moments = {name: row.moments(name) for name in names}
        for place, kind in enumerate(("mean", "var", "std")):
            cells = [_cell(name, moments[name][place], variance=kind == "var") for name in names]
            last = f"{row.seconds_per_run:.0f}" if kind == "mean" else ""
            body.append([row.label if kind == "mean" else "", kind, *cells, last])
    return body


def measures_text(rows: Sequence[SummaryRow]) -> str:
    """The terminal's table: mean, variance and deviation of every measure."""
    names = _shown(rows)
    header = ["method", "", *[HEADINGS[name] for name in names], "s/run"]
    notes = [note for name, note in NOTES.items() if name in names]
    return "\n".join([*grid(header, _body(rows, names)), NOTE, *notes])


def measures_markdown(rows: Sequence[SummaryRow]) -> str:
    """The same as a Markdown table, mean ± std."""
    names = _shown(rows)
    lines = [
        "| data set | method | " + " | ".join(HEADINGS[name] for name in names) + " | s/run |",
        "|" + "---|" * (len(names) + 3),
    ]
    for row in rows:
        cells = []
        for name in names:
            mean, _, deviation = row.moments(name)
            cells.append(f"{_cell(name, mean)} ± {_cell(name, deviation)}")
        cells.append(f"{row.seconds_per_run:.0f}")
        lines.append(f"| {row.dataset} | {row.label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def paired_lines(
    records: Sequence[RunRecord], measures: Sequence[str], *, part: str = "clean"
) -> list[str]:
    """Lines of the first variant's paired differences to each other one, measure by measure."""
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.method, record.variant), []).append(record)
    first, *others = groups.values()
    body = []
    for other in others:
        for measure in measures:
            if measure in first[0].metrics[part] and measure in other[0].metrics[part]:
                body.append(_paired_row(compare(first, other, test_set=part, measure=measure)))
    if not body:
        return []
    header = ["paired difference", "measure", "mean", "95 % interval", "t p", "Wilcoxon p", "+/-"]
    return [
        *grid(header, body),
        "interval: Student's t over the seeds; +/-: runs in which the first is better and worse",
    ]


def measures_page(records: Sequence[RunRecord], *, title: str, command: str) -> str:
    """The Markdown page of an experiment with a task: measures and paired differences per set.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one; the first record's method is compared with each other one.
    title : str
    command : str
        The experiment's file, for the command that regenerates the page.
    """
    versions = ", ".join(f"{name} {number}" for name, number in records[0].versions.items())
    seeds = sorted({record.seed for record in records})
    lines = [
        f"# {title}",
        "",
        f"Regenerate with `rcml-misa experiment {command}`. Seeds {seeds[0]} to {seeds[-1]}; the "
        "data set's own split; an epoch chosen on validation rows, or the last step; nothing "
        "chosen on test rows.",
        "",
        f"Measured with {versions}.",
    ]
    for dataset in dict.fromkeys(record.dataset for record in records):
        part = [record for record in records if record.dataset == dataset]
        table = measures_text(clean_rows(part))
        lines += ["", f"## {dataset}", "", "```", *table.splitlines(), "```"]
        if pairs := paired_lines(part, PAIRED):
            lines += ["", "```", *pairs, "```"]
    return "\n".join(lines) + "\n"


def _paired_row(one: PairedComparison) -> list[str]:
    scale, digits = (1, 4) if one.measure in PLAIN else (100, 2)

    def number(value: float) -> str:
        return "-" if math.isnan(value) else f"{scale * value:+z.{digits}f}"

    def chance(value: float) -> str:
        return "-" if math.isnan(value) else ("<0.001" if value < 0.001 else f"{value:.3f}")

    return [
        f"{one.first} - {one.second}",
        HEADINGS.get(one.measure, one.measure),
        number(one.difference),
        "-" if math.isnan(one.low) else f"[{number(one.low)}, {number(one.high)}]",
        chance(one.p),
        chance(one.p_wilcoxon),
        f"{one.wins}/{one.losses}",
    ]


def measures_csv(rows: Sequence[SummaryRow]) -> str:
    """A row per variant and measure: its moments and every run's value."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["dataset", "method", "variant", "measure", "runs", "mean", "var", "std", "values"]
    )
    for row in rows:
        for name, values in row.values.items():
            cells = [row.dataset, row.method, row.variant, name, len(values)]
            writer.writerow([*cells, *row.moments(name), " ".join(f"{v:.6g}" for v in values)])
    return stream.getvalue()


def measures_json(records: Sequence[RunRecord], **rest: Any) -> dict[str, Any]:
    """Make the object of ``--json``: per variant and test set, each measure's moments, values."""

    def clean(value: float) -> float | None:
        return None if math.isnan(value) else value

    results = []
    for row in summarise(records):
        if row.test_set == "valid":
            continue
        measures = {}
        for name, values in row.values.items():
            mean, variance, deviation = row.moments(name)
            measures[name] = {
                "mean": clean(mean),
                "var": clean(variance),
                "std": clean(deviation),
                "values": [clean(value) for value in values],
            }
        results.append(
            {
                "dataset": row.dataset,
                "method": row.method,
                "variant": row.variant,
                "test_set": row.test_set,
                "seconds_per_run": row.seconds_per_run,
                "measures": measures,
            }
        )
    return {**rest, "results": results}
