"""R runs of several methods over processes, each scored on every test set of the protocol."""

from rcml_misa.runs.pool import execute
from rcml_misa.runs.single import FittedTask, fit_task, run_task, versions
from rcml_misa.runs.tasks import (
    Event,
    RunFailure,
    RunOutputs,
    Task,
    plan_tasks,
    protocol_config,
    recipe_config,
    split_known,
    throttled,
)
from rcml_misa.runs.watching import Watcher

__all__ = [
    "Event",
    "FittedTask",
    "RunFailure",
    "RunOutputs",
    "Task",
    "Watcher",
    "execute",
    "fit_task",
    "plan_tasks",
    "protocol_config",
    "recipe_config",
    "run_task",
    "split_known",
    "throttled",
    "versions",
]
