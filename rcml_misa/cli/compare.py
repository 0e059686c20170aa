"""The command `compare`: many methods on many data sets, with tests, ranks and figures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, write_texts
from rcml_misa.cli.session import run_session

if TYPE_CHECKING:
    from rcml_misa.protocols import Protocol
    from rcml_misa.reporting import Form, Table
    from rcml_misa.results import RunRecord

__all__ = ["compare"]

#: Form of the comparison to the ending of its file.
ENDINGS: dict[Form, str] = {
    "text": ".txt",
    "markdown": ".md",
    "latex": ".tex",
    "html": ".html",
    "csv": ".csv",
    "json": ".json",
}
_DATASETS = "Data sets, see `rcml-misa datasets`, or files of your own."
_METHODS = "Methods, the first being compared with each other one."


@click.command()
@opt.value("--datasets", "NAME[,NAME]", _DATASETS, default="digits")
@opt.data_options("file", "task", "folder")
@opt.value("--methods", "all|NAME[,NAME]", _METHODS, default="all")
@opt.method_options
@opt.repeats_options
@opt.workers_options
@opt.value("--format form", None, "What is printed.", click.Choice(list(ENDINGS)), default="text")
@opt.keeping_options(
    f"Write compare{', '.join(ENDINGS.values())} here, figures where matplotlib is, and records."
)
@opt.protocol_options
@opt.flag("--report-uncertainty", "Add the tables of uncertainty scores.")
@click.pass_context
def compare(
    ctx: click.Context,
    datasets: str,
    data: opt.DataOptions,
    methods: str,
    settings: opt.MethodOptions,
    repeats: opt.Repeats,
    workers: opt.Workers,
    form: Form,
    keeping: opt.Keeping,
    protocol: Protocol,
    report_uncertainty: bool,
) -> None:
    """Compare methods over data sets on shared splits.

    A table per data set, paired tests of the first method against each other one, ranks over the
    data sets with Friedman's and Nemenyi's tests, and published figures in a column of their own.
    Progress goes to stderr, the tables to stdout.
    """
    from rcml_misa.reporting import PAGE_WIDTH, experiment_tables, terminal_width
    from rcml_misa.reporting.figures import draw_all

    names = opt.words(datasets)
    recipes = settings.recommended(methods, regression=data.predicts_scores(names))
    sets = data.load_all(names)
    session = run_session(
        sets, recipes, repeats, workers=workers, keeping=keeping, protocol=protocol, cells=True
    )
    if session.records and not session.interrupted:
        tables = experiment_tables(session.records, uncertainty=report_uncertainty)
        rules = dict.fromkeys(protocol.for_dataset(dataset).describe() for dataset in sets)
        seeds = f"seeds {repeats.seeds[0]} to {repeats.seeds[-1]}"
        how = f"{seeds}, {'; '.join(rules)}"
        if (out := keeping.out) is not None:
            texts = {
                f"compare{ending}": _shown(kind, tables, session.records, how, width=PAGE_WIDTH)
                for kind, ending in ENDINGS.items()
            }
            write_texts(out, texts)
            drawn = [path.name for path in draw_all(session.records, out)]
            files = f"compare{', '.join(ENDINGS.values())} in {out}"
            echo(f"written: {', '.join([files, *drawn])}", err=True)
        click.echo(_shown(form, tables, session.records, how, width=terminal_width()))
    ctx.exit(session.status)


def _shown(
    form: Form, tables: list[Table], records: list[RunRecord], how: str, *, width: int
) -> str:
    """Put the comparison in one form."""
    from rcml_misa.reporting import comparison_json, html_page, render, wrapped
    from rcml_misa.reporting.tables import summary_table, values_table
    from rcml_misa.results import summarise

    if form == "csv":
        rows = summarise(records)
        table = summary_table if any(row.accuracy for row in rows) else values_table
        return render([table(rows)], "csv")
    if form == "json":
        return json.dumps(comparison_json(records, how=how), allow_nan=False)
    if form == "html":
        return html_page(f"Comparison: {how}", tables).rstrip()
    heading = wrapped(how, width) if form == "text" else how
    if form == "latex":
        heading = f"% {how}; the tables need the package booktabs"
    return f"{heading}\n\n{render(tables, form, width=width)}"
