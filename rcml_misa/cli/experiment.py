"""The command `experiment`: a TOML file of data sets and methods becomes a committed table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
from annotated_types import Interval, MinLen

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import write_texts
from rcml_misa.cli.session import run_session
from rcml_misa.exceptions import DataError, OptionError, validated

if TYPE_CHECKING:
    from rcml_misa.datasets import FileOptions
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.results import RunRecord

__all__ = ["experiment", "read_plan"]


@dataclass(frozen=True, kw_only=True)
class _File:
    """Keys of an experiment's file."""

    datasets: Annotated[list[str], MinLen(1)] = field(
        metadata={"hint": "give names: datasets = ['digits']."}
    )
    methods: Annotated[list[Any], MinLen(1)] = field(
        metadata={"hint": "give names: methods = ['lda']."}
    )
    title: str | None = None
    runs: int = 10
    seed: int = 0
    protocol: Any = field(default_factory=dict)
    task: str | None = None
    files: Any = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Method:
    """Keys of one method of the file."""

    method: str = field(metadata={"hint": "give method = NAME."})
    variant: str | None = None
    preset: str = "default"
    set: dict[str, Any] = field(
        default_factory=dict, metadata={"hint": "give a table, such as set = { C = 1.0 }."}
    )
    grid: dict[str, list[Any]] = field(
        default_factory=dict, metadata={"hint": "give lists, such as grid = { C = [1.0, 10.0] }."}
    )
    label: str | None = None
    figure: Annotated[float, Interval(ge=0, le=1)] | None = field(
        default=None, metadata={"hint": "give a fraction, such as 0.76."}
    )
    keep: list[str] = field(
        default_factory=list, metadata={"hint": "give names of views: keep = ['a']."}
    )


@dataclass(frozen=True)
class Entry:
    """Configured method of an experiment: recipe, its grid's values, a published accuracy."""

    recipe: Recipe
    setting: str = ""
    figure: float | None = None


@dataclass(frozen=True)
class Plan:
    """Content of an experiment's file, checked; `files` says how the user's own are read."""

    title: str
    datasets: Sequence[str]
    entries: Sequence[Entry]
    repeats: opt.Repeats
    protocol: Protocol
    files: FileOptions
    task: str | None = None


def read_plan(file: Path) -> Plan:
    """Read and check an experiment's file; it raises `DataError` or `OptionError`."""
    from rcml_misa.datasets import FileOptions
    from rcml_misa.protocols import Protocol

    opt.importable_here()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror}); give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not TOML: {error}.") from error
    plan = validated(_File, content, where=str(file), error=OptionError)
    where = f"{file}: protocol"
    protocol = validated(Protocol, plan.protocol, where=where, error=OptionError)
    files = validated(FileOptions, plan.files, where=f"{file}: files", error=OptionError)
    regression = opt.DataOptions(task=plan.task).predicts_scores(plan.datasets)
    entries = tuple(made for method in plan.methods for made in _entries(method, file, regression))
    names = [(entry.recipe.method, entry.recipe.variant) for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"{file} has {' '.join(name)} twice; give each its own label.")
    title, repeats = plan.title or file.stem, opt.Repeats(plan.runs, plan.seed)
    return Plan(title, plan.datasets, entries, repeats, protocol, files, plan.task)


def _entries(entry: Any, file: Path, regression: bool) -> Iterator[Entry]:
    """Configure one method of the file: a name, or a table with its options and their grid."""
    from rcml_misa.estimators.registry import METHODS, recipe

    if isinstance(entry, str):
        for name in METHODS if entry == "all" else [entry]:
            yield Entry(recipe(name, regression=regression))
        return
    method = validated(_Method, entry, where=f"{file}: a method", error=OptionError)
    fixed = [f"{key}={_text(value)}" for key, value in method.set.items()]
    for values in product(*method.grid.values()):
        setting = [f"{key}={_text(value)}" for key, value in zip(method.grid, values, strict=True)]
        made = recipe(
            method.method,
            variant=method.variant,
            preset=method.preset,
            options=[*fixed, *setting],
            regression=regression,
        )
        # configurations of one method stay apart by what was set
        changed = fixed or setting or method.keep
        names = [made.variant] if made.variant != "-" or not changed else []
        names += [f"only {' '.join(method.keep)}"] if method.keep else []
        words = [*names, *fixed] if method.label is None else [method.label]
        variant = " ".join([*words, *setting])
        made = replace(made, variant=variant, keep=tuple(method.keep))
        yield Entry(made, " ".join(setting), method.figure)


def _text(value: Any) -> str:
    """Write a TOML value as ``--set`` takes it."""
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@opt.keeping_options("Folder for the page, the runs' csv and records.  [default: beside FILE]")
@opt.value("--runs", "R", "Instead of the file's number of runs.", int)
@opt.value("--seed", "S", "Instead of the file's first seed.", int)
@opt.workers_options
@opt.data_options("folder")
@opt.flag("--full", "Print every table, of FILE.csv without any run where that has all runs.")
@opt.flag("--from-csv", "Make the page of FILE.csv as it is; nothing runs.")
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
) -> None:
    """Run FILE's grid of data sets and methods; write FILE's name with .md and .csv.

    The csv holds every measure of every run; the page of at most 60 lines holds the overview, who
    wins, and the paired differences of the first method to its strongest rivals. --full prints
    all tables: every method on each data set, all paired differences, ranks, uncertainty.
    """
    from rcml_misa.reporting import experiment_page
    from rcml_misa.results import runs_csv

    plan = read_plan(file)
    given = {"runs": runs, "seed": seed}
    repeats = replace(
        plan.repeats, **{name: number for name, number in given.items() if number is not None}
    )
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
