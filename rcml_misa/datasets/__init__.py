"""Data sets by name: a catalogue of facts, one reader per format, checked files."""

from rcml_misa.datasets.catalogue import CatalogueEntry, FileOptions, find_file
from rcml_misa.datasets.dataset import Dataset, as_task, keep_views
from rcml_misa.datasets.lookup import (
    add_own,
    fetch_dataset,
    find_entry,
    list_datasets,
    load_dataset,
    load_labelled,
    locate,
    remove_own,
    survey_labelled,
    too_large,
)

__all__ = [
    "CatalogueEntry",
    "Dataset",
    "FileOptions",
    "add_own",
    "as_task",
    "fetch_dataset",
    "find_entry",
    "find_file",
    "keep_views",
    "list_datasets",
    "load_dataset",
    "load_labelled",
    "locate",
    "remove_own",
    "survey_labelled",
    "too_large",
]
