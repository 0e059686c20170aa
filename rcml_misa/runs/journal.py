"""The journal of searches in a folder: Optuna's, held by one process, mended where it was torn."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rcml_misa.exceptions import DataError
from rcml_misa.storage import acquired, whole_file

__all__ = ["JOURNAL", "opened"]

JOURNAL = "journal.log"
LOCK = ".search.lock"


@contextmanager
def opened(
    folder: Path | None, *, waiting: Callable[[], None] = lambda: None
) -> Iterator[tuple[Any, str]]:
    """Open the journal of a folder, for this process alone, and say what was damaged in it.

    Lines from the first damaged one on are cut off, and the whole file is set aside if that is more
    than a torn end; trials that are lost so have their records still. Another process that searches
    in the folder is waited for, after `waiting` is called. Without a folder there is no storage.

    Raises
    ------
    DataError
        If the journal can't be read or written.
    """
    if folder is None:
        yield None, ""
        return
    try:
        lock = acquired(folder / LOCK, waiting=waiting)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{folder} can't be used ({reason}); give another --out.") from error
    try:
        yield _storage(folder / JOURNAL, lock)
    finally:
        lock.release()


class _Held:
    """A journal's lock, which this process holds anyway; none outlives it, as a link would."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _storage(path: Path, lock: Any) -> tuple[Any, str]:
    """Open a journal, mended where need be; storage and note."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    held: Any = _Held(lock)
    note = _mend(path)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=held)), note
    except Exception:  # lines that are JSON but tell of no study fail in many ways
        note = _set_aside(path, b"")
        return JournalStorage(JournalFileBackend(str(path), lock_obj=held)), note


def _mend(path: Path) -> str:
    """Cut a journal off at its first damaged line, such as one torn by a kill."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no file; remove it, or give another --out.")
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path} can't be read ({reason}); give another --out.") from error
    whole = 0
    for line in io.BytesIO(content):
        if not _is_entry(line):
            break
        whole += len(line)
    if whole == len(content):
        return ""
    if b"\n" in content[whole:]:
        return _set_aside(path, content[:whole])
    with whole_file(path) as temporary:
        temporary.write_bytes(content[:whole])
    return f"the last line of {path}, which a kill left torn, is cut off"


def _is_entry(line: bytes) -> bool:
    """Whether a line is an entry of a journal, with its end."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return line.endswith(b"\n") and isinstance(entry, dict) and {"op_code", "worker_id"} <= {*entry}


def _set_aside(path: Path, sound: bytes) -> str:
    """Keep the sound part of a damaged journal in its place, and the file under another name."""
    numbers = (f"{path.name}.damaged{number or ''}" for number in range(1000))
    aside = next(path.with_name(name) for name in numbers if not path.with_name(name).exists())
    with whole_file(aside) as temporary:
        temporary.write_bytes(path.read_bytes())
    with whole_file(path) as temporary:
        temporary.write_bytes(sound)
    lines = len(sound.splitlines())
    return (
        f"{path} was damaged; it is set aside as {aside.name}, {lines} sound lines stay; trials "
        "that it lost are taken from their records"
    )
