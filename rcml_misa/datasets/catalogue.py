"""Entries of data sets (this package's, imported ones, the user's own), and their checked files."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from rcml_misa.exceptions import DataError, nearest, shortened, validated
from rcml_misa.storage import file_sha256, whole_file

__all__ = ["CatalogueEntry", "FileOptions", "SourceFile", "find_file", "parse_entry"]

ENVIRONMENT = "RCML_MISA_DATA"
HOST = "https://raw.githubusercontent.com"
IMPORTED = "imported"  # folder in the cache
OWN_KEYS = ("file", "sha256", "samples", "classes", "views")
OPTIONS_01 = {"target": "target", "columns": "views", "id": "id"}  # as version 0.1 wrote them
REQUIRED = {
    "matlab": ("file", "repository", "commit", "path", "keys", "orientation"),
    "mogonet": ("sources",),
    "imported": ("file",),
    "own": ("file",),
}


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Reading of a file as a user asks for it; None leaves a choice to usual names.

    Attributes
    ----------
    target, id : str, optional
        Column or array of labels, and the column that identifies rows.
    views : str, optional
        Such as ``"a=col1:col20,b=prefix_"``; see `table_layout` and `array_layout`.
    leave_out : str, optional
        Columns, arrays or views that are left out, separated by commas.
    accept_leak : bool
        Whether columns that look like copies of the label are read all the same.
    split_column, group_column, weight_column : str, optional
        Columns or arrays that tell the part (train, valid, test), the group and the weight of each
        row.
    test_file : str, optional
        Path of a second file of the same layout, whose rows are the test rows of the set's split.
    zero_is_missing : bool
        Whether a row of zeros lacks the view.
    regression : bool
        Whether the target holds scores, of any real value, in place of classes.
    """

    target: str | None = None
    views: str | None = None
    id: str | None = None
    leave_out: str | None = None
    accept_leak: bool = False
    split_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    test_file: str | None = None
    zero_is_missing: bool = False
    regression: bool = False

    @property
    def task(self) -> Literal["classification", "regression"]:
        """Kind of the target."""
        return "regression" if self.regression else "classification"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of the data set `name`, with its expected hash; fields as in `CatalogueEntry`."""

    name: str
    sha256: str
    file: str = ""
    repository: str = ""
    commit: str = ""
    path: str = ""
    also: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the file, pinned to a commit; empty where it has none."""
        if not self.file or not self.repository:
            return ""
        return f"{HOST}/{self.repository}/{self.commit}/{self.path}"


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry(SourceFile):
    """Facts about a data set that need no look into its files.

    Attributes
    ----------
    name, file : str
        Name of the set, and of its file in the folders that are looked in; the absolute path of a
        file or folder of the user's own.
    repository, commit, path : str
        Public repository, version and place that the file comes from.
    also : dict of str to str
        Other forms of the file that serve as well: name to sha256.
    format : {"matlab", "digits", "mogonet", "mosi", "imported", "own"}
        Reader of the files; ``"digits"`` is built in and has none.
    views : dict of str to int
        Name and number of columns of each view, in order.
    samples, classes : int
        Numbers of rows and of classes; 0 classes where a measurement is predicted.
    licence, citation, note : str
        Licence of the repository; authors of the data; remarks on their use.
    sha256 : str
        Hash of the file; of the images and labels for ``"digits"``; of the names and sha256 of all
        files where there are several.
    keys : dict of str to str
        Names of the variables in a MATLAB file: ``views`` and ``target``.
    orientation : {"samples-by-features", "features-by-samples"}
        Meaning of a row of a view in the file.
    sources : dict of str to SourceFile
        Role to file, for a set that is joined from several.
    options : FileOptions
        Columns of a file of the user's own.
    """

    format: Literal["digits", "matlab", "mogonet", "mosi", "imported", "own"]
    views: Mapping[str, int]
    samples: int
    classes: int
    licence: str
    citation: str
    note: str
    keys: Mapping[str, str] = field(default_factory=dict)
    orientation: Literal["samples-by-features", "features-by-samples"] = "samples-by-features"
    sources: Mapping[str, SourceFile] = field(default_factory=dict)
    options: FileOptions = field(default_factory=FileOptions)

    @property
    def built_in(self) -> bool:
        """Whether the set needs no file."""
        return not self.file and not self.sources


def parse_entry(name: str, table: Mapping[str, Any]) -> CatalogueEntry:
    """Check one table of a catalogue, as TOML or JSON gives it.

    Examples
    --------
    >>> parse_entry("Mine", {"format": "digits"})
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: catalogue table 'Mine' lacks the key citation, classes, ...
    """
    where = f"catalogue table {name!r}"
    content = {**table, "name": name}
    if "sources" in table:
        content["sources"] = _sources(name, where, table["sources"])
    required = REQUIRED.get(str(table.get("format")), ())
    entry = validated(CatalogueEntry, content, where=where, required=required)
    if entry.format == "matlab" and set(entry.keys) != {"views", "target"}:
        raise DataError(f"{where} must name two keys, views and target, not {sorted(entry.keys)}.")
    return entry


def _sources(name: str, where: str, roles: Any) -> dict[str, Any]:
    """Look the files up that a set is joined from."""
    tables = _toml("sources.toml")
    names = [str(role) for role in (roles if isinstance(roles, list) else [roles])]
    for role in names:
        if role not in tables:
            source = shortened(role, 40)
            raise DataError(f"{where} has an unknown source {source!r}; {nearest(role, tables)}")
    return {role: {**tables[role], "name": name} for role in names}


def _toml(file: str) -> dict[str, Any]:
    return tomllib.loads(files("rcml_misa.datasets").joinpath(file).read_text(encoding="utf-8"))


@cache
def list_catalogue() -> tuple[CatalogueEntry, ...]:
    """List the data sets of this package, in the order of `catalogue.toml`."""
    return tuple(parse_entry(name, table) for name, table in _toml("catalogue.toml").items())


# imported sets and the user's own


def imported_file(name: str) -> Path:
    """Name the npz of an imported set; its entry lies beside it as JSON."""
    return cache_folder() / IMPORTED / f"{name}.npz"


def write_imported(name: str, table: Mapping[str, Any]) -> CatalogueEntry:
    """Check and write the entry of an imported set."""
    entry = parse_entry(name, table)
    _write_json(imported_file(name).with_suffix(".json"), table)
    return entry


def imported_entry(name: str) -> CatalogueEntry | None:
    """Read the entry of an imported set; None if there is none, a DataError if it is damaged."""
    path = imported_file(name).with_suffix(".json")
    if "/" in name or "\\" in name or not os.path.isfile(path):
        return None
    try:
        return parse_entry(name, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no record of an import ({shortened(error)}); delete it and import {name} "
            "again."
        ) from error


def list_imported() -> tuple[CatalogueEntry, ...]:
    """List the imported sets by name."""
    paths = sorted((cache_folder() / IMPORTED).glob("*.json"))
    return tuple(entry for path in paths if (entry := imported_entry(path.stem)) is not None)


def own_catalogue() -> Path:
    """Name the user's own catalogue: a JSON file in the user's folder of settings."""
    import platformdirs

    return platformdirs.user_config_path("rcml-misa") / "catalogue.json"


def list_own() -> dict[str, CatalogueEntry]:
    """Read the data sets of the user's own catalogue, by name.

    Where version 0.1 left a catalogue in TOML and none in JSON exists, that one is read. A damaged
    catalogue is a DataError.
    """
    path = own_catalogue()
    read: Callable[[str], Any] = json.loads
    if not path.exists() and (older := path.with_suffix(".toml")).exists():
        path, read = older, tomllib.loads
    try:
        tables = read(path.read_text(encoding="utf-8"))
        return {name: own_entry(name, table) for name, table in tables.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} can't be read ({shortened(error)}); mend or delete it.") from error


def own_entry(name: str, table: Mapping[str, Any]) -> CatalogueEntry:
    """Check one table of the user's own catalogue, which needs neither views nor options."""
    content = {"views": {}, **table}
    older = {new: content.pop(old) for old, new in OPTIONS_01.items() if old in content}
    content["options"] = options = {**older, **content.get("options", {})}
    given = {key.replace("_", "-"): value for key, value in options.items() if value}
    if given.pop("regression", False):
        given["task"] = "regression"
    note = "; ".join(f"--{key}" if v is True else f"--{key} {v}" for key, v in given.items())
    facts = {"format": "own", "licence": "yours", "citation": "", "note": note}
    return parse_entry(name, {**facts, **content})


def write_own(entries: Iterable[CatalogueEntry]) -> None:
    """Write the user's own catalogue."""
    tables = {}
    for entry in entries:
        options = {key: value for key, value in asdict(entry.options).items() if value}
        tables[entry.name] = {key: getattr(entry, key) for key in OWN_KEYS} | {"options": options}
    _write_json(own_catalogue(), tables)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path, make_folder=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


# files


def cache_folder() -> Path:
    """Name the user's cache, for downloads and for what is assembled from them."""
    import pooch

    return Path(pooch.os_cache("rcml-misa"))


def _folders(data_dir: Path | None) -> list[Path]:
    """List the folders in the order in which they are looked in."""
    if data_dir is not None and not data_dir.is_dir():
        raise DataError(
            f"the data folder {data_dir} does not exist; create it or give another one."
        )
    named = os.environ.get(ENVIRONMENT)
    environment = Path(named).expanduser() if named else None
    return [folder for folder in (data_dir, environment, cache_folder()) if folder is not None]


def _first_with(entry: SourceFile, folders: list[Path]) -> Path | None:
    candidates = (folder / name for folder in folders for name in (entry.file, *entry.also))
    return next((path for path in candidates if path.is_file()), None)


def find_file(entry: CatalogueEntry, *, data_dir: Path | None = None) -> Path | None:
    """Look for a data set's file on this machine, without opening it.

    The first folder is `data_dir`, and a DataError if it does not exist; then come the folder in
    the environment's ``RCML_MISA_DATA`` and the user's cache. The result is the first file of that
    name, or the folder of a set's files if all are present; None if there is none or the set is
    built in.
    """
    if entry.built_in:
        return None
    if entry.format == "own":
        return Path(entry.file) if Path(entry.file).exists() else None
    folders = _folders(data_dir)
    paths = [_first_with(source, folders) for source in entry.sources.values() or [entry]]
    if paths[0] is None or not all(paths):
        return None
    return paths[0].parent if entry.sources else paths[0]


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
    if path is None:
        if not download:
            raise DataError(_missing(entry, folders, "is not on this machine"))
        path = _download(entry, folders)
    try:
        actual = file_sha256(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    expected = entry.also.get(f"{path.parent.name}/{path.name}", entry.sha256)
    if actual != expected:
        raise DataError(
            f"{shortened(path, 110)} is not the file of {entry.name} that the catalogue knows: its "
            f"sha256 begins with {actual[:12]}, not {expected[:12]}; delete or rename it and run "
            f"`rcml-misa datasets fetch {entry.name}`."
        )
    return path


def _download(entry: SourceFile, folders: list[Path]) -> Path:
    """Fetch a file into the last of the folders that were looked in."""
    if not entry.url:
        raise DataError(
            f"{entry.file} of {entry.name} is gone from {', '.join(map(str, folders))}; import "
            "it again with `rcml-misa datasets import`."
        )
    import pooch

    path = folders[-1] / entry.file
    known_hash = f"sha256:{entry.sha256}"
    try:
        fetched = pooch.retrieve(
            entry.url, known_hash=known_hash, fname=path.name, path=path.parent
        )
    except (OSError, ValueError) as error:  # no network, no such page, a full disk, a wrong sha256
        problem = f"could not be fetched ({shortened(error, 40)})"
        raise DataError(_missing(entry, folders, problem)) from error
    return Path(fetched)


def _missing(entry: SourceFile, folders: list[Path], problem: str) -> str:
    places = shortened(", ".join(map(str, folders)), 50)
    return (
        f"{entry.file} of {entry.name} {problem}: it is not in {places}; run `rcml-misa datasets "
        f"fetch {entry.name}`, or name its folder with --data-dir or {ENVIRONMENT}, or use digits, "
        "which needs no file."
    )
