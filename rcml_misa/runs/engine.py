"""Runs over the workers of an engine, resumed from records, tried again where a worker dies."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import DataError, RcmlMisaError, shortened
from rcml_misa.results import RunRecord, RunStore, read_record
from rcml_misa.runs.backends import Engine
from rcml_misa.runs.interrupts import interrupts_deferred
from rcml_misa.runs.orders import (
    TRIES,
    DataFile,
    Order,
    Outcome,
    carry_out,
    died,
    given,
    starts,
    written,
)
from rcml_misa.runs.tasks import Event, RunFailure, Task, record_path
from rcml_misa.storage import work_folder

__all__ = ["execute"]

LOOK = 0.2  # seconds between two looks at the progress of runs


def execute(
    datasets: Sequence[Dataset],
    tasks: Sequence[Task],
    *,
    store: RunStore | None = None,
    engine: Engine | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Generator[RunRecord | RunFailure, None, None]:
    """Make the runs of tasks on the workers of an engine, and yield records as they end.

    A worker writes the record of its run itself; a run whose record is in the store is not made.
    When a worker dies, its run is tried again, at most `orders.TRIES` times in all, and the other
    runs go on.

    Parameters
    ----------
    datasets : sequence of Dataset
        Which the tasks number.
    store : RunStore, optional
        Where the records stay; by default nowhere.
    engine : Engine, optional
        By default what ``joblib.parallel_config`` says, one process where it says nothing.
    on_event : callable, optional
        Called with the tasks' progress, in a thread of its own.

    Raises
    ------
    RcmlMisaError
        The first user's mistake that a run meets; runs that wait are dropped.
    OptionError
        If the engine isn't there, or doesn't answer.
    DataError
        If workers can't start.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(work_folder(None if store is None else store.folder))
        records = (folder if store is None else store.folder).resolve()
        here = engine is not None and engine.here
        files: dict[int, DataFile] = {}
        for number in sorted({task.dataset for task in tasks}):
            data = datasets[number]
            files[number] = stack.enter_context(given(data)) if here else written(data, folder)
        orders = [
            Order(
                number,
                replace(task, outputs=replace(task.outputs, folder=records)),
                files[task.dataset],
                record_path(records, datasets[task.dataset], task),
                folder / f"progress-{number}",
            )
            for number, task in enumerate(tasks)
        ]
        if on_event is not None:
            stack.enter_context(_watched(folder, tasks, on_event))
        for outcome in _outcomes(orders, engine, folder):
            task = tasks[outcome.place]
            if on_event is not None:
                on_event(Event(task, done=True))
            if outcome.mistake is not None:
                raise outcome.mistake
            if outcome.failure:
                yield RunFailure(task, outcome.failure)
            else:
                yield read_record(orders[outcome.place].record)


def _outcomes(orders: Sequence[Order], engine: Engine | None, folder: Path) -> Iterator[Outcome]:
    """Carry out all orders, in as many rounds as it takes for every one to have an end.

    A round ends early where a worker dies and takes all others along, as the local ones do. Orders
    that were lost come last in the next round, and one that was lost twice has a round of its own,
    so that it can't take any other along.
    """
    waiting = {order.place: order for order in orders}
    losses: Counter[int] = Counter()
    idle = 0  # rounds in a row that ended before any order had begun
    while waiting:
        chosen = sorted((place for place in waiting if losses[place] < 2), key=losses.__getitem__)
        chosen = chosen or [next(iter(waiting))]
        begun = {place: starts(waiting[place].progress) for place in chosen}
        cause = ""
        try:
            for outcome in _round([waiting[place] for place in chosen], engine, folder):
                idle = 0
                if outcome.lost:
                    losses[outcome.place] += 1
                else:
                    del waiting[outcome.place]
                    yield outcome
        except RcmlMisaError:
            raise
        except Exception as error:  # of the engine; those of runs are in their outcomes
            cause = f"{type(error).__name__}: {shortened(error)}"
            left = [place for place in chosen if place in waiting]
            lost = [place for place in left if starts(waiting[place].progress) > begun[place]]
            losses.update(lost)
            idle = 0 if lost else idle + 1
        if idle >= TRIES:
            raise DataError(
                f"no run began in {idle} tries ({cause}); try fewer --jobs, or --jobs 1."
            )
        for place in [place for place in chosen if place in waiting]:
            if losses[place] >= TRIES:
                del waiting[place]
                yield Outcome(place, failure=died(TRIES))


def _round(orders: Sequence[Order], engine: Engine | None, folder: Path) -> Iterator[Outcome]:
    """Send orders to the engine's workers, and give outcomes as they come."""
    from joblib import Parallel, delayed

    none: dict[str, Any] = {}
    with (
        nullcontext(none) if engine is None else engine.start(folder) as options,
        warnings.catch_warnings(),
    ):
        # joblib tells how many calls an interruption drops
        warnings.filterwarnings("ignore", ".*tasks which were still being processed")
        with interrupts_deferred():
            outcomes = Parallel(return_as="generator_unordered", **options)(
                delayed(carry_out)(order) for order in orders
            )
        try:
            yield from outcomes
        finally:
            outcomes.close()


@contextmanager
def _watched(
    folder: Path, tasks: Sequence[Task], on_event: Callable[[Event], None]
) -> Iterator[None]:
    """Look at what workers append to the progress of their runs, in a thread of its own."""
    over = threading.Event()
    shown: dict[str, bytes] = {}

    def look() -> None:
        while not over.wait(LOOK):
            for path in folder.glob("progress-*"):
                with suppress(OSError, ValueError):
                    line = _last_line(path)
                    if line and shown.get(path.name) != line:
                        shown[path.name] = line
                        task = tasks[int(path.name.partition("-")[2])]
                        on_event(_event(task, line))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _last_line(path: Path, size: int = 200) -> bytes:
    """Read the last whole line of a file."""
    with path.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(stream.tell() - size, 0))
        whole = stream.read().rpartition(b"\n")[0]
    return whole.rpartition(b"\n")[2]


def _event(task: Task, line: bytes) -> Event:
    """Read a line of progress: ``start``, or epoch, epochs and loss."""
    words = line.split()
    if len(words) != 3:
        return Event(task)
    return Event(task, int(words[0]), int(words[1]), float(words[2]))
