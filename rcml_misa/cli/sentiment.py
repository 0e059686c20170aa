"""What `run` and `ablate` do for sets of sentiment scores: load for a task, show the measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset, FileOptions
    from rcml_misa.protocols import Protocol
    from rcml_misa.results import RunRecord
    from rcml_misa.runs.outputs import RunOutputs

__all__ = ["load_for_task", "run_outputs", "show_measures", "split_name"]


def load_for_task(
    name: str,
    task: str | None,
    *,
    split: str | None = None,
    keep: str | None = None,
    data_dir: Path | None = None,
    options: FileOptions | None = None,
) -> Dataset:
    """Load a data set, with the target of the task and the views that are kept.

    Raises
    ------
    OptionError, DataError
        If there is no such set, task, split or view.
    """
    from rcml_misa.datasets import as_task, load_dataset
    from rcml_misa.runs import keep_views
    from rcml_misa.views import check_target

    dataset = load_dataset(name, data_dir=data_dir, split=split, options=options)
    if task is not None or dataset.scores is not None:
        dataset = as_task(dataset, task or "3")
    if keep is not None:
        dataset = keep_views(dataset, tuple(part.strip() for part in keep.split(",")))
    if dataset.task == "classification":
        check_target(dataset.target, dataset.classes)
    # records of other tasks, splits and views must not be taken for each other's
    named = [task or "3"] if dataset.scores is not None else []
    named += [one for one in (split, "+".join(dataset.views.names) if keep else None) if one]
    return replace(dataset, name="-".join([dataset.name, *named]))


def run_outputs(
    out: Path | None, *, per_epoch: bool, samples: bool, features: bool, keep: str | None = None
) -> RunOutputs | None:
    """What a run is asked to leave behind; None for its record alone.

    Raises
    ------
    OptionError
        If there is no folder for it, or there is nothing of that name to keep.
    """
    from rcml_misa.exceptions import OptionError
    from rcml_misa.runs.outputs import RunOutputs, parse_keep

    kept = parse_keep(keep)
    asked = {
        "--per-epoch": per_epoch,
        "--save-samples": samples,
        "--save-features": features,
        "--keep": bool(kept),
    }
    named = [option for option, wanted in asked.items() if wanted]
    if not named:
        return None
    if out is None:
        raise OptionError(f"{named[0]} needs a folder to write to; add --out DIR.")
    return RunOutputs(
        folder=out, per_epoch=per_epoch, samples=samples, features=features, keep=kept
    )


def split_name(dataset: Dataset, protocol: Protocol) -> str:
    """Put the protocol of a data set in words, for a table's heading."""
    settled = protocol.for_dataset(dataset)
    if settled.split != "given" or dataset.folds is None:
        return settled.describe()
    counts = {name: len(rows) for name, rows in dataset.folds.items()}
    parts = ", ".join(f"{count} {name}" for name, count in counts.items())
    drawn = "" if "valid" in counts else f", validation groups drawn from {dataset.valid_from}"
    return ", ".join([f"given split ({parts} rows{drawn})", *settled.changes()])


def show_measures(
    dataset: Dataset,
    records: Sequence[RunRecord],
    *,
    out: Path | None,
    as_json: bool = False,
    seed: int | None = None,
    protocol: Protocol | None = None,
) -> None:
    """Print the measures of all variants and their paired differences; keep them in `out`.

    With a first `seed` a heading is printed too, and the measures on further test sets.
    """
    if not records:
        return
    from rcml_misa.protocols import Protocol
    from rcml_misa.reporting import measures_json, render, tables, terminal_width, wrapped
    from rcml_misa.results import summarise
    from rcml_misa.storage import write_text

    rows = [row for row in summarise(records) if row.test_set == "clean"]
    if out is not None:
        write_text(out / "measures.csv", render([tables.values_table(rows)], "csv") + "\n")
        write_text(out / "measures.md", render([tables.spread_table(rows)], "markdown") + "\n")
    count = max(row.runs for row in rows)
    if as_json:
        every = [row for row in summarise(records) if row.test_set != "valid"]
        made = measures_json(every, dataset=dataset.name, runs=count, seed=seed)
        click.echo(json.dumps(made, allow_nan=False))
        return
    if seed is not None:
        seeds = f"seeds {seed} to {seed + count - 1}"
        how = split_name(dataset, protocol or Protocol())
        heading = f"{dataset.name}: {count} runs, {seeds}, {how}"
        click.echo(wrapped(heading, terminal_width()))
    shown = [tables.measures_table(rows)]
    further = [row for row in summarise(records) if row.test_set not in ("clean", "valid")]
    for name in dict.fromkeys(row.test_set for row in further if seed is not None):
        part = [row for row in further if row.test_set == name]
        shown.append(tables.measures_table(part))
    pairs = tables.paired_comparisons(records, test_sets=["clean"], measures=tables.PAIRED)
    shown += [tables.paired_table(pairs)] if pairs else []
    click.echo("\n" + render(shown, "text", width=terminal_width()))
    if seed is not None:
        where = "not kept; add --out DIR to keep one JSON per run" if out is None else f"{out}"
        click.echo(f"\nrecords: {where}")
