"""Records of the data sets that a user imported, beside their files in the user's cache."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rcml_misa.datasets.catalogue import CatalogueEntry, parse_entry
from rcml_misa.datasets.store import cache_folder
from rcml_misa.exceptions import DataError
from rcml_misa.storage import whole_file

__all__ = ["find_imported", "imported_file", "list_imported", "write_record"]

FOLDER = "imported"  # in the cache
UNUSED = ("name", "also", "repository", "commit", "path", "keys", "orientation", "sources")


def imported_file(name: str) -> Path:
    """Where the npz of an imported set lies, or is going to."""
    return cache_folder() / FOLDER / f"{name}.npz"


def write_record(entry: CatalogueEntry) -> None:
    """Remember an imported set.

    Raises
    ------
    DataError
        If the record can't be written.
    """
    table = {key: value for key, value in asdict(entry).items() if key not in UNUSED}
    with whole_file(imported_file(entry.name).with_suffix(".json"), make_folder=True) as path:
        path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def find_imported(name: str) -> CatalogueEntry | None:
    """The imported set of that name; None if there is none.

    Raises
    ------
    DataError
        If its record is damaged.
    """
    path = imported_file(name).with_suffix(".json")
    if "/" in name or "\\" in name or not path.is_file():
        return None
    try:
        return parse_entry(name, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no record of an import ({error}); delete it and import {name} again."
        ) from error


def list_imported() -> tuple[CatalogueEntry, ...]:
    """All imported sets by name."""
    paths = sorted((cache_folder() / FOLDER).glob("*.json"))
    found = (find_imported(path.stem) for path in paths)
    return tuple(entry for entry in found if entry is not None)
