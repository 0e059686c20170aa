"""The command `compare`: many methods on many data sets, with tests, ranks and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcml_misa.cli.files import file_options
from rcml_misa.cli.protocol import protocol_of, protocol_options

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe
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


@click.command()
@click.option(
    "--datasets",
    default="digits",
    show_default=True,
    metavar="NAME[,NAME]",
    help="Data sets, see `rcml-misa datasets`, or files of your own.",
)
@click.option(
    "--methods",
    default="all",
    show_default=True,
    metavar="all|NAME[,NAME]",
    help="Methods, the first being compared with each other one.",
)
@click.option("--runs", default=10, show_default=True, metavar="R", help="Runs per method.")
@click.option("--seed", default=0, show_default=True, metavar="S", help="Run r uses seed S + r.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"])
)
@click.option("--jobs", type=int, metavar="J", help="Worker processes.  [default: all cores]")
@click.option(
    "--format",
    "form",
    default="text",
    show_default=True,
    type=click.Choice(["text", "markdown", "latex", "html", "csv", "json"]),
    help="What is printed.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write compare.txt, .md, .tex, .html, .csv and .json here, and figures where matplotlib "
    "is.",
)
@click.option(
    "--records",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep a JSON record per run here, and skip the runs that are here already.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to look in for data files first.",
)
@file_options
@protocol_options
@click.option("--report-uncertainty", is_flag=True, help="Add the tables of uncertainty scores.")
@click.pass_context
def compare(
    ctx: click.Context,
    datasets: str,
    methods: str,
    runs: int,
    seed: int,
    device: str,
    jobs: int | None,
    form: Form,
    out: Path | None,
    records: Path | None,
    data_dir: Path | None,
    target: str | None,
    view_spec: str | None,
    id_name: str | None,
    report_uncertainty: bool,
) -> None:
    """Compare methods over data sets on shared splits.

    A table per data set, paired tests of the first method against each other one, ranks over the
    data sets with Friedman's and Nemenyi's tests, and published figures in a column of their own.
    Progress goes to stderr, the tables to stdout.
    """
    from rcml_misa.cli.grid import run_grid
    from rcml_misa.cli.session import check_numbers, importable_here

    check_numbers(runs=(runs, 1), seed=(seed, 0), jobs=(jobs, 1))
    from rcml_misa.cli.sentiment import load_for_task
    from rcml_misa.datasets import FileOptions, list_datasets
    from rcml_misa.reporting import experiment_tables, terminal_width
    from rcml_misa.results import RunStore

    protocol = protocol_of(ctx)
    importable_here()
    recipes = _recipes(methods, device)
    names = list(dict.fromkeys(part.strip() for part in datasets.split(",")))
    known = {entry.name for entry in list_datasets()}
    own = FileOptions(target=target, views=view_spec, id=id_name)
    sets = [
        load_for_task(name, None, data_dir=data_dir, options=None if name in known else own)
        for name in names
    ]
    if out is not None:
        RunStore(out)  # fails now rather than after the runs
    session = run_grid(
        sets,
        recipes,
        runs=runs,
        seed=seed,
        protocol=protocol,
        records=records,
        jobs=jobs,
        cells=True,
    )
    if session.records:
        tables = experiment_tables(session.records, uncertainty=report_uncertainty)
        rules = dict.fromkeys(protocol.for_dataset(dataset).describe() for dataset in sets)
        how = f"seeds {seed} to {seed + runs - 1}, {'; '.join(rules)}"
        if out is not None:
            _write(out, tables, session.records, how)
        click.echo(_shown(form, tables, session.records, how, width=terminal_width()))
    ctx.exit(session.status)


def _recipes(methods: str, device: str) -> list[Recipe]:
    """Configure the methods, each in its recommended variant."""
    from rcml_misa.estimators.registry import METHODS, find_method, recipe

    given = list(dict.fromkeys(part.strip() for part in methods.split(",")))
    names = [name for one in given for name in (METHODS if one == "all" else [one])]
    return [
        recipe(name, variant=find_method(name).compared[0], device=device)
        for name in dict.fromkeys(names)
    ]


def _shown(
    form: Form, tables: list[Table], records: list[RunRecord], how: str, *, width: int
) -> str:
    """Put the comparison in one form."""
    from rcml_misa.reporting import comparison_json, html_page, render, wrapped
    from rcml_misa.reporting.tables import summary_table
    from rcml_misa.results import summarise

    if form == "csv":
        return render([summary_table(summarise(records))], "csv")
    if form == "json":
        return json.dumps(comparison_json(records, how=how), allow_nan=False)
    if form == "html":
        return html_page(f"Comparison: {how}", tables).rstrip()
    heading = wrapped(how, width) if form == "text" else how
    if form == "latex":
        heading = f"% {how}; the tables need the package booktabs"
    return f"{heading}\n\n{render(tables, form, width=width)}"


def _write(out: Path, tables: list[Table], records: list[RunRecord], how: str) -> None:
    """Write every form, and the figures where they can be drawn."""
    from rcml_misa.reporting import PAGE_WIDTH
    from rcml_misa.reporting.diagrams import draw_all
    from rcml_misa.storage import write_text

    for form, ending in ENDINGS.items():
        text = _shown(form, tables, records, how, width=PAGE_WIDTH)
        write_text(out / f"compare{ending}", text + "\n")
    drawn = draw_all(records, out)
    files = f"compare{', '.join(ENDINGS.values())} in {out}"
    click.echo(f"written: {', '.join([files, *(path.name for path in drawn)])}", err=True)
