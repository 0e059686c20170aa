"""Data sets by name: one lookup over this package's catalogue, imported sets and own files."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from rcml_misa.datasets.bounds import LARGEST_VARIABLE
from rcml_misa.datasets.catalogue import (
    CatalogueEntry,
    FileOptions,
    cache_folder,
    checked_file,
    find_file,
    imported_entry,
    list_catalogue,
    list_imported,
    list_own,
    own_entry,
    write_own,
)
from rcml_misa.datasets.dataset import Dataset, as_task
from rcml_misa.exceptions import DataError, LeakWarning, OptionError, nearest, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from rcml_misa.datasets.files import OwnFile, SurveyedFile

__all__ = [
    "add_own",
    "fetch_dataset",
    "find_entry",
    "list_datasets",
    "load_dataset",
    "load_labelled",
    "locate",
    "remove_own",
    "survey_labelled",
    "too_large",
]


def list_datasets(*, users: bool = False) -> tuple[CatalogueEntry, ...]:
    """List the data sets of the catalogue, in its order; with `users` the user's own follow.

    Examples
    --------
    >>> [entry.name for entry in list_datasets()]
    ['digits', 'PIE', 'HandWritten', 'Scene15', 'CUB', 'LandUse21', 'ROSMAP', 'MOSI', ...]
    """
    more = (*list_imported(), *list_own().values()) if users else ()
    return (*list_catalogue(), *more)


def find_entry(name: str) -> CatalogueEntry:
    """Find the entry of a data set of the catalogue, or of one that was imported or added.

    Another name is an OptionError, a damaged catalogue of the user's own a DataError.

    Examples
    --------
    >>> entry = find_entry("LandUse21")
    >>> entry.views, entry.samples, entry.classes
    ({'gist': 20, 'phog': 59, 'lbp': 40}, 2100, 21)
    >>> find_entry("PEI")
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: there is no data set 'PEI'; did you mean PIE?
    """
    entries = {entry.name: entry for entry in list_catalogue()} | list_own()
    entry = entries.get(name) or imported_entry(name)
    if entry is None:
        if os.path.isfile(name):  # false for what no path can be
            from rcml_misa.datasets.files.reading import KINDS

            raise OptionError(f"the file {name} is of no known kind; give a {KINDS}.")
        names = [entry.name for entry in list_datasets(users=True)]
        raise OptionError(f"there is no data set {shortened(name, 60)!r}; {nearest(name, names)}")
    return entry


def locate(
    name: str, data_dir: Path | None = None
) -> Literal["here", "fetchable", "built in", "gone"]:
    """Tell whether a data set can be used at once.

    ``"gone"`` means that the file of an imported or own set is not where it was. Parameters and
    errors are those of `load_dataset`.

    Examples
    --------
    >>> locate("digits")
    'built in'
    """
    entry = find_entry(name)
    if entry.built_in:
        return "built in"
    if find_file(entry, data_dir=data_dir):
        return "here"
    return "fetchable" if entry.sources or entry.url else "gone"


def fetch_dataset(name: str, *, data_dir: Path | None = None) -> Path | None:
    """Bring a data set's file to this machine, unless it is there.

    Parameters
    ----------
    name : str
    data_dir : Path, optional
        Folder to have the file in, created if need be. By default a file that
        ``RCML_MISA_DATA`` or the user's cache holds is enough, and the cache receives it.

    Returns
    -------
    Path or None
        The file, or the folder of several; None for a built-in set.

    Raises
    ------
    OptionError, DataError
        If there is no such data set, or its file can't be had with the expected sha256.
    """
    entry = find_entry(name)
    if entry.built_in:
        return None
    if entry.format == "own":
        return _checked_own(entry)
    paths = [checked_file(source, only=data_dir) for source in entry.sources.values() or [entry]]
    return paths[0].parent if entry.sources else paths[0]


def load_dataset(
    name: str,
    *,
    data_dir: Path | None = None,
    download: bool = True,
    split: str | None = None,
    options: FileOptions | None = None,
) -> Dataset:
    """Load a data set by name, or a file of one's own.

    Parameters
    ----------
    name : str
        Its name; `list_datasets` has them all. ``"digits"`` needs no file. Or the path of a csv,
        tsv, txt, parquet, feather, xlsx, npz, mat or hdf5 file or of a folder with one table per
        view, or a name in the user's own catalogue.
    data_dir : Path, optional
        Folder to look in first; then come the folder in the environment's ``RCML_MISA_DATA``
        and the user's cache.
    download : bool
        Fetch a missing file from its pinned address into the cache.
    split : str, optional
        Name of one of the set's given splits, to be used where none is asked of the protocol.
    options : FileOptions, optional
        Reading of a file of one's own: target, which may be scores, views and other columns, and
        whether columns that look like copies of the label are accepted.

    Raises
    ------
    OptionError
        If there is no such data set or split, the split would leak labels, or options are given
        for one that is no file of one's own.
    DataError
        If the file is missing, damaged or not the one that the catalogue knows; or a column of a
        file of one's own looks like a copy of the label (see `rcml_misa.datasets.files.leaks`)
        and ``options`` neither leaves it out nor accepts it.

    Examples
    --------
    >>> data = load_dataset("digits")
    >>> data.views
    MultiView(1797 samples: pixels 64, fourier 34, projections 78, moments 22, dct 36, ...)
    """
    entry = _resolved(name, options or FileOptions())
    paths = {
        role: checked_file(source, data_dir=data_dir, download=download)
        for role, source in entry.sources.items()
    }
    if entry.format == "mogonet":
        from rcml_misa.datasets.mogonet import load_mogonet

        return load_mogonet(entry, paths, split=split)
    if entry.format == "mosi":
        from rcml_misa.datasets.mosi import load_mosi

        return load_mosi(entry, paths, split=split, folder=cache_folder())
    if split is not None:
        raise OptionError(f"{entry.name} has no given split, hence no {split!r}; leave it out.")
    if entry.format == "digits":
        from rcml_misa.datasets.digits import SOURCE, load_digits_views

        return Dataset(entry.name, *load_digits_views(), SOURCE)
    if entry.format == "own":
        return _own_dataset(entry)
    path = checked_file(entry, data_dir=data_dir, download=download)
    if entry.format == "imported":
        from rcml_misa.datasets.imported import load_imported

        return load_imported(entry, path)
    from rcml_misa.datasets.matlab import read_matlab

    return Dataset(entry.name, *read_matlab(path, entry), entry.sha256, str(path))


def _own_dataset(entry: CatalogueEntry) -> Dataset:
    """Read a file of the user's own as a data set."""
    from rcml_misa.datasets.files import class_codes, content_sha256, is_held, most_held

    path = _checked_own(entry)
    if path.exists() and not is_held(path, most := most_held()):
        raise OptionError(
            f"{shortened(path, 120)} takes more than {most / 1e9:.3g} GB in memory; "
            f"`rcml-misa fit` reads it in blocks, else give fewer rows, or set "
            f"{LARGEST_VARIABLE} to the gigabytes that may be held."
        )
    own, path = _read_own(entry)
    scores = own.task == "regression"
    target, classes = (own.labels, ()) if scores else class_codes(own.labels)
    return Dataset(
        entry.name,
        own.views,
        target,
        classes,
        content_sha256(path, entry.options),
        entry.file,
        task=own.task,
        groups=own.groups,
        folds=own.folds,
        valid_from=None,
        weights=own.weights,
        notes=own.notes,
    )


def _resolved(name: str, options: FileOptions) -> CatalogueEntry:
    """Find the entry of a path or name; options that are given count before its own."""
    from rcml_misa.datasets.files import is_own_file

    if is_own_file(name):
        path = Path(name).expanduser()
        facts = {"file": str(path), "sha256": "", "samples": 0, "classes": 0}
        return replace(own_entry(path.name or path.resolve().name, facts), options=options)
    entry = find_entry(name)
    given = {key: value for key, value in asdict(options).items() if value}
    if set(given) - {"regression"} and entry.format != "own":
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in given if key != "regression")
        raise OptionError(f"{name} has known views and labels; leave {flags} out.")
    return replace(entry, options=replace(entry.options, **given))


def _checked_own(entry: CatalogueEntry) -> Path:
    """Check that a file of the user's catalogue is as it was when added, and return its path."""
    from rcml_misa.datasets.files import file_sha256

    path = Path(entry.file)
    if not entry.sha256:
        return path
    if not path.exists():
        raise DataError(
            f"{path} of your data set {entry.name} is gone; put it back, or forget it with "
            f"`rcml-misa datasets remove {entry.name}`."
        )
    if file_sha256(path, entry.options.test_file) != entry.sha256:
        raise DataError(
            f"{path} of your data set {entry.name} has changed since it was added; run `rcml-misa "
            f"datasets remove {entry.name}` and add it again."
        )
    return path


def _read_own(entry: CatalogueEntry, *, stop_at_leaks: bool = True) -> tuple[OwnFile, Path]:
    """Read a file of the user's own, and tell its path."""
    from rcml_misa.datasets.files import read_own_file
    from rcml_misa.datasets.files.leaks import refuse_leaks

    path = _checked_own(entry)
    own = read_own_file(path, entry.options)
    if stop_at_leaks:
        own = refuse_leaks(own, name=entry.name, accept=entry.options.accept_leak)
    return own, path


def load_labelled(
    name: str,
    options: FileOptions,
    *,
    data_dir: Path | None = None,
    task: str | None = None,
    default_task: str = "regression",
    stop_at_leaks: bool = True,
) -> tuple[OwnFile, dict[str, str]]:
    """Read a file, or a data set by name, as views and labels to fit a model on.

    Parameters
    ----------
    name, options, data_dir
        As in `load_dataset`, whose errors are raised.
    task : {"2", "3", "7", "regression"}, optional
        Target of a data set of scores, by default `default_task`; no other set has one, but a file
        of one's own may be read for a ``"regression"``.
    stop_at_leaks : bool
        Refuse a file with columns that look like copies of the label.

    Returns
    -------
    own : OwnFile
        The labels of a set that is no file are its classes by name, or scores; its layout has the
        names of its views.
    about : dict of str to str
        Name, sha256 and size of the data set, for the header of a model file; the task if there is
        one.
    """
    import numpy as np

    from rcml_misa.datasets.files import FileLayout, OwnFile

    entry = _resolved(name, replace(options, regression=options.regression or task == "regression"))
    if entry.format == "own":
        _refuse_task(entry, task)
        own, path = _read_own(entry, stop_at_leaks=stop_at_leaks)
        return own, _about(entry, path)
    data = load_dataset(name, data_dir=data_dir)
    about = {"dataset": data.name, "file_sha256": data.sha256}
    if task is not None or data.scores is not None:
        about["task"] = task = task or default_task
        data = as_task(data, task)
    labels = np.array(data.classes)[data.target] if data.classes else data.target
    layout = FileLayout({view: (view,) for view in data.views.names})
    return OwnFile(data.views, labels, layout, task=data.task), about


def _refuse_task(entry: CatalogueEntry, task: str | None) -> None:
    if task not in (None, "regression"):
        raise OptionError(
            f"{entry.name} is no set of sentiment scores; leave the task out, or choose "
            "regression where numbers are predicted."
        )


def _about(entry: CatalogueEntry, path: Path) -> dict[str, str]:
    """Tell name, sha256 and size of a file, for the header of a model file."""
    from rcml_misa.datasets.files import file_bytes, file_sha256

    about = {
        "dataset": entry.name,
        "file_sha256": file_sha256(path),
        "file_bytes": str(file_bytes(path)),
    }
    return about | ({"task": "regression"} if entry.options.regression else {})


def too_large(name: str, options: FileOptions, *, gigabytes: float | None = None) -> Path | None:
    """Return the path of a file of one's own whose table is not to be held in memory, or None.

    Parameters
    ----------
    name, options
        As in `load_dataset`.
    gigabytes : float, optional
        Size of a table up to which it is held; a quarter of the memory at hand, or
        ``RCML_MISA_LARGEST_GB``, without it.
    """
    from rcml_misa.datasets.files import is_held, most_held

    entry = _resolved(name, options)
    if entry.format != "own":
        return None
    path = _checked_own(entry)
    return None if not path.exists() or is_held(path, most_held(gigabytes)) else path


class Surveyed(NamedTuple):
    """A file that was looked at: what its rows say, its path, and facts as of `load_labelled`."""

    survey: SurveyedFile
    path: Path
    about: dict[str, str]


def survey_labelled(
    name: str,
    options: FileOptions,
    *,
    task: str | None = None,
    stop_at_leaks: bool = True,
    look: Callable[[int], None] | None = None,
) -> Surveyed:
    """Look at all rows of a file of one's own in blocks, as `load_labelled` reads one whole.

    Parameters are those of `load_labelled`; `look` is called with the rows that were read so far.
    The sample is without the test rows of the file's own split.
    """
    from rcml_misa.datasets.files import for_training, survey_own_file
    from rcml_misa.datasets.files.leaks import refuse_leaks

    entry = _resolved(name, replace(options, regression=options.regression or task == "regression"))
    _refuse_task(entry, task)
    path = _checked_own(entry)
    survey = survey_own_file(path, entry.options, look=look)
    own = survey.own
    if stop_at_leaks:
        own = refuse_leaks(own, name=entry.name, accept=entry.options.accept_leak)
    survey = replace(survey, own=for_training(own))
    return Surveyed(survey, path, _about(entry, path))


def add_own(name: str, path: Path, options: FileOptions) -> CatalogueEntry:
    """Read a file once and record it in the user's own catalogue with its hash.

    A name that is taken or looks like a file is an OptionError; a file that can't be read as views
    and labels, or a catalogue that can't be written, a DataError. A column that looks like a copy
    of the label is a `LeakWarning`: what reads the set for training stops at it.
    """
    from rcml_misa.datasets.files import file_sha256, is_own_file, read_own_file
    from rcml_misa.datasets.files.leaks import refuse_leaks

    if not name.strip() or is_own_file(name):
        raise OptionError(f"{name!r} is no name of a data set; choose a word without / and dots.")
    if name in {entry.name for entry in list_datasets(users=True)}:
        raise OptionError(
            f"there is a data set {name} already; choose another name, or forget your own one with "
            f"`rcml-misa datasets remove {name}`."
        )
    if options.test_file is not None:
        options = replace(options, test_file=str(Path(options.test_file).resolve()))
    own = read_own_file(path, options)
    try:
        refuse_leaks(own, name=name, accept=options.accept_leak)
    except DataError as error:
        warnings.warn(str(error), LeakWarning, stacklevel=2)
    facts = {
        "file": str(path.resolve()),
        "sha256": file_sha256(path, options.test_file),
        "samples": own.views.n_samples,
        "classes": 0 if own.task == "regression" else len(set(own.labels.tolist())),
        "views": dict(zip(own.views.names, own.views.widths, strict=True)),
        "options": asdict(options),
    }
    entry = own_entry(name, facts)
    write_own([*list_own().values(), entry])
    return entry


def remove_own(name: str) -> None:
    """Forget a data set of the user's own catalogue; its file stays. No such set: OptionError."""
    entries = list_own()
    if name not in entries:
        names = nearest(name, entries) if entries else "it is empty."
        raise OptionError(f"your catalogue has no data set {name!r}; {names}")
    write_own(entry for key, entry in entries.items() if key != name)
