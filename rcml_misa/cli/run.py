"""The commands `run` and `plot`: R runs of each variant on one data set; figures of runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, echo_json, write_texts
from rcml_misa.cli.session import run_session
from rcml_misa.exceptions import OptionError

if TYPE_CHECKING:
    from rcml_misa.cli.session import Session
    from rcml_misa.datasets import Dataset
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.reporting import Table
    from rcml_misa.runs.tasks import RunOutputs

__all__ = ["plot", "protocol_text", "run", "show_results"]

WHAT = ("losses", "subspaces", "attention", "conflict", "uncertainty", "calibration")
_PANEL = "A second panel for subspaces, such as the same without regularisers."


def _outputs(
    per_epoch: bool, save_samples: bool, save_features: bool, keep: str | None
) -> RunOutputs:
    """Gather what each run leaves beside its record."""
    from rcml_misa.runs.tasks import RunOutputs, parse_keep

    return RunOutputs(None, per_epoch, save_samples, save_features, parse_keep(keep))


def _check_outputs(outputs: RunOutputs, keeping: opt.Keeping) -> None:
    """Refuse files of a run where there is no folder for them."""
    asked = (outputs.per_epoch, outputs.samples, outputs.features, outputs.keep)
    options = ("--per-epoch", "--save-samples", "--save-features", "--keep")
    for option in compress(options, asked):
        if keeping.folder is None:
            raise OptionError(f"{option} needs a folder to write to; add --out DIR.")


def _list_methods(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from rcml_misa.estimators.registry import METHODS

        for spec in METHODS.values():
            click.echo(f"{spec.name:30}{spec.summary}")
        ctx.exit()


_KEEP = "For `plot`: history, codes, attention, opinions, or all."
_METHODS = "Methods to run; see --list-methods."
_COLLECTORS = (
    "Shared tokens' collectors of rcml-misa: separate, tied, tied-mean, private.  "
    "[default: separate,tied; tied-mean for a regression]"
)


@click.command()
@opt.dataset_option
@opt.data_options("file", "task", "split", "folder")
@opt.value("--method methods", "NAME[,NAME]", _METHODS, default="rcml-misa")
@opt.value("--collectors", "A[,B]", _COLLECTORS)
@opt.value("--preset", "default|notes", default="default")
@opt.method_options
@opt.repeats_options
@opt.workers_options
@opt.together(
    "outputs",
    _outputs,
    (
        opt.flag("--per-epoch", "Score all rows after each epoch, into the records' history."),
        opt.flag("--save-samples", "Write each test row's answer, a CSV per run."),
        opt.flag("--save-features", "Write private, shared and fused features, an npz per run."),
        opt.value("--keep", "WHAT[,WHAT]", _KEEP),
    ),
)
@opt.keeping_options("Write summary.csv and summary.md here, and a JSON record per run.")
@opt.protocol_options
@opt.flag("--report-uncertainty", "Add calibration and detection.")
@opt.json_option
@click.option(
    "--list-methods",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_methods,
    help="List the methods and exit.",
)
@click.pass_context
def run(
    ctx: click.Context,
    name: str,
    data: opt.DataOptions,
    methods: str,
    collectors: str | None,
    preset: str,
    settings: opt.MethodOptions,
    repeats: opt.Repeats,
    workers: opt.Workers,
    outputs: RunOutputs,
    keeping: opt.Keeping,
    protocol: Protocol,
    report_uncertainty: bool,
    as_json: bool,
) -> None:
    """Train every variant on R splits; score clean and conflictive test rows.

    Variants share the splits. Nothing is selected on test rows: the last step counts, or an
    epoch that was chosen on validation rows, unless --selection says otherwise. A data set with
    a given split keeps it, unless --split says otherwise. A method is a name of --list-methods or
    module:Class, any scikit-learn classifier of your own.
    """
    _check_outputs(outputs, keeping)
    recipes = _recipes(
        methods, settings, collectors, preset=preset, regression=data.predicts_scores([name])
    )
    dataset = data.load(name)
    session = run_session(
        [dataset],
        recipes,
        repeats,
        workers=workers,
        keeping=keeping,
        protocol=protocol,
        outputs=outputs,
    )
    show_results(
        dataset,
        session,
        repeats,
        heading=", ".join([protocol_text(dataset, protocol), *settings.options]),
        keeping=keeping,
        as_json=as_json,
        uncertainty=report_uncertainty,
    )
    ctx.exit(session.status)


def _recipes(
    methods: str,
    settings: opt.MethodOptions,
    collectors: str | None,
    *,
    preset: str,
    regression: bool,
) -> list[Recipe]:
    """Configure every variant that the options ask for."""
    from rcml_misa.estimators.registry import find_method

    recipes = []
    for name in opt.words(methods):
        spec = find_method(name)
        variants: Sequence[str | None] = spec.run_unnamed(regression=regression)
        if collectors is not None and spec.variant_parameter == "collectors":
            variants = opt.words(collectors)
        elif collectors is not None and "," not in methods:
            raise OptionError(f"method {name} has no collectors; leave --collectors out.")
        if any(option.startswith(f"{spec.variant_parameter}=") for option in settings.options):
            variants = [None]  # named by --set
        recipes += [
            settings.recipe(name, variant=variant, preset=preset, regression=regression)
            for variant in variants
        ]
    return recipes


def protocol_text(dataset: Dataset, protocol: Protocol) -> str:
    """Put the protocol of a data set in words, for a table's heading."""
    settled = protocol.for_dataset(dataset)
    if settled.split != "given" or dataset.folds is None:
        return settled.describe()
    counts = {name: len(rows) for name, rows in dataset.folds.items()}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    drawn = ""
    if "valid" not in counts and dataset.valid_from is not None:
        drawn = f", validation groups drawn from {dataset.valid_from}"
    return ", ".join([f"given split ({parts} rows{drawn})", *settled.changes()])


def show_results(
    dataset: Dataset,
    session: Session,
    repeats: opt.Repeats,
    *,
    heading: str,
    keeping: opt.Keeping,
    as_json: bool = False,
    uncertainty: bool = False,
    measures_alone: bool = False,
) -> None:
    """Print the tables of one data set's runs, or one JSON object; write them beside the records.

    Classes have a ``summary``, sets of scores have ``measures``, both as .csv and .md. With
    `measures_alone`, every measure stands in place of the accuracy of each run. An interrupted
    session has no tables.
    """
    from rcml_misa.reporting import (
        details,
        measures_json,
        render,
        results_json,
        tables,
        terminal_width,
    )
    from rcml_misa.results import summarise

    rows = summarise(session.records)
    if session.interrupted or not rows:
        return
    scored = [row for row in rows if row.test_set != "valid"]
    clean = [row for row in scored if row.test_set == "clean"]
    # sentiment has measures beside the accuracy, other classes have not
    classes = dataset.task == "classification" and not (
        measures_alone and dataset.scores is not None
    )
    facts: dict[str, Any] = {"dataset": dataset.name, "seed": repeats.seed}
    measured = tables.paired_comparisons(
        session.records, test_sets=["clean"], measures=tables.PAIRED
    )
    shown: list[Table] = []
    texts: dict[str, str] = {}
    if classes:
        pairs = tables.paired_comparisons(session.records)
        shown = [tables.runs_table(rows), tables.moments_table(rows)]
        shown += [tables.paired_table(pairs)] if pairs else []
        texts["summary.csv"] = render([tables.summary_table(rows)], "csv")
        texts["summary.md"] = render(shown[1:], "markdown")
        record = results_json(rows, pairs, runs=min(row.runs for row in rows), **facts)
    else:
        record = measures_json(scored, measured, runs=max(row.runs for row in clean), **facts)
    if not classes or dataset.scores is not None:
        named = clean if classes else scored
        for test_set in dict.fromkeys(row.test_set for row in named):
            shown.append(tables.measures_table([row for row in named if row.test_set == test_set]))
        shown += [tables.paired_table(measured)] if measured else []
        texts["measures.csv"] = render([tables.values_table(clean)], "csv")
        texts["measures.md"] = render([tables.spread_table(clean)], "markdown")
    if uncertainty and classes:
        detection = details.detection_table(rows)
        shown += [] if detection is None else [detection]
        shown += details.robustness_tables(dataset.name, session.records)
        shown += details.uncertainty_tables(dataset.name, session.records)
    if keeping.out is not None:
        write_texts(keeping.out, texts)
    if as_json:
        echo_json(record)
        return
    count = max(row.runs for row in rows)
    runs = f"1 run, seed {repeats.seed}"
    if count > 1:
        runs = f"{count} runs, seeds {repeats.seed} to {repeats.seed + count - 1}"
    echo(f"{dataset.name}: {runs}, {heading}")
    click.echo(f"\n{render(shown, 'text', width=terminal_width())}\n")
    files = "not kept; add --out DIR to keep one JSON per run and the tables"
    if keeping.folder is not None:
        files = f"{keeping.folder} (one JSON per run)"
        files += "" if keeping.out is None else f"; tables: {keeping.out} ({', '.join(texts)})"
    echo(f"records: {files}")


@click.command()
@click.argument("path", metavar="RUN", type=opt.PATH)
@opt.value("--what", "|".join(WHAT), "The figure.", click.Choice(WHAT), required=True)
@opt.value("--out", "FILE", "Ends in .svg, .pdf or .png.", opt.PATH, default="figure.svg")
@opt.value("--variant", "NAME", "Which runs of a folder that holds several kinds.")
@opt.value("--against others", "RUN", _PANEL, opt.PATH, multiple=True)
def plot(path: Path, what: str, out: Path, variant: str | None, others: tuple[Path, ...]) -> None:
    """Draw a figure of RUN: a record, or the folder that `run --out` filled.

    Runs keep what figures need where `run --keep` asks for it: history for losses, codes for
    subspaces, attention, and opinions for conflict, uncertainty and calibration. A folder's runs
    of one variant are drawn together.
    """
    from rcml_misa.reporting.figures import check_name, draw, find_runs, in_style, save
    from rcml_misa.storage import check_writable

    check_name(out)
    check_writable(out, remedy=opt.WRITABLE)
    with in_style():
        runs = [find_runs(run, variant=variant) for run in (*others, path)]
        save(draw(what, runs), out)
    click.echo(f"written: {out}")
