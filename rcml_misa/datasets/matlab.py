"""Reader of multi-view MATLAB files: a cell array of views, or one variable per view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rcml_misa.datasets.catalogue import CatalogueEntry
    from rcml_misa.views import MultiView

__all__ = ["read_matlab"]


def read_matlab(
    path: Path, entry: CatalogueEntry
) -> tuple[MultiView, NDArray[np.int64], tuple[str, ...]]:
    """Read views and target, and check them against the catalogue.

    Parameters
    ----------
    path : Path
        A MATLAB file of version 4 to 7.2; nothing in such a file is executed.
    entry : CatalogueEntry
        Which variables to read, how they are oriented, and what must come out.

    Returns
    -------
    views : MultiView
        Of `entry.samples` rows; sparse views stay sparse.
    target : ndarray of int64 of shape (n_samples,)
        Codes 0 .. K-1 in the order of `classes`.
    classes : tuple of str
        The labels as they stand in the file, sorted as numbers.

    Raises
    ------
    DataError
        If the file is damaged or of another format, a variable is missing, or rows, widths or
        classes are not what the catalogue says.
    """
    from rcml_misa.views import MultiView

    names = list(entry.views)
    pattern, target_key = entry.keys["views"], entry.keys["target"]
    separate = "{}" in pattern
    keys = (
        [pattern.replace("{}", str(i)) for i in range(1, len(names) + 1)] if separate else [pattern]
    )
    content = _load(path, [*keys, target_key])
    cells = [content[key] for key in keys]
    if not separate and cells[0].dtype.kind == "O":  # a cell array; a plain matrix is the only view
        cells = list(cells[0].ravel())
    if len(cells) != len(names):
        raise DataError(
            f"{path} holds {len(cells)} views but the catalogue names {len(names)} "
            f"({', '.join(names)}); correct the catalogue's views of {entry.name}."
        )
    target, classes = _target(path, target_key, content[target_key])
    arrays = {
        name: _oriented(path, name, cell, entry, len(target))
        for name, cell in zip(names, cells, strict=True)
    }
    try:
        views = MultiView(arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    _check_facts(path, entry, views, classes)
    return views, target, classes


def _load(path: Path, keys: list[str]) -> dict[str, Any]:
    """Open the file and get the wanted variables."""
    from scipy.io import loadmat, whosmat

    try:
        content: dict[str, Any] = loadmat(str(path), appendmat=False, variable_names=keys)
        missing = [key for key in keys if key not in content]
        present = [item[0] for item in whosmat(str(path), appendmat=False)] if missing else []
    except NotImplementedError as error:
        raise DataError(
            f"{path} is a MATLAB file of version 7.3, which is not read here; save it again in "
            "MATLAB with save(..., '-v7')."
        ) from error
    except Exception as error:  # a damaged file makes SciPy fail in many ways: zlib, struct, ...
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} is not a whole MATLAB file ({cause}); fetch it again or check where it is "
            "from."
        ) from error
    if missing:
        raise DataError(
            f"{path} has no variable {' or '.join(map(repr, missing))}; it holds "
            f"{', '.join(present) or 'nothing'}: correct the keys in the catalogue."
        )
    return content


def _target(path: Path, key: str, value: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    import numpy as np

    labels = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    if labels.dtype.kind not in "biuf" or labels.size == 0 or labels.size != max(labels.shape):
        raise DataError(
            f"{path}: {key!r} must hold one whole number per sample, but it is "
            f"{labels.dtype} of shape {labels.shape}."
        )
    labels = labels.ravel()
    wrong = ~np.isfinite(labels) | (labels != np.round(labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{path}: {key!r} must hold whole numbers, but row {row} is {labels[row]}; give "
            "every sample a class label."
        )
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(int(label)) for label in values)


def _oriented(path: Path, name: str, cell: Any, entry: CatalogueEntry, rows: int) -> Any:
    """Return a view as samples by features, once the number of labels confirms which is which."""
    shape = getattr(cell, "shape", ())
    if len(shape) != 2:
        raise DataError(f"{path}: view {name!r} has shape {shape}; a view must be 2-D.")
    turned = entry.orientation == "features-by-samples"
    axis = 1 if turned else 0
    if shape[axis] == rows:
        return cell.T if turned else cell
    advice = (
        "it lies the other way round: correct the catalogue's orientation"
        if shape[1 - axis] == rows
        else "views and labels must describe the same samples"
    )
    raise DataError(
        f"{path}: view {name!r} has shape {shape}, {entry.orientation}, but there are {rows} "
        f"labels; {advice}."
    )


def _check_facts(
    path: Path, entry: CatalogueEntry, views: MultiView, classes: tuple[str, ...]
) -> None:
    facts = [
        (f"columns in view {name!r}", width, entry.views[name])
        for name, width in zip(views.names, views.widths, strict=True)
    ]
    facts += [
        ("samples", views.n_samples, entry.samples),
        ("classes", len(classes), entry.classes),
    ]
    for quantity, actual, expected in facts:
        if actual != expected:
            raise DataError(
                f"{path} has {actual} {quantity} but the catalogue says {expected}; correct the "
                f"catalogue's table of {entry.name}."
            )
