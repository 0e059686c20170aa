"""What a worker of any engine is told of one run, how it finds the data, and what it leaves.

An order goes through the engine's scheduler and is small. The data set lies in a file that workers
map into memory; the record is written by the worker itself; an order's progress is a small file to
which the worker appends, so that whoever gave the order can read it on any engine.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import DataError, RcmlMisaError
from rcml_misa.results import RunRecord, write_record
from rcml_misa.runs.audit import audit_task
from rcml_misa.runs.single import run_task
from rcml_misa.runs.tasks import Event, Task
from rcml_misa.runs.tuning import tune_task
from rcml_misa.storage import file_sha256

__all__ = [
    "TRIES",
    "DataFile",
    "Order",
    "Outcome",
    "carry_out",
    "given",
    "lost",
    "starts",
    "written",
]

TRIES = 3  # times that a run is begun whose worker dies
HELD = 8  # data sets that a worker holds at most

_held: dict[str, Dataset] = {}  # of this process, by checksum


@dataclass(frozen=True)
class DataFile:
    """A data set that workers map into memory: its file, and the checksum of that."""

    path: Path
    sha256: str

    def load(self) -> Dataset:
        """Map the data set, once per process; a file that is not what was written is refused."""
        if self.sha256 not in _held:
            import joblib

            try:
                unchanged = file_sha256(self.path) == self.sha256
            except OSError as error:
                raise DataError(
                    f"a worker on {platform.node()} can't read {self.path} ({error.strerror}); "
                    "give --out a folder that every worker sees."
                ) from error
            if not unchanged:
                raise DataError(f"{self.path} was changed while the runs went on; start again.")
            dataset = joblib.load(self.path, mmap_mode="r")
            while len(_held) >= HELD:
                del _held[next(iter(_held))]
            _held[self.sha256] = dataset
        return _held[self.sha256]


def written(dataset: Dataset, folder: Path) -> DataFile:
    """Write a data set for workers to map."""
    import joblib

    path = folder / f"data-{uuid4().hex}"
    try:
        joblib.dump(dataset, path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"{path} can't be written ({reason}), which workers read {dataset.name} from; free "
            "some space or give --jobs 1."
        ) from error
    return DataFile(path, file_sha256(path))


@contextmanager
def given(dataset: Dataset) -> Iterator[DataFile]:
    """Hold a data set for orders that this process carries out itself."""
    file = DataFile(Path(), uuid4().hex)
    _held[file.sha256] = dataset
    try:
        yield file
    finally:
        _held.pop(file.sha256, None)


@dataclass(frozen=True)
class Order:
    """One run for a worker.

    Attributes
    ----------
    place : int
        Number of the task among those of its caller.
    record : Path
        File that the run leaves.
    progress : Path
        File to which the worker appends.
    """

    place: int
    task: Task
    data: DataFile
    record: Path
    progress: Path


@dataclass(frozen=True)
class Outcome:
    """End of an order: its record is there, or what was wrong.

    Attributes
    ----------
    mistake : RcmlMisaError, optional
        A user's mistake, of which all other runs may be a case.
    failure : str
        Any other error of this run; empty where there is none.
    lost : bool
        Whether the worker died of it, or was ended.
    """

    place: int
    mistake: RcmlMisaError | None = None
    failure: str = ""
    lost: bool = False


def starts(progress: Path) -> int:
    """Count how often an order was begun and not brought to an end."""
    try:
        return progress.read_text(encoding="utf-8").count("start\n")
    except FileNotFoundError:
        return 0


def carry_out(order: Order) -> Outcome:
    """Make the run of an order, unless its record is there, and write the record.

    An order that was begun `TRIES` times by workers that died is a failure.
    """
    if order.record.exists():
        return Outcome(order.place)
    begun = starts(order.progress)
    if begun >= TRIES:
        return Outcome(order.place, failure=died(begun))
    try:
        with order.progress.open("a", encoding="utf-8") as stream, _one_thread():
            stream.write("start\n")
            stream.flush()

            def report(event: Event) -> None:
                stream.write(f"{event.epoch} {event.epochs} {event.loss}\n")
                stream.flush()

            record = _record(order.data.load(), order.task, report)
            write_record(order.record, record)
        outcome = Outcome(order.place)
    except RcmlMisaError as error:
        outcome = Outcome(order.place, mistake=error)
    except Exception as error:
        outcome = Outcome(order.place, failure=f"{type(error).__name__}: {error}")
    with suppress(OSError):
        order.progress.unlink()
    return outcome


def lost(calls: Any) -> list[Outcome]:
    """Tell of calls of `carry_out`, put together by joblib, that their worker died."""
    return [Outcome(order.place, lost=True) for _, (order,), _ in calls.items]


def died(begun: int) -> str:
    """Say that the workers of a run died."""
    return (
        f"its worker died in each of {begun} tries, as where memory is too small; try fewer --jobs"
    )


def _record(dataset: Dataset, task: Task, report: Callable[[Event], None]) -> RunRecord:
    """Run a task, audit its method where it names parts of an audit, or try a setting."""
    work = audit_task if task.parts else tune_task if task.inner else run_task
    return work(dataset, task, report=report)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread, so that results do not depend on how many there are."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
