"""A folder of classifiers whose trainings are counted, wait at a gate or kill their worker."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from benchmarks.sessions import until

PATIENCE = 120.0  # seconds that anything may take on a busy machine
MODULE = '''
"""Classifiers that say what happens to them, in the folder that TOYS names."""

import os
import time
from pathlib import Path

from sklearn.dummy import DummyClassifier

PLACE = Path(os.environ["TOYS"])


class Counted(DummyClassifier):
    """Appends its name, the seed that tells its run, and its process to ``trainings``."""

    def fit(self, X, y, sample_weight=None):
        with (PLACE / "trainings").open("a") as stream:
            stream.write(f"{type(self).__name__} {self.random_state} {os.getpid()}\\n")
        return super().fit(X, y, sample_weight)


class Gated(Counted):
    """Waits until there is a file ``gate``."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        while not (PLACE / "gate").exists():
            time.sleep(0.02)
        return self


class Deadly(Counted):
    """Ends its process, as one is ended that takes too much memory."""

    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        os._exit(7)
'''


class Toys:
    """The module ``toys`` in a folder, and what its classifiers have said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = {"cwd": folder, "TOYS": str(folder)}
        (folder / "toys.py").write_text(MODULE)

    def trainings(self) -> list[tuple[str, str, int]]:
        """Name, seed and process of each training that was begun."""
        try:
            lines = (self.folder / "trainings").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(name, seed, int(pid)) for name, seed, pid in map(str.split, lines)]

    def runs(self) -> Counter[tuple[str, str]]:
        """Number of trainings of each run."""
        return Counter((name, seed) for name, seed, _ in self.trainings())

    def at_gate(self, count: int = 1) -> list[int]:
        """Wait until so many trainings have come to the gate; the processes of all that have."""

        def waiting() -> list[int]:
            return [pid for name, _, pid in self.trainings() if name == "Gated"]

        assert until(lambda: len(waiting()) >= count, PATIENCE), f"{self.trainings()}"
        return waiting()

    def open(self) -> None:
        (self.folder / "gate").touch()

    def forget(self) -> None:
        """Close the gate, and forget all trainings."""
        for name in ("gate", "trainings"):
            (self.folder / name).unlink(missing_ok=True)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each record of a folder."""
    paths = {path.name: path.stat() for path in folder.glob("*-seed*.json")}
    return {name: (about.st_ino, about.st_mtime_ns) for name, about in paths.items()}


def leftovers(folder: Path) -> list[str]:
    """Names of hidden files and folders other than locks."""
    return [path.name for path in folder.rglob(".*") if path.name != ".lock"]


def environment() -> dict[str, str]:
    """Let ray be quiet, and every command wide."""
    return {"RAY_DISABLE_IMPORT_WARNING": "1", "COLUMNS": "200", "PATH": os.environ["PATH"]}
