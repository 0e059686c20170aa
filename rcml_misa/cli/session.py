"""Run tasks with a live progress bar, keep what finishes, survive Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset
    from rcml_misa.results import RunRecord
    from rcml_misa.runs import Task

__all__ = ["Session", "check_numbers", "importable_here", "in_order", "run_session"]


def importable_here() -> None:
    """Let methods be named by modules in the current folder, as ``python -m`` does."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())


def check_numbers(**given: tuple[int | None, int]) -> None:
    """Refuse numbers below their least value; each option is a pair of both.

    Raises
    ------
    OptionError
    """
    from rcml_misa.exceptions import OptionError

    for name, (value, least) in given.items():
        if value is not None and value < least:
            raise OptionError(f"--{name} {value} is below {least}; give {least} or more.")


@dataclass
class Session:
    """What came of a set of tasks.

    Attributes
    ----------
    records : list of RunRecord
        In the order of the tasks.
    failures : list of str
        One sentence per run that ended in an unexpected error.
    interrupted : bool
        Whether Ctrl-C ended it early.
    """

    records: list[RunRecord] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def status(self) -> int:
        """Exit status: 0 done, 1 a run failed, 130 interrupted."""
        return 130 if self.interrupted else int(bool(self.failures))


def in_order(
    datasets: Sequence[Dataset], tasks: Sequence[Task], records: Sequence[RunRecord]
) -> list[RunRecord]:
    """Sort records as their tasks were planned."""
    place = {
        (datasets[task.dataset].name, task.recipe.method, task.recipe.variant, task.seed): number
        for number, task in enumerate(tasks)
    }
    return sorted(records, key=lambda one: place[one.dataset, one.method, one.variant, one.seed])


def run_session(
    datasets: Sequence[Dataset],
    tasks: Sequence[Task],
    *,
    jobs: int | None,
    out: Path | None,
    cells: bool = False,
) -> Session:
    """Execute tasks over `jobs` processes (all cores by default) and gather their records.

    Each record is written to `out` as soon as its run ends. With `cells`, a line on stderr tells
    of each method that has done all its runs on a data set.
    """
    from rcml_misa.cli.board import board_of
    from rcml_misa.results import RunStore
    from rcml_misa.runs import RunFailure, execute
    from rcml_misa.runs.pool import interrupts_deferred

    store = None if out is None else RunStore(out)
    session = Session()
    # not every system tells which of its cores are ours
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    workers = min(jobs or cores, max(len(tasks), 1))
    with board_of(datasets, tasks, cells=cells) as board:
        try:
            for result in execute(datasets, tasks, jobs=workers, on_event=board.show):
                if isinstance(result, RunFailure):
                    task = result.task
                    session.failures.append(
                        f"{task.recipe.label}, seed {task.seed}: {result.message}"
                    )
                    continue
                with interrupts_deferred():  # a run counts as finished if it is kept
                    if store is not None:
                        store.write(result)
                    session.records.append(result)
                board.count(result)
        except KeyboardInterrupt:
            session.interrupted = True
    session.records = in_order(datasets, tasks, session.records)
    for failure in session.failures:
        click.echo(f"a run failed: {failure}", err=True)
    if session.interrupted:
        kept = "" if out is None else f" and are kept in {out}"
        click.echo(
            f"interrupted: {len(session.records)} of {len(tasks)} runs finished{kept}.", err=True
        )
    sys.stderr.flush()
    return session
