"""Files written whole or not at all, and their sha256."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from rcml_misa.exceptions import DataError, shortened

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = [
    "acquired",
    "check_writable",
    "file_sha256",
    "files_sha256",
    "require_file",
    "sweep",
    "whole_file",
    "work_folder",
    "write_text",
]

REMEDY = "free some space or give another folder"
TEMPORARY = re.compile(r"\.writing-[0-9a-f]{32}")  # start of the names of unfinished files
WORK = ".rcml-misa-work-"  # begins the name of a folder for one command's own files
PROBE = bytes(2**16)  # a disk may be full although it takes the names of new files
HOUR = 3600.0  # seconds


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
    temporary = _temporary(path)
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{shortened(path, 140)} can't be written ({reason}); {remedy}.") from error
    finally:
        with suppress(OSError):  # of a folder that has become read-only
            temporary.unlink(missing_ok=True)


def check_writable(path: Path, *, remedy: str = REMEDY) -> None:
    """Check that a file can be written, before the work that it is to hold.

    A small temporary file is written beside it and removed; an existing file stays as it is.

    Raises
    ------
    DataError
        If the folder does not exist, is read-only or full, or `path` is a folder or a device.

    Examples
    --------
    >>> check_writable(Path("no such folder/model.rcml"))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: no such folder/model.rcml can't be written (No such file or ...
    """
    name, way_out = shortened(path, 140), "give the name of a file"
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # fails for names that can't be
        if path.is_dir():
            raise DataError(f"{name} can't be written (it is a folder); {way_out} in it.")
        if path.exists() and not path.is_file():
            raise DataError(f"{name} can't be written (it is a device or a pipe); {way_out}.")
        temporary = _temporary(path)
        try:
            temporary.write_bytes(PROBE)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{name} can't be written ({reason}); {remedy}.") from error


def _temporary(path: Path) -> Path:
    """Name an unfinished file beside `path`, with its ending."""
    return path.with_name(f".writing-{uuid4().hex}{path.suffix}")


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


def require_file(path: Path, *, what: str = "data file") -> None:
    """Refuse what is there and no regular file: a pipe, a device, a socket.

    Reading one may wait for ever, or never end. Links are followed; a path that is not there, and
    a folder, are left to the caller.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
        kind = next((word for test, word in kinds if test(mode)), "device")
        raise DataError(f"{shortened(path)} is a {kind} and no {what}; give a regular file.")


def file_sha256(path: Path) -> str:
    """Compute the hexadecimal sha256 of a regular file's bytes; an OSError if it can't be read."""
    require_file(path)
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """Compute the hexadecimal sha256 of the lines "file sha256" of several files."""
    lines = [f"{path.name} {file_sha256(path)}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def acquired(path: Path, *, waiting: Callable[[], None] = lambda: None) -> FileLock:
    """Lock a file, and call `waiting` once before waiting for another process that holds it.

    The system lets go of the lock of a process that is killed. An OSError if it can't be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire(poll_interval=0.2)
    return lock


@contextmanager
def work_folder(place: Path | None = None) -> Iterator[Path]:
    """Give a private folder in `place`, or among the system's temporary files, and remove it.

    What killed processes left there is removed too.
    """
    import shutil
    import tempfile

    from filelock import FileLock

    base = Path(tempfile.gettempdir()) if place is None else place
    _sweep_work(base)
    folder = base.resolve() / f"{WORK}{uuid4().hex}"
    lock = FileLock(_lock_of(folder))
    try:
        try:
            lock.acquire()  # before there is a folder, so that one without a lock has no owner
            folder.mkdir(mode=0o700)
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{base} can't be written to ({reason}); {REMEDY}.") from error
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            _lock_of(folder).unlink(missing_ok=True)
        lock.release()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _sweep_work(base: Path) -> None:
    """Remove the work folders of processes that are gone."""
    import shutil

    from filelock import FileLock, Timeout

    for path in base.glob(f"{WORK}*"):
        try:
            if path.suffix == ".lock":  # one without a folder may be about to get it
                if time.time() - path.lstat().st_mtime > HOUR and not path.with_suffix("").exists():
                    path.unlink()
            elif not path.is_symlink():
                with FileLock(_lock_of(path), timeout=0):
                    shutil.rmtree(path, ignore_errors=True)
                    _lock_of(path).unlink(missing_ok=True)
        except (Timeout, OSError):  # it is in use, or another user's
            continue
