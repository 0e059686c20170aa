"""Carry out work on hostile files in a child process with bounds of time and memory.

``benchmarks/fuzz_files.py``, ``fuzz_models.py`` and ``fuzz_plans.py`` share it. It forks, so that a
process that has loaded everything pays no start-up per file; hence it runs on Linux and macOS.
"""

from __future__ import annotations

import faulthandler
import math
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NoReturn

__all__ = ["Outcome", "attempt"]

LONGEST = 4000  # bytes of a report, which a pipe takes without a reader
UNIT = 1024 if sys.platform == "darwin" else 1  # ru_maxrss counts bytes there, else kilobytes


@dataclass(frozen=True)
class Outcome:
    """End of one piece of work.

    Attributes
    ----------
    kind : {"returned", "raised", "slow", "large", "killed"}
        ``"returned"`` within all bounds; else an exception, too much time, too much memory, or a
        death by a signal or by an exit.
    text : str
        What the work returned, else the exception and its place, the figure, or the signal.
    seconds : float
        Processor time.
    megabytes : float
        Growth of the peak of resident memory, of the work or, where that was ended, of the child
        beyond its parent.
    """

    kind: Literal["returned", "raised", "slow", "large", "killed"]
    text: str
    seconds: float
    megabytes: float

    @property
    def failed(self) -> bool:
        """Whether the work did anything but return within its bounds."""
        return self.kind != "returned"


def attempt(work: Callable[[], str], *, seconds: float, megabytes: int) -> Outcome:
    """Carry out work in a forked child, and tell how it ended.

    Parameters
    ----------
    work : callable
        Called without arguments in the child; what it returns is passed on, shortened. Load what it
        imports before, since the child has the parent's modules.
    seconds : float
        Most processor time. The child is ended a second later, and after five times as much on the
        clock (at least 10 s), as one that waits for something does.
    megabytes : int
        Most resident memory beyond the parent's. Four times as much can be reserved.

    Examples
    --------
    >>> attempt(lambda: "refused", seconds=2, megabytes=100).text
    'refused'
    >>> attempt(lambda: str(1 // 0), seconds=2, megabytes=100).kind
    'raised'
    """
    reader, writer = os.pipe()
    size, resident = _memory()
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _carry_out(work, writer, seconds, size + 4 * megabytes * 2**20)
    os.close(writer)
    deadline = start + max(10.0, 5 * seconds)
    report, late = b"", False
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            late = True
            os.kill(child, signal.SIGKILL)
            break
        if not (part := os.read(reader, 2 * LONGEST)):
            break
        report += part
    os.close(reader)
    _, status, usage = os.wait4(child, 0)
    spent = usage.ru_utime + usage.ru_stime
    grown = max(0.0, usage.ru_maxrss / UNIT / 1024 - resident / 2**20)
    if b"\0" in report:  # the child's own account, without libraries that it does not touch
        figure, _, report = report.partition(b"\0")
        grown = int(figure) / UNIT / 1024
    text = report[1:].decode("utf-8", "replace")
    if late:
        return Outcome("slow", f"ended after {deadline - start:.0f} s", spent, grown)
    if spent > seconds or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return Outcome("slow", f"{spent:.1f} s: {text}", spent, grown)
    if os.WIFSIGNALED(status):
        return Outcome("killed", signal.Signals(os.WTERMSIG(status)).name, spent, grown)
    if not report:
        return Outcome("killed", f"exit {os.waitstatus_to_exitcode(status)}", spent, grown)
    if grown > megabytes:
        return Outcome("large", f"{grown:.0f} MB: {text}", spent, grown)
    return Outcome("returned" if report[:1] == b"+" else "raised", text, spent, grown)


def _memory() -> tuple[int, int]:
    """Return the sizes of the address space and of a child's resident memory, in bytes.

    A child begins without the pages of files, such as libraries, that the parent has mapped.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            pages = [int(word) for word in stream.read().split()[:3]]
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // UNIT * 1024
        return 0, peak
    size, resident, shared = (count * resource.getpagesize() for count in pages)
    return size, resident - shared


def _carry_out(work: Callable[[], str], writer: int, seconds: float, space: int) -> NoReturn:
    """Report the end of the work on a pipe, and end the child without any clearing up."""
    try:
        faulthandler.disable()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = math.ceil(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
        if sys.platform != "darwin":  # which does not keep to it
            resource.setrlimit(resource.RLIMIT_AS, (space, space))
        signal.signal(signal.SIGXCPU, signal.SIG_DFL)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            report = "+" + work()
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(place.filename)}:{place.lineno}"
            report = f"-{type(error).__name__} at {where}: {str(error)[:500]}"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writer, f"{grown}\0{report}".encode("utf-8", "replace")[:LONGEST])
    finally:
        os._exit(0)
