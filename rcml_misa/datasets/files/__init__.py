"""A user's own files: one reader per kind, and chunks of rows to predict.

Names are imported when they are first used: readers need NumPy, options do not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.files.layout import FileLayout, FileOptions

if TYPE_CHECKING:
    from rcml_misa.datasets.files.check import Finding, check_file
    from rcml_misa.datasets.files.reading import OwnFile, file_sha256, is_own_file, read_own_file
    from rcml_misa.datasets.files.rows import FileRows, file_rows

__all__ = [
    "FileLayout",
    "FileOptions",
    "FileRows",
    "Finding",
    "OwnFile",
    "check_file",
    "file_rows",
    "file_sha256",
    "is_own_file",
    "read_own_file",
]

_HOMES = {
    "FileRows": "rows",
    "Finding": "check",
    "OwnFile": "reading",
    "check_file": "check",
    "file_rows": "rows",
    "file_sha256": "reading",
    "is_own_file": "reading",
    "read_own_file": "reading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
