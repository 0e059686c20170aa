"""Data sets by name: a catalogue of facts, one reader per format, checked files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rcml_misa.datasets.catalogue import CatalogueEntry, find_entry, list_datasets
from rcml_misa.datasets.files.layout import FileOptions
from rcml_misa.datasets.store import (
    Status,
    cache_folder,
    checked_file,
    checked_files,
    fetch_dataset,
    find_file,
    locate,
)
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
        Codes 0 .. K-1; cannot be written to. Floats where the task is a regression.
    classes : tuple of str
        The K original labels; none where the task is a regression.
    sha256 : str
        Of the file; of the images and labels for ``digits``.
    source : str
        Where it was read from.
    task : {"classification", "regression"}
    groups : ndarray of shape (n_samples,), optional
        What each row belongs to, such as its video; no group is divided by a split.
    folds : mapping of str to ndarray of int, optional
        A given split: row numbers of ``"train"``, ``"test"`` and, where it has one, ``"valid"``.
    valid_from : {"train", "test"}
        Where whole groups for validation come from if the given split has no ``"valid"``;
        ``"test"`` where features were trained on the labels of the train rows.
    scores : ndarray of shape (n_samples,), optional
        The measurement that classes were cut from, such as sentiment in [-3, 3].
    score_limit : float
        Largest absolute score of the scale: 3, or 1 for CH-SIMS.
    class_values : tuple of float, optional
        Where each class stands on the scale of `scores`.
    ids : ndarray of str of shape (n_samples,), optional
        Names of the rows.
    """

    name: str
    views: MultiView
    target: NDArray[Any] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    sha256: str
    source: str
    task: Literal["classification", "regression"] = "classification"
    groups: NDArray[Any] | None = field(default=None, repr=False)
    folds: Mapping[str, NDArray[np.int64]] | None = field(default=None, repr=False)
    valid_from: Literal["train", "test"] = "train"
    scores: NDArray[np.float64] | None = field(default=None, repr=False)
    score_limit: float = 3.0
    class_values: tuple[float, ...] | None = field(default=None, repr=False)
    ids: NDArray[Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.target.setflags(write=False)


def load_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    split: str | None = None,
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
    split : str, optional
        Which of its given splits a set with several is to have; its own by default.
    options : FileOptions, optional
        Which columns of a file of one's own are target, views and identifier.

    Returns
    -------
    Dataset

    Raises
    ------
    OptionError
        If there is no such data set or split, the split would leak labels, or options are given
        for one that is no file of one's own.
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
    return load_entry(entry, data_dir=data_dir, download=download, split=split)


def load_entry(
    entry: CatalogueEntry,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    split: str | None = None,
) -> Dataset:
    """Load the data set that a catalogue entry describes; see `load_dataset`."""
    if entry.format == "mosi":
        return _load_mosi(entry, data_dir=data_dir, download=download, split=split)
    if split is not None:
        raise OptionError(f"{entry.name} has no given split, hence no {split!r}; leave it out.")
    if entry.format == "digits":
        from rcml_misa.datasets.digits import SOURCE, load_digits_views

        views, target, classes, sha256 = load_digits_views()
        return Dataset(entry.name, views, target, classes, sha256, SOURCE)
    path = checked_file(entry, data_dir=data_dir, download=download)
    if entry.format == "imported":
        from rcml_misa.datasets.imported import load_imported

        return load_imported(entry, path)
    from rcml_misa.datasets.matlab import read_matlab

    views, target, classes = read_matlab(path, entry)
    return Dataset(entry.name, views, target, classes, entry.sha256, str(path))


def _load_mosi(
    entry: CatalogueEntry, *, data_dir: Path | None, download: bool, split: str | None
) -> Dataset:
    """CMU-MOSI with its sentiment as the target of a regression; `as_task` cuts classes."""
    from rcml_misa.datasets.mosi import read_mosi

    paths = checked_files(entry, data_dir=data_dir, download=download)
    views, found = read_mosi(entry, paths, split=split, cache=cache_folder())
    folds: dict[str, NDArray[np.int64]] = {
        name: found[name] for name in ("train", "valid", "test") if name in found
    }
    leaky = entry.name == "MOSI"
    return Dataset(
        entry.name,
        views,
        found["scores"],
        (),
        entry.sha256,
        str(next(iter(paths.values())).parent),
        task="regression",
        groups=found["groups"],
        folds=folds,
        valid_from="test" if leaky else "train",
        scores=found["scores"],
        ids=found["ids"],
    )
