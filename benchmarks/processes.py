"""Commands in processes of their own: seconds and peak memory, within bounds.

Peak memory is the resident memory of a process and all its descendants together, sampled every
50 ms, or the largest that Linux counted of one of them, whichever is more. (`ru_maxrss` would hold
the memory of whoever started the process, too.) Pages of a mapped file count while resident.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

__all__ = ["ONE_CORE", "Ending", "Usage", "commit_of", "run_bounded"]

Ending = Literal["done", "failed", "time", "memory"]

INTERVAL = 0.05  # seconds between two samples
#: Environment in which numerical libraries use one thread.
ONE_CORE = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT"), "1"
)


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes
    ----------
    ending : {"done", "failed", "time", "memory"}
        Whether it ended well, with an error, or was stopped for want of time or memory.
    seconds, processor, peak_mb : float
        Wall-clock and processor seconds, and megabytes (1e6 bytes), of the process and its
        descendants.
    output, error : str
        What it wrote to stdout, and the last line that it wrote to stderr.
    """

    ending: Ending
    seconds: float
    processor: float
    peak_mb: float
    output: str
    error: str


def run_bounded(
    command: Sequence[str],
    *,
    seconds: float,
    gigabytes: float,
    environment: Mapping[str, str] | None = None,
) -> Usage:
    r"""Run a command on one core and stop it, with its descendants, beyond its bounds.

    Parameters
    ----------
    command : sequence of str
    seconds, gigabytes : float
        Most wall-clock seconds, and most memory of all its processes together.
    environment : mapping, optional
        Variables beside those of this process and `ONE_CORE`.

    Examples
    --------
    >>> import sys
    >>> run_bounded([sys.executable, "-c", "print(1)"], seconds=60, gigabytes=1).output
    '1\n'
    """
    variables = {**os.environ, **ONE_CORE, **(environment or {})}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        started, before = time.perf_counter(), _processor()
        process = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=error, env=variables, start_new_session=True
        )
        try:
            ending, peak = _watch(process, started + seconds, 1e9 * gigabytes)
        finally:
            _end(process)
        took = time.perf_counter() - started
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        last = (texts[1].strip().splitlines() or [""])[-1]
        if ending == "done" and process.returncode:
            ending = "failed"
        return Usage(ending, took, _processor() - before, peak / 1e6, texts[0], last)


def commit_of(folder: Path) -> str:
    """Short name of the commit of a checkout; empty where it can't be told."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def _processor() -> float:
    """Processor seconds of all descendants that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _watch(process: subprocess.Popen[bytes], deadline: float, most: float) -> tuple[Ending, float]:
    """Sample memory until a process ends or passes its bounds; the reason and the peak, bytes."""
    root, peak = psutil.Process(process.pid), 0.0
    while True:
        state = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if state is not None:
            return "done", peak
        peak = max(peak, _memory(root))
        if peak > most:
            return "memory", peak
        if time.perf_counter() > deadline:
            return "time", peak
        time.sleep(INTERVAL)


def _memory(root: psutil.Process) -> float:
    """Resident bytes of a process and its descendants now, or the most that one of them had."""
    total, most = 0, 0
    with suppress(psutil.Error):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error, OSError):
                total += process.memory_info().rss
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                if mark := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
                    most = max(most, 1024 * int(mark[1]))
    return float(max(total, most))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process's session."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
