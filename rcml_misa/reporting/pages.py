"""All tables of a comparison, the pages of an experiment, the JSON objects of commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from scipy import stats

from rcml_misa.exceptions import printable
from rcml_misa.reporting import comparison, details
from rcml_misa.reporting.render import markdown_text, render
from rcml_misa.reporting.table import Table
from rcml_misa.reporting.tables import (
    MEASURES,
    PAIRED,
    SETS,
    by_dataset,
    by_variant,
    measures_table,
    name_of_set,
    paired_comparisons,
    paired_table,
    spread_table,
)
from rcml_misa.results import (
    LOWER_IS_BETTER,
    PairedComparison,
    RunRecord,
    SummaryRow,
    mean_scores,
    plain,
    summarise,
)

__all__ = ["comparison_json", "experiment_page", "experiment_tables", "results_json"]

PAGE_LINES = 60  # of a short page
RIVALS = 5  # most rows of paired differences on a short page per data set and test set
PAIRED_TITLE = "Paired differences to the strongest others"


def _has(records: Sequence[RunRecord], measures: Sequence[str]) -> bool:
    """Whether any run took one of the measures on clean rows."""
    return any(name in record.metrics.get("clean", {}) for record in records for name in measures)


def experiment_tables(
    records: Sequence[RunRecord], *, stated: details.Stated | None = None, uncertainty: bool = True
) -> list[Table]:
    """Make every table that the records have something for.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one; the first record's method is compared with each other one.
    stated : mapping of label to (setting, figure), optional
        See `checkpoint_tables`.
    uncertainty : bool
        Whether the tables of measures and uncertainty scores are among them.
    """
    classes = [record for record in records if "accuracy" in record.metrics.get("clean", {})]
    tables = [comparison.overview_table(classes)] if classes else []
    if len(by_variant(classes)) > 1:
        tables.append(comparison.winners_table(classes))
    if ranked := comparison.rankings(classes):
        tables.append(comparison.rank_table(ranked))
    groups = by_dataset(records)
    for dataset, some in groups.items():
        if _has(some, list(MEASURES)):
            rows = [row for row in summarise(some) if row.test_set == "clean"]
            tables.append(replace(measures_table(rows), level=2))
            if pairs := paired_comparisons(some, test_sets=["clean"], measures=PAIRED):
                tables.append(paired_table(pairs))
        if not _has(some, ["accuracy"]):
            continue
        tables.append(comparison.dataset_table(dataset, some))
        for test_set in SETS:
            if pairs := paired_comparisons(some, test_sets=[test_set]):
                title = f"{dataset}, {name_of_set(test_set)} rows: paired differences"
                tables.append(paired_table(pairs, title=title, corrected=True, records=some))
        tables += details.robustness_tables(dataset, some)
        tables += details.checkpoint_tables(dataset, some, stated or {})
        if uncertainty:
            tables += details.uncertainty_tables(dataset, some)
    if any(comparison.published_figures(dataset=name) for name in groups):
        tables.append(comparison.published_table(list(groups)))
    return tables


def experiment_page(
    records: Sequence[RunRecord],
    *,
    title: str,
    command: str,
    how: str = "random 80/20 splits",
    full: bool = False,
    stated: details.Stated | None = None,
) -> str:
    """Write an experiment's page in Markdown.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one, such as `read_runs_csv` returns; the first record's method is compared with
        each other one.
    title : str
    command : str
        The experiment's file, for the command that regenerates the page.
    how : str
        The protocol, in words.
    full : bool
        Whether all tables are shown, as text of a fixed width; otherwise the overview, who wins,
        and the paired differences that matter, on at most 60 lines.
    stated : mapping of label to (setting, figure), optional
        See `checkpoint_tables`.
    """
    given = all(record.protocol.get("split") == "given" for record in records)
    seeds = sorted({record.seed for record in records})
    versions = ", ".join(f"{name} {number}" for name, number in records[0].versions.items())
    command = printable(command).replace("`", "'")  # which would end the code
    line = f"{command} --full`" if full else f"{command}`; `--full` prints every table"
    split = "the data set's own split" if given else how
    lines = [
        f"# {markdown_text(title)}",
        "",
        f"Regenerate with `rcml-misa experiment {line}. Seeds {seeds[0]} to {seeds[-1]}, "
        f"{split}, shared by all methods; means over runs, population standard deviation. "
        "Seconds aside, the same file gives the same page.",
        "",
        f"Measured with {markdown_text(versions)}.",
    ]
    if not full:
        for table in _short_tables(records, PAGE_LINES - len(lines)):
            lines += ["", *render([table], "markdown").splitlines()]
        return "\n".join(lines) + "\n"
    for table in experiment_tables(records, stated=stated):
        body = render([replace(table, title="")], "text").split("\n", 1)[1]
        fence = "`" * max([3, *(1 + len(ticks) for ticks in re.findall("`+", body))])
        heading = f"{'#' * table.level} {markdown_text(table.title)}"
        lines += ["", heading, "", fence, body, fence]
    return "\n".join(lines) + "\n"


def _short_tables(records: Sequence[RunRecord], room: int) -> list[Table]:
    """Overview, wins and the paired differences that matter, in so many lines of Markdown."""
    tables: list[Table] = []
    classes: list[RunRecord] = []
    for some in by_dataset(records).values():
        if not _has(some, list(MEASURES)):
            classes += some
            continue
        tables.append(spread_table([row for row in summarise(some) if row.test_set == "clean"]))
    if len(by_variant(classes)) > 1:
        tables.append(comparison.winners_table(classes))
    if classes:
        tables.insert(0, comparison.overview_table(classes))
    rivals = [pairs for some in by_dataset(records).values() for pairs in _rivals(some)]
    paired: list[Table] = []
    for count in range(1, RIVALS + 1):
        pairs = [pair for strongest in rivals for pair in strongest[:count]]
        made = [replace(paired_table(pairs, title=PAIRED_TITLE), level=2)] if pairs else []
        if count > 1 and sum(map(_lines_of, [*tables, *made])) > room:
            break
        paired = made
    if tables:
        rest = sum(map(_lines_of, [*tables[1:], *paired]))
        tables[0] = _cut(tables[0], room - rest)
    return [*tables, *paired]


def _lines_of(table: Table) -> int:
    """Lines of a table in Markdown, with the empty line before it."""
    return 1 + len(render([table], "markdown").splitlines())


def _cut(table: Table, room: int) -> Table:
    """Keep the first row and the best others of an overview, as many as there is room for."""
    surplus = _lines_of(table) - room
    if surplus <= 0:
        return table
    count = max(len(table.rows) - surplus - (1 if table.notes else 2), 3)
    values = np.array([row[1:] for row in table.plain()[1]], dtype=float)
    ranks = stats.rankdata(-np.nan_to_num(values, nan=-np.inf), axis=0).mean(axis=1)
    ranks[0] = 0
    best = sorted(np.argsort(ranks, kind="stable")[:count].tolist())
    note = f"the first and the best of {len(table.rows)} rows by mean rank; --full has them all"
    rows = tuple(table.rows[place] for place in best)
    return replace(table, rows=rows, notes=(*table.notes, note))


def _rivals(records: Sequence[RunRecord]) -> list[list[PairedComparison]]:
    """Compare the first variant of one data set with the strongest others, the strongest first.

    Classes are compared by accuracy on each test set, numbers and sentiment by each measure on
    clean rows.
    """
    present = [name for name in PAIRED if _has(records, [name])]
    kinds = [("clean", name) for name in present] or [(name, "accuracy") for name in SETS]
    groups = by_variant(records)
    first, *others = groups
    rivals = []
    for test_set, measure in kinds:
        sign = 1 if measure in LOWER_IS_BETTER else -1
        rows = [row for row in summarise(records) if row.test_set == test_set and not row.leaky]
        means = {row.label: sign * row.moments(measure)[0] for row in rows if row.label in others}
        best = sorted(means, key=lambda label: means[label])[:RIVALS]
        some = [record for label in (first, *best) for record in groups[label]]
        rivals.append(paired_comparisons(some, test_sets=[test_set], measures=[measure]))
    return rivals


def results_json(
    rows: Sequence[SummaryRow], comparisons: Sequence[PairedComparison], **rest: Any
) -> dict[str, Any]:
    """Make the object of ``run --json``: a row per variant and test set, and the rest."""
    results = [row.as_dict() for row in rows]
    pairs = [pair.as_dict() for pair in comparisons]
    return dict(plain({**rest, "results": results, "comparisons": pairs}))


def measures_json(
    rows: Sequence[SummaryRow], comparisons: Sequence[PairedComparison], **rest: Any
) -> dict[str, Any]:
    """Make the object of ``run --json`` for scores: moments and values, paired differences."""
    fields = ("dataset", "method", "variant", "test_set", "seconds_per_run")
    results = []
    for row in rows:
        measures = {}
        for name, values in row.values.items():
            mean, variance, deviation = row.moments(name)
            measures[name] = {"mean": mean, "var": variance, "std": deviation, "values": values}
        results.append({name: getattr(row, name) for name in fields} | {"measures": measures})
    pairs = [pair.as_dict() for pair in comparisons]
    return dict(plain({**rest, "results": results, "comparisons": pairs}))


def comparison_json(records: Sequence[RunRecord], *, how: str) -> dict[str, Any]:
    """Make the object of ``compare``: results, paired comparisons, ranks, published figures.

    Accuracies are fractions; published ones are in percent, as published. NaN is null.
    """
    pairs: list[PairedComparison] = []
    scores: list[dict[str, Any]] = []
    published: list[comparison.PublishedFigure] = []
    for dataset, some in by_dataset(records).items():
        published += comparison.published_figures(dataset=dataset)
        pairs += paired_comparisons(some, test_sets=SETS)
        if not _has(some, ["accuracy"]):
            pairs += paired_comparisons(some, test_sets=["clean"], measures=PAIRED)
        scores += [
            {
                "dataset": dataset,
                "method": label,
                "test_set": test_set,
                "task": task,
                "scores": mean_scores(group, test_set=test_set, task=task),
            }
            for label, group in by_variant(some).items()
            for test_set, tasks in group[0].scores.items()
            for task in tasks
        ]
    content = {
        "how": how,
        "versions": records[0].versions,
        "protocol": records[0].protocol,
        "results": [row.as_dict() for row in summarise(records)],
        "comparisons": [pair.as_dict() for pair in pairs],
        "uncertainty": scores,
        "ranks": {name: asdict(rank) for name, rank in comparison.rankings(records).items()},
        "published": [asdict(figure) for figure in published],
    }
    return dict(plain(content))
