"""A user's own files: one reader per kind, chunks of rows to predict, and a check."""

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.check import check_file
from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.labels import as_labels, class_codes
from rcml_misa.datasets.files.layout import FileLayout
from rcml_misa.datasets.files.reading import file_rows, file_sha256, is_own_file, read_own_file

__all__ = [
    "FileLayout",
    "FileOptions",
    "OwnFile",
    "as_labels",
    "check_file",
    "class_codes",
    "file_rows",
    "file_sha256",
    "is_own_file",
    "read_own_file",
]
