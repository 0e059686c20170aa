"""Data sets as MOGONET's repository has them: numbers, with train and test rows apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.dataset import Dataset
from rcml_misa.datasets.matlab import check_facts, label_codes
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.views import MultiView

if TYPE_CHECKING:
    from rcml_misa.datasets.catalogue import CatalogueEntry

__all__ = ["load_mogonet"]

SPLIT = "official"
PARTS = ("train", "test")
LABELS = "labels"


def load_mogonet(
    entry: CatalogueEntry, paths: Mapping[str, Path], *, split: str | None = None
) -> Dataset:
    """Read the train rows, then the test rows, of every view.

    The files are given by role, ``<set>_<view>_<part>``, those of labels with ``labels`` in the
    view's place. The split ``"official"`` is offered as folds in any case and is the default once
    it is named; no such split is an OptionError, files that do not fit together are a DataError.
    """
    if split not in (None, SPLIT):
        raise OptionError(f"{entry.name} has no split {split!r}; {nearest(str(split), [SPLIT])}")
    tables = {name: _parts(entry, paths, name) for name in (LABELS, *entry.views)}
    sizes = [len(part) for part in tables[LABELS]]
    for name, parts in tables.items():
        shapes = [part.shape for part in parts]
        expected = [(size, entry.views.get(name, 1)) for size in sizes]
        if shapes != expected:
            raise DataError(
                f"{name!r} of {entry.name} has train and test rows of shapes {shapes}, but by its "
                f"labels and the catalogue they are {expected}; fetch the files again."
            )
    folder = paths[_role(entry, LABELS, PARTS[0])].parent
    target, classes = label_codes(folder, LABELS, np.concatenate(tables.pop(LABELS)))
    views = MultiView({name: np.concatenate(parts) for name, parts in tables.items()})
    check_facts(folder, entry, views, classes)
    cut = sizes[0]
    return Dataset(
        entry.name,
        views,
        target,
        classes,
        entry.sha256,
        str(folder),
        folds={"train": np.arange(cut), "test": np.arange(cut, sum(sizes))},
        valid_from=None,
    )


def _role(entry: CatalogueEntry, name: str, part: str) -> str:
    return f"{entry.name}_{name}_{part}"


def _parts(entry: CatalogueEntry, paths: Mapping[str, Path], name: str) -> list[NDArray[Any]]:
    """Read the train and the test rows of a view, or of the labels."""
    parts = []
    for path in (paths[_role(entry, name, part)] for part in PARTS):
        try:
            parts.append(np.loadtxt(path, delimiter=",", ndmin=2))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} of {entry.name} is no table of numbers ({error}); fetch it again."
            ) from error
    return parts
