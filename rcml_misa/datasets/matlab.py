"""MATLAB files of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.catalogue import CatalogueEntry
from rcml_misa.datasets.files.matlab_variables import load_matlab
from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView

__all__ = ["check_facts", "label_codes", "read_matlab"]


def read_matlab(
    path: Path, entry: CatalogueEntry
) -> tuple[MultiView, NDArray[np.int64], tuple[str, ...]]:
    """Read a MATLAB file of version 4 to 7.2 as views, codes and classes that the entry describes.

    The classes are the labels as they stand in the file, sorted as numbers; sparse views stay
    sparse. A missing variable, and rows, widths or classes other than the entry's, are a DataError.
    """
    names, pattern, target_key = list(entry.views), entry.keys["views"], entry.keys["target"]
    separate = "{}" in pattern
    numbers = range(1, len(names) + 1)
    keys = [pattern.replace("{}", str(number)) for number in numbers] if separate else [pattern]
    content = _catalogue_variables(path, [*keys, target_key])
    cells = [content[key] for key in keys]
    if not separate and cells[0].dtype.kind == "O":  # a cell array; a plain matrix is the only view
        cells = list(cells[0].ravel())
    if len(cells) != len(names):
        raise DataError(
            f"{path} holds {len(cells)} views but the catalogue names {len(names)} "
            f"({', '.join(names)}); correct the catalogue's views of {entry.name}."
        )
    target, classes = label_codes(path, target_key, content[target_key])
    arrays = {
        name: _oriented(path, name, cell, entry, len(target))
        for name, cell in zip(names, cells, strict=True)
    }
    try:
        views = MultiView(arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    check_facts(path, entry, views, classes)
    return views, target, classes


def check_facts(
    path: Path, entry: CatalogueEntry, views: MultiView, classes: Sequence[str]
) -> None:
    """Compare what was read with the catalogue's widths, samples and classes; else a DataError."""
    facts = {
        f"columns in view {name!r}": (width, entry.views[name])
        for name, width in zip(views.names, views.widths, strict=True)
    }
    facts["samples"] = views.n_samples, entry.samples
    facts["classes"] = len(classes), entry.classes
    for quantity, (actual, expected) in facts.items():
        if actual != expected:
            raise DataError(
                f"{path} has {actual} {quantity} but the catalogue says {expected}; correct the "
                f"catalogue's table of {entry.name}."
            )


def _catalogue_variables(path: Path, keys: list[str]) -> dict[str, Any]:
    try:
        content = load_matlab(path)
    except NotImplementedError as error:
        raise DataError(
            f"{path} is a MATLAB file of version 7.3, which is not read here; save it again in "
            "MATLAB with save(..., '-v7')."
        ) from error
    except DataError:
        raise
    except Exception as error:  # a damaged file makes SciPy fail in many ways: zlib, struct, ...
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a whole MATLAB file ({cause}); fetch it again or check where it is "
            "from."
        ) from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(
            f"{path} has no variable {' or '.join(map(repr, missing))}; it holds "
            f"{', '.join(content) or 'nothing'}: correct the keys in the catalogue."
        )
    return content


def label_codes(path: Path, key: str, value: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number a catalogue's target 0 .. K-1, and list its K whole numbers."""
    labels = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    if labels.dtype.kind not in "biuf" or labels.size == 0 or labels.size != max(labels.shape):
        raise DataError(
            f"{path}: {key!r} must hold one whole number per sample, but it is "
            f"{labels.dtype} of shape {labels.shape}."
        )
    labels = labels.ravel()
    wrong = np.flatnonzero(~np.isfinite(labels) | (labels != np.round(labels)))
    if len(wrong):
        raise DataError(
            f"{path}: {key!r} must hold whole numbers, but row {wrong[0]} is {labels[wrong[0]]}; "
            "give every sample a class label."
        )
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(int(label)) for label in values)


def _oriented(path: Path, name: str, cell: Any, entry: CatalogueEntry, rows: int) -> Any:
    """Return a view as samples by features, once the number of labels confirms which is which."""
    shape = getattr(cell, "shape", ())
    if len(shape) != 2:
        raise DataError(f"{path}: view {name!r} has shape {shape}; a view must be 2-D.")
    axis = 1 if entry.orientation == "features-by-samples" else 0
    if shape[axis] == rows:
        return cell.T if axis else cell
    advice = (
        "it lies the other way round: correct the catalogue's orientation"
        if shape[1 - axis] == rows
        else "views and labels must describe the same samples"
    )
    raise DataError(
        f"{path}: view {name!r} has shape {shape}, {entry.orientation}, but there are {rows} "
        f"labels; {advice}."
    )
