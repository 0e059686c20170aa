"""The command `experiment`: a TOML file of data sets and methods becomes a committed table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe

__all__ = ["experiment"]

KEYS = ("title", "datasets", "methods", "runs", "seed", "reference", "task")
METHOD_KEYS = ("method", "variant", "preset", "set", "keep")


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

    The Markdown holds, per data set, every method's accuracy on clean and conflictive rows, the
    paired differences of the first method against each other one, and the uncertainty table.
    """
    from rcml_misa.cli.sentiment import load_for_task
    from rcml_misa.cli.session import check_numbers, in_order, run_session
    from rcml_misa.measures import summarise_measures
    from rcml_misa.reporting import as_csv
    from rcml_misa.reporting.experiments import experiment_markdown
    from rcml_misa.reporting.measures import measures_csv, measures_page
    from rcml_misa.results import RunStore, summarise, write_atomic
    from rcml_misa.runs import plan_tasks, split_known

    plan = _read(file)
    count = plan.get("runs", 10) if runs is None else runs
    first = plan.get("seed", 0) if seed is None else seed
    check_numbers(runs=(count, 1), seed=(first, 0), jobs=(jobs, 1))
    task = plan.get("task")
    regression = task == "regression"
    recipes = [_recipe(entry, file, regression=regression) for entry in plan["methods"]]
    datasets = [load_for_task(name, task, data_dir=data_dir) for name in plan["datasets"]]
    folder = out or file.parent
    RunStore(folder)  # fails now rather than after the runs
    tasks = plan_tasks(recipes, datasets=len(datasets), runs=count, seed=first)
    known = [] if records is None else RunStore(records).read()
    kept, missing = split_known(datasets, tasks, known)
    session = run_session(datasets, missing, jobs=jobs, out=records)
    found = in_order(datasets, tasks, [*kept, *session.records])
    if found and not session.interrupted:
        title, command = plan.get("title", file.stem), f"{file}"
        if task is None:
            text = experiment_markdown(found, title=title, command=command)
            table = as_csv(summarise(found))
        else:
            text = measures_page(found, title=title, command=command)
            table = measures_csv(summarise_measures(found))
        write_atomic(folder / f"{file.stem}.md", text)
        write_atomic(folder / f"{file.stem}.csv", table)
        click.echo(text)
        click.echo(f"written: {folder / file.stem}.md and .csv")
    ctx.exit(session.status)


def _read(file: Path) -> dict[str, Any]:
    """Read and check the experiment's file."""
    import tomllib

    from rcml_misa.exceptions import DataError, OptionError, nearest

    try:
        plan = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror}); give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not TOML: {error}.") from error
    for key in plan:
        if key not in KEYS:
            raise OptionError(f"{file} has an unknown key {key!r}; {nearest(key, KEYS)}")
    for key in ("datasets", "methods"):
        if not isinstance(plan.get(key), list) or not plan[key]:
            raise OptionError(f"{file} names no {key}; give a list, such as {key} = [...].")
    for name in plan["datasets"]:
        if not isinstance(name, str):
            raise OptionError(f"{file} has the data set {name!r}; give a name in quotes.")
    if not isinstance(plan.get("task", ""), str):
        raise OptionError(f"{file} has task = {plan['task']!r}; give a name in quotes.")
    for key in ("runs", "seed"):
        if key in plan and not isinstance(plan[key], int):
            raise OptionError(f"{file} has {key}={plan[key]!r}; give a whole number.")
    return plan


def _recipe(entry: Any, file: Path, *, regression: bool = False) -> Recipe:
    """Configure one method of the file: a name, or a table with its options."""
    from rcml_misa.estimators.registry import recipe
    from rcml_misa.exceptions import OptionError, nearest

    if isinstance(entry, str):
        return recipe(entry, regression=regression)
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise OptionError(f"{file} has a method without a name: {entry!r}; give method = NAME.")
    for key in entry:
        if key not in METHOD_KEYS:
            known = nearest(key, METHOD_KEYS)
            raise OptionError(f"{file} has an unknown key {key!r} of a method; {known}")
    given = entry.get("set", {})
    if not isinstance(given, dict):
        raise OptionError(f"{file} has set = {given!r}; give a table, such as set = {{ C = 1.0 }}.")
    options = [f"{key}={_text(value)}" for key, value in given.items()]
    found = recipe(
        entry["method"],
        variant=entry.get("variant"),
        preset=entry.get("preset", "default"),
        options=options,
        regression=regression,
    )
    keep = entry.get("keep", [])
    if not isinstance(keep, list) or not all(isinstance(view, str) for view in keep):
        raise OptionError(f'{file} has keep = {keep!r}; give names of views: keep = ["a"].')
    # configurations of one method stay apart by what was set
    names = [found.variant] if found.variant != "-" or not (options or keep) else []
    names += [f"only {' '.join(keep)}"] if keep else []
    return replace(found, variant=" ".join([*names, *options]), keep=tuple(keep))


def _text(value: Any) -> str:
    """Write a TOML value as ``--set`` takes it."""
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
