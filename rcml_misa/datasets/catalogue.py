"""The catalogue of data sets: facts read from `catalogue.toml`, nothing heavy."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from rcml_misa.exceptions import DataError, OptionError, nearest

__all__ = ["CatalogueEntry", "SourceFile", "find_entry", "list_datasets", "parse_entry"]

FORMATS = ("digits", "matlab", "mosi", "imported")
ORIENTATIONS = ("samples-by-features", "features-by-samples")


HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One of the files that a data set is joined from.

    Attributes
    ----------
    name : str
        Of the data set.
    file, repository, commit, path, sha256 : str
        As in `CatalogueEntry`.
    also : dict of str to str
        Other forms of the file that serve as well: name to sha256.
    """

    name: str
    file: str
    repository: str
    commit: str
    path: str
    sha256: str
    also: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the file, pinned to a commit."""
        return f"{HOST}/{self.repository}/{self.commit}/{self.path}"


@dataclass(frozen=True, kw_only=True)
class CatalogueEntry:
    """What is known about a data set without opening it.

    Attributes
    ----------
    name : str
        As it is asked for.
    format : {"matlab", "digits", "mosi", "imported"}
        Which reader opens it; ``"digits"`` is built in and has no file.
    views : dict of str to int
        Name and number of columns of each view, in order.
    samples, classes : int
        Numbers of rows and of classes; 0 classes where a measurement is predicted.
    licence : str
        Licence of the repository that the file comes from.
    citation, note : str
        Who made the data; what to know about it.
    sha256 : str
        Of the file; of the images and labels for ``"digits"``; of the names and sha256 of all
        files where there are several.
    file, repository, commit, path : str
        Name of the file, and where in which public repository it lies.
    keys : dict of str to str
        Names of the variables in the file: ``views`` and ``target``.
    orientation : {"samples-by-features", "features-by-samples"}
        What a row of a view in the file is.
    sources : dict of str to SourceFile
        Role to file, for a set that is joined from several.

    Examples
    --------
    >>> entry = find_entry("LandUse21")
    >>> entry.views, entry.samples, entry.classes
    ({'gist': 20, 'phog': 59, 'lbp': 40}, 2100, 21)
    """

    name: str
    format: str
    views: Mapping[str, int]
    samples: int
    classes: int
    licence: str
    citation: str
    note: str
    sha256: str
    file: str = ""
    repository: str = ""
    commit: str = ""
    path: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    orientation: str = "samples-by-features"
    sources: Mapping[str, SourceFile] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict, init=False)  # as SourceFile has it

    @property
    def built_in(self) -> bool:
        """Whether the set needs no file."""
        return not self.file and not self.sources

    @property
    def url(self) -> str:
        """Address of the file, pinned to a commit; empty for a built-in set or several files."""
        if not self.file or not self.repository:
            return ""
        return f"{HOST}/{self.repository}/{self.commit}/{self.path}"


def parse_entry(name: str, table: Mapping[str, Any]) -> CatalogueEntry:
    """Check one table of a catalogue.

    Parameters
    ----------
    name : str
        Name of the table.
    table : mapping
        Its keys and values, as TOML gives them.

    Returns
    -------
    CatalogueEntry

    Raises
    ------
    DataError
        If a key is missing, unknown or out of its choices.

    Examples
    --------
    >>> parse_entry("Mine", {"format": "csv"})
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: catalogue table 'Mine' lacks the key citation, classes, ...
    """
    known = {item.name for item in fields(CatalogueEntry) if item.init} - {"name"}
    needed = {"format", "views", "samples", "classes", "licence", "citation", "note", "sha256"}
    if table.get("format") == "matlab":
        needed |= {"file", "repository", "commit", "path", "keys", "orientation"}
    where = f"catalogue table {name!r}"
    if missing := sorted(needed - set(table)):
        raise DataError(f"{where} lacks the key {', '.join(missing)}; add what is missing.")
    if unknown := sorted(set(table) - known):
        raise DataError(f"{where} has an unknown key {unknown[0]!r}; {nearest(unknown[0], known)}")
    given = dict(table)
    if "sources" in given:
        given["sources"] = _sources(name, where, given["sources"])
    entry = CatalogueEntry(name=name, **given)
    if entry.format not in FORMATS:
        raise DataError(f"{where} has format {entry.format!r}; choose from {', '.join(FORMATS)}.")
    if entry.orientation not in ORIENTATIONS:
        raise DataError(
            f"{where} has orientation {entry.orientation!r}; choose from {', '.join(ORIENTATIONS)}."
        )
    if entry.format == "matlab" and set(entry.keys) != {"views", "target"}:
        raise DataError(f"{where} must name two keys, views and target, not {sorted(entry.keys)}.")
    return entry


def _toml(file: str) -> dict[str, Any]:
    text = files("rcml_misa.datasets").joinpath(file).read_text(encoding="utf-8")
    return tomllib.loads(text)


def _sources(name: str, where: str, roles: Any) -> dict[str, SourceFile]:
    """Look the files up that a set is joined from."""
    known = _toml("sources.toml")
    if not isinstance(roles, list) or (wrong := [role for role in roles if role not in known]):
        missing = "no list" if not isinstance(roles, list) else f"an unknown source {wrong[0]!r}"
        raise DataError(f"{where} has {missing}; sources.toml knows {', '.join(known)}.")
    return {role: SourceFile(name=name, **known[role]) for role in roles}


def list_datasets() -> tuple[CatalogueEntry, ...]:
    """All data sets of the catalogue, in its order.

    Returns
    -------
    tuple of CatalogueEntry

    Examples
    --------
    >>> [entry.name for entry in list_datasets()]
    ['digits', 'PIE', 'HandWritten', 'Scene15', 'CUB', 'LandUse21', 'MOSI', 'MOSI-words']
    """
    return tuple(parse_entry(name, table) for name, table in _toml("catalogue.toml").items())


def find_entry(name: str) -> CatalogueEntry:
    """Facts about one data set.

    Parameters
    ----------
    name : str
        Its name in the catalogue, or the one under which it was imported.

    Returns
    -------
    CatalogueEntry

    Raises
    ------
    OptionError
        If there is no such data set.

    Examples
    --------
    >>> find_entry("PIE").classes
    68
    >>> find_entry("PEI")
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: there is no data set 'PEI'; did you mean PIE?
    """
    entries = {entry.name: entry for entry in list_datasets()}
    if name in entries:
        return entries[name]
    from rcml_misa.datasets.records import find_imported, list_imported

    found = find_imported(name)
    if found is None:
        known = [*entries, *(entry.name for entry in list_imported())]
        raise OptionError(f"there is no data set {name!r}; {nearest(name, known)}")
    return found
