"""Runs over worker processes, or in this one."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any

from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import RcmlMisaError
from rcml_misa.results import RunRecord
from rcml_misa.runs.audit import audit_task
from rcml_misa.runs.single import run_task
from rcml_misa.runs.tasks import Event, RunFailure, Task
from rcml_misa.runs.tuning import tune_task

__all__ = ["execute", "interrupts_deferred"]

POLL = 0.1  # seconds between looks at the workers' progress

_worker: dict[str, Any] = {}  # what a worker process was started with


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
    return _carry_out(_worker["datasets"][task.dataset], task, events.put)


def _carry_out(dataset: Dataset, task: Task, report: Callable[[Event], None]) -> RunRecord:
    """Run a task, audit its method where it names parts of an audit, or try a setting."""
    work = audit_task if task.parts else tune_task if task.inner else run_task
    return work(dataset, task, report=report)


def execute(
    datasets: Sequence[Dataset],
    tasks: Sequence[Task],
    *,
    jobs: int,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Iterator[RunRecord | RunFailure]:
    """Run the tasks in `jobs` worker processes, or in this one, and yield records as they end.

    Each worker gets the data sets, which the tasks number, once; 1 job runs in this process, in
    which `on_event` is called with the tasks' progress. The first user's mistake that a task finds
    is raised as an `RcmlMisaError`, and tasks that wait are dropped.
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
        # children inherit a blocked interrupt, so that none dies of it while it starts
        with interrupts_deferred():
            pending = {pool.submit(_work, task): task for task in tasks}
        waiting = set(pending)
        while waiting:
            done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
            with suppress(queue.Empty):
                while True:
                    on_event(events.get_nowait())
            for future in done:
                on_event(Event(pending[future], done=True))
                error = future.exception()
                yield future.result() if error is None else _failure(pending[future], error)
        finished = True
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)
        if not finished:
            for child in multiprocessing.active_children():
                child.terminate()


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold Ctrl-C back until the end, and block it for children that start meanwhile.

    It works in the main thread; no interrupt arrives elsewhere.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    mask = None
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if previous is not None:
            signal.signal(signal.SIGINT, previous)
        if caught:
            raise KeyboardInterrupt


def _failure(task: Task, error: BaseException) -> RunFailure:
    """Note an error of one run, which must not take the others along, but raise a user's."""
    if isinstance(error, RcmlMisaError):
        raise error
    return RunFailure(task, f"{type(error).__name__}: {error}")


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
                yield _carry_out(datasets[task.dataset], task, on_event)
            except Exception as error:
                yield _failure(task, error)
            on_event(Event(task, done=True))
    finally:
        limits.restore_original_limits()
        torch.set_num_threads(threads)
