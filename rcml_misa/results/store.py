"""A folder of run records: one JSON file each, written whole, read with care, locked in use."""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from rcml_misa.exceptions import DataError, RecordWarning, shortened
from rcml_misa.results.records import RunRecord
from rcml_misa.storage import acquired, sweep, write_text

__all__ = ["RunStore", "read_folder", "read_record", "record_stem", "write_record"]

PATTERN = "*-seed*.json"
#: Names that records have: since 0.2 with the first digits of their key, which `sealed` holds.
OWN = re.compile(r".+-seed[0-9]+(-(?P<sealed>[0-9a-f]{16}))?\.json", re.DOTALL)
DIGITS = 16  # of the key, in a record's name
LONGEST = 160  # bytes of a name before its seed; file systems take 255 in all
BYTES = 2**24  # largest record that is read; that of a million test rows has 10 MB
NAMED = 5  # files that a warning names each
SET_ASIDE = ".set-aside"
LOCK = ".lock"
REPLACED = ".replaced"  # ends the name of a record whose run is being made anew


def record_stem(*, dataset: str, method: str, variant: str, seed: int, key: str) -> str:
    """Name a run's files, without their endings; names of different runs differ by their key.

    Examples
    --------
    >>> record_stem(dataset="PIE", method="a.b:C", variant="-", seed=0, key="0123456789abcdef0")
    'PIE-a.b_C---seed0-0123456789abcdef'
    """
    readable = re.sub(r"[^\w .+=,()@-]", "_", f"{dataset}-{method}-{variant}")
    readable = readable.encode()[:LONGEST].decode(errors="ignore")
    if readable.startswith("."):  # hidden files are none of the folder's records
        readable = f"_{readable[1:]}"
    return f"{readable}-seed{str(seed)[:20]}-{key[:DIGITS]}"


def write_record(path: Path, record: RunRecord, *, option: str = "--out") -> None:
    """Write a record, whole or not at all; `option` of the command names the folder."""
    write_text(path, record.to_json(), remedy=f"free some space or give another {option} folder")


def read_record(path: Path) -> RunRecord:
    """Read one record; what it says of itself has to fit its file's name.

    Raises
    ------
    DataError
        If the file can't be read, is too large, or is no whole record.
    """
    name = OWN.fullmatch(path.name)
    key = None if name is None else name["sealed"]
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError("it is no file")
        if about.st_size > BYTES:
            raise DataError(f"it has {about.st_size} bytes, more than {BYTES}")
        with path.open("rb") as stream:
            text = stream.read(BYTES).decode("utf-8")
    except OSError as error:
        raise DataError(f"it can't be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError("it is not in UTF-8") from error
    record = RunRecord.from_json(text, sealed=key is not None)
    if key is not None and not record.key.startswith(key):
        raise DataError("it is the record of another run than its name says")
    return record


def read_folder(
    folder: Path, *, keys: Collection[str] | None = None, set_aside: bool = False
) -> dict[Path, RunRecord]:
    """Read the records of a folder, one for each key, and warn of files that are none.

    Parameters
    ----------
    folder : Path
    keys : collection of str, optional
        Keys of the runs that are asked for; all by default. Files that are named by another key
        are not opened.
    set_aside : bool
        Rename what is damaged and named as records are to ``NAME.set-aside``, or with a number
        behind that where there is one. Other files that are no records stay.

    Warns
    -----
    RecordWarning
        For each of the first files that are damaged or no records, and for the number of others.
    """
    wanted = None if keys is None else {key[:DIGITS] for key in keys}
    records: dict[str, tuple[Path, RunRecord]] = {}
    faults: list[str] = []
    for path in sorted(folder.glob(PATTERN)):
        name = OWN.fullmatch(path.name)
        sealed = None if name is None else name["sealed"]
        if sealed is not None and wanted is not None and sealed not in wanted:
            continue
        try:
            record = read_record(path)
        except DataError as error:
            fate = "is left as it is"
            # a folder in the place of a record has to go, one called alike may be anybody's
            if set_aside and name is not None and (sealed is not None or path.is_file()):
                fate = f"is now {_set_aside(path).name[-40:]}"
            shown = shortened(path.name, 90)
            faults.append(f"{shown} is no whole record and {fate}: {shortened(error, 120)}")
            continue
        # of two of one key, that which is named by it is the later one
        if (keys is None or record.key in keys) and (sealed or record.key not in records):
            records[record.key] = (path, record)
    for fault in faults[:NAMED]:
        warnings.warn(fault, RecordWarning, stacklevel=2)
    if len(faults) > NAMED:
        text = f"{len(faults) - NAMED} other files in {folder} are no whole records either"
        warnings.warn(text, RecordWarning, stacklevel=2)
    return dict(records.values())


def _set_aside(path: Path) -> Path:
    """Rename a damaged record; nothing is written over."""
    place, number = path.with_name(f"{path.name}{SET_ASIDE}"), 2
    while place.exists() or place.is_symlink():
        place = path.with_name(f"{path.name}{SET_ASIDE}-{number}")
        number += 1
    try:
        path.rename(place)
    except OSError as error:
        raise DataError(
            f"{path} is damaged and can't be renamed ({error.strerror or error}); move it away."
        ) from error
    return place


class RunStore:
    """A folder of run records, one JSON file each, named by what the run is.

    Records of other settings stand beside each other: a file's name ends with the first digits of
    `RunRecord.key`.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.
    option : str
        Option of the command that names the folder, for an error's way out.

    Raises
    ------
    DataError
        If the folder can't be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     RunStore(Path(folder)).read()
    []
    """

    def __init__(self, folder: Path, *, option: str = "--out") -> None:
        self.folder, self.option = folder, option
        probe = folder / f".writing-{uuid4().hex}.probe"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                probe.write_bytes(bytes(4096))
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(
                f"the folder {shortened(folder, 120)} can't be written to "
                f"({error.strerror or error}); give another {option}."
            ) from error

    def path(self, record: RunRecord) -> Path:
        """Name the file of a record."""
        stem = record_stem(
            dataset=record.dataset,
            method=record.method,
            variant=record.variant,
            seed=record.seed,
            key=record.key,
        )
        return self.folder / f"{stem}.json"

    def write(self, record: RunRecord) -> Path:
        """Write one record, whole or not at all; an earlier one of the same key is replaced."""
        path = self.path(record)
        write_record(path, record, option=self.option)
        return path

    def read(self) -> list[RunRecord]:
        """Read all records of the folder, by file name; see `read_folder` for what is no record."""
        return list(read_folder(self.folder).values())

    def find(self, keys: Collection[str]) -> dict[str, tuple[Path, RunRecord]]:
        """Read the records of these keys with their files; damaged ones are set aside."""
        records = read_folder(self.folder, keys=keys, set_aside=True)
        return {record.key: (path, record) for path, record in records.items()}

    @contextmanager
    def locked(self, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the folder for one session, and clear away what a killed one left half written.

        `waiting` is called once where another session holds it, before waiting for its end.

        Raises
        ------
        DataError
            If the folder's lock can't be made.
        """
        try:
            lock = acquired(self.folder / LOCK, waiting=waiting)
        except OSError as error:
            raise DataError(
                f"{self.folder} can't be locked ({error.strerror or error}); give another "
                f"{self.option}."
            ) from error
        try:
            sweep(self.folder, age=0)
            self._bring_back()
            yield
        finally:
            self._bring_back()
            lock.release()

    def replace(self, paths: Iterable[Path]) -> None:
        """Put records out of sight, whose runs are to be made anew, while the folder is `locked`.

        At its end, or when a later session begins, those that have no successor are back.
        """
        for path in paths:
            path.replace(path.with_name(f"{path.name}{REPLACED}"))

    def _bring_back(self) -> None:
        for hidden in self.folder.glob(f"{PATTERN}{REPLACED}"):
            record = hidden.with_name(hidden.name.removesuffix(REPLACED))
            with suppress(OSError):
                if record.exists():
                    hidden.unlink()
                else:
                    hidden.rename(record)
