"""One session of runs: progress on stderr, records as runs end, failures, Ctrl-C, status."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from rcml_misa.cli.console import echo, sentence
from rcml_misa.exceptions import printable

if TYPE_CHECKING:
    from rcml_misa.cli.options import Keeping, Repeats, Workers
    from rcml_misa.datasets import Dataset
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.results import RunRecord, RunStore
    from rcml_misa.runs.tasks import Event, RunOutputs, Task

__all__ = ["Session", "note_presence", "note_reading", "run_session", "run_tasks"]


class _Board:
    """A bar of progress while runs are made, where stderr is a terminal; lines for `cells`."""

    def __init__(self, datasets: Sequence[Dataset], tasks: Sequence[Task], *, cells: bool) -> None:
        from rich.console import Console
        from rich.constrain import Constrain
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        console = Console(stderr=True, highlight=False, markup=False)

        class Bar(Progress):
            """Leaves room on its line for the ^C that a terminal shows, lest that break it."""

            def get_renderable(self) -> Constrain:
                return Constrain(super().get_renderable(), console.width - 3)

        self.console = console
        self.bar = Bar(
            TextColumn("{task.completed:.0f}/{task.total:.0f} runs"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            # takes what room the others leave
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)
            ),
            expand=True,
            console=console,
            transient=True,
            disable=not (tasks and console.is_terminal),
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
        self.bar.update(self.line, description=printable(text))

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
            printable(f"{record.dataset}: {record.label}: {', '.join(figures)} ")
            + f"({runs}, {seconds:.1f} s each)"
        )


@dataclass
class Session:
    """Outcome of a set of tasks: records in their order, a sentence per failed run, Ctrl-C."""

    records: list[RunRecord] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: int = 0  # exit status of the signal that ended it
    taken: int = 0  # records that were there before

    @property
    def status(self) -> int:
        """Exit status: 0 done, 1 a run failed, 130, 143 or 129 ended by Ctrl-C, TERM or HUP."""
        return self.interrupted or int(bool(self.failures))


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
    workers: Workers,
    keeping: Keeping,
    protocol: Protocol | None = None,
    outputs: RunOutputs | None = None,
    parts: Sequence[str] = (),
    cells: bool = False,
) -> Session:
    """Carry out every recipe's runs on every data set by the workers, and gather the records.

    The folder of `keeping` gets each record as soon as its run ends, and the records of the same
    runs that it holds take the place of making them again, which is said on stderr after what was
    noted in reading the data sets. With `cells`, stderr gets a line for each method that has done
    all its runs on a data set. With `parts` the runs are audits. The first user's mistake that a
    run meets is raised; a method without weights, where a data set has some, before any run.
    """
    from rcml_misa.estimators.registry import check_weights
    from rcml_misa.runs.tasks import plan_tasks

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
    with keeping.opened() as store:
        earlier, missing, notes = _resume(datasets, tasks, store, fresh=keeping.fresh)
        for dataset in datasets:
            note_reading(dataset)
            if missing:
                note_presence(dataset)
        for note in notes:
            echo(f"note: {note}.", err=True)
        session = _carry_out(
            datasets, tasks, earlier, missing, workers=workers, store=store, cells=cells
        )
        if session.interrupted:
            line = _interruption(datasets, tasks, missing, store, fresh=keeping.fresh)
            click.echo(f"interrupted: {line}.", err=True)
        return session


def run_tasks(
    dataset: Dataset,
    tasks: Sequence[Task],
    *,
    workers: Workers,
    store: RunStore | None,
    fresh: bool = False,
) -> Session:
    """Carry out tasks on one data set, but those whose records are in the store of a session.

    Notes are left to the caller, and so is what an interruption says.
    """
    earlier, missing, _ = _resume([dataset], tasks, store, fresh=fresh)
    return _carry_out([dataset], tasks, earlier, missing, workers=workers, store=store, cells=False)


def _resume(
    datasets: Sequence[Dataset], tasks: Sequence[Task], store: RunStore | None, *, fresh: bool
) -> tuple[list[RunRecord], list[Task], list[str]]:
    """Find the records that stand for tasks, the tasks that have none, and notes about both."""
    from rcml_misa.runs.resuming import resume

    if store is None:
        return [], list(tasks), []
    found = resume(datasets, tasks, store, fresh=fresh)
    records, notes = list(found.records.values()), []
    if records and not found.missing:
        count = "the run is" if len(records) == 1 else f"all {len(records)} runs are"
        notes.append(f"{count} kept in {store.folder}; nothing is trained")
    elif records:
        kept = f"{len(records)} of {len(tasks)} runs"
        notes.append(f"{kept} are kept in {store.folder}; the others are made now")
    if changed := found.describe_versions():
        notes.append(changed)
    return records, found.missing, notes


def _interruption(
    datasets: Sequence[Dataset],
    tasks: Sequence[Task],
    missing: Sequence[Task],
    store: RunStore | None,
    *,
    fresh: bool,
) -> str:
    """Say what an interrupted command leaves, and how it goes on."""
    from rcml_misa.runs.tasks import record_path

    if store is None:
        return "no run is kept; with --out DIR each is, as it ends"
    paths = [record_path(store.folder, datasets[task.dataset], task) for task in missing]
    made = sum(path.exists() for path in paths)
    if fresh:
        return f"{made} of {len(tasks)} runs in {store.folder} are made anew"
    done = len(tasks) - len(missing) + made
    kept = f"{done} of {len(tasks)} runs are kept in {store.folder}"
    return f"{kept}; the same command goes on from there"


def _carry_out(
    datasets: Sequence[Dataset],
    tasks: Sequence[Task],
    earlier: Sequence[RunRecord],
    missing: Sequence[Task],
    *,
    workers: Workers,
    store: RunStore | None,
    cells: bool,
) -> Session:
    """Carry out the missing tasks; all records in the order of the tasks."""
    from rcml_misa.runs.engine import execute
    from rcml_misa.runs.interrupts import exit_status
    from rcml_misa.runs.tasks import RunFailure

    session = Session(taken=len(earlier))
    board = _Board(datasets, missing, cells=cells)
    with board.bar:
        try:
            results = execute(
                datasets,
                missing,
                store=store,
                engine=workers.choose(len(missing), planned=len(tasks)),
                on_event=None if board.bar.disable else board.show,
            )
            with closing(results):
                for result in results:
                    if isinstance(result, RunFailure):
                        label, seed = result.task.recipe.label, result.task.seed
                        session.failures.append(sentence(f"{label}, seed {seed}: {result.message}"))
                    else:
                        session.records.append(result)
                        board.count(result)
        except KeyboardInterrupt as stop:
            session.interrupted = exit_status(stop)
    for failure in session.failures:
        click.echo(f"a run failed: {failure}", err=True)
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
