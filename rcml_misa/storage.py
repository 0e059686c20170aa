"""Files written whole or not at all, and their sha256."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from rcml_misa.exceptions import DataError, shortened

__all__ = ["file_sha256", "files_sha256", "require_file", "whole_file", "write_text"]

REMEDY = "free some space or give another folder"


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
