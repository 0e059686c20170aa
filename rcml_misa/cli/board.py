"""What is shown on stderr while runs go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset
    from rcml_misa.results import RunRecord
    from rcml_misa.runs import Event, Task

__all__ = ["Board", "board_of"]

Cell = tuple[int, str]


class Board:
    """A progress bar, where stderr is a terminal, and a line for each cell that is full.

    Parameters
    ----------
    datasets : sequence of Dataset
    tasks : sequence of Task
        All that will be run.
    cells : bool
        Whether a method that has done all its runs on a data set is told, terminal or not.
    """

    def __init__(self, datasets: Sequence[Dataset], tasks: Sequence[Task], *, cells: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, soft_wrap=True, highlight=False)
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
        self.cells = cells
        self.left: dict[Cell, int] = {}
        for task in tasks:
            cell = (task.dataset, task.recipe.label)
            self.left[cell] = self.left.get(cell, 0) + 1
        self.done: dict[Cell, list[RunRecord]] = {}
        self.whole = 0

    def show(self, event: Event) -> None:
        """Move the bar on."""
        if event.done:
            self.whole += 1
            self.bar.update(self.line, completed=self.whole)
            return
        task = event.task
        text = f"{task.recipe.label} run {task.run + 1}"
        if len(self.names) > 1:
            text = f"{self.names[task.dataset]}, {text}"
        if event.epochs:
            text += f", epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}"
        self.bar.update(self.line, description=text)

    def count(self, record: RunRecord) -> None:
        """Tell of a cell whose last run this record is."""
        plain = record.method if record.variant == "-" else f"{record.method} {record.variant}"
        cell = (self.names.index(record.dataset), plain)
        found = self.done.setdefault(cell, [])
        found.append(record)
        if not self.cells or len(found) < self.left.get(cell, 0):
            return
        figures = ", ".join(f"{name} {100 * _mean(found, name):.2f} %" for name in found[0].metrics)
        seconds = sum(sum(one.timing.values()) for one in found) / len(found)
        runs = f"{len(found)} run{'s' if len(found) > 1 else ''}"
        self.console.print(
            f"{record.dataset}: {record.label}: {figures} ({runs}, {seconds:.1f} s each)"
        )


def _mean(records: Sequence[RunRecord], name: str) -> float:
    known = [one.metrics[name]["accuracy"] for one in records if name in one.metrics]
    return sum(known) / max(len(known), 1)


@contextmanager
def board_of(datasets: Sequence[Dataset], tasks: Sequence[Task], *, cells: bool) -> Iterator[Board]:
    """Show a board while the block runs."""
    board = Board(datasets, tasks, cells=cells)
    with board.bar:
        yield board
