"""Data sets by name: a catalogue of facts, one reader per format, checked files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.catalogue import CatalogueEntry, find_entry, list_datasets
from rcml_misa.datasets.files.layout import FileOptions
from rcml_misa.datasets.store import Status, checked_file, fetch_dataset, find_file, locate
from rcml_misa.exceptions import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rcml_misa.views import MultiView

__all__ = [
    "CatalogueEntry",
    "Dataset",
    "FileOptions",
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


def load_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    options: FileOptions | None = None,
) -> Dataset:
    """Load a data set of the catalogue, or a file of one's own.

    Parameters
    ----------
    name : str
        Its name; `list_datasets` has them all. ``"digits"`` needs no file. Or the path of a csv,
        tsv, parquet, npz, mat or hdf5 file or of a folder with one table per view, or a name
        in the user's own catalogue.
    data_dir : Path, optional
        Folder to look in first; then come the folder in the environment's ``RCML_MISA_DATA``
        and the user's cache.
    download : bool
        Whether a missing file is fetched from its pinned address into the cache.
    options : FileOptions, optional
        Which columns of a file of one's own are target, views and identifier.

    Returns
    -------
    Dataset

    Raises
    ------
    OptionError
        If there is no such data set, or options are given for one that is no file of one's own.
    DataError
        If the file is missing, damaged or not the one that the catalogue knows.

    Examples
    --------
    >>> data = load_dataset("digits")
    >>> data.views
    MultiView(1797 samples: pixels 64, fourier 34, projections 78, moments 22, dct 36, ...)
    """
    from rcml_misa.datasets.files import read_own_file
    from rcml_misa.datasets.own import as_dataset, own_file

    given = options or FileOptions()
    if (own := own_file(name, given)) is not None:
        label, path, merged = own
        return as_dataset(label, path, read_own_file(path, merged))
    entry = find_entry(name)
    if given != FileOptions():
        raise OptionError(f"{name} has known views and labels; leave target, views and id out.")
    return load_entry(entry, data_dir=data_dir, download=download)


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
