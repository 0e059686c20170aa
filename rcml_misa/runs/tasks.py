"""What is to be run, and what is told of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import Recipe
from rcml_misa.protocols import Protocol, spawn_seeds
from rcml_misa.results import RunRecord, plain
from rcml_misa.runs.outputs import RunOutputs

__all__ = [
    "Event",
    "RunFailure",
    "Task",
    "plan_tasks",
    "protocol_config",
    "recipe_config",
    "split_known",
    "throttled",
]

QUIET = 0.2  # least seconds between two events of one task


@dataclass(frozen=True)
class Task:
    """One training: a recipe, a data set's number, the run, the protocol, and what is kept."""

    recipe: Recipe
    dataset: int
    run: int
    seed: int
    protocol: Protocol = field(default_factory=Protocol)
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
    protocol: Protocol | None = None,
    outputs: RunOutputs | None = None,
) -> list[Task]:
    """Every recipe on every data set's R runs; run r uses seed S + r whatever the recipe."""
    how, kept = protocol or Protocol(), outputs or RunOutputs()
    return [
        Task(recipe, dataset, run, seed + run, how, kept)
        for dataset in range(datasets)
        for run in range(runs)
        for recipe in recipes
    ]


def recipe_config(recipe: Recipe, estimator: Any) -> dict[str, Any]:
    """Everything that configures a method but the seed's own draws."""
    kept = {"keep": recipe.keep} if recipe.keep else {}
    return {**estimator.get_params(deep=False), "leaky": recipe.leaky, **kept}


def protocol_config(protocol: Protocol) -> Mapping[str, Any]:
    """Give the protocol as a record keeps it."""
    kept: Mapping[str, Any] = plain(asdict(protocol))
    return kept


def split_known(
    datasets: Sequence[Dataset], tasks: Sequence[Task], known: Sequence[RunRecord]
) -> tuple[list[RunRecord], list[Task]]:
    """Part tasks into the records of those done before, all the same, and the rest.

    The same are options, data and protocol.
    """
    done = {(one.dataset, one.method, one.variant, one.seed): one for one in known}
    kept, missing = [], []
    for task in tasks:
        data, recipe = datasets[task.dataset], task.recipe
        record = done.get((data.name, recipe.method, recipe.variant, task.seed))
        config = plain(recipe_config(recipe, recipe.build(spawn_seeds(task.seed).model)))
        wanted = (config, data.sha256, task.run, protocol_config(task.protocol))
        if record is not None and wanted == (
            record.config,
            record.data_sha256,
            record.run,
            record.protocol,
        ):
            kept.append(record)
        else:
            missing.append(task)
    return kept, missing


def throttled(task: Task, report: Callable[[Event], None]) -> Callable[[Any], None]:
    """Make a callback for `fit` that reports at most five times a second."""
    last = 0.0

    def callback(progress: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET:
            last = now
            report(Event(task, progress.epoch, progress.epochs, progress.loss))

    return callback
