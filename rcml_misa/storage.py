"""Files written whole or not at all, and their sha256."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from rcml_misa.exceptions import DataError

__all__ = [
    "file_sha256",
    "files_sha256",
    "sweep",
    "sweep_work",
    "whole_file",
    "work_folder",
    "write_text",
]

REMEDY = "free some space or give another folder"
TEMPORARY = re.compile(r"\.writing-[0-9a-f]{32}")  # start of the names of unfinished files
WORK = ".rcml-misa-work-"  # begins the name of a folder for one command's own files
HOUR = 3600.0  # seconds
SETTLED = 5.0  # seconds after which a work folder without a lock has no owner


@contextmanager
def whole_file(path: Path, *, remedy: str = REMEDY, make_folder: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of `path` once it is whole.

    The temporary file has the ending of `path` and is removed whatever happens. A file that can't
    be written is a DataError whose way out is `remedy`; `make_folder` makes the folder of `path`
    where it does not exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "numbers.txt") as temporary:
    ...         _ = temporary.write_text("1 2 3")
    ...     sorted(file.name for file in Path(folder).iterdir())
    ['numbers.txt']
    """
    temporary = path.with_name(f".writing-{uuid4().hex}{path.suffix}")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path} can't be written ({reason}); {remedy}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, *, age: float = HOUR) -> int:
    """Remove what killed processes left unfinished in a folder, and count it.

    Parameters
    ----------
    folder : Path
        Only files directly in it, with the names that `whole_file` gives; a folder that does not
        exist has none.
    age : float
        Seconds since the last change of a file, from which on it is removed; 0 removes all, those
        that another process is writing too.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     leftover = Path(name) / f".writing-{uuid4().hex}.rcml"
    ...     _ = leftover.write_bytes(b"half a mod")
    ...     sweep(Path(name)), sweep(Path(name), age=0)
    (0, 1)
    """
    latest, count = time.time() - age, 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.match(entry.name):
                with suppress(OSError):  # another process may remove it meanwhile
                    if entry.is_file(follow_symlinks=False) and (
                        age <= 0 or entry.stat(follow_symlinks=False).st_mtime <= latest
                    ):
                        os.unlink(entry.path)
                        count += 1
    return count


def write_text(path: Path, text: str, *, remedy: str = REMEDY) -> None:
    """Write a text file in UTF-8, whole or not at all; see `whole_file`."""
    with whole_file(path, remedy=remedy) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Compute the hexadecimal sha256 of a file's bytes; an OSError if it can't be read."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """Compute the hexadecimal sha256 of the lines "file sha256" of several files."""
    lines = [f"{path.name} {file_sha256(path)}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextmanager
def work_folder(place: Path | None = None) -> Iterator[Path]:
    """Give a private folder in `place`, or among the system's temporary files, and remove it.

    What killed processes left there is removed too.
    """
    import shutil
    import tempfile

    from filelock import FileLock

    base = Path(tempfile.gettempdir()) if place is None else place
    sweep_work(base)
    try:
        folder = Path(tempfile.mkdtemp(prefix=WORK, dir=base)).resolve()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{base} can't be written to ({reason}); {REMEDY}.") from error
    lock = FileLock(folder / ".lock")
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep_work(base: Path) -> None:
    """Remove the work folders of processes that are gone."""
    import shutil

    from filelock import FileLock, Timeout

    for folder in base.glob(f"{WORK}*"):
        try:
            if time.time() - folder.stat().st_mtime > SETTLED:
                with FileLock(folder / ".lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):  # it is in use, or another user's
            continue
