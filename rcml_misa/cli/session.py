"""One session of runs: progress on stderr, records as runs end, failures, Ctrl-C, status."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcml_misa.cli.console import echo, sentence

if TYPE_CHECKING:
    from rcml_misa.cli.options import Repeats
    from rcml_misa.datasets import Dataset
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.results import RunRecord
    from rcml_misa.runs.tasks import Event, RunOutputs, Task

__all__ = ["Session", "note_presence", "note_reading", "run_session"]


class _Board:
    """A progress bar where stderr is a terminal; with `cells`, a line per finished method."""

    def __init__(self, datasets: Sequence[Dataset], tasks: Sequence[Task], *, cells: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.line = self.bar.add_task("starting", total=len(tasks))
        self.names = [data.name for data in datasets]
        self.planned: Counter[tuple[str, str]] = Counter()
        if cells:
            self.planned.update((self.names[task.dataset], task.recipe.label) for task in tasks)
        self.records: defaultdict[tuple[str, str], list[RunRecord]] = defaultdict(list)

    def show(self, event: Event) -> None:
        """Move the bar on."""
        if event.done:
            self.bar.advance(self.line)
            return
        task = event.task
        text = f"{task.recipe.label} run {task.run + 1}"
        if len(self.names) > 1:
            text = f"{self.names[task.dataset]}, {text}"
        if event.epochs:
            text += f", epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}"
        self.bar.update(self.line, description=text)

    def count(self, record: RunRecord) -> None:
        """Print a line when this record is the last of its method on its data set."""
        from rcml_misa.results import summarise

        label = record.method if record.variant == "-" else f"{record.method} {record.variant}"
        records = self.records[record.dataset, label]
        records.append(record)
        if len(records) != self.planned[record.dataset, label]:
            return
        figures = [
            f"{row.test_set} {100 * row.measures['accuracy']:.2f} %"
            if "accuracy" in row.measures
            else f"{row.test_set} MAE {row.measures['mae']:.3f}"
            for row in summarise(records)
            if row.test_set != "valid"
        ]
        seconds = sum(sum(run.timing.values()) for run in records) / len(records)
        runs = f"{len(records)} run{'s' if len(records) > 1 else ''}"
        self.console.print(
            f"{record.dataset}: {record.label}: {', '.join(figures)} ({runs}, {seconds:.1f} s each)"
        )


@dataclass
class Session:
    """Outcome of a set of tasks: records in their order, a sentence per failed run, Ctrl-C."""

    records: list[RunRecord] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def status(self) -> int:
        """Exit status: 0 done, 1 a run failed, 130 interrupted."""
        return 130 if self.interrupted else int(bool(self.failures))


def note_reading(dataset: Dataset) -> None:
    """Say what was noted in reading a data set, and how raw tables are prepared."""
    from rcml_misa.reading.preparer import describe_preparation

    for note in (*dataset.notes, *describe_preparation(dataset.views)):
        # a sentence that names the file needs no name before it
        echo(f"note: {note if dataset.name in note else f'{dataset.name}: {note}'}", err=True)


def note_presence(dataset: Dataset) -> None:
    """Say once, for all runs, which views' presence depends on the class."""
    import numpy as np

    from rcml_misa.views import judge_presence

    if dataset.task != "classification":
        return
    classes, codes = np.unique(dataset.target, return_inverse=True)
    for verdict in judge_presence(dataset.views, codes):
        labels = [dataset.classes[code] for code in classes]
        echo(f"note: {dataset.name}: {verdict.describe(labels)}. {verdict.consequence}", err=True)


def run_session(
    datasets: Sequence[Dataset],
    recipes: Sequence[Recipe],
    repeats: Repeats,
    *,
    protocol: Protocol | None = None,
    outputs: RunOutputs | None = None,
    parts: Sequence[str] = (),
    folder: Path | None = None,
    resume: bool = False,
    cells: bool = False,
) -> Session:
    """Carry out every recipe's runs on every data set over processes, and gather the records.

    A `folder` gets each record as soon as its run ends; with `resume`, the records of the same
    runs that it holds take the place of running them again. What was noted in reading the data sets
    goes to stderr first. With `cells`, stderr gets a line for each method that has done all its
    runs on a data set. With `parts` the runs are audits. The first user's mistake that a run meets
    is raised; a method without weights, where a data set has some, before any run.
    """
    from rcml_misa.estimators.registry import check_weights
    from rcml_misa.results import RunStore
    from rcml_misa.runs.pool import execute, interrupts_deferred
    from rcml_misa.runs.tasks import RunFailure, plan_tasks, split_known

    for recipe in recipes if any(data.weights is not None for data in datasets) else ():
        check_weights(recipe.build(repeats.seed), method=recipe.label)
    tasks = plan_tasks(
        recipes,
        datasets=len(datasets),
        runs=repeats.runs,
        seed=repeats.seed,
        protocol=protocol,
        outputs=outputs,
        parts=parts,
    )
    store = None if folder is None else RunStore(folder)
    earlier: list[RunRecord] = []
    missing: Sequence[Task] = tasks
    if store is not None and resume:
        earlier, missing = split_known(datasets, tasks, store.read())
    for dataset in datasets:
        note_reading(dataset)
        if missing:
            note_presence(dataset)
    session = Session()
    board = _Board(datasets, missing, cells=cells)
    with board.bar:
        try:
            jobs = min(repeats.processes, max(len(missing), 1))
            for result in execute(datasets, missing, jobs=jobs, on_event=board.show):
                if isinstance(result, RunFailure):
                    label, seed = result.task.recipe.label, result.task.seed
                    session.failures.append(sentence(f"{label}, seed {seed}: {result.message}"))
                    continue
                with interrupts_deferred():  # a run counts as finished once its record is written
                    if store is not None:
                        store.write(result)
                    session.records.append(result)
                board.count(result)
        except KeyboardInterrupt:
            session.interrupted = True
    for failure in session.failures:
        click.echo(f"a run failed: {failure}", err=True)
    if session.interrupted:
        finished = f"{len(session.records)} of {len(missing)} runs finished"
        written = "" if folder is None else f" and are kept in {folder}"
        click.echo(f"interrupted: {finished}{written}.", err=True)
    sys.stderr.flush()
    planned = [
        (datasets[task.dataset].name, task.recipe.method, task.recipe.variant, task.seed)
        for task in tasks
    ]
    places = {names: place for place, names in enumerate(planned)}
    session.records = sorted(
        [*earlier, *session.records],
        key=lambda run: places[run.dataset, run.method, run.variant, run.seed],
    )
    return session
