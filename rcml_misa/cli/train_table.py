"""The rows that `fit` trains on: a table held in memory, or mapped from the disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, refuse_same
from rcml_misa.exceptions import OptionError, shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rcml_misa.datasets.files import FileLayout
    from rcml_misa.reading.preparer import TablePreparer
    from rcml_misa.views import MultiView

__all__ = ["TrainTable", "peak_bytes", "train_table"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainTable:
    """Train rows, prepared for an estimator.

    Attributes
    ----------
    layout : FileLayout
        Columns that a file to predict needs.
    about : mapping of str to str
        Name, sha256 and size of the file.
    rows, sampled : int
        Rows of the file, and of those that decided how it is read.
    seconds : float
        Time of reading and preparing.
    mapped : bool
        Whether the views lie on the disk.
    """

    views: MultiView
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None
    preparer: TablePreparer
    layout: FileLayout
    about: Mapping[str, str]
    rows: int
    sampled: int
    seconds: float
    mapped: bool


@contextmanager
def train_table(
    name: str,
    data: opt.DataOptions,
    *,
    out: Path,
    method: str,
    streams: bool,
    gigabytes: float | None,
    check: Callable[[bool], None],
) -> Iterator[TrainTable]:
    """Read the rows to train on, print what was guessed, and remove what reading left on the disk.

    A table above `gigabytes` is not held in memory, which a method that `streams` alone can take.
    `check` is called with whether there are weights, before rows are prepared.
    """
    from rcml_misa.datasets import too_large

    started = time.perf_counter()
    path = too_large(name, data.file_options, gigabytes=gigabytes)
    if path is None:
        yield _held(name, data, out=out, check=check, started=started)
        return
    if not streams:
        others = _streaming(regression=data.predicts_scores([name]))
        raise OptionError(
            f"method {method} holds its table in memory, for which {shortened(path.name, 60)} is "
            f"too large; {others}give fewer rows, or hold it with --in-memory GB."
        )
    refuse_same(out, name)
    with _mapped(name, data, out=out, check=check, started=started) as table:
        yield table


def _streaming(*, regression: bool) -> str:
    """Name the methods that train on tables larger than memory, as a way out."""
    from rcml_misa.estimators.foreign import load_object
    from rcml_misa.estimators.registry import METHODS

    paths = {name: spec.regressor if regression else spec.path for name, spec in METHODS.items()}
    names = [name for name, path in paths.items() if path and load_object(path)._streams]
    return f"fit {' or '.join(names)}, " if names else ""


def _held(
    name: str,
    data: opt.DataOptions,
    *,
    out: Path,
    check: Callable[[bool], None],
    started: float,
) -> TrainTable:
    from rcml_misa.datasets import load_labelled
    from rcml_misa.datasets.files import for_training
    from rcml_misa.reading.preparer import TablePreparer

    own, about = load_labelled(
        name, data.file_options, data_dir=data.data_dir, task=data.task, default_task="3"
    )
    refuse_same(out, name)
    rows = len(own.labels)
    own = for_training(own)
    check(own.weights is not None)
    _tell(own.notes)
    preparer = TablePreparer().fit(own.views)
    views = preparer.transform(own.views)
    _tell_missing(own.views)
    _tell(preparer.describe())
    layout = own.layout.without(
        column for columns in preparer.columns_.values() for column in columns.kinds.aside
    )
    return TrainTable(
        views=views,
        labels=own.labels,
        weights=own.weights,
        preparer=preparer,
        layout=layout,
        about=about,
        rows=rows,
        sampled=rows,
        seconds=time.perf_counter() - started,
        mapped=False,
    )


@contextmanager
def _mapped(
    name: str,
    data: opt.DataOptions,
    *,
    out: Path,
    check: Callable[[bool], None],
    started: float,
) -> Iterator[TrainTable]:
    from rcml_misa.reading.mapping import MappingPlan
    from rcml_misa.storage import work_folder

    with _counted("read") as look:
        plan = MappingPlan.of(name, data.file_options, task=data.task, look=look)
    check(plan.survey.weights is not None)
    _tell(plan.notes)
    place = plan.check_space(out.resolve().parent, Path(tempfile.gettempdir()))
    layout, about, told = plan.layout, plan.about, len(plan.notes)
    with work_folder(place) as folder:
        with _counted("prepared") as look:
            table = plan.write(folder, look=look)
        del plan  # and the sample that it holds
        _tell(table.notes[told:])
        _tell_missing(table.views)
        yield TrainTable(
            views=table.views,
            labels=table.labels,
            weights=table.weights,
            preparer=table.preparer,
            layout=layout,
            about=about,
            rows=table.rows,
            sampled=table.sampled,
            seconds=time.perf_counter() - started,
            mapped=True,
        )


def _tell(notes: Any) -> None:
    for note in notes:
        echo(f"note: {note}", err=True)


def _tell_missing(views: MultiView) -> None:
    missing = zip(views.names, (~views.present).sum(axis=0).tolist(), strict=True)
    if told := [f"{view} in {count}" for view, count in missing if count]:
        echo(f"note: missing views: {', '.join(told)} of {views.n_samples} rows", err=True)


@contextmanager
def _counted(done: str) -> Iterator[Callable[[int], None] | None]:
    """Show the rows that were gone through in a line on stderr, where stderr is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("reading") as status:
        yield lambda rows: status.update(f"{rows} rows {done}")


def peak_bytes() -> int | None:
    """Tell the largest resident memory of this process so far; None where the system does not."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)
