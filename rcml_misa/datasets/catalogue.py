"""Entries of data sets: those of this package, imported ones, and files of the user's own."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from rcml_misa.datasets.store import cache_folder
from rcml_misa.exceptions import DataError, nearest, shortened, validated
from rcml_misa.storage import whole_file

__all__ = [
    "CatalogueEntry",
    "FileOptions",
    "SourceFile",
    "imported_entry",
    "imported_file",
    "list_catalogue",
    "list_imported",
    "list_own",
    "own_catalogue",
    "own_entry",
    "parse_entry",
    "write_imported",
    "write_own",
]

Format = Literal["digits", "matlab", "mosi", "imported", "own"]
Orientation = Literal["samples-by-features", "features-by-samples"]
HOST = "https://raw.githubusercontent.com"
IMPORTED = "imported"  # folder in the cache
IMPORTED_KEYS = (
    "format", "views", "samples", "classes", "licence", "citation", "note", "sha256", "file"
)  # fmt: skip
OWN_KEYS = ("file", "sha256", "samples", "classes", "views")
OPTIONS_01 = {"target": "target", "columns": "views", "id": "id"}  # as version 0.1 wrote them
REQUIRED = {
    "matlab": ("file", "repository", "commit", "path", "keys", "orientation"),
    "imported": ("file",),
    "own": ("file",),
}


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Target, views and identifier of a file as a user names them; None leaves it to usual names.

    Attributes
    ----------
    target : str, optional
        Name of the label column or array.
    views : str, optional
        Such as ``"a=col1:col20,b=prefix_"``; see `table_layout` and `array_layout`.
    id : str, optional
        Name of the column that identifies rows.
    """

    target: str | None = None
    views: str | None = None
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of a data set.

    Attributes
    ----------
    name : str
        Name of the data set.
    sha256 : str
        Expected hash of the file.
    file : str
        Name of the file in the folders that are looked in.
    repository, commit, path : str
        Public repository, version and place that the file comes from.
    also : dict of str to str
        Other forms of the file that serve as well: name to sha256.
    """

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
    name : str
        Name to ask for.
    format : {"matlab", "digits", "mosi", "imported", "own"}
        Reader of the files; ``"digits"`` is built in and has none.
    views : dict of str to int
        Name and number of columns of each view, in order.
    samples, classes : int
        Numbers of rows and of classes; 0 classes where a measurement is predicted.
    licence : str
        Licence of the repository that the file comes from.
    citation, note : str
        Authors of the data; remarks on their use.
    sha256 : str
        Hash of the file; of the images and labels for ``"digits"``; of the names and sha256 of all
        files where there are several.
    file, repository, commit, path, also
        As in `SourceFile`; the absolute path of a file or folder of the user's own.
    keys : dict of str to str
        Names of the variables in a MATLAB file: ``views`` and ``target``.
    orientation : {"samples-by-features", "features-by-samples"}
        Meaning of a row of a view in the file.
    sources : dict of str to SourceFile
        Role to file, for a set that is joined from several.
    options : FileOptions
        Columns of a file of the user's own.

    Examples
    --------
    >>> from rcml_misa.datasets import find_entry
    >>> entry = find_entry("LandUse21")
    >>> entry.views, entry.samples, entry.classes
    ({'gist': 20, 'phog': 59, 'lbp': 40}, 2100, 21)
    """

    format: Format
    views: Mapping[str, int]
    samples: int
    classes: int
    licence: str
    citation: str
    note: str
    keys: Mapping[str, str] = field(default_factory=dict)
    orientation: Orientation = "samples-by-features"
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
    text = files("rcml_misa.datasets").joinpath(file).read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def list_catalogue() -> tuple[CatalogueEntry, ...]:
    """All data sets of this package, in the order of `catalogue.toml`."""
    return tuple(parse_entry(name, table) for name, table in _toml("catalogue.toml").items())


def imported_file(name: str) -> Path:
    """Path of the npz of an imported set; its entry lies beside it as JSON."""
    return cache_folder() / IMPORTED / f"{name}.npz"


def write_imported(entry: CatalogueEntry) -> None:
    """Write the entry of an imported set."""
    table = {key: getattr(entry, key) for key in IMPORTED_KEYS}
    _write_json(imported_file(entry.name).with_suffix(".json"), table)


def imported_entry(name: str) -> CatalogueEntry | None:
    """Read the entry of an imported set; None if there is none, a DataError if it is damaged."""
    path = imported_file(name).with_suffix(".json")
    if "/" in name or "\\" in name or not path.is_file():
        return None
    try:
        return parse_entry(name, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no record of an import ({shortened(error)}); delete it and import {name} "
            "again."
        ) from error


def list_imported() -> tuple[CatalogueEntry, ...]:
    """All imported sets by name."""
    paths = sorted((cache_folder() / IMPORTED).glob("*.json"))
    entries = (imported_entry(path.stem) for path in paths)
    return tuple(entry for entry in entries if entry is not None)


def own_catalogue() -> Path:
    """Path of the user's own catalogue: a JSON file in the user's folder of settings."""
    import platformdirs

    return platformdirs.user_config_path("rcml-misa") / "catalogue.json"


def list_own() -> dict[str, CatalogueEntry]:
    """All data sets of the user's own catalogue, by name.

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
    note = "; ".join(f"--{key} {value}" for key, value in options.items() if value)
    facts = {"format": "own", "licence": "yours", "citation": "", "note": note}
    return parse_entry(name, {**facts, **content})


def write_own(entries: Iterable[CatalogueEntry]) -> None:
    """Write the user's own catalogue."""
    tables = {}
    for entry in entries:
        options = {key: value for key, value in asdict(entry.options).items() if value is not None}
        tables[entry.name] = {key: getattr(entry, key) for key in OWN_KEYS} | {"options": options}
    _write_json(own_catalogue(), tables)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path, make_folder=True) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
