"""A user's own files: one reader per kind, and chunks of rows to predict.

Names are imported when they are first used: readers need NumPy, options do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.files.layout import FileLayout, FileOptions

if TYPE_CHECKING:
    from rcml_misa.datasets.files.check import Finding, check_file
    from rcml_misa.datasets.files.reading import (
        OwnFile,
        as_labels,
        class_codes,
        file_sha256,
        is_own_file,
        read_own_file,
    )
    from rcml_misa.datasets.files.rows import FileRows, file_rows

_HOMES = {
    "check": ("Finding", "check_file"),
    "reading": (
        "OwnFile", "as_labels", "class_codes", "file_sha256", "is_own_file", "read_own_file",
    ),
    "rows": ("FileRows", "file_rows"),
}  # fmt: skip

__all__ = [
    "FileLayout",
    "FileOptions",
    "FileRows",
    "Finding",
    "OwnFile",
    "as_labels",
    "check_file",
    "class_codes",
    "file_rows",
    "file_sha256",
    "is_own_file",
    "read_own_file",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
