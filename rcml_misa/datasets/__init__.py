"""Data sets by name: a catalogue of facts, one reader per format, checked files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.catalogue import CatalogueEntry, find_entry, list_datasets
from rcml_misa.datasets.store import Status, checked_file, fetch_dataset, find_file, locate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rcml_misa.views import MultiView

__all__ = [
    "CatalogueEntry",
    "Dataset",
    "Status",
    "fetch_dataset",
    "find_entry",
    "find_file",
    "list_datasets",
    "load_dataset",
    "load_entry",
    "locate",
]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Views and target of one data set.

    Attributes
    ----------
    name : str
        Its name in the catalogue.
    views : MultiView
        Raw features in their original units, of `n_samples` rows.
    target : ndarray of int64 of shape (n_samples,)
        Codes 0 .. K-1; cannot be written to.
    classes : tuple of str
        The K original labels.
    sha256 : str
        Of the file; of the images and labels for ``digits``.
    source : str
        Where it was read from.
    groups : ndarray of shape (n_samples,), optional
        What each row belongs to, such as its video; no group is divided by a split.
    folds : mapping of str to ndarray of int, optional
        A given split: row numbers of ``"train"``, ``"test"`` and, where it has one, ``"valid"``.
    """

    name: str
    views: MultiView
    target: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    sha256: str
    source: str
    groups: NDArray[Any] | None = field(default=None, repr=False)
    folds: Mapping[str, NDArray[np.int64]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.target.setflags(write=False)


def load_dataset(name: str, *, data_dir: Path | None = None, download: bool = True) -> Dataset:
    """Load a data set of the catalogue.

    Parameters
    ----------
    name : str
        Its name; `list_datasets` has them all. ``"digits"`` needs no file.
    data_dir : Path, optional
        Folder to look in first; then come the folder in the environment's ``RCML_MISA_DATA``
        and the user's cache.
    download : bool
        Whether a missing file is fetched from its pinned address into the cache.

    Returns
    -------
    Dataset

    Raises
    ------
    OptionError
        If there is no such data set.
    DataError
        If the file is missing, damaged or not the one that the catalogue knows.

    Examples
    --------
    >>> data = load_dataset("digits")
    >>> data.views
    MultiView(1797 samples: pixels 64, fourier 34, projections 78, moments 22, dct 36, ...)
    """
    return load_entry(find_entry(name), data_dir=data_dir, download=download)


def load_entry(
    entry: CatalogueEntry, *, data_dir: Path | None = None, download: bool = True
) -> Dataset:
    """Load the data set that a catalogue entry describes; see `load_dataset`."""
    if entry.format == "digits":
        from rcml_misa.datasets.digits import SOURCE, load_digits_views

        views, target, classes, sha256 = load_digits_views()
        return Dataset(entry.name, views, target, classes, sha256, SOURCE)
    from rcml_misa.datasets.matlab import read_matlab

    path = checked_file(entry, data_dir=data_dir, download=download)
    views, target, classes = read_matlab(path, entry)
    return Dataset(entry.name, views, target, classes, entry.sha256, str(path))
