"""The command `run`: R runs of each variant on one data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcml_misa.cli.files import file_options
from rcml_misa.cli.protocol import protocol_of, protocol_options

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.reporting import Table
    from rcml_misa.results import PairedComparison, RunRecord, SummaryRow

__all__ = ["run"]


@click.command()
@click.option(
    "--dataset",
    "dataset_name",
    default="digits",
    show_default=True,
    metavar="NAME|FILE",
    help="A data set, or a file of your own.",
)
@file_options
@click.option("--runs", default=10, show_default=True, metavar="R", help="Runs per variant.")
@click.option(
    "--method",
    "methods",
    default="rcml-misa",
    show_default=True,
    metavar="NAME[,NAME]",
    help="Methods to run; see --list-methods.",
)
@click.option(
    "--collectors",
    metavar="A[,B]",
    help="Shared tokens' collectors of rcml-misa: separate, tied, tied-mean, private.  "
    "[default: separate,tied; tied-mean for a regression]",
)
@click.option("--preset", default="default", show_default=True, metavar="default|notes")
@click.option("--seed", default=0, show_default=True, metavar="S", help="Run r uses seed S + r.")
@click.option("--epochs", type=int, metavar="E", help="Passes over the train rows.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"])
)
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Set an option.")
@click.option("--jobs", type=int, metavar="J", help="Worker processes.  [default: all cores]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep a JSON record per run, summary.csv and summary.md here.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to look in for data files first.",
)
@click.option(
    "--task",
    metavar="2|3|7|regression",
    help="What is predicted of a set of sentiment scores.  [default: 3]",
)
@click.option("--given-split", metavar="NAME", help="Which of the data set's own splits.")
@click.option("--keep-views", metavar="A[,B]", help="Use these views only.")
@click.option(
    "--per-epoch",
    is_flag=True,
    help="Score train, validation and test rows after each epoch, into the records' history.",
)
@click.option("--save-samples", is_flag=True, help="Write each test row's answer, a CSV per run.")
@click.option(
    "--save-features",
    is_flag=True,
    help="Write each row's private, shared and fused features, an npz per run.",
)
@click.option(
    "--keep",
    metavar="WHAT[,WHAT]",
    help="What `plot` needs: history, codes, attention, opinions, or all.",
)
@protocol_options
@click.option("--report-uncertainty", is_flag=True, help="Add calibration and detection.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--list-methods", is_flag=True, help="List the methods and exit.")
@click.pass_context
def run(
    ctx: click.Context,
    dataset_name: str,
    target: str | None,
    view_spec: str | None,
    id_name: str | None,
    runs: int,
    methods: str,
    collectors: str | None,
    preset: str,
    seed: int,
    epochs: int | None,
    device: str,
    options: tuple[str, ...],
    jobs: int | None,
    out: Path | None,
    data_dir: Path | None,
    task: str | None,
    given_split: str | None,
    keep_views: str | None,
    per_epoch: bool,
    save_samples: bool,
    save_features: bool,
    keep: str | None,
    report_uncertainty: bool,
    as_json: bool,
    list_methods: bool,
) -> None:
    """Train every variant on R random splits; score clean and conflictive test rows.

    Variants share the splits. Nothing is selected on test rows: the last step counts, or an
    epoch that was chosen on validation rows, unless --selection says otherwise. A data set with
    a given split keeps it, unless --split says otherwise. A method is a name of --list-methods or
    module:Class, any scikit-learn classifier of your own.
    """
    from rcml_misa.estimators.registry import METHODS

    if list_methods:
        for spec in METHODS.values():
            click.echo(f"{spec.name:30}{spec.summary}")
        return
    from rcml_misa.cli.session import check_numbers, run_session

    check_numbers(runs=(runs, 1), seed=(seed, 0), jobs=(jobs, 1), epochs=(epochs, 1))
    from rcml_misa.cli.sentiment import load_for_task, run_outputs, show_measures
    from rcml_misa.datasets import FileOptions
    from rcml_misa.reporting import render, results_json, terminal_width, wrapped
    from rcml_misa.reporting.tables import paired_comparisons, summary_table
    from rcml_misa.results import summarise
    from rcml_misa.storage import write_text

    regression = task == "regression"
    protocol = protocol_of(ctx)
    recipes = _recipes(methods, collectors, preset, options, device, epochs, regression=regression)
    outputs = run_outputs(
        out, per_epoch=per_epoch, samples=save_samples, features=save_features, keep=keep
    )
    if device == "cuda":
        from rcml_misa.training import pick_device

        pick_device("cuda")
    given = FileOptions(target=target, views=view_spec, id=id_name)
    dataset = load_for_task(
        dataset_name, task, split=given_split, keep=keep_views, data_dir=data_dir, options=given
    )
    from rcml_misa.runs import plan_tasks

    tasks = plan_tasks(
        recipes, datasets=1, runs=runs, seed=seed, protocol=protocol, outputs=outputs
    )
    session = run_session([dataset], tasks, jobs=jobs, out=out)
    if dataset.task == "regression":
        show_measures(
            dataset, session.records, out=out, as_json=as_json, seed=seed, protocol=protocol
        )
        ctx.exit(session.status)
    rows = summarise(session.records)
    comparisons = paired_comparisons(session.records)
    tables = _tables(rows, comparisons)
    if out is not None and rows:
        write_text(out / "summary.csv", render([summary_table(rows)], "csv") + "\n")
        write_text(out / "summary.md", render(tables[1:], "markdown") + "\n")
    if as_json:
        done = min((row.runs for row in rows), default=0)
        record = results_json(rows, comparisons, dataset=dataset.name, runs=done, seed=seed)
        click.echo(json.dumps(record, allow_nan=False))
    elif rows:
        heading = _heading(dataset, rows, seed, protocol, options)
        click.echo(wrapped(heading, terminal_width()) + "\n")
        click.echo(render(tables, "text", width=terminal_width()))
        if dataset.scores is not None:
            show_measures(dataset, session.records, out=out)
        if report_uncertainty:
            more = _uncertainty(rows, session.records)
            click.echo("\n" + render(more, "text", width=terminal_width()))
        click.echo(_where(out))
    ctx.exit(session.status)


def _recipes(
    methods: str,
    collectors: str | None,
    preset: str,
    options: tuple[str, ...],
    device: str,
    epochs: int | None,
    *,
    regression: bool = False,
) -> list[Recipe]:
    """Configure every variant that the options ask for."""
    from rcml_misa.cli.session import importable_here
    from rcml_misa.estimators.registry import find_method, recipe
    from rcml_misa.exceptions import OptionError

    importable_here()
    recipes = []
    for name in dict.fromkeys(part.strip() for part in methods.split(",")):
        spec = find_method(name)
        variants: list[str | None] = list(spec.run_unnamed(regression=regression))
        if collectors is not None and spec.variant_parameter == "collectors":
            variants = list(dict.fromkeys(part.strip() for part in collectors.split(",")))
        elif collectors is not None and "," not in methods:
            raise OptionError(f"method {name} has no collectors; leave --collectors out.")
        if any(option.startswith(f"{spec.variant_parameter}=") for option in options):
            variants = [None]  # named by --set
        recipes += [
            recipe(
                name,
                variant=variant,
                preset=preset,
                options=options,
                device=device,
                epochs=epochs,
                regression=regression,
            )
            for variant in variants
        ]
    return recipes


def _tables(rows: list[SummaryRow], comparisons: list[PairedComparison]) -> list[Table]:
    """Accuracy of every run, its moments, and the paired differences."""
    from rcml_misa.reporting.tables import moments_table, paired_table, runs_table

    paired = [paired_table(comparisons)] if comparisons else []
    return [runs_table(rows), moments_table(rows), *paired]


def _heading(
    dataset: Dataset,
    rows: list[SummaryRow],
    seed: int,
    protocol: Protocol,
    options: tuple[str, ...],
) -> str:
    from rcml_misa.cli.sentiment import split_name

    count = rows[0].runs
    runs = (
        f"{count} runs, seeds {seed} to {seed + count - 1}" if count > 1 else f"1 run, seed {seed}"
    )
    how = split_name(dataset, protocol)
    told = "".join(f", {option}" for option in options)
    return f"{dataset.name}: {runs}, {how}{told}"


def _uncertainty(rows: list[SummaryRow], records: list[RunRecord]) -> list[Table]:
    """All measures, uncertainty scores and test sets as tables."""
    from rcml_misa.reporting import details

    name = records[0].dataset
    first = details.detection_table(rows)
    rest = details.robustness_tables(name, records) + details.uncertainty_tables(name, records)
    return rest if first is None else [first, *rest]


def _where(out: Path | None) -> str:
    if out is None:
        return "\nrecords: not kept; add --out DIR to keep one JSON per run and the summary"
    return f"\nrecords: {out} (one JSON per run, summary.csv, summary.md)"
