"""Files of data sets: looked for in the user's folders, fetched from a pinned address, verified."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.storage import file_sha256

if TYPE_CHECKING:
    from rcml_misa.datasets.catalogue import CatalogueEntry, SourceFile

__all__ = ["cache_folder", "checked_file", "checked_files", "find_file"]

ENVIRONMENT = "RCML_MISA_DATA"


def cache_folder() -> Path:
    """Folder of the user's cache, for downloads and for what is assembled from them."""
    import pooch

    return Path(pooch.os_cache("rcml-misa"))


def _folders(data_dir: Path | None) -> list[Path]:
    """Folders in the order in which they are looked in."""
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(
            f"the data folder {data_dir} does not exist; create it or give another one."
        )
    named = os.environ.get(ENVIRONMENT)
    return [
        *([data_dir] if data_dir is not None else []),
        *([Path(named).expanduser()] if named else []),
        cache_folder(),
    ]


def _first_with(entry: SourceFile, folders: list[Path]) -> Path | None:
    candidates = (folder / name for folder in folders for name in (entry.file, *entry.also))
    return next((path for path in candidates if path.is_file()), None)


def find_file(entry: CatalogueEntry, *, data_dir: Path | None = None) -> Path | None:
    """Look for a data set's file on this machine, without opening it.

    Parameters
    ----------
    entry : CatalogueEntry
        The data set.
    data_dir : Path, optional
        Folder to look in first; then come the folder in the environment's ``RCML_MISA_DATA``
        and the user's cache.

    Returns
    -------
    Path or None
        The first file of that name, or the folder of a set's files if all are present; None
        if there is none or the set is built in.

    Raises
    ------
    DataError
        If `data_dir` does not exist.
    """
    if entry.built_in:
        return None
    if entry.format == "own":
        return Path(entry.file) if Path(entry.file).exists() else None
    folders = _folders(data_dir)
    paths = [_first_with(source, folders) for source in entry.sources.values() or [entry]]
    if not entry.sources:
        return paths[0]
    return paths[0].parent if paths[0] is not None and all(paths) else None


def checked_files(
    entry: CatalogueEntry, *, data_dir: Path | None = None, download: bool = True
) -> dict[str, Path]:
    """Get the files of a set that is joined from several, by role; see `checked_file`."""
    return {
        role: checked_file(source, data_dir=data_dir, download=download)
        for role, source in entry.sources.items()
    }


def checked_file(
    entry: SourceFile,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    only: Path | None = None,
) -> Path:
    """Get the file of a data set, or one of its files, with the right content.

    A missing file is fetched from its pinned address into the user's cache if `download` allows it.
    With `only`, a folder that need not exist, it is looked for and fetched there alone. A file that
    can't be had, or has another sha256, is a DataError.
    """
    folders = [only] if only is not None else _folders(data_dir)
    path = _first_with(entry, folders)
    if path is not None:
        return _verified(path, entry)
    if not download:
        raise DataError(_missing(entry, folders, "is not on this machine"))
    return _download(entry, folders[-1], looked_in=folders)


def _download(entry: SourceFile, folder: Path, *, looked_in: list[Path]) -> Path:
    if not entry.url:
        raise DataError(
            f"{entry.file} of {entry.name} is gone from {', '.join(map(str, looked_in))}; import "
            "it again with `rcml-misa datasets import`."
        )
    import pooch

    wanted = folder / entry.file
    try:
        path = pooch.retrieve(
            entry.url,
            known_hash=f"sha256:{entry.sha256}",
            fname=wanted.name,
            path=wanted.parent,
        )
    except (OSError, ValueError) as error:  # no network, no such page, a full disk, a wrong sha256
        problem = f"could not be fetched ({shortened(error, 160)})"
        raise DataError(_missing(entry, looked_in, problem)) from error
    return _verified(Path(path), entry)


def _missing(entry: SourceFile, folders: list[Path], problem: str) -> str:
    return (
        f"{entry.file} of {entry.name} {problem}: it is not in "
        f"{', '.join(map(str, folders))}; with a network run `rcml-misa datasets fetch "
        f"{entry.name}`, or put the file into a folder and name it with --data-dir or "
        f"{ENVIRONMENT}, or use the data set digits, which needs no file."
    )


def _verified(path: Path, entry: SourceFile) -> Path:
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    expected = entry.also.get(f"{path.parent.name}/{path.name}", entry.sha256)
    if actual != expected:
        raise DataError(
            f"{path} is not the file of {entry.name} that the catalogue knows: its sha256 is "
            f"{actual}, not {expected}; delete or rename it and run "
            f"`rcml-misa datasets fetch {entry.name}`."
        )
    return path
