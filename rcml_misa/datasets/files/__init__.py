"""A user's own files: one reader per kind, chunks of rows to predict, and a check."""

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.ahead import reading_ahead
from rcml_misa.datasets.files.check import check_file
from rcml_misa.datasets.files.content import FileRows, OwnFile
from rcml_misa.datasets.files.in_place import arrays_in_place
from rcml_misa.datasets.files.labels import as_labels, class_codes
from rcml_misa.datasets.files.layout import FileLayout
from rcml_misa.datasets.files.reading import (
    content_sha256,
    file_bytes,
    file_rows,
    file_sha256,
    is_own_file,
    read_own_file,
    survey_own_file,
)
from rcml_misa.datasets.files.roles import as_numbers, for_training
from rcml_misa.datasets.files.sizes import held_bytes, is_held, most_held
from rcml_misa.datasets.files.survey import SurveyedFile, block_rows

__all__ = [
    "FileLayout",
    "FileOptions",
    "FileRows",
    "OwnFile",
    "SurveyedFile",
    "arrays_in_place",
    "as_labels",
    "as_numbers",
    "block_rows",
    "check_file",
    "class_codes",
    "content_sha256",
    "file_bytes",
    "file_rows",
    "file_sha256",
    "for_training",
    "held_bytes",
    "is_held",
    "is_own_file",
    "most_held",
    "read_own_file",
    "reading_ahead",
    "survey_own_file",
]
