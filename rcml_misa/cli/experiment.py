"""The command `experiment`: a TOML file of data sets and methods becomes a committed table."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["experiment"]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the table and the records' CSV.  [default: beside FILE]",
)
@click.option("--runs", type=int, metavar="R", help="Instead of the file's number of runs.")
@click.option("--seed", type=int, metavar="S", help="Instead of the file's first seed.")
@click.option(
    "--records",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep a JSON record per run here, and skip the runs that are here already.",
)
@click.option("--jobs", type=int, metavar="J", help="Worker processes.  [default: all cores]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to look in for data files first.",
)
@click.pass_context
def experiment(
    ctx: click.Context,
    file: Path,
    out: Path | None,
    runs: int | None,
    seed: int | None,
    records: Path | None,
    jobs: int | None,
    data_dir: Path | None,
) -> None:
    """Run FILE's grid of data sets and methods; write FILE's name with .md and .csv.

    The Markdown holds every method on clean and conflictive rows of each data set, the paired
    differences of the first method against each other one, ranks, and the uncertainty tables.
    """
    from rcml_misa.cli.grid import run_grid
    from rcml_misa.cli.plan import read_plan
    from rcml_misa.cli.sentiment import load_for_task
    from rcml_misa.cli.session import check_numbers, importable_here
    from rcml_misa.reporting import as_csv
    from rcml_misa.reporting.experiments import experiment_markdown
    from rcml_misa.reporting.measures import clean_rows, measures_csv, measures_page
    from rcml_misa.results import RunStore, summarise
    from rcml_misa.storage import write_text

    importable_here()
    plan = read_plan(file)
    count = plan.runs if runs is None else runs
    first = plan.seed if seed is None else seed
    check_numbers(runs=(count, 1), seed=(first, 0), jobs=(jobs, 1))
    datasets = [load_for_task(name, plan.task, data_dir=data_dir) for name in plan.datasets]
    folder = out or file.parent
    RunStore(folder)  # fails now rather than after the runs
    session = run_grid(
        datasets,
        [entry.recipe for entry in plan.entries],
        runs=count,
        seed=first,
        protocol=plan.protocol,
        records=records,
        jobs=jobs,
    )
    if session.records and not session.interrupted:
        if plan.task is None:
            text = experiment_markdown(
                session.records,
                title=plan.title,
                command=f"{file}",
                how=plan.protocol.describe(),
                told={one.recipe.label: (one.setting, one.figure) for one in plan.entries},
            )
            table = as_csv(summarise(session.records))
        else:
            text = measures_page(session.records, title=plan.title, command=f"{file}")
            table = measures_csv(clean_rows(session.records))
        write_text(folder / f"{file.stem}.md", text)
        write_text(folder / f"{file.stem}.csv", table)
        click.echo(text)
        click.echo(f"written: {folder / file.stem}.md and .csv")
    ctx.exit(session.status)
