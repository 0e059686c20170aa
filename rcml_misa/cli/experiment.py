"""The command `experiment`: a TOML file of data sets and methods becomes a committed table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcml_misa.bounds import check_total
from rcml_misa.cli import options as opt
from rcml_misa.cli.console import write_texts
from rcml_misa.cli.plans import Plan, read_plan
from rcml_misa.cli.session import run_session
from rcml_misa.exceptions import DataError, OptionError

if TYPE_CHECKING:
    from rcml_misa.results import RunRecord

__all__ = ["experiment"]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@opt.keeping_options("Folder for the page, the runs' csv and records.  [default: beside FILE]")
@opt.value("--runs", "R", "Instead of the file's number of runs.", int)
@opt.value("--seed", "S", "Instead of the file's first seed.", int)
@opt.workers_options
@opt.data_options("folder")
@opt.flag("--full", "Print every table, of FILE.csv without any run where that has all runs.")
@opt.flag("--from-csv", "Make the page of FILE.csv as it is; nothing runs.")
@opt.code_option
@click.pass_context
def experiment(
    ctx: click.Context,
    file: Path,
    keeping: opt.Keeping,
    runs: int | None,
    seed: int | None,
    workers: opt.Workers,
    data: opt.DataOptions,
    full: bool,
    from_csv: bool,
    allow_code: bool,
) -> None:
    """Run FILE's grid of data sets and methods; write FILE's name with .md and .csv.

    The csv holds every measure of every run; the page of at most 60 lines holds the overview, who
    wins, and the paired differences of the first method to its strongest rivals. --full prints
    all tables: every method on each data set, all paired differences, ranks, uncertainty.
    """
    from rcml_misa.reporting import experiment_page
    from rcml_misa.results import runs_csv

    plan = read_plan(file, allow_code=allow_code)
    given = {"runs": runs, "seed": seed}
    repeats = replace(
        plan.repeats, **{name: number for name, number in given.items() if number is not None}
    )
    check_total(datasets=len(plan.datasets), variants=len(plan.entries), runs=len(repeats.seeds))
    place = keeping.out or file.parent
    keeping = replace(keeping, out=place)  # what is interrupted goes on in any case
    table = place / f"{file.stem}.csv"
    status = 0
    if not from_csv and not (full and _is_complete(plan, table, repeats)):
        datasets = data.with_files(plan.files, task=plan.task).load_all(plan.datasets)
        if table.resolve() in [Path(name).resolve() for name in plan.datasets]:
            raise OptionError(
                f"{file} would replace its data set {table} by its table; give another folder with "
                "--out."
            )
        recipes = [entry.recipe for entry in plan.entries]
        session = run_session(
            datasets,
            recipes,
            repeats,
            workers=workers,
            keeping=keeping,
            protocol=plan.protocol,
        )
        status = session.status
        if session.interrupted or not session.records:
            ctx.exit(status)
        write_texts(place, {table.name: runs_csv(_ordered(plan, session.records))})
    page = experiment_page(
        _ordered(plan, _runs_in(table)),
        title=plan.title,
        command=f"{file}",
        how=plan.protocol.describe(),
        full=full,
        stated={entry.recipe.label: (entry.setting, entry.figure) for entry in plan.entries},
    )
    click.echo(page)
    if not full:
        write_texts(place, {f"{file.stem}.md": page})
        click.echo(f"written: {place / file.stem}.md{'' if from_csv else ' and .csv'}")
    ctx.exit(status)


def _runs_in(table: Path) -> list[RunRecord]:
    """Read the table of an experiment's runs."""
    from rcml_misa.results import read_runs_csv

    try:
        return read_runs_csv(table.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} can't be read ({error}); run the experiment first.") from error


def _is_complete(plan: Plan, table: Path, repeats: opt.Repeats) -> bool:
    """Whether a table has every run of the plan."""
    try:
        records = _runs_in(table)
    except DataError:
        return False  # there is none, or an earlier version wrote it
    done = {(record.dataset, record.method, record.variant, record.seed) for record in records}
    return all(
        any((name, recipe.method, recipe.variant, seed) in done for name in _names(plan, dataset))
        for dataset in plan.datasets
        for recipe in (entry.recipe for entry in plan.entries)
        for seed in repeats.seeds
    )


def _names(plan: Plan, dataset: str) -> set[str]:
    """Names that records may give a data set: of a file its last part, with the task of scores."""
    name = Path(dataset).name
    return {name, f"{name}-{plan.task or '3'}"}


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
