"""SLURM as a backend of joblib: each run is a job, submitted through submitit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from joblib.parallel import ParallelBackendBase
from submitit import AutoExecutor
from submitit.core.utils import FailedJobError, UncompletedJobError

from rcml_misa.runs.orders import lost

__all__ = ["SlurmBackend"]

LOOK = 0.1  # seconds between two looks at the jobs; submitit asks SLURM once a minute


class SlurmBackend(ParallelBackendBase):  # type: ignore[misc]
    """One job of SLURM per call, at most as many at a time as the caller has submitted.

    Parameters
    ----------
    folder : Path
        Which the jobs see; submitit keeps its files there.
    cluster : {"slurm", "local"}
        ``"local"`` starts processes of this machine in place of jobs.
    parameters : mapping
        Of submitit's `AutoExecutor.update_parameters`, such as ``slurm_partition``.
    """

    supports_retrieve_callback = True

    def __init__(
        self,
        *,
        folder: Path,
        cluster: str = "slurm",
        parameters: Mapping[str, Any] | None = None,
        nesting_level: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, **more)
        self.executor = AutoExecutor(folder=folder, cluster=cluster)
        self.executor.update_parameters(**dict(parameters or {}))
        self.waiting: dict[Any, tuple[Any, Callable[[Any], None]]] = {}
        self.lock = threading.Lock()
        self.active = False

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Tell how many jobs there may be at a time; with one joblib would stay in this process."""
        return max(n_jobs, 2)

    def start_call(self) -> None:
        """Begin to look for jobs that have ended."""
        self.active = True
        threading.Thread(target=self._watch, daemon=True).start()

    def stop_call(self) -> None:
        """Look no longer."""
        self.active = False

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> Any:
        """Submit calls as one job; `callback` is called with both when the job has ended."""
        job = self.executor.submit(func)
        if callback is not None:
            with self.lock:
                self.waiting[job] = (func, callback)
        return job

    def retrieve_result_callback(self, out: Any) -> Any:
        """Read what a job returned; one that SLURM ended, by its time limit too, lost its calls."""
        func, job = out
        try:
            return job.result()
        except (FailedJobError, UncompletedJobError):
            return lost(func)

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002
        """Cancel the jobs that wait or run."""
        with self.lock:
            jobs, self.waiting = list(self.waiting), {}
        for job in jobs:
            job.cancel(check=False)

    def _watch(self) -> None:
        while self.active:
            with self.lock:
                ended = [job for job in self.waiting if job.done()]
                calls = [(*self.waiting.pop(job), job) for job in ended]
            for func, callback, job in calls:
                callback((func, job))
            time.sleep(LOOK)
