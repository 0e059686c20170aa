"""The command `experiment`: a TOML file of data sets and methods becomes a committed table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rcml_misa.cli.plan import Plan
    from rcml_misa.results import RunRecord

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
@click.option(
    "--full",
    is_flag=True,
    help="Print every table, made of FILE.csv without running anything where that has all runs.",
)
@click.option(
    "--from-csv",
    is_flag=True,
    help="Make the page of FILE.csv as it is; nothing runs.",
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
    full: bool,
    from_csv: bool,
) -> None:
    """Run FILE's grid of data sets and methods; write FILE's name with .md and .csv.

    The csv holds every measure of every run; the page of at most 60 lines holds the overview, who
    wins, and the paired differences of the first method to its strongest rivals. --full prints
    all tables: every method on each data set, all paired differences, ranks, uncertainty.
    """
    from rcml_misa.cli.grid import run_grid
    from rcml_misa.cli.plan import read_plan
    from rcml_misa.cli.sentiment import load_for_task
    from rcml_misa.cli.session import check_numbers, importable_here
    from rcml_misa.results import RunStore, runs_csv
    from rcml_misa.storage import write_text

    importable_here()
    plan = read_plan(file)
    count = plan.runs if runs is None else runs
    first = plan.seed if seed is None else seed
    check_numbers(runs=(count, 1), seed=(first, 0), jobs=(jobs, 1))
    folder = out or file.parent
    table = folder / f"{file.stem}.csv"
    status = 0
    if not from_csv and not (full and _is_complete(plan, table, seeds=range(first, first + count))):
        datasets = [load_for_task(name, plan.task, data_dir=data_dir) for name in plan.datasets]
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
        status = session.status
        if session.interrupted or not session.records:
            ctx.exit(status)
        write_text(table, runs_csv(_ordered(plan, session.records)))
    page = _page(plan, file, table, full=full)
    click.echo(page)
    if not full:
        write_text(folder / f"{file.stem}.md", page)
        click.echo(f"written: {folder / file.stem}.md{'' if from_csv else ' and .csv'}")
    ctx.exit(status)


def _runs_in(table: Path) -> list[RunRecord]:
    """Read the table of an experiment's runs.

    Raises
    ------
    DataError
        If there is none, or it can't be read.
    """
    from rcml_misa.exceptions import DataError
    from rcml_misa.results import read_runs_csv

    try:
        return read_runs_csv(table.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} can't be read ({error}); run the experiment first.") from error


def _is_complete(plan: Plan, table: Path, *, seeds: range) -> bool:
    """Whether a table has every run of the plan."""
    from rcml_misa.exceptions import DataError

    try:
        records = _runs_in(table)
    except DataError:
        return False  # there is none, or an earlier version wrote it
    done = {(record.dataset, record.method, record.variant, record.seed) for record in records}
    sets = [{name for name, *_ in done} & _names(plan, name) for name in plan.datasets]
    recipes = [entry.recipe for entry in plan.entries]
    return (
        all(sets)
        and {
            (name, recipe.method, recipe.variant, seed)
            for some in sets
            for name in some
            for recipe in recipes
            for seed in seeds
        }
        <= done
    )


def _names(plan: Plan, dataset: str) -> set[str]:
    """Names that records may give a data set: with the task of its scores, or a file's stem."""
    return {dataset, f"{dataset}-{plan.task or '3'}", Path(dataset).stem}


def _ordered(plan: Plan, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Sort records as the plan names data sets and methods, then by seed."""
    names = [_names(plan, dataset) for dataset in plan.datasets]
    labels = [(entry.recipe.method, entry.recipe.variant) for entry in plan.entries]

    def place(record: RunRecord) -> tuple[int, int, int]:
        dataset = next((i for i, some in enumerate(names) if record.dataset in some), len(names))
        label = (record.method, record.variant)
        method = labels.index(label) if label in labels else len(labels)
        return dataset, method, record.seed

    return sorted(records, key=place)


def _page(plan: Plan, file: Path, table: Path, *, full: bool) -> str:
    """Make the page of the table alone, so that it can be made again without the records."""
    from rcml_misa.reporting import experiment_page

    return experiment_page(
        _ordered(plan, _runs_in(table)),
        title=plan.title,
        command=f"{file}",
        how=plan.protocol.describe(),
        full=full,
        stated={entry.recipe.label: (entry.setting, entry.figure) for entry in plan.entries},
    )
