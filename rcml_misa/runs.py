"""R runs of several variants over processes, each scored on clean and conflictive test rows."""

from __future__ import annotations

import multiprocessing
import platform
import queue
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from typing import Any

import numpy as np

from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import Recipe
from rcml_misa.evaluation import ask, confidence_bins, detection, score
from rcml_misa.exceptions import RcmlMisaError
from rcml_misa.outputs import RunOutputs
from rcml_misa.protocols import (
    conflict_views,
    noise_views,
    scale_leaky,
    spawn_seeds,
    split_rows,
)
from rcml_misa.results import RunRecord, plain

__all__ = [
    "Event",
    "RunFailure",
    "Task",
    "execute",
    "plan_tasks",
    "recipe_config",
    "run_task",
    "split_known",
    "throttled",
    "versions",
]

LIBRARIES = ("rcml-misa", "numpy", "scipy", "scikit-learn", "torch")
POLL = 0.1  # seconds between looks at the workers' progress
QUIET = 0.2  # least seconds between two events of one task

_worker: dict[str, Any] = {}  # what a worker process was started with


@dataclass(frozen=True)
class Task:
    """One training: a recipe, a data set's number, the run, and what it leaves behind."""

    recipe: Recipe
    dataset: int
    run: int
    seed: int
    outputs: RunOutputs = field(default_factory=RunOutputs)


@dataclass(frozen=True)
class Event:
    """Progress of a task: epoch 0 of 0 when it starts; `done` when it ends."""

    task: Task
    epoch: int = 0
    epochs: int = 0
    loss: float = float("nan")
    done: bool = False


@dataclass(frozen=True)
class RunFailure:
    """A task that ended in an error that is no user's mistake."""

    task: Task
    message: str


def plan_tasks(
    recipes: Sequence[Recipe],
    *,
    datasets: int,
    runs: int,
    seed: int,
    outputs: RunOutputs | None = None,
) -> list[Task]:
    """Every recipe on every data set's R runs; run r uses seed S + r whatever the recipe."""
    return [
        Task(recipe, dataset, run, seed + run, outputs or RunOutputs())
        for dataset in range(datasets)
        for run in range(runs)
        for recipe in recipes
    ]


def split_known(
    datasets: Sequence[Dataset], tasks: Sequence[Task], known: Sequence[RunRecord]
) -> tuple[list[RunRecord], list[Task]]:
    """Part tasks into the records of those done before, same options and data, and the rest."""
    done = {(one.dataset, one.method, one.variant, one.seed): one for one in known}
    kept, missing = [], []
    for task in tasks:
        data, recipe = datasets[task.dataset], task.recipe
        record = done.get((data.name, recipe.method, recipe.variant, task.seed))
        config = plain(recipe_config(recipe, recipe.build(spawn_seeds(task.seed).model)))
        same = record is not None and (record.config, record.data_sha256) == (config, data.sha256)
        if record is not None and same:
            kept.append(record)
        else:
            missing.append(task)
    return kept, missing


def recipe_config(recipe: Recipe, estimator: Any) -> dict[str, Any]:
    """Everything that configures a run but the seed's own draws."""
    kept = {"keep": recipe.keep} if recipe.keep else {}
    return {**estimator.get_params(deep=False), "leaky": recipe.leaky, **kept}


def versions() -> dict[str, str]:
    """Versions of Python, this package and its libraries."""
    return {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}}


def run_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> RunRecord:
    """Train one variant on one split and score it on both copies of the test rows.

    Nothing is chosen on test rows. The split, the conflictive copy and the noise rows depend on
    the seed alone, so that variants compared share them.
    """
    if dataset.folds is not None or task.recipe.keep or task.outputs != RunOutputs():
        from rcml_misa.split_runs import run_split_task  # which needs this module

        return run_split_task(dataset, task, report=report)
    seeds, target, classes = spawn_seeds(task.seed), dataset.target, len(dataset.classes)
    train, test = split_rows(len(target), rng=np.random.default_rng(seeds.split))
    copy = conflict_views(
        dataset.views,
        target,
        train=train,
        test=test,
        rng=np.random.default_rng(seeds.corruption),
    )
    noise = noise_views(
        dataset.views, train=train, rows=len(test), rng=np.random.default_rng(seeds.noise)
    )
    parts = [dataset.views.take(train), dataset.views.take(test), copy.views, noise]
    if task.recipe.leaky:
        parts = [scale_leaky(part, ranges_of=dataset.views) for part in parts]
    estimator = task.recipe.build(seeds.model)
    fit_options: dict[str, Any] = {}
    if hasattr(estimator, "predict_opinion") and hasattr(estimator, "device"):
        fit_options["callback"] = throttled(task, report)
    started = time.perf_counter()
    estimator.fit(parts[0], target[train], **fit_options)
    fitted = time.perf_counter()
    clean = ask(estimator, parts[1], classes)
    predicted = time.perf_counter()
    conflict = ask(estimator, parts[2], classes)
    threshold = np.quantile(clean.uncertainty, 0.95)
    unsure = ask(estimator, parts[3], classes).uncertainty > threshold
    return RunRecord(
        dataset=dataset.name,
        method=task.recipe.method,
        variant=task.recipe.variant,
        default=task.recipe.default,
        run=task.run,
        seed=task.seed,
        config=plain(recipe_config(task.recipe, estimator)),
        versions=versions(),
        data_sha256=dataset.sha256,
        train_rows=len(train),
        test_rows=len(test),
        metrics={
            "clean": {**score(clean, target[test]), "noise_flagged": float(unsure.mean())},
            "conflict": {
                **score(conflict, target[test]),
                **detection(clean, conflict, copy.replaced),
            },
        },
        bins={
            "clean": confidence_bins(clean, target[test]),
            "conflict": confidence_bins(conflict, target[test]),
        },
        timing={"fit_seconds": fitted - started, "predict_seconds": predicted - fitted},
        history=getattr(estimator, "history_", {}),
    )


def throttled(task: Task, report: Callable[[Event], None]) -> Callable[[Any], None]:
    """A callback for `fit` that reports at most five times a second."""
    last = 0.0

    def callback(progress: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET:
            last = now
            report(Event(task, progress.epoch, progress.epochs, progress.loss))

    return callback


def _start_worker(datasets: Sequence[Dataset], events: Any) -> None:
    """Prepare a worker: one thread, so that results do not depend on how many there are."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _one_thread()
    _worker.update(datasets=datasets, events=events)


def _one_thread() -> Any:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    return threadpool_limits(1)


def _work(task: Task) -> RunRecord:
    events = _worker["events"]
    events.put(Event(task))
    return run_task(_worker["datasets"][task.dataset], task, report=events.put)


def execute(
    datasets: Sequence[Dataset],
    tasks: Sequence[Task],
    *,
    jobs: int,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Iterator[RunRecord | RunFailure]:
    """Run the tasks in `jobs` worker processes, or in this one, and yield records as they end.

    Parameters
    ----------
    datasets : sequence of Dataset
        What the tasks' numbers stand for; sent to each worker once.
    tasks : sequence of Task
    jobs : int
        1 runs in this process.
    on_event : callable
        Called in this process with the workers' progress.

    Yields
    ------
    RunRecord or RunFailure

    Raises
    ------
    RcmlMisaError
        The first user's mistake that a task finds; tasks that wait are dropped.
    """
    if jobs <= 1 or len(tasks) == 1:
        yield from _execute_here(datasets, tasks, on_event)
        return
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    pool = ProcessPoolExecutor(
        min(jobs, len(tasks)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(tuple(datasets), events),
    )
    finished = False
    try:
        # children inherit an ignored interrupt, so that none dies of it while it starts
        with _interrupts_ignored():
            pending = {pool.submit(_work, task): task for task in tasks}
        yield from _collect(pending, events, on_event)
        finished = True
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)
        if not finished:
            for child in multiprocessing.active_children():
                child.terminate()


class _interrupts_ignored:  # noqa: N801
    """Context in which this process ignores Ctrl-C, where that can be set (main thread)."""

    def __enter__(self) -> None:
        self.previous: Any = None
        with suppress(ValueError):
            self.previous = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *exception: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)


def _collect(
    pending: Mapping[Future[RunRecord], Task], events: Any, on_event: Callable[[Event], None]
) -> Iterator[RunRecord | RunFailure]:
    waiting = set(pending)
    while waiting:
        done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
        with suppress(queue.Empty):
            while True:
                on_event(events.get_nowait())
        for future in done:
            on_event(Event(pending[future], done=True))
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, RcmlMisaError):
                raise error
            else:
                yield RunFailure(pending[future], f"{type(error).__name__}: {error}")


def _execute_here(
    datasets: Sequence[Dataset], tasks: Sequence[Task], on_event: Callable[[Event], None]
) -> Iterator[RunRecord | RunFailure]:
    import torch

    threads = torch.get_num_threads()
    limits = _one_thread()
    try:
        for task in tasks:
            on_event(Event(task))
            try:
                yield run_task(datasets[task.dataset], task, report=on_event)
            except RcmlMisaError:
                raise
            except Exception as error:  # one run that fails must not take the others along
                yield RunFailure(task, f"{type(error).__name__}: {error}")
            on_event(Event(task, done=True))
    finally:
        limits.restore_original_limits()
        torch.set_num_threads(threads)
