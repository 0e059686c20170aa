"""The Markdown page of an experiment: tables per data set from its run records."""

from __future__ import annotations

from collections.abc import Sequence

from rcml_misa.reporting.tables import comparison_lines, grid, uncertainty_lines
from rcml_misa.results import RunRecord, SummaryRow, compare, summarise

__all__ = ["experiment_markdown"]


def _accuracy_lines(rows: Sequence[SummaryRow]) -> list[str]:
    body = []
    for clean, conflict in zip(rows[::2], rows[1::2], strict=True):
        body.append(
            [
                clean.label,
                f"{100 * clean.mean:.2f}",
                f"{100 * clean.std:.2f}",
                f"{100 * conflict.mean:.2f}",
                f"{100 * conflict.std:.2f}",
                f"{clean.seconds_per_run:.1f}",
            ]
        )
    return grid(["method", "clean %", "std", "conflictive %", "std", "s/run"], body)


def _overview(records: Sequence[RunRecord]) -> list[str]:
    rows = summarise(records)
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    names = list(dict.fromkeys((row.method, row.variant) for row in rows))
    means = {(r.dataset, r.method, r.variant, r.test_set): r.mean for r in rows}
    body = []
    for method, variant in names:
        cells = []
        for dataset in datasets:
            key = (dataset, method, variant)
            if (*key, "clean") in means:
                clean, conflict = means[*key, "clean"], means[*key, "conflict"]
                cells.append(f"{100 * clean:.2f} / {100 * conflict:.2f}")
            else:
                cells.append("-")
        body.append([method if variant == "-" else f"{method} {variant}", *cells])
    return grid(["clean / conflictive %", *datasets], body)


def experiment_markdown(records: Sequence[RunRecord], *, title: str, command: str) -> str:
    """Write the page.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one; the first record's method is compared with each other one.
    title : str
    command : str
        The experiment's file, for the command that regenerates the page.

    Returns
    -------
    str
        Markdown whose tables are fixed-width blocks.
    """
    versions = ", ".join(f"{name} {number}" for name, number in records[0].versions.items())
    seeds = sorted({record.seed for record in records})
    lines = [
        f"# {title}",
        "",
        f"Regenerate with `rcml-misa experiment {command}`. Seeds {seeds[0]} to {seeds[-1]}, "
        "random 80/20 splits shared by all methods, last step, nothing selected on test rows; "
        "means over runs, population standard deviation.",
        "",
        f"Measured with {versions}.",
        "",
        "```",
        *_overview(records),
        "```",
    ]
    for dataset in dict.fromkeys(record.dataset for record in records):
        part = [record for record in records if record.dataset == dataset]
        rows = summarise(part)
        lines += ["", f"## {dataset}", "", "```", *_accuracy_lines(rows), "```"]
        groups: dict[tuple[str, str], list[RunRecord]] = {}
        for record in part:
            groups.setdefault((record.method, record.variant), []).append(record)
        first, *others = groups.values()
        for test_set in ("clean", "conflict"):
            pairs = [compare(first, other, test_set=test_set) for other in others]
            if pairs:
                lines += ["", "```", *comparison_lines(pairs, corrected=True), "```"]
        lines += ["", "```", *uncertainty_lines(rows), "```"]
    return "\n".join(lines) + "\n"
