"""Tasks to run, the files that they leave, and their progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import Recipe
from rcml_misa.protocols import Protocol, spawn_seeds
from rcml_misa.results import RunRecord, plain

__all__ = [
    "Event",
    "RunFailure",
    "RunOutputs",
    "Task",
    "plan_tasks",
    "protocol_config",
    "recipe_config",
    "split_known",
    "throttled",
]

QUIET = 0.2  # least seconds between two events of one task


@dataclass(frozen=True)
class RunOutputs:
    """Files that each run leaves beside its record.

    Attributes
    ----------
    folder : Path, optional
        Folder of the files.
    per_epoch : bool
        Score train, validation and test rows after each epoch, into the record's history.
    samples, features : bool
        Write a CSV of the test rows' answers; an npz of all rows' features.
    keep : tuple of str
        Arrays for figures: keys of `rcml_misa.runs.outputs.KEEPABLE`.
    """

    folder: Path | None = None
    per_epoch: bool = False
    samples: bool = False
    features: bool = False
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """One training: a recipe, a data set's number, the run, the protocol, and its files."""

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
    """List every recipe's R runs on every data set; run r uses seed S + r whatever the recipe."""
    rules, files = protocol or Protocol(), outputs or RunOutputs()
    return [
        Task(recipe, dataset, run, seed + run, rules, files)
        for dataset in range(datasets)
        for run in range(runs)
        for recipe in recipes
    ]


def recipe_config(recipe: Recipe, estimator: Any) -> dict[str, Any]:
    """Collect everything that configures a method but the seed's own draws."""
    views = {"keep": recipe.keep} if recipe.keep else {}
    return {**estimator.get_params(deep=False), "leaky": recipe.leaky, **views}


def protocol_config(protocol: Protocol) -> Mapping[str, Any]:
    """Give the protocol the form that a record keeps."""
    return dict(plain(asdict(protocol)))


def split_known(
    datasets: Sequence[Dataset], tasks: Sequence[Task], earlier: Sequence[RunRecord]
) -> tuple[list[RunRecord], list[Task]]:
    """Part tasks into the records of those done before, and the rest.

    A record stands for a task if options, data and protocol are the same.
    """
    done = {(old.dataset, old.method, old.variant, old.seed): old for old in earlier}
    records, missing = [], []
    for task in tasks:
        data, recipe = datasets[task.dataset], task.recipe
        record = done.get((data.name, recipe.method, recipe.variant, task.seed))
        config = plain(recipe_config(recipe, recipe.build(spawn_seeds(task.seed).model)))
        protocol = protocol_config(task.protocol.for_dataset(data))
        wanted = (config, data.sha256, task.run, protocol)
        if record is not None and wanted == (
            record.config,
            record.data_sha256,
            record.run,
            record.protocol,
        ):
            records.append(record)
        else:
            missing.append(task)
    return records, missing


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
