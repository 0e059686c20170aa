"""End a worker whose parent is gone; light, since it runs before anything else of a worker."""

from __future__ import annotations

import os
import signal
import threading
import time

__all__ = ["follow_parent"]

LOOK = 0.5  # seconds between two looks at the parent


def follow_parent(parent: int | None = None) -> None:
    """Leave Ctrl-C to the parent, and end this process at once when the parent has ended.

    `parent` is its process number, by default that of whoever is the parent now. On Windows, which
    keeps the number of a parent that is gone, nothing is watched.
    """
    parent = os.getppid() if parent is None else parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK)
    os._exit(1)
